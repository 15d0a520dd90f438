"""`rnnjax report`: one page with what the runs' files say, all of it escaped, and one line for what it refuses."""

import html.parser
import json
import re
from pathlib import Path

import numpy as np
import pytest
from browser import open_page

from rnnjax.cli.curves import Curve, draw
from rnnjax.cli.report import COLOURS, colours, format_figure

EVIL = '<script>alert(1)</script> & "it\'s" {{ 7 * 7 }} 文字'


class Page(html.parser.HTMLParser):
    """What stands on a page: its elements with their attributes, tables by id, and texts."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.tables, self.path, self.texts = [], {}, [], {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        if tag in ("meta", "link", "img"):
            return
        self.path.append((tag, attributes))
        if tag == "table":
            self.rows = self.tables.setdefault(attributes.get("id") or attributes["class"], [])
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        open_tag, _ = self.path.pop()
        assert open_tag == tag, "elements are nested"

    def handle_data(self, data):
        tags = [tag for tag, _ in self.path]
        if tags and tags[-1] not in ("style", "tr", "tbody", "thead", "table") and {"td", "th"} & set(tags):
            self.rows[-1][-1] += data
        if tags:
            self.texts.setdefault(tags[-1], []).append(data)


@pytest.fixture
def report(invoke, cwd):
    """Call `rnnjax report` and read its page."""

    def call(*arguments):
        ended = invoke("report", *arguments, "--overwrite")
        assert ended.status == 0, ended.err
        assert ended.out == ""
        return Page(Path("report.html").read_text(encoding="utf-8"))

    return call


@pytest.fixture
def odd_run(copied, imdb_run):
    """A classifier's run whose name, data, classes and mistakes look like HTML and like a template."""
    run = copied(imdb_run)
    run = run.rename(run.with_name(EVIL.replace("/", "|")))
    config = json.loads((run / "config.json").read_text())
    config["dataset"] = config["config"]["dataset"] = EVIL
    config["config"]["units"] = 5
    (run / "config.json").write_text(json.dumps(config))
    results = json.loads((run / "results.json").read_text())
    results["classes"][EVIL] = {"precision": None, "recall": 0.5, "f1": 0.25, "support": 1234}
    results[EVIL] = 1
    (run / "results.json").write_text(json.dumps(results))
    mistake = {"label": EVIL, "predicted": "good", "probability": 0.98765, "text": f"{EVIL} [UNK] \udc80"}
    (run / "mistakes.jsonl").write_text(json.dumps(mistake) + "\n")
    return run


def column(table, name):
    """A table's column by its head: {first cell: cell}."""
    number = table[0].index(name)
    return {row[0]: row[number] for row in table[1:]}


def test_tables_say_what_the_files_say(report, imdb_run, char_run):
    page = report(imdb_run, char_run)
    assert [row[:1] + row[4:] for row in page.tables["runs"]] == [
        ["run", "state", "folder"],
        ["imdb", "finished", str(imdb_run)],
        ["char", "finished", str(char_run)],
    ]
    for run in (imdb_run, char_run):
        results = json.loads((run / "results.json").read_text())
        shown = {name: text for name, text in column(page.tables["scores"], run.name).items() if text != "–"}  # noqa: RUF001
        numbers = {name: value for name, value in results.items() if isinstance(value, (int, float)) and name != "seed"}
        assert shown == {name: format_figure(name, value) for name, value in numbers.items()}
        config = json.loads((run / "config.json").read_text())
        settings = column(page.tables["settings"], run.name)
        expected = {**config["config"], "data": config["dataset"], "task": config["task"], "device": config["device"]}
        del expected["data_dir"]
        for name, value in {**expected, **config["environment"]["packages"]}.items():
            assert settings[name] == ("–" if value is None else str(value))  # noqa: RUF001
    settings = page.tables["settings"]
    assert page.tables["differing"][1:] == [row for row in settings[1:] if row[1] != row[2]]
    assert {"task", "window", "model"} <= set(column(page.tables["differing"], "imdb"))
    assert "optimizer" not in column(page.tables["differing"], "imdb")


def test_figures_as_a_person_reads_them():
    given = [format_figure("x", value) for value in (0.0, 0.12345, 1.23456e-5, 1234567, 1.5e9, None)]
    assert given == ["0.0000", "0.1235", "1.235e-05", "1,234,567", "1.5e+09", "–"]  # noqa: RUF001
    assert format_figure("train_seconds", 3723.4) == "1:02:03"


def test_the_sample_is_what_generate_writes(report, invoke, char_run):
    expected = invoke("generate", "--workdir", char_run, "--temperature", 0.6, "--length", 300).out
    page = report(char_run)
    (sample,) = ["".join(page.texts["pre"])]
    assert sample.strip("\n") == expected.strip("\n")
    assert len(expected) == 301
    assert "pre" not in report(char_run, "--no-samples").texts


