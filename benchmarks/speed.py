"""Measure rnnjax beside Keras 3, PyTorch and Flax Linen; write benchmarks/speed.json and the tables in README.md.

    python benchmarks/speed.py                               # all, about 20 minutes on two cores
    python benchmarks/speed.py --cases imdb,layer --peers pytorch
    python benchmarks/speed.py --quick                       # one round of one step each; nothing is written
    python benchmarks/speed.py --table                       # only the tables, from speed.json

Needs `pip install -e '.[bench]'`; a peer that is not installed is left out with a notice. All run on the CPU, on a
machine that does nothing else: PyTorch's threads, above all, lose far more than their share to other work.

Each peer runs in a process of its own (`peers/worker.py`), compiles a case once, and then takes turns with the others:
in each round everyone takes as many steps as fill `TURN` seconds, after one that is not counted. What counts is the
median over the rounds. Peers have their default settings but where there is a choice (XLA or not for Keras on
TensorFlow, oneDNN or not for PyTorch), of which each case takes the faster one. rnnjax keeps freed pages in its own
process, as its command line does; `peer_ms_same_allocator` has a peer do the same, and "rnnjax, allocator untouched" is
rnnjax without it.

speed.json is a list of {"case", "peer", "ours_ms", "peer_ms", "ratio", "peer_ms_same_allocator", "rounds"} with
ratio = peer_ms / ours_ms; entries of "memory" have also "ours_mib" and "peer_mib", what a step takes by XLA's own
count, and "ours_process_mib" and "peer_process_mib", the most that the process held, Python and compilation included.
Milliseconds are those of one step, of one pass through a layer, of one character of every stream, or of one start. The
machine and the choices made are in speed_machine.json.
"""

import argparse
import contextlib
import dataclasses
import datetime
import itertools
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from peers.workload import Classifier, Generation, Layer
from scores import ROOT, write_into_readme

SPEED = ROOT / "benchmarks" / "speed.json"
MACHINE = ROOT / "benchmarks" / "speed_machine.json"
ROUNDS = 5
TURN = 0.3
"""Seconds that one turn takes, but at least one step."""
MOST_STEPS = 10_000
PACKAGES = ("rnnjax", "jax", "jaxlib", "flax", "keras", "tensorflow", "tensorflow-cpu", "torch", "numpy")
ENVIRONMENT = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}


class Contestant(NamedTuple):
    """Who is measured."""

    name: str
    module: str
    """Of `peers`."""
    environment: Mapping[str, str] = {}
    changes: Mapping[str, Any] = {}
    """Of the numbers of a case."""
    keep_pages: bool = True
    """Set the allocator as rnnjax does; a peer is measured without, and then with it."""


OURS = Contestant("rnnjax", "ours")
PEERS = {
    "keras-tensorflow": Contestant("Keras (TensorFlow)", "keras3", {"KERAS_BACKEND": "tensorflow"}, keep_pages=False),
    "keras-jax": Contestant("Keras (JAX)", "keras3", {"KERAS_BACKEND": "jax"}, keep_pages=False),
    "pytorch": Contestant("PyTorch", "pytorch", keep_pages=False),
    "flax": Contestant("Flax nn.RNN", "flax_linen", keep_pages=False),
}
UNTOUCHED = Contestant("rnnjax, allocator untouched", "ours", keep_pages=False)
WITH_LENGTHS = Contestant("rnnjax, lengths given", "ours", changes={"lengths": True})
FLOORS = tuple(
    Contestant(f"matrix products alone ({name})", "products", changes={"library": library})
    for name, library in (("XLA", "xla"), ("PyTorch", "pytorch"))
)
IN_FLOAT32 = Contestant("rnnjax in float32", "ours", changes={"matmul_dtype": ""})


class Case(NamedTuple):
    """What is measured."""

    name: str
    workload: Classifier | Layer | Generation
    beside: tuple[Contestant, ...] = ()
    """Contestants other than the peers."""
    with_peers: bool = True
    same_allocator: bool = True
    """Measure peers also with our setting of the allocator."""


