"""Train the models of the results table, and write benchmarks/scores.json and the table in README.md.

    python benchmarks/scores.py                    # all that is not measured yet
    python benchmarks/scores.py imdb-single char   # these, again where their run folders are gone
    python benchmarks/scores.py --table            # only the table, from scores.json

Runs lie in runs/scores/ENTRY (`train.py --seeds`); finished ones are not trained again, interrupted ones are resumed.
"""

import argparse
import datetime
import json
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from rnnjax.cli import groups
from rnnjax.tasks import TASKS

ROOT = Path(__file__).resolve().parent.parent
SCORES = ROOT / "benchmarks" / "scores.json"
README = ROOT / "README.md"
SAMPLE = ["--temperature", "0.6", "--prompt", "First Citizen:", "--seed", "1"]
"""Options of generate.py for the sample in README.md."""


class Entry(NamedTuple):
    """A row of the table: options of train.py, the metric that counts, and what others claim for it."""

    description: str
    options: str
    metric: str
    claim: str
    goal: float | None
    """None where nobody set one."""
    seeds: int = 3


TUTORIAL = ".8552 (the tutorial, one run)"
ADDITION = ".99 of characters (Keras, {} epochs)"
HUANG = ".9446 (Huang et al. 2015, with Senna's word vectors)"
CHAR = "1.8286 (the tutorial); 1.4697 (nanoGPT, a transformer of 10.6 M)"
ENTRIES = {
    "imdb-single": Entry("IMDB, LSTM 64", "--task imdb", "test_accuracy", TUTORIAL, 0.855, 5),
    "imdb-stacked": Entry("IMDB, LSTM 64 and 32", "--task imdb --model stacked", "test_accuracy", "none", 0.85, 1),
    "imdb-bidirectional": Entry(
        "IMDB, LSTM 64 both ways", "--task imdb --model bidirectional", "test_accuracy", "none", 0.85, 1
    ),
    "imdb-gru": Entry("IMDB, GRU 64", "--task imdb --cell gru", "test_accuracy", "none", 0.85, 1),
    "imdb-builtin": Entry("built-in reviews, LSTM 64", "--task imdb --dataset builtin", "test_accuracy", "none", 0.90),
    "imdb-lstm-example": Entry(
        "IMDB, Keras's imdb_lstm",
        "--task imdb --preset imdb_lstm",
        "test_accuracy",
        ".83 to .84 (seen by others)",
        0.84,
    ),
    "imdb-lstm-cosine": Entry(
        "the same, along a cosine, some words dropped",
        "--task imdb --preset imdb_lstm --schedule cosine --epochs 3 --word-dropout 0.3",
        "test_accuracy",
        ".83 to .84 (seen by others)",
        0.84,
    ),
    "imdb-bidirectional-example": Entry(
        "IMDB, Keras's imdb_bidirectional_lstm",
        "--task imdb --preset imdb_bidirectional",
        "test_accuracy",
        ".8146 (Keras)",
        0.845,
    ),
    "imdb-cnn": Entry("IMDB, Keras's imdb_cnn", "--task imdb --preset imdb_cnn", "test_accuracy", ".89 (Keras)", 0.885),
    "imdb-cnn-cosine": Entry(
        "the same, learning rate along a cosine",
        "--task imdb --preset imdb_cnn --schedule cosine --epochs 3",
        "test_accuracy",
        ".89 (Keras)",
        0.885,
    ),
    "imdb-cnn-lstm-example": Entry(
        "IMDB, Keras's imdb_cnn_lstm", "--task imdb --preset imdb_cnn_lstm", "test_accuracy", ".8498 (Keras)", 0.855, 1
    ),
    "imdb-cnn-lstm-cosine": Entry(
        "the same, learning rate along a cosine",
        "--task imdb --preset imdb_cnn_lstm --schedule cosine",
        "test_accuracy",
        ".8498 (Keras)",
        0.855,
    ),
    "imdb-cnn-lstm": Entry(
        "IMDB, LSTM 64 over a convolution", "--task imdb --model cnn_lstm", "test_accuracy", ".8498 (Keras)", 0.855
    ),
    "imdb-fasttext": Entry(
        "IMDB, Keras's imdb_fasttext, words",
        "--task imdb --preset imdb_fasttext",
        "test_accuracy",
        ".8813 (Keras)",
        0.88,
    ),
    "imdb-fasttext-bigrams": Entry(
        "IMDB, Keras's imdb_fasttext, bigrams",
        "--task imdb --preset imdb_fasttext_bigrams",
        "test_accuracy",
        ".9056 (Keras)",
        0.9,
    ),
    "imdb-attention": Entry(
        "IMDB, LSTM 64 both ways, attention", "--task imdb --preset attention", "test_accuracy", "none", 0.85, 1
    ),
    "imdb-best": Entry(
        "IMDB, GRU and bags of bigrams",
        "--task imdb --preset best",
        "test_accuracy",
        ".906 (fastText, bigrams)",
        0.9,
    ),
    "reuters": Entry(
        "Reuters topics, bag of words", "--task reuters", "test_accuracy", "about .79 (Keras's example)", 0.79
    ),
    "reuters-keras": Entry(
        "the same, trained as in the example", "--task reuters --preset keras", "test_accuracy", "about .79", 0.79
    ),
    "reuters-lstm": Entry(
        "Reuters topics, LSTM 64", "--task reuters --preset words --model lstm", "test_accuracy", "none", None
    ),
    "reuters-bidirectional": Entry(
        "Reuters topics, LSTM 64 both ways", "--task reuters --preset words", "test_accuracy", "none", None
    ),
    "addition": Entry("addition, 3 digits", "--task addition", "test_exact", ADDITION.format(100), 0.98),
    "addition-2": Entry(
        "addition, 2 digits", "--task addition --preset 2-digits", "test_exact", ADDITION.format(55), None
    ),
    "addition-2-attention": Entry(
        "addition, 2 digits, attention", "--task addition --preset 2-digits --attention", "test_exact", "none", None
    ),
    "addition-3-attention": Entry(
        "addition, 3 digits, attention", "--task addition --attention", "test_exact", "none", 0.98
    ),
    "addition-4": Entry(
        "addition, 4 digits", "--task addition --preset 4-digits", "test_exact", ADDITION.format(20), None, 1
    ),
    "addition-4-attention": Entry(
        "addition, 4 digits, attention", "--task addition --preset 4-digits --attention", "test_exact", "none", None, 1
    ),
    "addition-5": Entry(
        "addition, 5 digits", "--task addition --preset 5-digits", "test_exact", ADDITION.format(30), None, 1
    ),
    "addition-5-attention": Entry(
        "addition, 5 digits, attention", "--task addition --preset 5-digits --attention", "test_exact", "none", None, 1
    ),
    "babi-1-rnn": Entry(
        "bAbI QA1, 10,000 questions, GRU 64", "--task babi", "test_accuracy", "1.0 (Keras, later version)", 0.99
    ),
    "babi-2-rnn": Entry(
        "bAbI QA2, 10,000 questions, GRU 64",
        "--task babi --qa 2",
        "test_accuracy",
        ".50 (Keras, later version)",
        0.5,
        1,
    ),
    "babi-1-memnn": Entry(
        "bAbI QA1, 10,000 questions, memory network",
        "--task babi --model memnn",
        "test_accuracy",
        ".986 (Keras, 120 epochs)",
        0.98,
    ),
    "char": Entry("tiny_shakespeare, default", "--task char", "val_loss", CHAR, 1.48, 1),
    "char-large": Entry("tiny_shakespeare, large", "--task char --preset large", "val_loss", CHAR, 1.44, 1),
    "nietzsche": Entry(
        "Nietzsche's text, LSTM 512",
        "--task char --preset nietzsche",
        "val_loss",
        "1.4641 (6-gram, Witten-Bell; ours to be 0.15 below)",
        1.3141,
        1,
    ),
    "authorship": Entry(
        "who wrote it: four composed authors",
        "--task authorship",
        "test_accuracy",
        "0.916 (logistic regression of character n-grams)",
        0.916,
    ),
    "tagging-chunks": Entry("CoNLL-2000, chunks", "--task tagging", "test_f1", HUANG, 0.92),
    "tagging-pos": Entry(
        "CoNLL-2000, parts of speech", "--task tagging --labels pos", "test_accuracy", "none", 0.96, 1
    ),
    "tagging-lines": Entry(
        "UD English LinES, parts of speech", "--task tagging --corpus lines", "test_accuracy", "none", 0.96, 1
    ),
    "tagging-partut": Entry(
        "UD English ParTUT, parts of speech", "--task tagging --corpus partut", "test_accuracy", "none", 0.96, 1
    ),
    "mnist-mlp": Entry(
        "MNIST, two dense layers", "--task mnist", "test_accuracy", ".9807 (the article, one run)", 0.9807
    ),
    "mnist-cnn": Entry(
        "MNIST, two convolutions", "--task mnist --model cnn --epochs 5", "test_accuracy", ".9925 (Keras)", 0.9925, 1
    ),
    "mnist-cnn-shift": Entry(
        "MNIST, two convolutions, digits moved by up to 2 pixels",
        "--task mnist --model cnn --epochs 5 --shift 2",
        "test_accuracy",
        ".9925 (Keras)",
        0.9925,
        1,
    ),
    "mnist-cnn-12": Entry(
        "MNIST, two convolutions, as long as Keras",
        "--task mnist --model cnn --epochs 12",
        "test_accuracy",
        ".9925 (Keras)",
        0.9925,
        1,
    ),
    "mnist-cnn-12-shift": Entry(
        "the same, digits moved by up to a pixel",
        "--task mnist --model cnn --epochs 12 --shift 1",
        "test_accuracy",
        ".9925 (Keras)",
        0.9925,
        1,
    ),
    "mnist-hierarchical": Entry(
        "MNIST, LSTM over rows of LSTMs",
        "--task mnist --model hierarchical --epochs 8 --learning-rate 3e-3 --pixels-per-step 4",
        "test_accuracy",
        ".9864 (Keras)",
        0.9864,
        1,
    ),
    "mnist-irnn": Entry(
        "MNIST, 7 of 196 pixels a step, IRNN 100",
        "--task mnist --model irnn --pixels-per-step 7 --epochs 3",
        "test_accuracy",
        ".93 pixel by pixel (Keras, 900 epochs)",
        0.93,
        1,
    ),
    "mnist-irnn-pixels": Entry(
        "MNIST, 196 pixels one by one, IRNN 100",
        "--task mnist --model irnn --learning-rate 3e-4 --epochs 50",
        "test_accuracy",
        ".93 of 784 pixels (Keras, 900 epochs)",
        0.93,
        1,
    ),
    "mnist-lstm": Entry(
        "MNIST, 7 of 196 pixels a step, LSTM 128",
        "--task mnist --model lstm --pixels-per-step 7 --learning-rate 1e-2 --epochs 6",
        "test_accuracy",
        ".989 pixel by pixel (published)",
        0.98,
        1,
    ),
    "mnist-lstm-pixels": Entry(
        "MNIST, 196 pixels one by one, LSTM 128",
        "--task mnist --model lstm --learning-rate 1e-2 --epochs 12",
        "test_accuracy",
        ".989 of 784 pixels (published)",
        0.98,
        1,
    ),
    "mnist-gru": Entry(
        "MNIST, 7 of 196 pixels a step, GRU 128",
        "--task mnist --model gru --pixels-per-step 7 --learning-rate 1e-2 --epochs 6",
        "test_accuracy",
        ".991 of 784 pixels (published)",
        None,
        1,
    ),
    "mnist-lstm-permuted": Entry(
        "MNIST, 7 of 196 pixels a step, LSTM 128, permuted",
        "--task mnist --model lstm --permuted --pixels-per-step 7 --learning-rate 1e-2 --epochs 6",
        "test_accuracy",
        ".929 of 784 pixels (published)",
        None,
        1,
    ),
    "adding": Entry("adding problem, T = 200, LSTM 64", "--task adding", "test_loss", "0.1667 without memory", 0.01, 1),
    "adding-gru": Entry(
        "adding problem, T = 200, GRU 64", "--task adding --cell gru", "test_loss", "0.1667 without memory", 0.01, 1
    ),
    "adding-simple": Entry(
        "adding problem, T = 200, simple RNN 64",
        "--task adding --cell simple --epochs 5",
        "test_loss",
        "0.1667 without memory; 'as found'",
        0.1667,
        1,
    ),
    "adding-irnn": Entry(
        "adding problem, T = 200, IRNN 100",
        "--task adding --preset irnn",
        "test_loss",
        "0.1667 without memory; 'as found'",
        0.1667,
        1,
    ),
    "copy": Entry(
        "copy memory, T = 100, LSTM 128", "--task adding --preset copy", "test_loss", "0.1733 without memory", None, 1
    ),
    "stateful": Entry(
        "moving mean of 2, one number at a time, LSTM 20",
        "--task stateful",
        "test_loss",
        "0.0833 without the carried state",
        0.005,
    ),
    "conv_lstm": Entry(
        "moving squares, the next frame, ConvLSTM 2 x 8",
        "--task conv_lstm",
        "test_loss",
        "0.2501 copying the last frame, 0.1190 a linear model (frames from the second on)",
        0.1190,
        1,
    ),
}