def test_classes_and_mistakes(report, imdb_run):
    page = report(imdb_run)
    results = json.loads((imdb_run / "results.json").read_text())
    assert page.tables["classes"][1:] == [
        [name, *(format_figure(key, figures[key]) for key in ("precision", "recall", "f1", "support"))]
        for name, figures in results["classes"].items()
    ]
    mistakes = [json.loads(line) for line in (imdb_run / "mistakes.jsonl").read_text().splitlines()]
    assert page.tables["mistakes"][1:] == [
        [mistake["label"], mistake["predicted"], f"{mistake['probability']:.4f}", mistake["text"]]
        for mistake in mistakes
    ]
    assert mistakes
    (picture,) = [attributes for tag, attributes in page.elements if tag == "img"]
    assert picture["src"].startswith("data:image/png;base64,iVBOR")
    assert picture["alt"] == "Confusion matrix of imdb"


def test_an_unfinished_run_says_so_and_shows_its_newest_epoch(report, copied, char_run, imdb_run):
    run = copied(char_run)
    (run / "results.json").unlink()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    with open(run / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"step": 99, "epoch": 3, "spl')
    page = report(run, imdb_run)
    assert page.tables["runs"][1][4] == "unfinished, after epoch 2"
    newest = next(line for line in lines if (line["split"], line["epoch"]) == ("validation", 2))
    scores = column(page.tables["scores"], "char")
    assert scores["val_loss"] == f"{newest['loss']:.4f}"
    assert scores["epochs_run"] == "2"
    assert scores["test_loss"] == "–"  # noqa: RUF001
    assert len("".join(page.texts["pre"]).strip("\n")) > 290, "there is a checkpoint to sample from"

    (run / "metrics.jsonl").unlink()
    for path in (run / "checkpoints").iterdir():
        path.rename(run / path.name)
    page = report(run)
    assert page.tables["runs"][1][4] == "unfinished, in its first epoch"
    assert "pre" not in page.texts
    assert "svg" not in page.texts


def test_all_that_comes_from_runs_is_escaped_and_nothing_is_loaded(report, odd_run, char_run):
    page = report(odd_run, char_run)
    tags = {tag for tag, _ in page.elements}
    assert not {"script", "iframe", "object", "embed", "audio", "video"} & tags
    for _, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href", "data", "action", "srcset"):
                assert value.startswith(("data:", "#"))
            if name == "style":
                assert "url(" not in value
    assert "url(" not in re.sub(r"url\(#\w+\)", "", "".join(page.texts["style"]))
    name = odd_run.name
    assert page.tables["runs"][1][0] == name
    assert page.tables["runs"][1][2] == EVIL
    assert column(page.tables["classes"], "class")[EVIL] == EVIL
    assert page.tables["mistakes"][1] == [EVIL, "good", "0.9877", f"{EVIL} [UNK] ?"]
    assert column(page.tables["scores"], name)[EVIL] == "1"
    assert "".join(page.texts["title"]).startswith(name)
    policy = [attributes for tag, attributes in page.elements if "http-equiv" in attributes]
    assert policy[0]["content"].startswith("default-src 'none'")


def test_curves_go_through_the_values():
    epochs = np.arange(1, 8)
    draws = np.random.default_rng(0).random((3, 7))
    curves = [
        Curve(COLOURS[0], "train", epochs.tolist(), draws[0].tolist(), None),
        Curve(COLOURS[0], "validation", epochs.tolist(), draws[1].tolist(), 4),
        Curve(COLOURS[1], "validation", epochs[:3].tolist(), draws[2, :3].tolist(), 40),
    ]
    svg = draw("loss", curves)
    assert svg.startswith("<svg")
    assert svg == draw("loss", curves), "the same page for the same runs"
    assert set(re.findall(r'\bid="(\w+)"', svg)).isdisjoint(re.findall(r'\bid="(\w+)"', draw("accuracy", curves)))
    assert "currentColor" in svg
    lines = [line for line in re.findall(r'<path d="([^"]*)"([^>]*)>', svg) if any(c in line[1] for c in COLOURS[:2])]
    points = [np.array(re.findall(r"[ML] ([\d.]+) ([\d.]+)", path), float) for path, _ in lines]
    points = [array for array in points if len(array) in (3, 7)]
    assert len(points) == 3
    scale = np.polyfit(draws[0], points[0][:, 1], 1)
    assert scale[0] < 0, "larger values stand higher"
    for array, values in zip(points, (draws[0], draws[1], draws[2, :3]), strict=True):
        np.testing.assert_allclose(array[:, 1], np.polyval(scale, values), atol=1e-3)
        np.testing.assert_allclose(np.diff(array[:, 0]), np.diff(points[0][:, 0])[0], atol=1e-3)
    assert "stroke-dasharray" in lines[0][1]


def test_each_metric_has_a_picture_with_all_runs(report, imdb_run, char_run, copied):
    other = copied(imdb_run)
    other = other.rename(other.with_name("other"))
    page = report(imdb_run, other, char_run)
    labels = [attributes["aria-label"] for tag, attributes in page.elements if tag == "figure"]
    assert labels[:2] == ["Curves of loss", "Curves of accuracy"]
    assert {"Curves of bits", "Curves of perplexity"} <= set(labels)
    text = Path("report.html").read_text()
    first, second = text.split("<svg")[1:3]
    assert all(colour in first for colour in COLOURS[:3])
    assert [colour in second for colour in COLOURS[:3]] == [True, True, False]


def test_every_run_has_a_colour_of_its_own():
    for count in (1, 8, 9, 40):
        given = colours(count)
        assert len(set(given)) == count
        assert all(re.fullmatch(r"#[0-9a-f]{6}", colour) for colour in given)


def test_a_folder_of_runs_and_runs_of_one_name(report, invoke, copied, imdb_run, char_run, tmp_path):
    for number in (1, 2):
        copied(imdb_run).rename(tmp_path / "copies" / f"seed={number}")
    page = report(tmp_path / "copies", imdb_run, tmp_path / "copies" / "seed=1")
    assert [row[0] for row in page.tables["runs"][1:]] == ["seed=1", "seed=2", "imdb"]
    (tmp_path / "copies" / "seed=1").rename(tmp_path / "imdb")
    page = report(tmp_path / "imdb", imdb_run)
    assert [row[0] for row in page.tables["runs"][1:]] == [str(tmp_path / "imdb"), str(imdb_run)]


def break_file(name, content):
    def change(run):
        (run / name).write_bytes(content)
        return [run]

    return change


BAD = {
    "no folder": (lambda run: [run / "nothing"], "expected a run folder; there is no such folder"),
    "no run": (lambda run: [run / "checkpoints"], "expected a run folder; it holds no config.json"),
    "config.json": (break_file("config.json", b"{"), "config.json: expected the configuration of a run"),
    "results.json": (break_file("results.json", b'{"task": "im'), "results.json: expected the results of a run"),
    "results.json, no object": (break_file("results.json", b"[]"), "results.json: expected the results of a run"),
    "classes": (break_file("results.json", b'{"classes": {"a": 1}}'), "results.json: expected precision, recall"),
    "metrics.jsonl": (break_file("metrics.jsonl", b'{"step": 1}\n{"st'), "metrics.jsonl: expected .* in line 1"),
    "mistakes.jsonl": (break_file("mistakes.jsonl", b'{"label": "a"}\n'), "mistakes.jsonl: expected an object with"),
    "mistakes.jsonl, bytes": (break_file("mistakes.jsonl", b"\xff\n"), "mistakes.jsonl: expected an object with"),
    "no RUN": (lambda run: [], "the following arguments are required: RUN"),
    "output folder": (lambda run: [run, "--output", run], "expected the name of a file; it is a folder"),
    "output nowhere": (lambda run: [run, "--output", run / "no" / "x"], "expected a file in a folder that can be"),
    "output there": (lambda run: [run, "--output", run / "config.json"], "expected a new file; there is one"),
}


@pytest.mark.parametrize("name", BAD)
def test_refusals_are_one_line_and_change_nothing(name, invoke, copied, imdb_run, cwd, snapshot):
    run = copied(imdb_run)
    prepare, message = BAD[name]
    arguments = prepare(run)
    before = snapshot(run)
    ended = invoke("report", *arguments)
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.count("\n") == 1
    assert re.search(message, ended.err)
    assert "--workdir" not in ended.err
    assert snapshot(run) == before
    assert list(cwd.iterdir()) == []


def test_a_broken_checkpoint_is_refused(invoke, copied, char_run, cwd):
    run = copied(char_run)
    for path in (run / "checkpoints").iterdir():
        (path / "manifest.json").unlink()
    ended = invoke("report", run)
    assert ended.status == 2
    assert "expected a whole checkpoint" in ended.err.splitlines()[-1]
    assert list(cwd.iterdir()) == []
    assert invoke("report", run, "--no-samples").status == 0


def test_written_over_only_when_asked(invoke, imdb_run, cwd):
    assert invoke("report", imdb_run, "--output", "x.html").status == 0
    before = Path("x.html").read_bytes()
    ended = invoke("report", imdb_run, "--output", "x.html")
    assert ended.status == 2
    assert "--overwrite" in ended.err
    assert Path("x.html").read_bytes() == before
    assert invoke("report", imdb_run, "--output", "x.html", "--overwrite").status == 0
    assert list(cwd.iterdir()) == [cwd / "x.html"]


def test_in_a_browser(report, odd_run, imdb_run, char_run, tmp_path):
    (tmp_path / "bad.html").write_text("<script>missing()</script>")
    assert "missing is not defined" in "".join(open_page(tmp_path / "bad.html", tmp_path).complaints)
    report(odd_run, imdb_run, char_run)
    for dark in (False, True):
        opened = open_page(Path("report.html"), tmp_path, dark=dark)
        assert opened.complaints == []
        page = Page(opened.html[opened.html.index("<html") :])
        assert {"runs", "scores", "settings", "differing", "classes", "mistakes"} <= set(page.tables)
        assert page.tables["runs"][1][0] == odd_run.name
        assert opened.screenshot.stat().st_size > 10_000