def imdb(name: str, dropout: float, **options: Any) -> Case:
    """The tutorial's sentiment model: 1,329,473 parameters."""
    return Case(name, Classifier(128, 200, 10_000, 128, 64, 1, dropout, "adam", 1e-3), **options)


def layer(
    batch: int, length: int, units: int, backward: bool, cell: str = "lstm", both_ways: bool = False, **options: Any
) -> Case:
    """A layer over inputs of width 128."""
    passes = "forward and backward" if backward else "forward"
    name = f"{cell.upper()}{' both ways' if both_ways else ''}, {batch} x {length} x 128 -> {units}, {passes}"
    return Case(name, Layer(cell, both_ways, batch, length, 128, units, backward), **options)


def bfloat16(units: int) -> Case:
    case = layer(128, 50, units, backward=True, beside=(IN_FLOAT32,), with_peers=False)
    workload = dataclasses.replace(case.workload, matmul_dtype="bfloat16")
    return case._replace(name=f"{case.name}, products in bfloat16", workload=workload)


SWEEPS = {
    "length": [(32, length, 64) for length in (50, 200, 800)],
    "batch": [(batch, 50, 64) for batch in (8, 32, 128)],
    "width": [(32, 50, units) for units in (64, 256, 512)],
}
"""Batch, length and width of LSTM layers, of which one at a time grows."""
CELLS = list(itertools.product(("lstm", "gru"), (False, True)))
GROUPS = {
    "imdb": [
        imdb("IMDB step, dropout and recurrent dropout 0.2", 0.2, beside=(UNTOUCHED, WITH_LENGTHS)),
        imdb("IMDB step, no dropout", 0.0, beside=(UNTOUCHED,)),
    ],
    "character": [Case("character model step", Classifier(128, 40, 66, 64, 128, 65, 0.0, "rmsprop", 1e-2))],
    "layer": [layer(128, 200, 64, True, cell, both_ways, beside=(UNTOUCHED,)) for cell, both_ways in CELLS]
    + [layer(128, 200, 64, False, cell, both_ways, same_allocator=False) for cell, both_ways in CELLS]
    + [
        layer(*sizes, backward, same_allocator=False)
        for sizes in itertools.product((32, 128), (50, 200), (64, 256))
        if sizes != (128, 200, 64)
        for backward in (False, True)
    ],
    "growth": [
        layer(*sizes, backward=True, same_allocator=False) for sizes in dict.fromkeys(itertools.chain(*SWEEPS.values()))
    ],
    "generation": [
        Case(f"generation, {streams} stream{'s'[: streams > 1]}", Generation(streams, 65, 64, 128, 40, 0.6))
        for streams in (1, 64)
    ],
    "floor": [imdb("IMDB step, no dropout, and its floor", 0.0, beside=FLOORS, with_peers=False)],
    "bfloat16": [bfloat16(units) for units in (256, 512)],
}
COLD, WARM, LIST = "start to first step, cold cache", "start to first step, warm cache", "train.py --list"
LONG = {"batch": 4, "length": 16_384, "inputs": 64, "units": 128}
CHUNKED = f"LSTM, {' x '.join(map(str, list(LONG.values())[:3]))} -> {LONG['units']}, in chunks"
CHUNK_SIZE = 128
ALL_GROUPS = [*GROUPS, "startup", "memory"]
SHOWN = [
    *(case.name for case in (*GROUPS["imdb"], *GROUPS["character"])),
    *(layer(128, 200, 64, True, cell, both_ways).name for cell, both_ways in CELLS),
    *(case.name for case in GROUPS["generation"]),
    WARM,
]
"""Cases of the first table in README.md."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=names_of(ALL_GROUPS), default=ALL_GROUPS, help=", ".join(ALL_GROUPS))
    parser.add_argument("--peers", type=names_of(PEERS), default=list(PEERS), help=f"{', '.join(PEERS)}, or none")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--quick", action="store_true", help="one round of one step each")
    parser.add_argument("--output", type=Path, help="file to add the results to (default: speed.json; --quick: none)")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    options = parser.parse_args(arguments)
    output = options.output or (None if options.quick else SPEED)
    if not options.table:
        rounds, turn = (1, 0.0) if options.quick else (options.rounds, TURN)
        peers = [PEERS[name] for name in options.peers]
        machine = describe_machine()
        for entries, choices in measure_groups(options.cases, peers, rounds, turn):
            machine["choices"] |= choices
            if output is not None:
                add(output, entries, machine)
    if options.table or output == SPEED:
        write_into_readme("speed", tables(read(SPEED)))


def names_of(known: Sequence[str] | Mapping[str, Any]) -> Any:
    """A type for argparse: names separated by commas."""

    def names(text: str) -> list[str]:
        given = [] if text == "none" else text.split(",")
        if unknown := [name for name in given if name not in known]:
            raise argparse.ArgumentTypeError(f"expected some of {', '.join(known)}; got {', '.join(unknown)}")
        return given

    return names


def measure_groups(
    groups: Sequence[str], peers: Sequence[Contestant], rounds: int, turn: float
) -> Iterator[tuple[list[dict], dict]]:
    """Entries, and choices that were made, group by group; what several groups have in common is measured once."""
    measured: set[str] = set()
    for group in groups:
        if group in GROUPS:
            cases = [case for case in GROUPS[group] if case.name not in measured]
            measured |= {case.name for case in cases}
            yield measure(cases, peers, rounds, turn)
        else:
            yield {"startup": measure_startup, "memory": measure_memory}[group](peers, rounds), {}


# Turns


class Worker:
    """A contestant's process."""

    def __init__(self, contestant: Contestant, keep_pages: bool) -> None:
        """Start it; `receive` says when it is there."""
        self.contestant, self.keep_pages = contestant, keep_pages
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", "peers.worker", contestant.module, *["--keep-pages"] * keep_pages],
            cwd=ROOT / "benchmarks",
            env={**os.environ, **ENVIRONMENT, **contestant.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )

    def receive(self) -> dict:
        if line := self.process.stdout.readline():
            answer: dict = json.loads(line)
            return answer
        self.log.seek(0)
        lines = self.log.read().strip().splitlines() or ["no message"]
        return {"failed": f"it ended with status {self.process.wait()}: {lines[-1]}"}

    def ask(self, request: dict) -> dict:
        with contextlib.suppress(BrokenPipeError):  # `receive` tells why
            print(json.dumps(request), file=self.process.stdin, flush=True)
        return self.receive()

    def stop(self) -> None:
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.log.close()


