"""Hold a run of conv_lstm against copying the last frame and against a linear model: benchmarks/conv_lstm.json.

    python benchmarks/conv_lstm.py           # train with the defaults in runs/conv_lstm, and compare
    python benchmarks/conv_lstm.py RUN       # compare a run that is there

The linear model predicts a pixel from the 3 x 3 pixels around it in each of the last two frames and a constant, fitted
by least squares on the training films. For a cross-entropy both baselines need probabilities: what they give is cut to
[e, 1 - e], with the e of the least loss on the validation films; squared errors are those of the uncut values. All
figures are means over all pixels of all frames after the first one that is seen, where there are two to look back to.
"""

import argparse
import datetime
import json
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scores import ROOT

RESULTS = ROOT / "benchmarks" / "conv_lstm.json"
PICTURE = ROOT / "docs" / "conv_lstm.png"
RUN = ROOT / "runs" / "conv_lstm"
CUTS = np.geomspace(1e-4, 0.3, 60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path, default=RUN, help="run folder of conv_lstm")
    run = parser.parse_args().run
    if run == RUN and not (run / "results.json").exists():
        command = [sys.executable, "train.py", "--task", "conv_lstm", "--workdir", str(run)]
        command += ["--resume"] if (run / "config.json").exists() else []
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    measured = compare(run)
    RESULTS.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    PICTURE.write_bytes((run / "pictures" / "frames.png").read_bytes())
    print(json.dumps({name: measured[name] for name in ("conv_lstm", "copy", "linear")}, indent=1))


def compare(run: Path) -> dict:
    """Loss and squared error of the model and of both baselines, on the test films."""
    from rnnjax.cli import host, runs

    host.prepare()
    from rnnjax.tasks import conv_lstm

    trained = runs.load_model(str(run), "next frame", print)
    splits = conv_lstm.load(trained.config)
    parts = {name: getattr(splits, name).arrays for name in ("train", "validation", "test")}
    weights = fit(parts["train"])
    answers = {
        "copy": {name: part["inputs"][:, 1:, ..., 0] for name, part in parts.items()},
        "linear": {name: neighbourhoods(part["inputs"]) @ weights for name, part in parts.items()},
    }
    targets = {name: part["targets"][:, 1:, ..., 0] for name, part in parts.items()}
    measured = {}
    for name, answer in answers.items():
        cut = min(CUTS, key=lambda cut: entropy(answer["validation"], targets["validation"], cut))
        measured[name] = {
            "loss": entropy(answer["test"], targets["test"], cut),
            "squared_error": float(np.mean((answer["test"] - targets["test"]) ** 2)),
            "cut": float(cut),
        }
    apply = conv_lstm.probabilities(trained.model, trained.params)
    size = trained.config.batch_size
    inputs = parts["test"]["inputs"]
    predicted = np.concatenate([apply(inputs[i : i + size]) for i in range(0, len(inputs), size)])[:, 1:, ..., 0]
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    ours = {
        "loss": entropy(predicted.astype(float), targets["test"], 1e-7),
        "squared_error": float(np.mean((predicted - targets["test"]) ** 2)),
    }
    keys = ("test_loss", "test_squared_error", "val_loss", "epochs_run", "best_epoch", "parameters", "seed")
    return {
        "conv_lstm": ours,
        **measured,
        "results": {key: results[key] for key in keys},
        "minutes": round(results["train_seconds"] / 60, 2),
        "settings": {key: value for key, value in config["config"].items() if key != "data_dir"},
        "machine": f"{config['environment']['threads']} cores, {platform.machine()}, {config['device']}",
        "versions": config["environment"]["packages"],
        "date": datetime.date.today().isoformat(),
    }


def entropy(answers: np.ndarray, targets: np.ndarray, cut: float) -> float:
    """Cross-entropy of a pixel, of answers that are cut to [cut, 1 - cut]."""
    p = np.clip(answers.astype(float), cut, 1 - cut)
    return float(-np.mean(targets * np.log(p) + (1 - targets) * np.log(1 - p)))


def neighbourhoods(films: np.ndarray) -> np.ndarray:
    """What the linear model reads: `[N, T - 1, S, S, 19]` from films `[N, T, S, S, 1]`, zeros around the frames."""
    padded = np.pad(films[..., 0], ((0, 0), (0, 0), (1, 1), (1, 1)))
    around = sliding_window_view(padded, (3, 3), axis=(2, 3))
    around = around.reshape(*around.shape[:4], 9)
    return np.concatenate([around[:, 1:], around[:, :-1], np.ones_like(around[:, 1:, ..., :1])], axis=-1)


def fit(part: dict[str, np.ndarray]) -> np.ndarray:
    """Weights of least squares."""
    read = neighbourhoods(part["inputs"]).reshape(-1, 19).astype(float)
    return np.linalg.solve(read.T @ read, read.T @ part["targets"][:, 1:].reshape(-1).astype(float))


if __name__ == "__main__":
    main()
