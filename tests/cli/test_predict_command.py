"""`predict.py`: a line for each text, from a run folder alone."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rnnjax.cli import main, runs
from rnnjax.data.vocabulary import WordVocabulary

ROOT = Path(__file__).parents[2]


@pytest.fixture
def predict_lines(invoke: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    def call(run: Path, content: str) -> list[str]:
        stdin = SimpleNamespace(buffer=io.BytesIO(content.encode()), isatty=lambda: False)
        monkeypatch.setattr(sys, "stdin", stdin)
        ended = invoke("predict", "--workdir", run)
        assert (ended.status, ended.err) == (0, "")
        assert ended.out == "" or ended.out.endswith("\n")
        return ended.out.splitlines()

    return call


def test_a_line_for_each_line(predict_lines: Any, imdb_run: Path) -> None:
    lines = predict_lines(imdb_run, "it was fine number 1\n\nit was poor number 2\r\n  \nit was fine")
    assert len(lines) == 5
    labels, probabilities = zip(*(line.split("\t") for line in lines), strict=True)
    assert set(labels) <= {"good", "bad"}
    assert lines[1] == lines[3], "both have no words"
    assert all(0.5 <= float(probability) <= 1 and len(probability) == 6 for probability in probabilities)
    assert predict_lines(imdb_run, "") == []
    assert len(predict_lines(imdb_run, "\n")) == 1
    assert predict_lines(imdb_run, "\N{BYTE ORDER MARK}fine\n") == predict_lines(imdb_run, "fine")


def test_more_lines_than_a_batch(predict_lines: Any, imdb_run: Path) -> None:
    texts = [f"it was {('fine', 'poor')[i % 3 == 0]} number {i % 9}" for i in range(300)]
    lines = predict_lines(imdb_run, "\n".join(texts))
    assert len(lines) == 300
    assert [lines[i] for i in (0, 255, 256, 299)] == [predict_lines(imdb_run, texts[i])[0] for i in (0, 255, 256, 299)]


def test_the_models_own_probabilities(invoke: Any, imdb_run: Path) -> None:
    model, params, vocabulary, info, *_ = runs.load_model(str(imdb_run), "classifier", print)
    assert isinstance(vocabulary, WordVocabulary)
    for text in ("it was fine number 3", "poor", "", "words never seen " * 9):
        inputs, lengths = vocabulary.encode([text], info["max_length"])
        (logit,) = np.asarray(model.apply({"params": params}, inputs, lengths=lengths))[0]
        second = 1 / (1 + np.exp(-float(logit)))
        expected = f"good\t{second:.4f}\n" if second > 0.5 else f"bad\t{1 - second:.4f}\n"
        assert invoke("predict", "--workdir", imdb_run, "--text", text).out == expected


def test_from_a_run_folder_alone(tmp_path: Path, invoke: Any) -> None:
    data = tmp_path / "three.csv"
    rows = [f"word{i % 3} here,{('süß', '塩辛い', 'sour')[i % 3]}" for i in range(60)]
    data.write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    run = tmp_path / "run"
    line = ["train", "--task", "imdb", "--dataset", data, "--workdir", run, "--epochs", "12", "--units", "8",
            "--embedding", "8", "--batch-size", "8", "--learning-rate", "0.05", "--clip-norm", "0"]  # fmt: skip
    assert main([str(word) for word in line]) == 0
    data.unlink()
    for path in (run / "metrics.jsonl", run / "history.png", run / "results.json"):
        path.unlink()
    # As a locale has it that knows no such letters.
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    ended = subprocess.run(
        [sys.executable, ROOT / "predict.py", "--workdir", run.name],
        input=b"word0 here\nword1 here\nword2 here\n", capture_output=True, cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, b"")
    lines = [line.split("\t") for line in ended.stdout.decode("utf-8").splitlines()]
    assert [label for label, _ in lines] == ["süß", "塩辛い", "sour"]
    assert all(float(probability) > 0.5 for _, probability in lines)
    assert json.loads((run / "config.json").read_text())["info"]["classes"] == ["sour", "süß", "塩辛い"]
