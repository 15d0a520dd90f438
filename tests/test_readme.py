"""The README's commands run, its table is that of scores.json, and its library snippet does what it says."""

import importlib.util
import io
import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

from rnnjax.cli import main

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHELL = re.findall(r"^```sh\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
SMALL = ["--epochs=1", "--units=4", "--embedding=4", "--batch-size=256"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the files that the README's commands name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RNNJAX_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    rows = [f"{word} film number {n},{label}" for n in range(10) for word, label in [("good", "yes"), ("bad", "no")]]
    (tmp_path / "my_texts.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    (tmp_path / "my_book.txt").write_text("It was a dark and stormy night. ROMEO: yes!\n" * 40)
    (tmp_path / "my_lines.txt").write_text("a good film\n\na bad one\n")
    return tmp_path


def test_the_first_two_commands_set_everything_up():
    first, second = SHELL[:2]
    for command in (first, second):
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install -q -c constraints.txt -e ")
        assert command.count("\n") == 1
    assert "train.py --task imdb && .venv/bin/python predict.py" in first
    assert second.rstrip().endswith("-m pytest")


def test_commands_run(folder, monkeypatch, capfdbinary):
    """Each command of the third block, on small models and without a network."""
    commands = [shlex.split(line) for line in SHELL[2].splitlines()]
    assert {command[1] for command in commands} == {"train.py", "generate.py", "predict.py"}
    for command in commands:
        assert command[0] == "python"
        name, options = command[1].removesuffix(".py"), command[2:]
        if "<" in options:
            lines = (folder / options.pop()).read_bytes()
            options.pop()
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
        if name == "train" and not {"--list", "--help"} & set(options):
            options += [*SMALL, f"--workdir=runs/{len(list(folder.glob('runs/*')))}"]
            if not {"--dataset", "--text"} & set(options):
                options.append("--dataset=builtin")
        if name == "generate" and "--prompt" in options:
            options[options.index("--prompt") + 1] = "ROMEO:"
        assert main([name, *options]) == 0, (command, capfdbinary.readouterr().err)
        out = capfdbinary.readouterr().out.decode()
        if name == "predict":
            expected = 3 if "<" in command else 1
            assert re.fullmatch(rf"(\w+\t[01]\.\d+\n){{{expected}}}", out)
        if name == "generate" and "--prompt" in options:
            assert [len(part) for part in out.split("ROMEO:")[1:]] == [501] * 3


def test_library_snippet():
    (snippet,) = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    names: dict = {}
    exec(snippet, names)
    variables, layer, x = names["variables"], names["layer"], names["x"]
    plain = layer.apply(variables, x, lengths=names["lengths"])
    assert np.all(np.asarray(plain[1, 4:]) == 0)
    assert np.any(np.asarray(plain[1, 3]) != 0)
    assert np.any(np.asarray(names["y"]) != np.asarray(layer.apply(variables, x)))  # dropout


def test_the_table_is_that_of_the_measured_scores():
    spec = importlib.util.spec_from_file_location("scores", ROOT / "benchmarks" / "scores.py")
    assert spec is not None
    assert spec.loader is not None
    scores = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(scores)
    measured = json.loads(scores.SCORES.read_text())
    begin, end = scores.marks("scores")
    shown = README.split(begin)[1].split(end)[0].strip()
    assert shown == scores.table(measured).strip()
    begin, end = scores.marks("tasks")
    assert README.split(begin)[1].split(end)[0].strip() == scores.tasks_table().strip()
    begin, end = scores.marks("seeds")
    assert README.split(begin)[1].split(end)[0].strip() == scores.seeds_table(measured).strip()
    assert f"python generate.py {shlex.join(scores.SAMPLE)}".replace("'", '"') in README
    for name, score in measured.items():
        assert score["command"] == f"python train.py {scores.ENTRIES[name].options}"
        assert score["mean"] == pytest.approx(np.mean(score["values"]))


@pytest.mark.parametrize("command", [line for block in SHELL for line in block.splitlines() if "neurons" in line])
def test_options_of_neurons(command):
    """They are those of the command; its own tests run it."""
    from rnnjax.cli.neurons import make_parser

    options = make_parser().parse_args(shlex.split(command)[2:])
    assert options.text == "my_book.txt"


def test_options_of_explain():
    from rnnjax.cli.predict import make_parser

    commands = [shlex.split(line) for block in SHELL for line in block.splitlines() if "--explain" in line]
    assert len(commands) == 2
    for command in commands:
        options = [word for word in command[2:] if word not in ("<", "my_lines.txt")]
        assert make_parser().parse_args(options).explain