def measure(
    cases: Sequence[Case], peers: Sequence[Contestant], rounds: int, turn: float
) -> tuple[list[dict], dict[str, dict[str, str]]]:
    """Entries of these cases, and what peers chose for each; all workers of a contestant serve all cases."""
    wanted: dict[tuple[str, bool], Contestant] = {}
    for case in cases:
        wanted |= {(contestant.name, keep): contestant for contestant, keep in taking_part(case, peers)}
    entries: list[dict] = []
    choices: dict[str, dict[str, str]] = {}
    workers: dict[tuple[str, bool], Worker] = {}
    try:
        for key, contestant in wanted.items():
            workers[key] = Worker(contestant, key[1])
        for key, worker in list(workers.items()):
            if problem := trouble(worker.receive()):
                leave_out(worker, problem, "everything")
                workers.pop(key).stop()
        for case in cases:
            present = [workers[who.name, keep] for who, keep in taking_part(case, peers) if (who.name, keep) in workers]
            new, choices[case.name] = measure_case(case, present, rounds, turn)
            entries += new
    finally:
        for worker in workers.values():
            worker.stop()
    return entries, choices


def taking_part(case: Case, peers: Sequence[Contestant]) -> list[tuple[Contestant, bool]]:
    """Contestants of a case, ourselves first, and whether each keeps its pages."""
    who = [(contestant, contestant.keep_pages) for contestant in (OURS, *case.beside)]
    if case.with_peers:
        who += [(peer, keep) for peer in peers for keep in ((False, True) if case.same_allocator else (False,))]
    return who


