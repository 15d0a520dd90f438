"""Measure how long rnnjax and the tutorial's Keras programs train to the same quality.

Writes benchmarks/time_to_quality.json and the table in README.md:

    python benchmarks/time_to_quality.py --data-dir DIR           # all runs that are not stored yet
    python benchmarks/time_to_quality.py imdb --seeds 0 --data-dir DIR
    python benchmarks/time_to_quality.py --table                  # only the table in README.md

Needs `pip install -e '.[bench]'`, and a machine that does nothing else. Programs take turns, seed by seed: first Keras
(`peers/tutorial.py`, on TensorFlow) and then `train.py`, never both at once. Each finished run is stored, so that what
was interrupted can be continued.

Times are wall clock from the start of the process, with imports, reading and encoding of the data (nothing of ours
cached) and compilation. What Keras reaches is what its own program ends with: on IMDB accuracy and loss on the test
reviews, with the weights of its best epoch; its time is that to the end of that epoch, although it only knows three
epochs later, and needs more time for the test. For `train.py` only whole runs count, with test, plot and checkpoints:
those of `ATTEMPTS`, one after the other, until one ends with what is asked for.
On tiny_shakespeare the loss on the last 10 % is compared, in nats a character: our runs end with it, and Keras's time
is that to the end of the first epoch at or below `SHAKESPEARE_LOSS`, where it is stopped, or else to the end of the
best of its first three epochs; the tutorial's best was the third, before it got worse.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from scores import ROOT, write_into_readme
from speed import describe_machine, row, table_head

RESULTS = ROOT / "benchmarks" / "time_to_quality.json"
PROGRAMS = ("imdb", "char")
SEEDS = (0, 1, 2)
ATTEMPTS = {"imdb": ("--epochs 1", ""), "char": ("--preset quick", "--epochs 3", "")}
"""Options of our runs, the shortest first; the last is the default."""
TUTORIAL_ACCURACY = 0.855
"""Test accuracy that the tutorial's author reports."""
KERAS_EPOCHS = {"imdb": 10, "char": 3}
SHAKESPEARE_LOSS = 1.83
"""Validation loss that the tutorial's author reports."""
QUICK = {
    "keras": ["--dataset", "builtin", "--limit", "600", "--epochs", "1"],
    "imdb": ["--dataset", "builtin", "--units", "4", "--embedding", "4", "--max-length", "20"],
    "char": ["--dataset", "builtin", "--units", "4", "--batch-size", "64", "--window", "200"],
}
"""Options for a look at whether everything works."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", nargs="*", metavar="PROGRAM", help=f"{', '.join(PROGRAMS)} (default: both)")
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=list(SEEDS))
    parser.add_argument("--data-dir", help="folder of TFDS data sets")
    parser.add_argument("--output", type=Path, default=RESULTS, help="file of the runs (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="tiny models on built-in data; needs --output")
    parser.add_argument("--table", action="store_true", help="train nothing")
    options = parser.parse_args(arguments)
    if unknown := set(options.programs) - set(PROGRAMS):
        parser.error(f"expected PROGRAM to be one of {', '.join(PROGRAMS)}; got {', '.join(sorted(unknown))}")
    if options.quick and options.output == RESULTS:
        parser.error("--quick needs --output: its runs are no results")
    if not options.table:
        for program in options.programs or PROGRAMS:
            for seed in options.seeds:
                measure(program, seed, options)
    runs = read(options.output)
    print(table(runs), end="")
    if options.output == RESULTS:
        write_into_readme("time-to-quality", table(runs))


def measure(program: str, seed: int, options: argparse.Namespace) -> None:
    """Let Keras train, and then ourselves with each of `ATTEMPTS` until everything asked for is reached."""
    keras = stored(options.output, program, "keras", seed, None) or run_keras(program, seed, options)
    asked = goals(program, keras)
    for attempt in ATTEMPTS[program][: 1 if options.quick else None]:
        ours = stored(options.output, program, "rnnjax", seed, attempt) or run_ours(program, seed, attempt, options)
        asked = {name: reached for name, reached in asked.items() if not reached(ours)}
        if not asked:
            return


def goals(program: str, keras: dict) -> dict[str, Callable[[dict], bool]]:
    """What a run of ours is asked for, beside a run of Keras: names, and whether a run has reached it."""
    if program == "char":
        return {
            "the best loss of Keras": lambda run: run["val_loss"] <= keras["val_loss"],
            f"validation loss {SHAKESPEARE_LOSS}": lambda run: run["val_loss"] <= SHAKESPEARE_LOSS,
        }
    return {
        "the test accuracy of Keras": lambda run: run["test_accuracy"] >= keras["test_accuracy"],
        "the test loss of Keras": lambda run: run["test_loss"] <= keras["test_loss"],
        "both": lambda run: run["test_accuracy"] >= keras["test_accuracy"] and run["test_loss"] <= keras["test_loss"],
        f"test accuracy {TUTORIAL_ACCURACY}": lambda run: run["test_accuracy"] >= TUTORIAL_ACCURACY,
    }


# Runs


def run_keras(program: str, seed: int, options: argparse.Namespace) -> dict:
    """The tutorial's program, to its own end; `epochs` holds Keras's metrics, each with the seconds to then."""
    command = [sys.executable, "-m", "peers.tutorial", program, "--seed", str(seed)]
    command += ["--epochs", str(KERAS_EPOCHS[program]), *source(options, "keras")]
    epochs: list[dict] = []
    test: dict[str, float] = {}
    begun = time.monotonic()
    with start(command, ROOT / "benchmarks", {"KERAS_BACKEND": "tensorflow"}) as process:
        for line in process.stdout:
            event = json.loads(line)
            done, event["seconds"] = event.pop("done"), round(time.monotonic() - begun, 2)
            if done == "epoch":
                epochs.append(event)
                print(f"  epoch {len(epochs)}: val_loss {event['val_loss']:.4f}, {event['seconds']:.1f} s", flush=True)
                if program == "char" and event["val_loss"] <= SHAKESPEARE_LOSS:
                    process.terminate()
                    break
            elif done == "test":
                test = {"test_accuracy": event["accuracy"], "test_loss": event["loss"]}
        else:
            process.wait()
            finished(command, process)
    best = min(epochs, key=lambda epoch: epoch["val_loss"])
    run = {
        "program": program,
        "by": "keras",
        "seed": seed,
        "options": None,
        "seconds": best["seconds"],
        "seconds_whole_run": round(time.monotonic() - begun, 2),
        "val_loss": best["val_loss"],
        **test,
        "epochs": epochs,
    }
    return store(options.output, run)


def run_ours(program: str, seed: int, attempt: str, options: argparse.Namespace) -> dict:
    """`train.py` with the options of an attempt; `epochs` are the lines of metrics.jsonl."""
    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder, "run")
        command = [sys.executable, "train.py", "--task", program, "--seed", str(seed), *attempt.split()]
        command += ["--workdir", str(workdir), *source(options, program)]
        begun = time.monotonic()
        with start(command, ROOT, {"RNNJAX_CACHE_DIR": str(Path(folder, "cache"))}) as process:
            process.stdout.read()
        seconds = round(time.monotonic() - begun, 2)
        finished(command, process)
        results = json.loads((workdir / "results.json").read_text(encoding="utf-8"))
        lines = (workdir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    measured = {name: value for name, value in results.items() if name.startswith(("test_", "val_"))}
    run = {
        "program": program,
        "by": "rnnjax",
        "seed": seed,
        "options": attempt,
        "seconds": seconds,
        "seconds_training": results["train_seconds"],
        **measured,
        "epochs": [json.loads(line) for line in lines],
    }
    return store(options.output, run)


def source(options: argparse.Namespace, who: str) -> list[str]:
    """Options that say which data are read."""
    if options.quick:
        return QUICK[who]
    return ["--dataset", "tfds", *(["--data-dir", os.path.abspath(options.data_dir)] if options.data_dir else [])]


def start(command: Sequence[str], folder: Path, environment: dict[str, str]) -> Any:
    """A program in `folder`, whose notices go to the terminal."""
    print(" ".join(command), flush=True)
    variables = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(command, cwd=folder, env={**variables, **environment}, stdout=subprocess.PIPE, text=True)


def finished(command: Sequence[str], process: Any) -> None:
    """End where a program failed."""
    if process.returncode:
        sys.exit(f"{' '.join(command)}: ended with status {process.returncode}")


# Results


def read(path: Path) -> list[dict]:
    """The runs that are stored."""
    runs: list[dict] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return runs


def stored(path: Path, program: str, by: str, seed: int, attempt: str | None) -> dict | None:
    """A run that is stored."""
    wanted = {"program": program, "by": by, "seed": seed, "options": attempt}
    return next((run for run in read(path) if wanted.items() <= run.items()), None)


def store(path: Path, run: dict) -> dict:
    """Add a run to the file, with the machine that it ran on."""
    machine = describe_machine()
    del machine["choices"]
    text = json.dumps([*read(path), {**run, "machine": machine}], indent=1)
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(path)
    return run


def comparisons(runs: Sequence[dict]) -> Iterator[tuple[str, str, dict, dict | None]]:
    """For each run of Keras and each goal: the program, the goal, that run, and our shortest run that reached it."""
    for keras in runs:
        if keras["by"] != "keras":
            continue
        ours = [run for run in runs if run["by"] == "rnnjax" and all(run[k] == keras[k] for k in ("program", "seed"))]
        for goal, reached in goals(keras["program"], keras).items():
            first = min((run for run in ours if reached(run)), key=lambda run: run["seconds"], default=None)
            yield keras["program"], goal, keras, first


def table(runs: Sequence[dict]) -> str:
    """The table of README.md as Markdown; nothing where nothing was measured."""
    rows: dict[tuple[str, str], list[tuple[dict, dict | None]]] = {}
    for program, goal, keras, ours in comparisons(runs):
        rows.setdefault((program, goal), []).append((keras, ours))
    if not rows:
        return ""
    lines = table_head("", "to reach", "Keras, seconds", "rnnjax, seconds", "ratio")
    for (program, goal), pairs in rows.items():
        keras = [k["seconds"] if goals(program, k)[goal](k) else None for k, _ in pairs]
        ours = [None if run is None else run["seconds"] for _, run in pairs]
        both = None not in keras and None not in ours
        ratio = f"{statistics.mean(keras) / statistics.mean(ours):.1f}" if both else ""
        name = {"imdb": "IMDB", "char": "tiny_shakespeare"}[program]
        lines.append(row(name, goal, mean_time(keras), mean_time(ours), ratio))
    return "\n".join(lines) + "\n"


def mean_time(times: Sequence[float | None]) -> str:
    """The mean over seeds; and of how many, where some did not get there."""
    there = [time for time in times if time is not None]
    if not there:
        return "not reached"
    share = "" if len(there) == len(times) else f" ({len(there)} of {len(times)} seeds)"
    return f"{statistics.mean(there):.0f}{share}"


if __name__ == "__main__":
    main()
