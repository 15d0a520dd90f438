"""`rnnjax neurons`: the activations of stepping through the text, the best units, and one line for what it refuses."""

import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from browser import open_page
from sklearn.metrics import roc_auc_score
from test_explain_command import Texts

from rnnjax.cli import colours, runs

TEXT = "läßt das? Die Katze\nthe QUICK quick — fox!\n\n" * 12


@pytest.fixture
def text(cwd):
    """A file of characters that the model knows."""
    text = "".join(c for c in TEXT if c != "Q" and c not in "UICK")
    (cwd / "a.txt").write_text(text, encoding="utf-8")
    return text


@pytest.fixture(scope="session")
def held(char_run):
    """States of the model after each token of a text, read one token at a time."""
    trained = runs.load_model(str(char_run), "language model", print)

    @jax.jit
    def step(state, token):
        return trained.model.apply({"params": trained.params}, token, initial_state=state, return_state=True)[0]

    def read(text, part):
        state, values = trained.model.initial_state(1), []
        for token in trained.vocabulary.encode(text):
            state = step(state, np.array([[token]]))
            values.append(np.asarray(getattr(state[0], part))[0])
        return np.stack(values)

    return read


@pytest.mark.parametrize("part", ["h", "c"])
def test_a_line_for_each_character(part, invoke, char_run, text, held):
    ended = invoke(
        "neurons", char_run, "--text", "a.txt", "--unit", 2, "--state", part, "--length", 30, "--html", "a.html"
    )
    assert ended.status == 0
    assert ended.err == f"reading the first 30 of {len(text)} characters (--length)\n"
    rows = [line.split("\t") for line in ended.out.splitlines()]
    assert [json.loads(row[0]) for row in rows] == list(text[:30])
    expected = held(text[:30], part)[:, 2]
    np.testing.assert_allclose([float(row[1]) for row in rows], expected, atol=6e-5)
    page = Texts(Path("a.html").read_text(encoding="utf-8"))
    assert page.texts == [text[:30].replace("\n", "\u21b5\n")]
    assert max(float(style.removeprefix("--w:") or 0) for *_, style in page.spans) == 1


def test_colours_in_a_terminal(invoke, char_run, text, monkeypatch):
    monkeypatch.setattr(colours, "wants_colours", lambda: True)
    ended = invoke("neurons", char_run, "--text", "a.txt", "--unit", 0, "--length", 25)
    plain = re.sub(r"\x1b\[[\d;]*m", "", ended.out).replace("\u21b5", "")
    assert plain.startswith(text[:25] + "\nlayer 0, unit 0, h from ")
    assert "\x1b[38;5;16;48;5;" in ended.out


def test_the_best_units(invoke, char_run, text, held):
    ended = invoke("neurons", char_run, "--text", "a.txt", "--top", 2, "--html", "a.html")
    assert (ended.status, ended.err) == (0, "")
    head, *lines = ended.out.splitlines()
    assert head.split() == ["property", "measure", "layer", "unit", "sign", "first", "half", "second", "half"]
    rows = [re.split(r"  +", line) for line in lines]
    assert ["inside quotes", "does not vary in one of the halves"] in rows
    assert [row[0] for row in rows].count("white space") == 2
    values = held(text, "h")
    half = len(text) // 2
    spaces = np.array([character.isspace() for character in text])
    lines_so_far = [text[: place + 1].split("\n")[-1] for place in range(len(text))]
    positions = np.array([len(line) for line in lines_so_far])

    def auc(part, unit):
        return roc_auc_score(spaces[part], values[part, unit])

    def correlation(part, unit):
        return np.corrcoef(positions[part], values[part, unit])[0, 1]

    for name, measure, score, middle in [
        ("white space", "AUC", auc, 0.5), ("position in the line", "correlation", correlation, 0),
    ]:  # fmt: skip
        first = np.array([score(slice(half), unit) for unit in range(values.shape[1])]) - middle
        best = np.argsort(-np.abs(first))[:2]
        found = [row for row in rows if row[0] == name]
        for row, unit in zip(found, best, strict=True):
            sign = 1 if first[unit] > 0 else -1
            assert row[1:5] == [measure, "0", str(unit), "+" if sign > 0 else "-"]
            assert float(row[5]) == pytest.approx(middle + abs(first[unit]), abs=6e-4)
            second = middle + sign * (score(slice(half, None), unit) - middle)
            assert float(row[6]) == pytest.approx(second, abs=6e-4)
    page = Texts(Path("a.html").read_text(encoding="utf-8"))
    assert page.texts
    assert all(part.replace("\u21b5", "") in text[half:] for part in page.texts)


def test_what_is_refused(invoke, char_run, imdb_run, text, cwd, snapshot):
    (cwd / "other.txt").write_text("the Ж")
    before = snapshot(cwd)
    for arguments, message in [
        ((char_run,), "the following arguments are required: --text"),
        ((imdb_run, "--text", "a.txt"), "expected a run of a language model; it holds a run of imdb"),
        ((cwd, "--text", "a.txt"), "expected a run folder; it holds no config.json"),
        ((char_run, "--text", "nothing.txt"), "nothing.txt: there is no such file"),
        ((char_run, "--text", "other.txt"), "--text other.txt: expected characters that the model knows"),
        ((char_run, "--text", "a.txt", "--unit", 4), "--unit: expected a whole number at most 3, the last unit; got 4"),
        ((char_run, "--text", "a.txt", "--layer", 1), "--layer: expected a whole number at most 0"),
        ((char_run, "--text", "a.txt", "--state", "x"), "--state: expected one of h, c; got 'x'"),
        ((char_run, "--text", "a.txt", "--unit", 0, "--html", "a.txt"), "a.txt: expected a new file; there is one"),
    ]:
        ended = invoke("neurons", *arguments)
        assert (ended.status, ended.out, ended.err.count("\n")) == (2, "", 1), arguments
        assert message in ended.err
        assert "--workdir" not in ended.err
    assert snapshot(cwd) == before


def test_a_cell_without_c(invoke, shelf, cwd, text):
    line = ["train", "--task", "char", "--text", shelf / "text.txt", "--cell", "gru", "--units", 3, "--epochs", 1]
    assert invoke(*line, "--workdir", "run").status == 0
    ended = invoke("neurons", "run", "--text", "a.txt", "--state", "c")
    assert ended.status == 2
    assert "--state: expected h, which the cells of this run have; got c" in ended.err
    assert invoke("neurons", "run", "--text", "a.txt", "--unit", 2, "--length", 9).out.count("\n") == 9


def test_in_a_browser(invoke, char_run, text, cwd, tmp_path):
    assert invoke("neurons", char_run, "--text", "a.txt", "--html", "all.html").status == 0
    assert invoke("neurons", char_run, "--text", "a.txt", "--unit", 1, "--html", "one.html").status == 0
    for name in ("all.html", "one.html"):
        opened = open_page(Path(name), tmp_path)
        assert opened.complaints == []
        assert Texts(opened.html).texts == Texts(Path(name).read_text(encoding="utf-8")).texts
        assert opened.screenshot.stat().st_size > 5_000