def measure_case(case: Case, workers: Sequence[Worker], rounds: int, turn: float) -> tuple[list[dict], dict[str, str]]:
    """Let workers compile a case one after the other, and take turns."""
    loaded = {}
    for worker in workers:
        numbers = dataclasses.asdict(dataclasses.replace(case.workload, **worker.contestant.changes))
        answer = worker.ask({"load": type(case.workload).__name__, "case": numbers})
        if problem := trouble(answer):
            leave_out(worker, problem, case.name)
        else:
            loaded[worker] = answer
    ours = next(worker for worker in loaded if worker.contestant == OURS)
    seconds: dict[Worker, list[float]] = {worker: [] for worker in loaded}
    for number in range(rounds):
        order = list(loaded)
        for worker in [*order[number % len(order) :], *order[: number % len(order)]]:
            steps = min(max(round(turn / loaded[worker]["seconds"]), 1), MOST_STEPS)
            answer = worker.ask({"run": steps})
            if problem := trouble(answer):
                leave_out(worker, problem, case.name)
                del loaded[worker], seconds[worker]
                continue
            seconds[worker].append(answer["seconds"])
            loaded[worker]["last"] = answer["value"]
    for worker, answer in loaded.items():
        check(case, worker, answer, loaded[ours]["parameters"])
    milliseconds = {worker: statistics.median(times) * 1e3 for worker, times in seconds.items()}
    print(f"{case.name}: {milliseconds[ours]:.4g} ms", flush=True)
    entries = []
    for worker in milliseconds:
        contestant = worker.contestant
        if worker is ours or (worker.keep_pages and not contestant.keep_pages):
            continue
        same = next((w for w in milliseconds if w.contestant == contestant and w.keep_pages and w is not worker), None)
        entry = make_entry(case.name, contestant.name, milliseconds[ours], milliseconds[worker], rounds)
        entry["peer_ms_same_allocator"] = None if same is None else round_to(milliseconds[same])
        entries.append(entry)
    chosen = {worker.contestant.name: answer["settings"] for worker, answer in loaded.items() if answer["settings"]}
    return entries, chosen


def trouble(answer: dict) -> str | None:
    """Why a worker gave no answer."""
    return next((answer[name] for name in ("missing", "unsupported", "failed") if name in answer), None)


def leave_out(worker: Worker, problem: str, what: str) -> None:
    """Say who is not measured; without ourselves there is nothing to compare with."""
    notice = f"{worker.contestant.name} is left out of {what}: {problem}"
    if worker.contestant == OURS:
        sys.exit(notice)
    if worker.keep_pages == worker.contestant.keep_pages:  # once
        print(notice, file=sys.stderr, flush=True)


def check(case: Case, worker: Worker, answer: dict, parameters: int) -> None:
    """End where a contestant did not do what it was measured for.

    It must have as many parameters as we have, apart from biases that its authors write otherwise; its numbers must be
    finite; and a loss must have fallen, as it does on one batch again and again.
    """
    name = f"{worker.contestant.name}, {case.name}"
    if worker.contestant.module != "products" and answer["parameters"] - answer["surplus"] != parameters:
        sys.exit(f"{name}: expected {parameters} parameters and {answer['surplus']}; got {answer['parameters']}.")
    if not (math.isfinite(answer["value"]) and math.isfinite(answer["last"])):
        sys.exit(f"{name}: expected finite numbers; got {answer['value']} and {answer['last']}.")
    is_training = isinstance(case.workload, Classifier) and worker.contestant.module != "products"
    if is_training and not answer["last"] < answer["value"]:
        sys.exit(f"{name}: expected a loss that falls; got {answer['value']}, and later {answer['last']}.")


def make_entry(case: str, peer: str, ours_ms: float, peer_ms: float, rounds: int) -> dict:
    return {
        "case": case,
        "peer": peer,
        "ours_ms": round_to(ours_ms),
        "peer_ms": round_to(peer_ms),
        "ratio": round_to(peer_ms / ours_ms),
        "peer_ms_same_allocator": None,
        "rounds": rounds,
    }


