"""Follow two series with the state carried from window to window and without: docs/stateful.md.

    python benchmarks/stateful.py            # all that is not measured yet
    python benchmarks/stateful.py lag        # these, again where their run folders are gone
    python benchmarks/stateful.py --page     # only the picture and the table, from benchmarks/stateful.json and runs

Runs lie in runs/stateful/NAME-stateful and runs/stateful/NAME-stateless; finished ones are not trained again,
interrupted ones are resumed.
"""

import argparse
import datetime
import json
import platform
import subprocess
import sys
from typing import Any, NamedTuple

import numpy as np
from scores import ROOT, write_into

from rnnjax.cli import host, runs

RESULTS = ROOT / "benchmarks" / "stateful.json"
PAGE = ROOT / "docs" / "stateful.md"
PICTURE = ROOT / "docs" / "stateful.png"
VARIANTS = {"stateful": "--stateful", "stateless": "--no-stateful"}
BINS = 400
"""Of a window's last value, in which the mean target of the training curve is the best answer without a memory."""


class Series(NamedTuple):
    """A row of the table: in words, and as options of train.py."""

    description: str
    options: str


SERIES = {
    "lag": Series("moving mean of 2, window 1", "--task stateful"),
    "lag-seen": Series("moving mean of 2, window 2", "--task stateful --window 2"),
    "lag-8": Series("moving mean of 8, window 4", "--task stateful --lag 8 --window 4"),
    "keras-lag": Series("the first row with the example's settings", "--task stateful --preset keras-lag"),
    "cosine": Series("damped cosine, mean of the next 250, window 1", "--task stateful --preset cosine"),
    "keras-cosine": Series("damped cosine, the next value, window 1", "--task stateful --preset keras-cosine"),
}
DRAWN = {"lag": 60, "cosine": 5_000}
"""Series in the picture, and how many values of each."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("series", nargs="*", metavar="NAME", choices=[[], *SERIES], help=", ".join(SERIES))
    parser.add_argument("--page", action="store_true", help="train nothing")
    options = parser.parse_args()
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    if not options.page:
        for name in options.series or [name for name in SERIES if name not in results]:
            results[name] = measure(name)
            print(f"{name}: " + ", ".join(f"{v} {results[name][v]['test_loss']:.5f}" for v in VARIANTS), flush=True)
            ordered = {key: results[key] for key in SERIES if key in results}
            RESULTS.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")
    host.prepare()
    draw()
    write_into(PAGE, "stateful", table(results))


def folder(name: str, variant: str) -> Any:
    """Of a run."""
    return ROOT / "runs" / "stateful" / f"{name}-{variant}"


def measure(name: str) -> dict[str, Any]:
    """Train with the state carried and without, and compute what an answer without a memory can reach."""
    measured: dict[str, Any] = {}
    for variant, option in VARIANTS.items():
        path = folder(name, variant)
        command = [sys.executable, "train.py", *SERIES[name].options.split(), option, "--workdir", str(path)]
        command += ["--resume"] if (path / "config.json").exists() else []
        print(" ".join(command), flush=True)
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        results = json.loads((path / "results.json").read_text(encoding="utf-8"))
        keys = ("test_loss", "val_loss", "epochs_run", "best_epoch", "parameters", "seed")
        measured[variant] = {key: results[key] for key in keys} | {"minutes": round(results["train_seconds"] / 60, 2)}
    config = json.loads((folder(name, "stateful") / "config.json").read_text(encoding="utf-8"))
    return {
        "command": f"python train.py {SERIES[name].options}",
        **measured,
        **without_memory(config["config"]),
        "settings": {key: value for key, value in config["config"].items() if key not in ("data_dir", "stateful")},
        "machine": f"{config['environment']['threads']} cores, {platform.machine()}, {config['device']}",
        "versions": config["environment"]["packages"],
        "date": datetime.date.today().isoformat(),
    }


def without_memory(settings: dict[str, Any]) -> dict[str, float]:
    """Variance of the targets, and the least squared error of answers that know a window alone.

    Of the moving mean both follow from the variance 1/3 of each number. Of the cosine, where the window is one value,
    the variance is that of the test split's targets, and the best answer the mean target of the training curve near
    that value.
    """
    lag, window = settings["lag"], settings["window"]
    if settings["problem"] == "lag":
        return {"variance": 1 / lag / 3, "without_memory": max(lag - window, 0) / lag**2 / 3}
    from rnnjax.tasks import stateful

    assert window == 1
    splits = stateful.load(stateful.Config(**settings))
    places, counted = splits.test.rows(settings["batch_size"])
    places = places[:, :, -1][counted]
    values, targets = splits.test.values[places], splits.test.targets[places]
    edges = np.linspace(-1, 1, BINS + 1)[1:-1]
    bins = np.digitize(splits.train.values, edges)
    sums, counts = (np.bincount(bins, weights, BINS) for weights in (splits.train.targets, None))
    # Within a bin a target changes nearly as its value does: the mean is of the difference.
    shifts = np.bincount(bins, splits.train.targets - splits.train.values, BINS) / np.maximum(counts, 1)
    found = np.digitize(values, edges)
    errors = [
        np.mean((answer - targets) ** 2)
        for answer in (sums[found] / np.maximum(counts[found], 1), values + shifts[found])
    ]
    return {"variance": float(targets.var()), "without_memory": float(min(errors))}


def draw() -> None:
    """The test series of `DRAWN`: targets, and the answers of both networks."""
    from matplotlib.figure import Figure

    from rnnjax.tasks import stateful

    figure = Figure(figsize=(11, 7), layout="constrained")
    for axes, (name, count) in zip(figure.subplots(len(DRAWN), 1), DRAWN.items(), strict=True):
        for variant, colour in zip(VARIANTS, ("C0", "C3"), strict=True):
            trained = runs.load_model(str(folder(name, variant)), "regressor", print)
            splits = stateful.load(trained.config)
            followed = stateful.follow(splits.test, trained.config.batch_size, trained.model, trained.params)
            shown = followed["place"] < followed["place"][0] + count
            if variant == "stateful":
                axes.plot(followed["place"][shown], followed["target"][shown], "k", linewidth=2.5, label="target")
            axes.plot(followed["place"][shown], followed["answer"][shown], colour, linewidth=1.2, label=variant)
        axes.set(title=SERIES[name].description, xlabel="step of the test series")
        axes.grid(alpha=0.3)
        axes.legend(loc="upper right")
    figure.savefig(PICTURE, dpi=100)


def table(results: dict[str, Any]) -> str:
    """Squared errors on the test series as Markdown; what was not measured says so."""
    lines = [
        "| series | stateful | stateless | least without a memory | variance | command |",
        "|---|---|---|---|---|---|",
    ]
    for name, series in SERIES.items():
        result = results.get(name)
        numbers = ["unmeasured", "", "", ""]
        if result is not None:
            values = [result["stateful"]["test_loss"], result["stateless"]["test_loss"], result["without_memory"]]
            numbers = [f"{value:.2g}" for value in (*values, result["variance"])]
        lines.append(f"| {series.description} | {' | '.join(numbers)} | `{series.options}` |")
    if results:
        one = next(iter(results.values()))
        minutes = sum(result[variant]["minutes"] for result in results.values() for variant in VARIANTS)
        lines += [
            "",
            f"Seed {one['stateful']['seed']}, {2 * len(results)} runs, {minutes:.0f} minutes of training together, on "
            f"{one['machine']}, jax {one['versions']['jax']}, {one['date']}.",
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
