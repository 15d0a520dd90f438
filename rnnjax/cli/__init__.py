"""The command line: where tasks and training meet. Imports are late, so that --help and --list answer at once."""

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn, TextIO

from rnnjax.cli import host, notices
from rnnjax.errors import InputError, RunError

COMMANDS = {
    "train": "train a model and save it in a run folder",
    "generate": "continue a text with a trained character model",
    "predict": "classify texts with a trained model",
    "report": "compare runs on one HTML page",
    "neurons": "colour a text by what single units of a character model do",
    "convert": "convert a model from and to files of Keras and PyTorch",
}


def script(*command: str) -> NoReturn:
    """Be the process of `rnnjax [command] ...`, with the arguments of its command line."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8"))  # noqa: SIM115
    try:
        status = main([*command, *sys.argv[1:]])
    except Exception:
        traceback.print_exc()
        status = 1
    host.end(status)


def _end(number: int, frame: object) -> NoReturn:
    """End at once, while there is nothing to save: training and downloads catch signals themselves.

    No exception: raised in the middle of an import or of a callback of JAX, it would be lost, or crash the interpreter.
    """
    os.write(2, f"rnnjax: stopped by {signal.Signals(number).name}\n".encode())
    os._exit(128 + number)


def main(arguments: Sequence[str]) -> int:
    """Run `rnnjax COMMAND ...` and return its exit status.

    0 done; 1 the run failed; 2 wrong command line or unusable input; 130 Ctrl-C; 143 SIGTERM. All but 0 come with one
    line on standard error.
    """
    with notices.hold():
        return _main(list(arguments))


def _main(arguments: Sequence[str]) -> int:
    try:
        if arguments and arguments[0] in ("-h", "--help"):
            print("usage: rnnjax COMMAND [options]\n")
            for name, description in COMMANDS.items():
                print(f"  {name:<10}{description}")
            print("\nrnnjax COMMAND --help shows a command's options.")
            return 0
        if not arguments or arguments[0] not in COMMANDS:
            from rnnjax.cli.options import closest

            came = f"{arguments[0]!r}.{closest(arguments[0], COMMANDS)}" if arguments else "none."
            raise InputError(f"expected a command ({', '.join(COMMANDS)}); got {came} rnnjax --help describes them.")
        import_module(f"rnnjax.cli.{arguments[0]}").main(arguments[1:])
        sys.stdout.flush()
    except SystemExit as end:  # argparse has shown the help
        return int(end.code or 0)
    except InputError as error:
        return _fail(error, 2)
    except RunError as error:
        return _fail(error, getattr(error, "exit_status", 1))
    except KeyboardInterrupt as error:
        number = getattr(error, "number", signal.SIGINT)
        return _fail(f"stopped by {signal.Signals(number).name}", 128 + number)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):  # what JAX calls it
            raise
        return _fail("out of memory; try a smaller --batch-size or model", 1)
    except BrokenPipeError:
        _discard(sys.stdout)
        return 1
    except OSError as error:
        _discard(sys.stdout)
        return _fail(f"{error.filename or 'output'}: {error.strerror or error}; what was saved before is whole", 1)
    return 0


def _fail(error: object, status: int) -> int:
    # One line, whatever names are in it: also of control characters, and of bytes that are not UTF-8.
    line = " ".join(str(error).split())
    line = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)
    try:
        print(f"rnnjax: {line}", file=sys.stderr)
    except OSError:  # the disk of the log is full, or nobody reads it any more
        _discard(sys.stderr)
    return status


def _discard(stream: TextIO) -> None:
    """Where a stream takes nothing more, leave nothing in it for the interpreter's own flush to fail on."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