def round_to(value: float, digits: int = 4) -> float:
    """Significant digits; more are noise."""
    return float(f"{value:.{digits}g}")


# Starts and memory


def measure_startup(peers: Sequence[Contestant], rounds: int) -> list[dict]:
    """Time from the start of a process to its first training step, on the built-in reviews.

    `cold` finds none of our caches (encoded data, compiled programs), `warm` those of the cold start before it; the
    operating system's own cache of files is warm in both. Beside it the tutorial's Keras program on the same reviews.
    `--list` has a Python beside it that does nothing.
    """
    python = sys.executable
    keras = [peer for peer in peers if peer.module == "keras3" and is_installed("keras")]
    seconds: dict[str, list[float]] = {name: [] for name in (COLD, WARM, LIST, "python", *(p.name for p in keras))}
    rounds = min(rounds, 3)
    for _ in range(rounds + 1):
        with tempfile.TemporaryDirectory() as folder:
            cache = {"RNNJAX_CACHE_DIR": str(Path(folder, "cache"))}
            for name in (COLD, WARM):
                options = ["--task", "imdb", "--dataset", "builtin", "--workdir", str(Path(folder, name))]
                seconds[name].append(until_line([python, "-m", "peers.first_step", *options], cache))
            for peer in keras:
                command = [python, "-m", "peers.tutorial", "imdb", "--dataset", "builtin"]
                seconds[peer.name].append(until_line(command, peer.environment))
        seconds[LIST].append(until_end([python, str(ROOT / "train.py"), "--list"]))
        seconds["python"].append(until_end([python, "-c", "pass"]))
    medians = {name: statistics.median(times[1:]) * 1e3 for name, times in seconds.items()}  # the first warms up
    entries = [make_entry(COLD, WARM, medians[COLD], medians[WARM], rounds)]
    entries += [make_entry(WARM, peer.name, medians[WARM], medians[peer.name], rounds) for peer in keras]
    entries.append(make_entry(LIST, "python -c pass", medians[LIST], medians["python"], rounds))
    for entry in entries:
        print(f"{entry['case']}: {entry['ours_ms']:.4g} ms", flush=True)
    return entries


