"""Kill training at random and at chosen moments, go on with --resume, and compare with runs that nobody killed.

    python benchmarks/crash.py                      # 60 kills
    python benchmarks/crash.py --kills 200 --seed 1

Tiny runs of both tasks on data of their own, each killed (SIGKILL) a few times and resumed until its end. Every one has
to come to the results and metrics of the uninterrupted run, to the bit; only its seconds may differ. A kill is aimed at
a file: it is sent as soon as that is seen in the run folder. Prints a table, and exits with status 1 on any difference.
The seed decides where the kills are aimed; where they fall, the machine decides.
"""

import argparse
import collections
import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
SMALL = "--units 4 --embedding 4 --batch-size 8 --patience 0"
TASKS = {
    "imdb": f"--task imdb --dataset {{data}}/data.csv --max-length 8 --ema-decay 0.9 {SMALL}",
    "char": f"--task char --text {{data}}/data.txt --window 16 --dropout 0.1 {SMALL}",
}
MOST_KILLS = 6
"""Kills of one run; after these it may end."""
PATIENCE = 60.0
"""Seconds that a run may take to get where a kill is aimed."""


class Aim(NamedTuple):
    """Where a kill is to fall: when `seen` says so of the run folder, and up to `seconds` later."""

    seen: Callable[[Path], bool]
    seconds: float


def anything(run: Path) -> bool:
    return True


def hidden(*parts: str) -> Callable[[Path], bool]:
    """Whether a checkpoint that is being written has come to a file or folder of this name."""

    def seen(run: Path) -> bool:
        return any(
            entry.name.startswith(".") and os.path.exists(os.path.join(entry.path, *parts))
            for entry in entries(run / "checkpoints")
        )

    return seen


def entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError:
        return []


class Changes:
    """Whether something is there that was not when it was first asked for."""

    def __init__(self, take: Callable[[Path], Any]) -> None:
        self.take, self.before = take, None

    def __call__(self, run: Path) -> bool:
        now = self.take(run)
        if self.before is None:
            self.before = (now,)
        return self.before != (now,)


def length(run: Path) -> int:
    try:
        return os.stat(run / "metrics.jsonl").st_size
    except OSError:
        return 0


def checkpoints(run: Path) -> frozenset[str]:
    return frozenset(entry.name for entry in entries(run / "checkpoints") if entry.name.isdigit())


AIMS: dict[str, Callable[[], Aim]] = {
    "start": lambda: Aim(anything, 4.0),
    "folder made": lambda: Aim(lambda run: run.exists(), 0),
    "first files": lambda: Aim(lambda run: bool(entries(run)), 0),
    "config.json": lambda: Aim(lambda run: (run / "config.json").exists(), 0.002),
    "training": lambda: Aim(Changes(checkpoints), 1.0),
    "checkpoint begun": lambda: Aim(hidden(), 0),
    "its state": lambda: Aim(hidden("state"), 0.02),
    "its best": lambda: Aim(hidden("best"), 0.02),
    "its progress": lambda: Aim(hidden("progress.json"), 0),
    "its manifest": lambda: Aim(hidden("manifest.json"), 0.005),
    "renamed": lambda: Aim(Changes(checkpoints), 0),
    "metrics": lambda: Aim(Changes(length), 0),
    "history.png": lambda: Aim(
        lambda run: os.path.exists(run / ".history.png") or os.path.exists(run / "history.png"), 0.02
    ),
}
ONCE = {"folder made", "first files", "config.json"}
"""Aims that are seen in a new run only."""


