"""A peer in a process of its own: `python -m peers.worker PEER [--keep-pages]`.

One JSON request a line on standard input, one JSON answer a line on standard output:

    {"load": KIND, "case": {...}} -> {"parameters", "surplus", "settings", "seconds", "value"}: compiled and warmed up
    {"run": STEPS}                -> {"seconds", "value"}: seconds a step, after one step that is not counted

At the start comes {} or {"missing"}, and instead of an answer may come {"unsupported"} or {"failed"}, each with the
reason. With --keep-pages the memory allocator is set as rnnjax sets it for its command line. rnnjax divides a training
step over the cores, as its command line does; the others have their own ways to use them.
"""

import gc
import importlib
import json
import os
import sys
import traceback
from typing import Any

from peers.workload import KINDS, Unsupported, Workload
from rnnjax.cli import host

WARM_UP = 3
"""Steps after the first, which compiles."""


def main(name: str, keep_pages: bool) -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a framework prints is no answer

    def answer(content: dict[str, Any]) -> None:
        answers.write(json.dumps(content) + "\n")

    if keep_pages:
        host.keep_pages()
    if name == "ours":
        host.use_cores()
    try:
        peer = importlib.import_module(f"peers.{name}")
    except ImportError as error:
        answer({"missing": str(error)})
        return
    answer({})
    workload: Workload | None = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "load" in request:
                workload = None
                gc.collect()
                workload, loaded = load(peer, request["load"], request["case"])
                answer(loaded)
            else:
                workload.run(1)
                seconds, value = workload.run(request["run"])
                answer({"seconds": seconds, "value": value})
        except Unsupported as error:
            answer({"unsupported": str(error)})
        except Exception as error:
            traceback.print_exc()
            answer({"failed": f"{type(error).__name__}: {error}".splitlines()[0]})


def load(peer: Any, kind: str, numbers: dict[str, Any]) -> tuple[Workload, dict[str, Any]]:
    """Compile a case, and take its first steps."""
    make = getattr(peer, kind.lower(), None)
    if make is None:
        raise Unsupported("it has no such thing")
    workload = make(KINDS[kind](**numbers))
    _, value = workload.run(1)
    seconds, _ = workload.run(WARM_UP)
    described = {name: getattr(workload, name) for name in ("parameters", "surplus", "settings")}
    return workload, {**described, "seconds": seconds, "value": value}


if __name__ == "__main__":
    main(sys.argv[1], "--keep-pages" in sys.argv)
