"""Train a model on each of the 20 bAbI tasks, and write benchmarks/babi.json and the table docs/babi.md.

    python benchmarks/babi.py                        # rnn on 1,000 questions a task, what is not measured yet
    python benchmarks/babi.py --model memnn          # another column
    python benchmarks/babi.py --examples 10k --qa 1 2
    python benchmarks/babi.py --table                # only the table, from babi.json

Runs lie in runs/babi/EXAMPLES-MODEL/qaN, one seed each; finished ones are not trained again, interrupted ones resumed.
"""

import argparse
import json
import sys
from pathlib import Path

from scores import ROOT

from rnnjax.cli import main as rnnjax
from rnnjax.data.babi import FOLDERS, NAMES

RESULTS = ROOT / "benchmarks" / "babi.json"
PAGE = ROOT / "docs" / "babi.md"
KERAS = (
    52.1, 37.0, 20.5, 62.9, 61.9, 50.7, 78.9, 77.2, 64.0, 47.7,
    74.9, 76.4, 94.4, 34.8, 32.4, 50.6, 49.1, 90.8, 9.0, 90.7,
)  # fmt: skip
"""Test accuracy in percent that the docstring of Keras's example babi_rnn gives for 1,000 questions a task."""
MODELS = ("rnn", "memnn", "memnn-words")
HEAD = """# The 20 bAbI tasks

Test accuracy in percent on the 1,000 test questions of each task, by `python benchmarks/babi.py`: one model a task and
one seed, with the default settings of `python train.py --task babi` but for `--model` and `--examples`. A tenth of the
training stories is held out, and the weights of the epoch with the highest accuracy there are tested. The column Keras
has the figures that the example `babi_rnn` gives for its LSTM on 1,000 questions a task.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--qa", nargs="+", type=int, choices=range(1, 21), default=list(range(1, 21)), metavar="N")
    parser.add_argument("--examples", choices=FOLDERS, default="1k")
    parser.add_argument("--model", choices=MODELS, default="rnn")
    parser.add_argument("--data-dir", help="folder of data sets")
    parser.add_argument("--table", action="store_true", help="train nothing")
    options = parser.parse_args()
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    column = results.setdefault(f"{options.examples}-{options.model}", {})
    for task in [] if options.table else options.qa:
        if str(task) not in column:
            column[str(task)] = measure(task, options.examples, options.model, options.data_dir)
            RESULTS.write_text(json.dumps(ordered(results), indent=2) + "\n", encoding="utf-8")
    PAGE.write_text(page(results), encoding="utf-8")


def measure(task: int, examples: str, model: str, data_dir: str | None) -> dict[str, float]:
    """Train on one task, and say how it went."""
    folder = ROOT / "runs" / "babi" / f"{examples}-{model}" / f"qa{task}"
    settings = ["--task", "babi", "--qa", task, "--examples", examples, "--model", model, "--workdir", folder]
    settings += ["--data-dir", data_dir] if data_dir else []
    settings += ["--resume"] if (folder / "config.json").exists() else []
    status = rnnjax(["train", *map(str, settings)])
    if status:
        sys.exit(status)
    found = json.loads(Path(folder, "results.json").read_text())
    if found["dataset"] == "builtin":
        sys.exit("trained on composed stories; name the folder of data sets with --data-dir")
    names = ("test_accuracy", "val_accuracy", "best_epoch", "epochs_run", "train_seconds", "parameters", "seed")
    return {name: found[name] for name in names}


def ordered(results: dict[str, dict[str, dict[str, float]]]) -> dict[str, dict[str, dict[str, float]]]:
    """In the order of the table, without columns that hold nothing."""
    return {
        f"{examples}-{model}": dict(sorted(results[f"{examples}-{model}"].items(), key=lambda item: int(item[0])))
        for examples in FOLDERS
        for model in MODELS
        if results.get(f"{examples}-{model}")
    }


def page(results: dict[str, dict[str, dict[str, float]]]) -> str:
    """The table as Markdown; what was not measured is a dash."""
    columns = ordered(results)
    titles = ["task", "Keras, 1k", *(", ".join(reversed(name.split("-", 1))) for name in columns)]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for task in range(1, 21):
        row = [f"{task} {NAMES[task - 1].replace('-', ' ')}", f"{KERAS[task - 1]:.1f}"]
        row += [percent(column.get(str(task))) for column in columns.values()]
        lines.append(f"| {' | '.join(row)} |")
    means = ["mean", f"{sum(KERAS) / 20:.1f}"]
    for column in columns.values():
        whole = len(column) == 20
        means.append(f"{5 * sum(found['test_accuracy'] for found in column.values()):.1f}" if whole else "")
    lines.append(f"| {' | '.join(means)} |")
    return HEAD + "\n" + "\n".join(lines) + "\n"


def percent(found: dict[str, float] | None) -> str:
    """An accuracy, as the table has it."""
    return "-" if found is None else f"{100 * found['test_accuracy']:.1f}"


if __name__ == "__main__":
    main()