class Run:
    """One run, which is killed and resumed until it ends."""

    def __init__(self, task: str, line: list[str], folder: Path) -> None:
        self.task, self.line, self.folder = task, line, folder
        self.kills: list[tuple[str, str]] = []
        self.resumes = 0

    def start(self) -> subprocess.Popen[str]:
        """Begin or go on, as a user would: by --resume where there is a configuration, else from the beginning."""
        if (self.folder / "config.json").exists():
            options = ["--resume"]
            self.resumes += 1
        else:
            left = [entry.name for entry in entries(self.folder) if not entry.name.startswith(".")]
            options = [*self.line, *(["--overwrite"] if left else [])]
        return subprocess.Popen(
            [sys.executable, ROOT / "train.py", *options, "--workdir", self.folder],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def kill(self, name: str, seconds: float) -> bool:
        """Aim one kill; False where the run ended before."""
        aim = AIMS[name]()
        process = self.start()
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None and not aim.seen(self.folder):
            if time.monotonic() > deadline:
                process.kill()
                sys.exit(f"{self.folder}: {name!r} was not seen in {PATIENCE:g} seconds\n{process.communicate()[1]}")
            time.sleep(0.0003)
        time.sleep(seconds * aim.seconds)
        process.send_signal(signal.SIGKILL)
        _, err = process.communicate()
        if process.returncode == -signal.SIGKILL:
            self.kills.append((name, fell(self.folder)))
            return True
        self.check(process.returncode, err)
        return False

    def end(self) -> None:
        """Let it go to its end."""
        process = self.start()
        _, err = process.communicate()
        self.check(process.returncode, err)

    def check(self, status: int, err: str) -> None:
        if status != 0 or "Traceback" in err:
            sys.exit(f"{self.folder}: status {status} after {self.kills}\n{err}")


def fell(run: Path) -> str:
    """Where a kill fell, by what it left."""
    if not run.exists():
        return "before the folder"
    if not (run / "config.json").exists():
        return "before config.json"
    found = [Path(entry.path) for entry in entries(run / "checkpoints") if entry.name.startswith(".")]
    if any(path.name.endswith(".old") for path in found):
        return "an old checkpoint half removed"
    if found:
        return f"a checkpoint {'with' if (found[0] / 'manifest.json').exists() else 'without'} its manifest"
    if length(run) and not (run / "metrics.jsonl").read_bytes().endswith(b"\n"):
        return "a line of metrics torn"
    if (run / ".history.png").exists() or (run / "history.png").exists():
        return "before results.json"
    return "between checkpoints" if checkpoints(run) else "before the first checkpoint"


def settled(run: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Results, the hashes of all parameters among them, and metrics; without their seconds."""
    results = json.loads((run / "results.json").read_text())
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for record in (results, *lines):
        record.pop("train_seconds", None)
        record.pop("seconds", None)
    return results, lines


def write_data(folder: Path) -> None:
    draw = random.Random(0)
    with open(folder / "data.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for number in range(70):
            label = draw.choice(["good", "bad"])
            writer.writerow([f"it was {'fine' if label == 'good' else 'poor'} number {number % 9}", label])
    (folder / "data.txt").write_text("the quick brown fox jumps over it?\nIt was a dark night.\n" * 40)


def measure(kills: int, seed: int, epochs: dict[str, int], folder: Path) -> bool:
    """Do it all in a folder, and print the table; whether all runs came to the same."""
    write_data(folder)
    draw = random.Random(seed)
    lines, expected = {}, {}
    for task, options in TASKS.items():
        lines[task] = [*options.format(data=folder).split(), "--epochs", str(epochs[task])]
        whole = Run(task, lines[task], folder / f"{task}-whole")
        whole.end()
        expected[task] = settled(whole.folder)
    print("| task | kills | where they fell (where they were aimed) | resumes | equal |", flush=True)
    print("|---|---|---|---|---|", flush=True)
    bag: list[str] = []
    places: collections.Counter[str] = collections.Counter()
    done = wrong = number = 0
    while done < kills:
        task = list(TASKS)[number % len(TASKS)]
        run = Run(task, lines[task], folder / f"{task}-{number}")
        for i in range(min(MOST_KILLS, kills - done)):
            # All aims come equally often; those that only a new run has are left to the first kill of one.
            if not any((name in ONCE) <= (i == 0) for name in bag):
                bag = [*bag, *draw.sample(list(AIMS), len(AIMS))]
            name = bag.pop(next(at for at, name in enumerate(bag) if (name in ONCE) <= (i == 0)))
            if not run.kill(name, draw.random()):
                break
        if not (run.folder / "results.json").exists():
            run.end()
        equal = settled(run.folder) == expected[task]
        where = ", ".join(f"{place} ({name})" for name, place in run.kills)
        print(f"| {task} | {len(run.kills)} | {where} | {run.resumes} | {'yes' if equal else 'NO'} |", flush=True)
        places.update(place for _, place in run.kills)
        done, wrong, number = done + len(run.kills), wrong + (not equal), number + 1
    print(f"\n{done} kills in {number} runs, seed {seed}; {wrong} runs differ. Where they fell:")
    for place, count in places.most_common():
        print(f"  {count:3}  {place}")
    return wrong == 0


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--epochs", type=int, nargs=2, default=[300, 100], help="of imdb and char (default: 300 100)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="rnnjax-crash-") as folder:
        os.environ.setdefault("RNNJAX_CACHE_DIR", f"{folder}/cache")
        if not measure(options.kills, options.seed, dict(zip(TASKS, options.epochs, strict=True)), Path(folder)):
            sys.exit(1)


if __name__ == "__main__":
    main()
