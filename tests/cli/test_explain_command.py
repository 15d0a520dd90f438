"""`predict.py --explain`: contributions sum to the change of the logit, and all of a text is shown, escaped."""

import html.parser
import io
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from browser import open_page

import rnnjax
from rnnjax.cli import colours, explain, runs
from rnnjax.cli.colours import Piece
from rnnjax.data import tfds
from rnnjax.data.vocabulary import WordVocabulary
from rnnjax.models.classifier import Classifier

DATA_DIR = os.environ.get("TFDS_DATA_DIR")  # before the commands get a folder of their own
EVIL = 'It was <script>alert("x")</script> & fine,\x1b[31m \u0130number 3!'


class Texts(html.parser.HTMLParser):
    """The coloured texts of a page, and the classes and titles of their words."""

    def __init__(self, content):
        super().__init__()
        self.texts, self.spans, self.tags, self.inside = [], [], set(), False
        self.feed(content)
        self.close()

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.add(tag)
        if tag == "div" and attributes.get("class") == "text":
            self.texts.append("")
            self.inside = True
        elif tag == "span" and self.inside and "title" in attributes:  # a word
            self.spans.append((attributes.get("class", ""), attributes["title"], attributes.get("style", "")))

    def handle_endtag(self, tag):
        self.inside = self.inside and tag != "div"

    def handle_data(self, data):
        if self.inside:
            self.texts[-1] += data


def scores(run, text):
    """Logit of the second class, for the text and for word vectors of zero."""
    model, params, vocabulary, info, *_ = runs.load_model(str(run), "classifier", print)
    inputs, lengths = vocabulary.encode([text], info["max_length"])
    table = params["embedding"]["embedding"]
    blank = {**params, "embedding": {"embedding": np.zeros_like(table)}}
    return [float(model.apply({"params": tree}, inputs, lengths=lengths)[0, 0]) for tree in (params, blank)]


def test_lines_of_words_sum_to_the_change_of_the_logit(invoke, imdb_run):
    text = "At first unseen: it was poor, NUMBER 4 and it was fine"  # 12 words, of which 8 are kept
    ended = invoke("predict", "--workdir", imdb_run, "--text", text, "--explain")
    assert (ended.status, ended.err) == (0, "")
    first, *lines = ended.out.splitlines()
    assert f"{first}\n" == invoke("predict", "--workdir", imdb_run, "--text", text).out
    rows = [line.split("\t") for line in lines]
    assert [row[0] for row in rows] == re.findall(r"\w+", text)
    assert [row[2:] for row in rows] == [["cut"]] * 4 + [[]] * 4 + [["unknown"]] + [[]] * 3
    assert [row[1] for row in rows[:4]] == ["+0.0000"] * 4
    score, baseline = scores(imdb_run, text)
    sign = 1 if first.startswith("good") else -1
    assert sum(float(row[1]) for row in rows) == pytest.approx(sign * (score - baseline), abs=3e-3)
    assert max(abs(float(row[1])) for row in rows) > 0.01


def test_texts_on_standard_input_are_parted_by_empty_lines(invoke, imdb_run, monkeypatch):
    def call(content, *options):
        stdin = SimpleNamespace(buffer=io.BytesIO(content.encode()), isatty=lambda: False)
        monkeypatch.setattr(sys, "stdin", stdin)
        ended = invoke("predict", "--workdir", imdb_run, *options)
        assert (ended.status, ended.err) == (0, "")
        return ended.out

    content = "it was fine\n...\nit was poor number 2\n"
    paragraphs = call(content, "--explain").removesuffix("\n").split("\n\n")
    assert [paragraph.splitlines()[0] for paragraph in paragraphs] == call(content).splitlines()
    assert [len(paragraph.splitlines()) for paragraph in paragraphs] == [4, 1, 6]
    assert call("", "--explain") == ""


def test_colours_in_a_terminal(invoke, imdb_run, monkeypatch):
    options = ("predict", "--workdir", imdb_run, "--text", EVIL, "--explain")
    first = invoke(*options).out.splitlines()[0]
    monkeypatch.setattr(colours, "wants_colours", lambda: True)
    start, shown, about = invoke(*options).out.splitlines()
    assert start == first
    assert re.sub(r"\x1b\[[\d;]*m", "", shown) == EVIL.replace("\x1b", "\N{REPLACEMENT CHARACTER}")
    assert "\x1b[38;5;" in shown
    assert "strongest colour" in about


def test_colours_where_a_terminal_wants_them(monkeypatch):
    for is_terminal, variable, expected in [(True, "", True), (True, "1", False), (False, "", False)]:
        monkeypatch.setattr(sys, "stdout", SimpleNamespace(isatty=lambda answer=is_terminal: answer))
        monkeypatch.setenv("NO_COLOR", variable)
        assert colours.wants_colours() == expected


