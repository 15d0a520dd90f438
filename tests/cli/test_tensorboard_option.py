"""`--tensorboard`: refused before anything is made where its package is missing, otherwise the same run, and events."""

import importlib.util
import json

import pytest

IMDB = ("--task", "imdb", "--max-length", "8", "--batch-size", "16", "--units", "4", "--embedding", "4",
        "--epochs", "2", "--learning-rate", "0.05")  # fmt: skip


def test_without_the_package_nothing_is_made(invoke, shelf, cwd, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "tensorboardX" else find(name, *rest)
    )
    ended = invoke("train", *IMDB, "--dataset", shelf / "two.csv", "--workdir", "run", "--tensorboard")
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.count("\n") == 1
    assert "--tensorboard: expected the package tensorboardX" in ended.err
    assert "pip install 'rnnjax[tensorboard]'" in ended.err
    assert list(cwd.iterdir()) == []


def test_with_it_the_run_is_the_same(invoke, shelf, cwd, imdb_run):
    pytest.importorskip("tensorboardX")
    line = ["train", *IMDB, "--dataset", shelf / "two.csv", "--workdir", "run"]
    ended = invoke(*line, "--tensorboard")
    assert ended.status == 0, ended.err
    expected = json.loads((imdb_run / "results.json").read_text())
    assert {**json.loads(ended.out), "train_seconds": 0} == {**expected, "train_seconds": 0}
    assert {path.name for path in (cwd / "run" / "tensorboard").iterdir()} == {"train", "validation"}
    assert invoke(*line, "--overwrite").status == 0
    assert not (cwd / "run" / "tensorboard").exists(), "of the run before"
