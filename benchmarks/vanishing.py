"""Train simple RNN, GRU and LSTM on the adding problem, and show how far back their gradients reach: docs/vanishing.md.

    python benchmarks/vanishing.py             # all that is not measured yet
    python benchmarks/vanishing.py lstm-200    # these, again
    python benchmarks/vanishing.py --page      # only the picture and the table, from benchmarks/vanishing.json

Each cell gets the same budget: the task's settings, and `EPOCHS` epochs. Runs lie in runs/vanishing/CELL-LENGTH;
finished ones are in the file and not trained again, interrupted ones are resumed.
"""

import argparse
import datetime
import json
import math
import platform
from typing import Any

from scores import ROOT, write_into

from rnnjax.cli import host

RESULTS = ROOT / "benchmarks" / "vanishing.json"
PAGE = ROOT / "docs" / "vanishing.md"
PICTURE = ROOT / "docs" / "vanishing.png"

CELLS = {"simple": "simple RNN", "gru": "GRU", "lstm": "LSTM"}
LENGTHS = (50, 100, 200, 400)
EPOCHS = 5
SEED = 0
TESTED = 2_000
"""Examples of the test split that are answered."""


def names() -> list[str]:
    """CELL-LENGTH of all runs, the short ones first."""
    return [f"{cell}-{length}" for length in LENGTHS for cell in CELLS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", metavar="CELL-LENGTH", choices=[[], *names()], help=", ".join(names()))
    parser.add_argument("--page", action="store_true", help="train nothing")
    options = parser.parse_args()
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    if not options.page:
        host.prepare()
        for name in options.runs or [name for name in names() if name not in results]:
            results[name] = measure(name)
            print(f"{name}: accuracy {results[name]['test_accuracy']:.3f}", flush=True)
            RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    draw(results)
    write_into(PAGE, "vanishing", table(results))


def measure(name: str) -> dict[str, Any]:
    """Train one cell at one length, and look at its gradients before and after."""
    import dataclasses

    import jax

    from rnnjax.cli.runs import get_task
    from rnnjax.data.batching import Examples
    from rnnjax.training.folder import RunFolder, environment, run_settings
    from rnnjax.training.loop import Run
    from rnnjax.training.signals import StopRequest

    cell, length = name.split("-")
    task = get_task("adding")
    config = task.config(cell=cell, length=int(length), epochs=EPOCHS, seed=SEED, diagnose=True)
    splits = task.load(config)
    splits = dataclasses.replace(
        splits, test=Examples({key: array[:TESTED] for key, array in splits.test.arrays.items()})
    )
    folder = RunFolder(ROOT / "runs" / "vanishing" / name)
    run = Run(task, config, splits, folder)
    assert run.diagnosis is not None
    before = run.diagnosis.look(run.state.params)
    if folder.holds_run and not folder.is_finished:
        run.restore()
    else:
        settings = run_settings("adding", dataclasses.asdict(config), splits.info, splits.dataset, splits.fingerprint)
        folder.start(settings, None, overwrite=True)
    with StopRequest() as stop:
        results = run.train(stop)
    after = run.diagnosis.look(run.best)
    return {
        "before": before["layers"]["recurrent"]["state_gradients"],
        "after": after["layers"]["recurrent"]["state_gradients"],
        **{key: results[key] for key in ("test_accuracy", "test_loss", "parameters")},
        "steps": EPOCHS * run.steps_per_epoch,
        "settings": {key: value for key, value in dataclasses.asdict(config).items() if key != "data_dir"},
        "minutes": round(results["train_seconds"] / 60, 2),
        "machine": f"{environment()['threads']} cores, {platform.machine()}, {jax.devices()[0].device_kind}",
        "versions": environment()["packages"],
        "date": datetime.date.today().isoformat(),
    }


def draw(results: dict[str, Any]) -> None:
    """The norm of the gradient by the state at a distance from the end, before training above and after it below."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 6.5), layout="constrained")
    panels = figure.subplots(2, len(LENGTHS), sharey=True, squeeze=False)
    for row, (when, title) in enumerate({"before": "before training", "after": "after training"}.items()):
        for axes, length in zip(panels[row], LENGTHS, strict=True):
            for number, (cell, label) in enumerate(CELLS.items()):
                for part, norms in results.get(f"{cell}-{length}", {}).get(when, {}).items():
                    # The state after the last step stands at distance 0; nothing is drawn where a gradient is 0.
                    values = [norm or math.nan for norm in reversed(norms)]
                    style = {"h": "-", "c": "--"}[part]
                    text = f"{label}: {part}" if cell == "lstm" else label
                    axes.plot(range(length), values, style, color=f"C{number}", label=text)
            axes.set(title=f"T = {length}, {title}", yscale="log", ylim=(1e-12, 1e3))
            axes.grid(alpha=0.3)
    for axes in panels[-1]:
        axes.set_xlabel("steps from the end")
    for axes in panels[:, 0]:
        axes.set_ylabel("norm of d loss / d state")
    panels[0, 0].legend(fontsize="small")
    figure.savefig(PICTURE, dpi=110)


def table(results: dict[str, Any]) -> str:
    """Accuracies as Markdown, and what was run; what was not measured says so."""
    lines = [f"| T | {' | '.join(CELLS.values())} |", f"|---|{'---|' * len(CELLS)}"]
    for length in LENGTHS:
        found = [results.get(f"{cell}-{length}") for cell in CELLS]
        cells = [
            f"{result['test_accuracy']:.3f} ({result['test_loss']:.4f})" if result else "unmeasured" for result in found
        ]
        lines.append(f"| {length} | {' | '.join(cells)} |")
    if results:
        one = next(iter(results.values()))
        minutes = sum(result["minutes"] for result in results.values())
        lines += [
            "",
            f"Each: {one['steps']} steps of {one['settings']['batch_size']} sequences, {one['settings']['units']} "
            f"units, seed {one['settings']['seed']}. {len(results)} runs, {minutes:.0f} minutes of training together, "
            f"on {one['machine']}, jax {one['versions']['jax']}, {one['date']}.",
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