def test_what_colours_say():
    pieces = [
        Piece("cut", 0.0, "cut"), Piece(" "), Piece("bad", -2.0), Piece(", "), Piece("x\n", 0.9),
        Piece("odd", 0.5, "unknown"), Piece("none", 0.01, "unknown"), Piece("\x1b[31m"), Piece("so", 0.05),
    ]  # fmt: skip
    assert colours.in_terminal(pieces, colours.scale_of(pieces)) == (
        "\x1b[2mcut\x1b[0m \x1b[38;5;16;48;5;197mbad\x1b[0m, "
        "\x1b[38;5;16;48;5;159mx\u21b5\x1b[0m\n\x1b[38;5;16;48;5;159m\x1b[0m"
        "\x1b[38;5;239;48;5;195modd\x1b[0m\x1b[38;5;244mnone\x1b[0m\N{REPLACEMENT CHARACTER}[31mso"
    )
    assert colours.in_terminal([Piece("a", 0.0), Piece("b")], 0.0) == "ab"
    assert colours.scale_of([]) == 0


def test_the_page(invoke, imdb_run, cwd):
    options = ("predict", "--workdir", imdb_run, "--text", EVIL, "--explain")
    ended = invoke(*options, "--html", "page.html")
    assert (ended.status, ended.err) == (0, "")
    assert ended.out == invoke(*options).out
    content = Path("page.html").read_text(encoding="utf-8")
    page = Texts(content)
    assert page.texts == [EVIL.replace("\x1b", "\N{REPLACEMENT CHARACTER}")]
    assert not {"script", "iframe", "img", "object"} & page.tags
    assert not re.search(r"(src|href)=\"(?!data:)|url\(", content)
    rows = [line.split("\t") for line in ended.out.splitlines()[1:]]
    assert [title for _, title, _ in page.spans] == [row[1] for row in rows]
    largest = max(abs(float(row[1])) for row in rows)
    for (names, title, style), row in zip(page.spans, rows, strict=True):
        value = float(title)
        assert ("above" in names, "below" in names) == (value > 0, value < 0)
        assert float(style.removeprefix("--w:") or 0) == pytest.approx(abs(value) / largest, abs=0.006)
        assert ("unknown" in names.split()) == (row[2:] == ["unknown"])
        assert ("cut" in names.split()) == (row[2:] == ["cut"])
    assert re.search(r"logit of (good|bad): -?\d\.\d+ = ", content)


def test_what_is_refused(invoke, imdb_run, cwd):
    (cwd / "there.html").write_text("precious")
    options = ("predict", "--workdir", imdb_run, "--text", "fine")
    for more, message in [
        (("--html", "a.html"), "--html: expected --explain beside it"),
        (("--explain", "--html", "there.html"), "there.html: expected a new file"),
        (("--explain", "--html", "nowhere/a.html"), "nowhere/a.html: expected a file in a folder that can be written"),
    ]:
        ended = invoke(*options, *more)
        assert (ended.status, ended.out, ended.err.count("\n")) == (2, "", 1)
        assert message in ended.err
    assert [path.name for path in cwd.iterdir()] == ["there.html"]
    assert (cwd / "there.html").read_text() == "precious"
    assert invoke(*options, "--explain", "--html", "there.html", "--overwrite").status == 0
    assert Texts((cwd / "there.html").read_text()).texts == ["fine"]


@pytest.mark.real_data("imdb_reviews")
def test_five_reviews():
    """A model of random weights: each review is shown as it is written, and its contributions sum."""
    texts = tfds.read_imdb(tfds.prepare_imdb(DATA_DIR))["test"][0][:5]
    vocabulary = WordVocabulary.train(texts[:3], 300)
    model = Classifier(len(vocabulary), 2, 8, rnnjax.LSTM(8, return_sequences=False))
    params = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 2), np.int32))["params"]
    params = jax.tree.map(lambda leaf: 1.5 * leaf, params)
    info = {"max_length": 120, "classes": ["negative", "positive"]}
    task = runs.get_task("imdb")
    trained = runs.TrainedModel(model, params, vocabulary, info, task, task.config())
    found = list(explain.explain(trained, texts, [("negative", 0.5)] * 5))
    assert Texts(explain.page(found)).texts == texts
    for text, entry in zip(texts, found, strict=True):
        assert "".join(piece.text for piece in entry.pieces) == text
        words = [piece for piece in entry.pieces if piece.value is not None]
        kept = words[-120:]
        inputs, lengths = vocabulary.encode([text], 120)
        score = -float(model.apply({"params": params}, inputs, lengths=lengths)[0, 0])
        assert entry.score == pytest.approx(score, abs=1e-5)
        assert sum(piece.value for piece in kept) == pytest.approx(score - entry.baseline, abs=0.01)
        assert [piece.note == "unknown" for piece in kept] == (inputs[0, : lengths[0]] == 1).tolist()
        assert {piece.note for piece in words[:-120]} <= {"cut"}


def test_in_a_browser(invoke, imdb_run, cwd, tmp_path):
    invoke("predict", "--workdir", imdb_run, "--text", EVIL, "--explain", "--html", "page.html")
    for dark in (False, True):
        opened = open_page(Path("page.html"), tmp_path, dark=dark)
        assert opened.complaints == []
        assert Texts(opened.html).texts == [EVIL.replace("\x1b", "\N{REPLACEMENT CHARACTER}")]
        assert opened.screenshot.stat().st_size > 5_000
