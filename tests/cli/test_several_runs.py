"""`--config`, `--seeds` and `--sweep`."""

import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rnnjax.errors import RunError
from rnnjax.training.loop import Run

TINY = ("train", "--task", "imdb", "--max-length", "8", "--batch-size", "32", "--embedding", "3",
        "--epochs", "2")  # fmt: skip


def lines_of(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def hashes(run: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((run / "results.json").read_text())["parameters_sha256"]
    return found


# --config


@pytest.mark.parametrize("name", ["imdb", "char"])
def test_a_config_trains_the_same_run_again(invoke: Any, tmp_path: Path, shelf: Path, name: str) -> None:
    data = {"imdb": ("--dataset", shelf / "two.csv"), "char": ("--text", shelf / "text.txt")}[name]
    options = ("--units", "3", "--epochs", "2", "--embedding", "3", "--batch-size", "16", "--learning-rate", "0.03")
    run = tmp_path / "run"
    assert invoke("train", "--task", name, *data, *options, "--workdir", run).status == 0
    ended = invoke("train", "--config", run / "config.json", "--workdir", tmp_path / "again")
    assert ended.status == 0, ended.err
    assert hashes(tmp_path / "again") == hashes(run)
    assert lines_of(tmp_path / "again") == lines_of(run)
    assert "results will not be" not in ended.err


def test_options_beside_a_config_win_and_a_folder_will_do(invoke: Any, imdb_run: Path, tmp_path: Path) -> None:
    ended = invoke("train", "--config", imdb_run, "--workdir", tmp_path / "other", "--seed", "5", "--epochs", "1")
    assert ended.status == 0, ended.err
    before, after = (json.loads((run / "config.json").read_text())["config"] for run in (imdb_run, tmp_path / "other"))
    assert after == {**before, "seed": 5, "epochs": 1}
    assert hashes(tmp_path / "other") != hashes(imdb_run)


def test_a_config_says_so_where_data_or_versions_differ(
    invoke: Any, imdb_run: Path, tmp_path: Path, shelf: Path
) -> None:
    config = json.loads((imdb_run / "config.json").read_text())
    config["fingerprint"] = "0" * 64
    config["environment"]["packages"] = {}
    (tmp_path / "config.json").write_text(json.dumps(config))
    ended = invoke("train", "--config", tmp_path / "config.json", "--workdir", tmp_path / "run")
    assert ended.status == 0
    assert "the data are not those that it was trained on" in ended.err
    assert "training with other packages than before" in ended.err


def test_a_config_of_another_machine_names_what_is_unknown(invoke: Any, imdb_run: Path, tmp_path: Path) -> None:
    config = json.loads((imdb_run / "config.json").read_text())
    config["config"]["zoneout"] = 0.1
    (tmp_path / "config.json").write_text(json.dumps(config))
    ended = invoke("train", "--config", tmp_path / "config.json", "--workdir", tmp_path / "run")
    assert (ended.status, ended.err.count("\n")) == (2, 1)
    assert "expected settings of imdb; got zoneout" in ended.err
    assert not (tmp_path / "run").exists()


# --seeds


def test_seeds_are_runs_by_themselves_with_a_summary(invoke: Any, shelf: Path, tmp_path: Path) -> None:
    line = (*TINY, "--units", "3", "--dataset", shelf / "two.csv")
    ended = invoke(*line, "--seeds", "3", "--seed", "4", "--workdir", tmp_path / "all")
    assert ended.status == 0, ended.err
    summary = json.loads(ended.out)
    assert summary == json.loads((tmp_path / "all" / "summary.json").read_text())
    (row,) = summary["runs"]
    assert (row["settings"], row["seeds"], row["failed"]) == ({}, [4, 5, 6], {})
    each = [json.loads((tmp_path / "all" / f"seed={seed}" / "results.json").read_text()) for seed in (4, 5, 6)]
    for metric in ("test_accuracy", "test_loss", "val_loss", "train_seconds"):
        values = [results[metric] for results in each]
        assert row["metrics"][metric]["each"] == values
        assert row["metrics"][metric]["mean"] == pytest.approx(np.mean(values))
        assert row["metrics"][metric]["deviation"] == pytest.approx(np.std(values, ddof=1), abs=1e-12)
    loss = row["metrics"]["test_loss"]
    table = (tmp_path / "all" / "summary.md").read_text()
    assert f"{loss['mean']:.4f} ± {loss['deviation']:.4f}" in table
    assert table.rstrip() in ended.err
    # The same as a seed by itself.
    assert invoke(*line, "--seed", "5", "--workdir", tmp_path / "alone").status == 0
    assert hashes(tmp_path / "all" / "seed=5") == hashes(tmp_path / "alone")


# --sweep


def test_a_grid_that_is_interrupted_and_resumed(
    invoke: Any, shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = tmp_path / "grid"
    line = (
        *TINY,
        "--dataset",
        shelf / "two.csv",
        "--sweep",
        "units=2,3",
        "--sweep",
        "cell=lstm,gru",
        "--workdir",
        group,
    )
    train = Run.train
    trained = []

    def interrupted(run: Run, stop: Any) -> Any:
        if len(trained) == 2:
            error = RunError("stopped by SIGTERM; a checkpoint is saved, --resume goes on from it")
            error.exit_status = 143  # type: ignore[attr-defined]
            raise error
        trained.append(run.folder.path.name)
        return train(run, stop)

    monkeypatch.setattr(Run, "train", interrupted)
    assert invoke(*line).status == 143
    assert trained == ["units=2,cell=lstm", "units=2,cell=gru"]
    monkeypatch.setattr(Run, "train", train)
    before = {name: (group / name / "results.json").stat().st_mtime_ns for name in trained}
    assert invoke(*line).status == 2  # neither --resume nor --overwrite
    other = invoke(*line, "--resume", "--epochs", "3")
    assert (other.status, other.err.count("\n")) == (2, 1)
    ended = invoke("train", "--resume", "--workdir", group)
    assert ended.status == 0, ended.err
    rows = json.loads(ended.out)["runs"]
    combinations = [{"units": units, "cell": cell} for units in (2, 3) for cell in ("lstm", "gru")]
    assert [row["settings"] for row in rows] == combinations
    assert [row["seeds"] for row in rows] == [[0]] * 4
    assert {name: (group / name / "results.json").stat().st_mtime_ns for name in trained} == before
    for row in rows:
        name = ",".join(f"{key}={value}" for key, value in row["settings"].items())
        results = json.loads((group / name / "results.json").read_text())
        assert row["metrics"]["val_loss"]["mean"] == results["val_loss"]
        assert row["metrics"]["val_loss"]["deviation"] is None
        config = json.loads((group / name / "config.json").read_text())["config"]
        assert row["settings"].items() <= config.items()
    assert invoke(*line, "--resume").status == 0  # the command again: all are finished
    assert invoke(*line, "--overwrite").status == 0
    assert {name: (group / name / "results.json").stat().st_mtime_ns for name in trained} != before


def test_a_run_that_fails_leaves_the_others(invoke: Any, shelf: Path, tmp_path: Path) -> None:
    line = (
        *TINY,
        "--units",
        "3",
        "--dataset",
        shelf / "two.csv",
        "--optimizer",
        "sgd",
        "--clip-norm",
        "0",
        "--schedule",
        "constant",
    )
    ended = invoke(*line, "--sweep", "learning-rate=1e30,0.1", "--workdir", tmp_path / "grid")
    assert (ended.status, ended.out) == (1, "")
    last = ended.err.splitlines()[-1]
    assert "1 of 2 runs failed: learning_rate=1e+30" in last
    failed, whole = json.loads((tmp_path / "grid" / "summary.json").read_text())["runs"]
    assert (failed["seeds"], whole["seeds"]) == ([], [0])
    assert list(failed["failed"]) == ["learning_rate=1e+30"]
    assert statistics.fmean(whole["metrics"]["test_loss"]["each"]) < 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sweep", "units"], "--sweep: expected NAME=A,B,...; got 'units'"),
        (["--sweep", "unit=3"], "--sweep: expected one of dataset, "),
        (["--sweep", "units=3,x"], "--units: expected a whole number"),
        (["--sweep", "cell=lstm,elman"], "--cell: expected one of lstm, gru, simple; got 'elman'"),
        (["--sweep", "cell=lstm,gru", "--cell", "gru"], "--sweep: expected --cell once; got it twice"),
        (["--sweep", "seed=1,2", "--seeds", "2"], "--sweep: expected --seed once; got it twice"),
        (["--sweep", "cell=gru,gru"], "--sweep: expected each value of --cell once"),
        (["--sweep", "restore_best=yes"], "--restore-best: expected true or false; got 'yes'"),
        (["--seeds", "2", "--dataset", "{shelf}/one.csv"], "expected two or more classes"),
        (["--seeds", "0"], "--seeds: expected a whole number at least 1"),
        (["--seeds", "2", "--resume"], "holds no group.json"),
        (["--config", "{shelf}/none.json"], "expected the config.json of a run; there is no such file"),
        (["--config", "{shelf}/two.csv"], "expected the configuration of a run; cannot use it"),
        (["--config", "{imdb_run}", "--preset", "tutorial"], "--config: expected it or --preset; got both"),
        (["--config", "{imdb_run}", "--resume"], "--resume: expected it or --config; got both"),
        (["--config", "{char_run}"], "--task: expected char, the task of --config"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_refused_in_one_line(
    invoke: Any, tmp_path: Path, shelf: Path, imdb_run: Path, char_run: Path, options: list[str], message: str
) -> None:
    given = [option.format(shelf=shelf, imdb_run=imdb_run, char_run=char_run) for option in options]
    ended = invoke("train", "--task", "imdb", "--dataset", shelf / "two.csv", "--workdir", tmp_path / "new", *given)
    assert (ended.status, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert message in ended.err
    assert not (tmp_path / "new").exists()