GENERATED = (
    "--dataset builtin",
    "--task addition",
    "--task adding",
    "--task stateful",
    "--task conv_lstm",
    "--task authorship",
)
"""Options that mean data which are not read."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("entries", nargs="*", metavar="ENTRY", help=", ".join(ENTRIES))
    parser.add_argument("--data-dir", help="folder of TFDS data sets")
    parser.add_argument("--table", action="store_true", help="train nothing")
    options = parser.parse_args()
    scores = json.loads(SCORES.read_text(encoding="utf-8")) if SCORES.exists() else {}
    if not options.table:
        for name in options.entries or [name for name in ENTRIES if name not in scores]:
            measured = measure(name, ENTRIES[name], options.data_dir)
            # Read again: another process may have written its own meanwhile.
            scores = {**(json.loads(SCORES.read_text(encoding="utf-8")) if SCORES.exists() else {}), name: measured}
            ordered = {key: scores[key] for key in ENTRIES if key in scores}
            SCORES.write_text(json.dumps(ordered, indent=2) + "\n", encoding="utf-8")
    write_into_readme("tasks", tasks_table())
    write_into_readme("scores", table(scores))
    write_into_readme("seeds", seeds_table(scores))
    character_run = ROOT / "runs" / "scores" / "char" / "seed=0"
    if (character_run / "results.json").exists():
        command = [sys.executable, "generate.py", *SAMPLE, "--workdir", str(character_run)]
        text = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, encoding="utf-8").stdout
        write_into_readme("sample", f"```text\n{text.rstrip()}\n```\n")


def write_into_readme(name: str, content: str) -> None:
    """Replace what stands between the marks of this name."""
    write_into(README, name, content)


def write_into(page: Path, name: str, content: str) -> None:
    """Replace what stands between the marks of this name."""
    begin, end = marks(name)
    before, rest = page.read_text(encoding="utf-8").split(begin)
    page.write_text(f"{before}{begin}\n{content}{end}{rest.split(end)[1]}", encoding="utf-8")


def marks(name: str) -> tuple[str, str]:
    """The comments in a page between which a script writes."""
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


def measure(name: str, entry: Entry, data_dir: str | None) -> dict:
    """Train with each seed, and collect the results."""
    folder = ROOT / "runs" / "scores" / name
    command = [
        sys.executable,
        "train.py",
        *entry.options.split(),
        "--seeds",
        str(entry.seeds),
        "--workdir",
        str(folder),
    ]
    command += ["--data-dir", data_dir] if data_dir else []
    command += ["--resume"] if (folder / "group.json").exists() else []
    print(" ".join(command), flush=True)
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    seeds = [folder / f"seed={seed}" for seed in range(entry.seeds)]
    runs = [json.loads((run / "results.json").read_text()) for run in seeds]
    (summary,) = json.loads((folder / "summary.json").read_text())["runs"]
    if any(word in entry.options for word in GENERATED) != (runs[0]["dataset"] == "builtin"):
        sys.exit(f"{name}: trained on {runs[0]['dataset']}; name prepared data with --data-dir")
    values = [run[entry.metric] for run in runs]
    config = json.loads((seeds[0] / "config.json").read_text())
    return {
        "description": entry.description,
        "command": f"python train.py {entry.options}",
        "dataset": runs[0]["dataset"],
        "metric": entry.metric,
        "claim": entry.claim,
        "goal": entry.goal,
        "mean": statistics.mean(values),
        "values": values,
        "seeds": summary["seeds"],
        "summary": summary["metrics"],
        "test_loss": [run.get("test_loss") for run in runs],
        "epochs_run": [run["epochs_run"] for run in runs],
        "best_epoch": [run["best_epoch"] for run in runs],
        "minutes": [round(run["train_seconds"] / 60, 2) for run in runs],
        "parameters": runs[0]["parameters"],
        "settings": {key: value for key, value in config["config"].items() if key not in ("data_dir", "seed")},
        "machine": f"{config['environment']['threads']} cores, {platform.machine()}, {config['device']}",
        "versions": config["environment"]["packages"],
        "date": datetime.date.today().isoformat(),
    }


def table(scores: dict) -> str:
    """The table as Markdown; what was not measured says so."""
    lines = ["| model | claim | goal | ours | each seed | minutes | command |", "|---|---|---|---|---|---|---|"]
    for name, entry in ENTRIES.items():
        score = scores.get(name)
        ours, each, minutes = "unmeasured", "", ""
        if score is not None:
            ours = f"**{score['mean']:.4f}**"
            each = ", ".join(f"{value:.4f}" for value in score["values"])
            minutes = f"{statistics.mean(score['minutes']):.1f}"
        metric = entry.metric.replace("_", " ")
        goal = f"{'≤' if entry.metric.endswith('loss') else '≥'} {entry.goal}" if entry.goal is not None else ""
        row = [f"{entry.description}, {metric}", entry.claim, goal, ours, each, minutes, f"`{entry.options}`"]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def tasks_table() -> str:
    """The tasks, as `train.py --list` has them."""
    lines = ["| `--task` | | data | models | expect |", "|---|---|---|---|---|"]
    for name, entry in TASKS.items():
        lines.append(f"| `{name}` | {entry.description} | {entry.data} | {entry.model} | {entry.expected} |")
    return "\n".join(lines) + "\n"


def seeds_table(scores: dict) -> str:
    """Means and deviations of the tutorial's model over its seeds, as `train.py --seeds` writes them."""
    score = scores.get("imdb-single", {})
    if "summary" not in score:
        return ""
    return groups.table([], [{"settings": {}, "seeds": score["seeds"], "metrics": score["summary"], "failed": {}}])


if __name__ == "__main__":
    main()