def until_line(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """Seconds from the start of a program to the first line on its standard output; there it is ended."""
    begun = time.monotonic()
    with subprocess.Popen(
        command,
        cwd=ROOT / "benchmarks",
        env={**os.environ, **ENVIRONMENT, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        line = process.stdout.readline()
        seconds = time.monotonic() - begun
        process.kill()
        if not line:
            sys.exit(f"{' '.join(command)}: {process.stderr.read()}")
    return seconds


def until_end(command: Sequence[str]) -> float:
    """Seconds that a program takes."""
    begun = time.monotonic()
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - begun


def measure_memory(peers: Sequence[Contestant], rounds: int) -> list[dict]:
    """The most memory that forward and backward over a long sequence take: ours in chunks, and a scan."""
    forms = [("chunks", {"chunk_size": CHUNK_SIZE}), ("scan", {"implementation": "scan"})]
    runs: dict[str, list[dict]] = {name: [] for name, _ in forms}
    rounds = min(rounds, 3)
    for _ in range(rounds):
        for name, options in forms:
            command = [sys.executable, "-m", "peers.memory", json.dumps({**LONG, "options": options})]
            # A child begins with its parent's peak, and this process is small.
            environment = {**os.environ, **ENVIRONMENT}
            output = subprocess.check_output(command, cwd=ROOT / "benchmarks", env=environment, text=True)
            runs[name].append(json.loads(output))
    ours, scan = ({key: statistics.median(run[key] for run in part) for key in part[0]} for part in runs.values())
    if not math.isclose(ours["value"], scan["value"], rel_tol=1e-4):
        sys.exit(f"{CHUNKED}: expected the scan's loss {scan['value']}; got {ours['value']}.")
    print(f"{CHUNKED}: {ours['mib']:.0f} MiB, {scan['mib']:.0f} MiB as a plain scan", flush=True)
    entry = make_entry(CHUNKED, "plain scan", ours["ms"], scan["ms"], rounds)
    mib = {
        f"{who}_{name}": round(run[name])
        for who, run in (("ours", ours), ("peer", scan))
        for name in ("mib", "process_mib")
    }
    return [{**entry, **mib}]


# Results


def describe_machine() -> dict[str, Any]:
    """Where and with what is measured."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.split(": ")[1] for line in lines if line.startswith("model name")), model)
    return {
        "date": datetime.date.today().isoformat(),
        "processor": model,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES if is_installed(name)},
        "load_average": round(os.getloadavg()[0], 2),
        "choices": {},
    }


def is_installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def read(path: Path) -> list[dict]:
    """What was measured before."""
    entries: list[dict] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return entries


def add(path: Path, entries: Sequence[dict], machine: dict[str, Any]) -> None:
    """Put entries in the place of older ones of the same case and peer, in the order of the cases, and write them."""
    kept = {(entry["case"], entry["peer"]): entry for entry in (*read(path), *entries)}
    order = [*dict.fromkeys(case.name for group in GROUPS.values() for case in group), COLD, WARM, LIST, CHUNKED]
    ordered = sorted((e for e in kept.values() if e["case"] in order), key=lambda entry: order.index(entry["case"]))
    path.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")
    machine_path = path.with_name(f"{path.stem}_machine.json")
    before = json.loads(machine_path.read_text(encoding="utf-8"))["choices"] if machine_path.exists() else {}
    content = {**machine, "choices": before | machine["choices"]}
    machine_path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def tables(entries: Sequence[dict]) -> str:
    """The tables of README.md as Markdown; nothing where nothing was measured."""
    if not entries:
        return ""
    found = {(entry["case"], entry["peer"]): entry for entry in entries}
    ours = {entry["case"]: entry["ours_ms"] for entry in entries}
    peers = [peer.name for peer in PEERS.values()]
    lines = table_head("case", "rnnjax, ms", *peers)
    for case in SHOWN:
        if case in ours:
            cells = [ratios(found.get((case, peer))) for peer in peers]
            lines.append(row(case, f"{ours[case]:.3g}", *cells))
    lines += ["", *table_head("as it grows (LSTM, forward and backward)", "rnnjax", *peers)]
    for place, axis in enumerate(("batch", "length", "width")):
        sizes = SWEEPS[axis]
        cases = [layer(*size, backward=True).name for size in sizes]
        numbers = [size[place] for size in sizes]
        times = [[ours.get(case) for case in cases]]
        times += [[found[case, peer]["peer_ms"] if (case, peer) in found else None for case in cases] for peer in peers]
        lines.append(row(f"{axis} {', '.join(map(str, numbers))}", *map(growth, times)))
    lines += ["", *table_head("case", "rnnjax, ms", "beside it", "ms", "ratio")]
    for entry in entries:
        if entry["peer"] not in peers:
            shown = [f"{entry[name]:.3g}" for name in ("ours_ms", "peer_ms", "ratio")]
            beside = entry["peer"]
            if "ours_mib" in entry:
                beside += f" ({entry['peer_mib']} MiB; rnnjax {entry['ours_mib']} MiB)"
            lines.append(row(entry["case"], shown[0], beside, *shown[1:]))
    return "\n".join(lines) + "\n"


def table_head(*cells: str) -> list[str]:
    return [row(*cells), row(*["---"] * len(cells))]


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def ratios(entry: dict | None) -> str:
    """How many times as long a peer takes, and in brackets with the same allocator setting."""
    if entry is None:
        return ""
    same = entry["peer_ms_same_allocator"]
    return f"{entry['ratio']:.2f}" + (f" ({same / entry['ours_ms']:.2f})" if same is not None else "")


def growth(times: Sequence[float | None]) -> str:
    """Times as multiples of the first."""
    if None in times:
        return ""
    return " : ".join(f"{value / times[0]:.3g}" for value in times)


if __name__ == "__main__":
    main()
