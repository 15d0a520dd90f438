"""Training from word vectors: the notice, resuming, and that frozen ones are those of the file to the bit."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rnnjax.cli.runs import load_model

TRAIN = ("train", "--task", "imdb", "--max-length", "8", "--batch-size", "16", "--units", "4", "--epochs", "2",
         "--learning-rate", "0.05", "--ema-decay", "0.9")  # fmt: skip
FOUND = {"it": [0.25, -1.0], "poor": [1.5, -0.0], "fine": [1e-3, 3.0]}


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    path = tmp_path / "vectors.vec"
    lines = [" ".join([word, *map(str, vector)]) for word, vector in FOUND.items()]
    path.write_text("\n".join([f"{len(lines)} 2", *lines, ""]), encoding="utf-8")
    return path


def test_frozen_vectors(invoke: Any, cwd: Path, shelf: Path, vectors: Path, snapshot: Any) -> None:
    options = (*TRAIN, "--dataset", shelf / "two.csv", "--workdir", "run", "--vectors", vectors, "--freeze-vectors")
    ended = invoke(*options)
    assert ended.status == 0, ended.err
    assert f"{vectors}: vectors of width 2 for " in ended.err
    run = cwd / "run"
    config = json.loads((run / "config.json").read_text())
    assert config["config"]["vectors"] == str(vectors)
    assert config["info"]["embedding"] == 2
    trained = load_model(str(run), "classifier", print)
    table = np.asarray(trained.params["embedding"]["embedding"])
    for word, vector in FOUND.items():
        assert table[trained.vocabulary.words.index(word)].tobytes() == np.array(vector, np.float32).tobytes()

    # Killed before its end, the run goes on from the file that it was started with, and from no other.
    results = json.loads((run / "results.json").read_text())
    (run / "results.json").unlink()
    content = vectors.read_bytes()
    vectors.write_bytes(content.replace(b"3.0", b"3.5"))
    before = snapshot(run)
    ended = invoke("train", "--resume", "--workdir", "run")
    assert (ended.status, ended.out) == (2, "")
    assert str(vectors) in ended.err
    assert "have changed" in ended.err
    ended = invoke("train", "--resume", "--workdir", "run", "--no-freeze-vectors")
    assert ended.status == 2
    assert "--freeze-vectors: expected True" in ended.err
    assert snapshot(run) == before
    vectors.write_bytes(content)
    assert invoke("train", "--resume", "--workdir", "run").status == 0
    assert json.loads((run / "results.json").read_text())["parameters_sha256"] == results["parameters_sha256"]

    vectors.unlink()  # what was learned needs it no more
    assert invoke("predict", "--workdir", "run", "--text", "it was fine").status == 0


def test_refused_in_one_line(invoke: Any, cwd: Path, shelf: Path, vectors: Path) -> None:
    start = (*TRAIN, "--dataset", shelf / "two.csv")
    for options, words in [
        (["--freeze-vectors"], ["--freeze-vectors", "--vectors FILE"]),
        (["--vectors", vectors, "--embedding", "4"], ["--embedding", "expected 2", "got 4"]),
        (["--vectors", "absent.txt"], [f"{cwd}/absent.txt", "no such file"]),
        (["--vectors", shelf / "two.csv"], ["two.csv, line 1"]),
        (["--pooling", "min"], ["--pooling", "last, mean, max, attention", "'min'"]),
    ]:
        ended = invoke(*start, *options)
        assert (ended.status, ended.out) == (2, "")
        assert len(ended.err.splitlines()) == 1, ended.err
        for word in words:
            assert word in ended.err
    assert list(cwd.iterdir()) == []
