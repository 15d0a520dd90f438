"""Draw how a character model of Nietzsche's text gets ahead of n-gram models: docs/nietzsche.md and docs/nietzsche.png.

    python benchmarks/scores.py nietzsche --data-dir DIR    # train
    python benchmarks/ngram.py --data-dir DIR               # count
    python benchmarks/nietzsche.py                          # draw

The curve is read from the run in runs/scores/nietzsche and kept in benchmarks/nietzsche.json, from which the page is
drawn where that run is gone.
"""

import argparse
import json

from ngram import PATH as NGRAMS
from scores import ROOT, SCORES, write_into

METRICS = ROOT / "runs" / "scores" / "nietzsche" / "seed=0" / "metrics.jsonl"
RESULTS = ROOT / "benchmarks" / "nietzsche.json"
PAGE = ROOT / "docs" / "nietzsche.md"
PICTURE = ROOT / "docs" / "nietzsche.png"
SHOWN = ("4", "5", "6", "7")
"""Orders of n-gram models that are drawn."""


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    if METRICS.exists():
        records = [json.loads(line) for line in METRICS.read_text(encoding="utf-8").splitlines()]
        curves = {
            split: [record["loss"] for record in records if record["split"] == split]
            for split in ("train", "validation")
        }
        score = json.loads(SCORES.read_text(encoding="utf-8"))["nietzsche"]
        settings = {name: score[name] for name in ("command", "seeds", "minutes", "machine", "date")}
        RESULTS.write_text(json.dumps({**settings, "curves": curves}, indent=2) + "\n", encoding="utf-8")
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    ngrams = json.loads(NGRAMS.read_text(encoding="utf-8"))["nietzsche"]["nats"]
    draw(results["curves"], ngrams)
    write_into(PAGE, "nietzsche", table(results, ngrams))


def draw(curves: dict[str, list[float]], ngrams: dict[str, float]) -> None:
    """Both losses by epoch, and a line for each n-gram model."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    epochs = range(1, len(curves["validation"]) + 1)
    axes.plot(epochs, curves["train"], marker="o", markersize=3, label="LSTM, training (with dropout)")
    axes.plot(epochs, curves["validation"], marker="o", markersize=3, label="LSTM, last 10 %")
    for number, order in enumerate(SHOWN, start=2):
        axes.axhline(ngrams[order], color=f"C{number}", linestyle="--", linewidth=1, label=f"{order}-gram, last 10 %")
    axes.set(xlabel="epoch", ylabel="nats a character", ylim=(1.2, 2.0))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(PICTURE, dpi=110)


def table(results: dict, ngrams: dict[str, float]) -> str:
    """The figures as Markdown."""
    best = min(results["curves"]["validation"])
    rows = [f"| {order}-gram model, Witten-Bell | {nats:.4f} | {nats - best:+.4f} |" for order, nats in ngrams.items()]
    lines = [
        "| model | nats a character | above the LSTM |",
        "|---|---|---|",
        *rows,
        f"| **LSTM** | **{best:.4f}** | |",
    ]
    minutes = f"{results['minutes'][0]:.0f} minutes on {results['machine']}"
    run = f"`{results['command']}`, seed 0, {minutes}, {results['date']}"
    return "\n".join([*lines, "", f"The LSTM: {run}."]) + "\n"


if __name__ == "__main__":
    main()
