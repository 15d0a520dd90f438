"""The command line: where tasks and training meet. Imports are late, so that --help and --list answer at once."""

import os
import signal
import sys
import threading
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from rnnjax.cli import notices
from rnnjax.errors import InputError, RunError

COMMANDS = {
    "train": "train a model and save it in a run folder",
    "generate": "continue a text with a trained character model",
    "predict": "classify texts with a trained model",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `rnnjax COMMAND ...` and return its exit status.

    0 done; 1 the run failed; 2 wrong command line or unusable input; 130 Ctrl-C; 143 SIGTERM. All but 0 come with one
    line on standard error.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # Until training catches signals itself, SIGTERM ends a command as Ctrl-C does: with one line.
    handler = signal.signal(signal.SIGTERM, _terminate) if _in_main_thread() else None
    try:
        with notices.hold():
            return _main(arguments)
    except _TerminatedError:
        return _fail("stopped by SIGTERM", 143)
    finally:
        if handler is not None:
            signal.signal(signal.SIGTERM, handler)


class _TerminatedError(BaseException):
    """SIGTERM came."""


def _terminate(number: int, frame: object) -> NoReturn:
    raise _TerminatedError


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _main(arguments: Sequence[str]) -> int:
    try:
        if arguments and arguments[0] in ("-h", "--help"):
            print("usage: rnnjax COMMAND [options]\n")
            for name, description in COMMANDS.items():
                print(f"  {name:<10}{description}")
            print("\nrnnjax COMMAND --help shows a command's options.")
            return 0
        if not arguments or arguments[0] not in COMMANDS:
            came = repr(arguments[0]) if arguments else "none"
            raise InputError(f"expected a command ({', '.join(COMMANDS)}); got {came}. rnnjax --help describes them.")
        import_module(f"rnnjax.cli.{arguments[0]}").main(arguments[1:])
        sys.stdout.flush()
    except SystemExit as end:  # argparse has shown the help
        return int(end.code or 0)
    except InputError as error:
        return _fail(error, 2)
    except RunError as error:
        return _fail(error, getattr(error, "exit_status", 1))
    except KeyboardInterrupt:
        return _fail("stopped by Ctrl-C", 130)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):  # what JAX calls it
            raise
        return _fail("out of memory; try a smaller --batch-size or model", 1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the interpreter's own flush is quiet
        return 1
    except OSError as error:
        return _fail(f"{error.filename or 'output'}: {error.strerror or error}; what was saved before is whole", 1)
    return 0


def _fail(error: object, status: int) -> int:
    print(f"rnnjax: {' '.join(str(error).split())}", file=sys.stderr)
    return status
