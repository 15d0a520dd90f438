"""Each task, in a small form and without data: it trains, is resumed, and predicts or generates from its folder."""

import json
import re
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image

from rnnjax.tasks import PREDICTORS, TASKS


class Case(NamedTuple):
    """Options that make a task small and, where predict.py asks it, a line and the form of its answer."""

    options: str
    line: str = ""
    answer: str = ""


CASES = {
    "imdb": Case("--units 4 --embedding 4 --max-length 8", "A fine film.", "negative|positive"),
    "reuters": Case("--units 4", "OPEC ministers met", "coffee|crude|earn|gold|interest"),
    "authorship": Case("--units 4 --embedding 4", "Slowly, the captain walked.", "[A-Z][a-z]+"),
    "char": Case("--units 4 --batch-size 16"),
    "addition": Case("--units 4 --digits 1 --examples 50", "3+4", "[ +0-9]{0,2}"),
    "tagging": Case("--units 4 --embedding 4", "The plan", r"(O|[BI]-\w+) (O|[BI]-\w+)"),
    "mnist": Case("--units 4", "digit.png", "[0-9]"),
    "adding": Case("--units 4 --length 4"),
    "stateful": Case("--units 4 --length 400"),
    "conv_lstm": Case("--units 2 --layers 1 --films 40 --frames 3 --size 10"),
    "babi": Case("--units 4 --examples 1k", "Anna walked to the park. Where is Anna?", "[a-z]+"),
}


def test_every_task_has_a_case():
    assert set(CASES) == set(TASKS)


@pytest.mark.parametrize("name", CASES)
def test_a_task_from_the_first_step_to_its_answers(name, invoke, tmp_path, monkeypatch):
    monkeypatch.setattr("rnnjax.tasks.imdb.BUILTIN_EXAMPLES", 200)
    monkeypatch.setattr("rnnjax.tasks.adding.TRAIN_EXAMPLES", 128)
    for constant in ("reuters.BUILTIN_EXAMPLES", "mnist.BUILTIN_EXAMPLES", "tagging.BUILTIN_SENTENCES"):
        monkeypatch.setattr(f"rnnjax.tasks.{constant}", 200)
    monkeypatch.setattr("rnnjax.tasks.authorship.BUILTIN_SENTENCES", 60)
    monkeypatch.chdir(tmp_path)
    Image.new("L", (28, 28), 128).save("digit.png")
    case = CASES[name]
    common = ["--task", name, "--dataset", "builtin", "--workdir", "run", "--epochs", "2", *case.options.split()]

    trained = invoke("train", *common)

    assert trained.status == 0, trained.err
    results = Path("run/results.json")
    first = json.loads(results.read_text())
    assert (first["task"], first["dataset"], first["epochs_run"]) == (name, "builtin", 2)

    results.unlink()  # as if it had been killed before its end
    resumed = invoke("train", *common, "--resume")

    assert resumed.status == 0, resumed.err
    again = json.loads(results.read_text())
    assert {**again, "train_seconds": 0} == {**first, "train_seconds": 0}

    if TASKS[name].kind == "language model":
        generated = invoke("generate", "--workdir", "run", "--length", "12")
        assert generated.status == 0, generated.err
        assert len(generated.out) >= 13
    if TASKS[name].kind in PREDICTORS:
        predicted = invoke("predict", "--workdir", "run", "--text", case.line)
        assert predicted.status == 0, predicted.err
        answer, probability = predicted.out.rstrip("\n").split("\t")
        assert re.fullmatch(case.answer, answer)
        assert 0 < float(probability) <= 1


def test_what_has_no_word_vectors_cannot_be_explained(invoke, tmp_path, monkeypatch):
    monkeypatch.setattr("rnnjax.tasks.reuters.BUILTIN_EXAMPLES", 200)
    invoke("train", "--task", "reuters", "--dataset", "builtin", "--epochs", "1", "--workdir", tmp_path / "run")
    ended = invoke("predict", "--workdir", tmp_path / "run", "--text", "gold", "--explain")
    assert (ended.status, ended.out) == (2, "")
    assert "--explain: expected a model of word vectors; BagClassifier of reuters has none" in ended.err
