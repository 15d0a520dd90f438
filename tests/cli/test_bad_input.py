"""What cannot be used is refused in one line, with status 2, and changes nothing. Other faults: test_faults.py."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

IMDB = ("train", "--task", "imdb", "--units", "4")
CHAR = ("train", "--task", "char", "--units", "4")
ROOT = Path(__file__).parents[2]


class Case:
    """A command line, whose words may name {shelf}, {cwd}, {imdb} and {char}, and words that its message must hold."""

    def __init__(self, line: str | tuple[str, ...], *expected: str) -> None:
        self.line = line.split() if isinstance(line, str) else list(line)
        self.expected = expected


CASES = {
    "no command": Case("", "command", "none"),
    "unknown command": Case("evaluate", "train, generate, predict", "'evaluate'"),
    "no task": Case("train", "--task", "imdb, reuters, char"),
    "unknown task": Case("train --task imbd", "--task", "imdb, reuters, char", "'imbd'"),
    "unknown option": Case((*IMDB, "--unit", "4"), "--unit"),
    "option of another task": Case((*IMDB, "--window", "4"), "--window"),
    "abbreviated option": Case((*IMDB, "--epoch", "4"), "--epoch"),
    "stray word": Case((*IMDB, "more"), "more"),
    "no value": Case((*IMDB, "--seed"), "--seed"),
    "unknown cell": Case((*IMDB, "--cell", "lsmt"), "--cell", "lstm, gru, simple", "'lsmt'"),
    "unknown cell of char": Case((*CHAR, "--cell", "LSTM"), "--cell", "lstm, gru, simple", "'LSTM'"),
    "unknown model": Case((*IMDB, "--model", "deep"), "--model", "single, stacked, bidirectional", "'deep'"),
    "unknown optimizer": Case((*IMDB, "--optimizer", "lion"), "--optimizer", "adam, adamw, rmsprop", "'lion'"),
    "unknown preset": Case((*CHAR, "--preset", "huge"), "--preset", "large", "'huge'"),
    "preset where there is none": Case((*IMDB, "--preset", "large"), "--preset", "'large'"),
    "no number": Case((*IMDB, "--units", "many"), "--units", "whole number", "'many'"),
    "half a unit": Case((*IMDB, "--units", "1.5"), "--units", "whole number", "1.5"),
    "alone": Case((*IMDB, "--distributed"), "--distributed", "JAX_COORDINATOR_ADDRESS"),
    "no units": Case((*IMDB, "--units", "0"), "--units", "at least 1", "0"),
    "units beyond counting": Case((*IMDB, "--units", "1" + 11 * "0"), "--units", "at most 10000000", "1" + 11 * "0"),
    "embedding beyond counting": Case((*IMDB, "--embedding", "9" * 20), "--embedding", "at most 10000000", "9" * 20),
    "words beyond counting": Case((*IMDB, "--vocab-size", "9" * 20), "--vocab-size", "at most 10000000", "9" * 20),
    "batch beyond counting": Case((*CHAR, "--batch-size", "9" * 20), "--batch-size", "at most 10000000", "9" * 20),
    "no epochs": Case((*IMDB, "--epochs", "0"), "--epochs", "at least 1", "0"),
    "negative batch": Case((*CHAR, "--batch-size", "-3"), "--batch-size", "at least 1", "-3"),
    "negative seed": Case((*IMDB, "--seed", "-1"), "--seed", "at least 0", "-1"),
    "huge seed": Case((*IMDB, "--seed", str(2**32)), "--seed", "at most", str(2**32)),
    "tiny vocabulary": Case((*IMDB, "--vocab-size", "2"), "--vocab-size", "at least 3", "2"),
    "length in words": Case((*IMDB, "--max-length", "long"), "--max-length", "auto", "'long'"),
    "dropout of all": Case((*IMDB, "--dropout", "1"), "--dropout", "below 1", "1"),
    "negative dropout": Case((*CHAR, "--recurrent-dropout", "-0.1"), "--recurrent-dropout", "at least 0", "-0.1"),
    "learning rate 0": Case((*IMDB, "--learning-rate", "0"), "--learning-rate", "above 0", "0"),
    "learning rate nan": Case((*IMDB, "--learning-rate", "nan"), "--learning-rate", "above 0", "nan"),
    "learning rate 0 of char": Case((*CHAR, "--learning-rate", "0"), "--learning-rate", "above 0", "0"),
    "infinite learning rate of char": Case((*CHAR, "--learning-rate", "inf"), "--learning-rate", "above 0", "inf"),
    "negative clip norm of char": Case((*CHAR, "--clip-norm", "-1"), "--clip-norm", "at least 0", "-1"),
    "clip norm nan": Case((*IMDB, "--clip-norm", "nan"), "--clip-norm", "at least 0", "nan"),
    "resume and overwrite": Case((*IMDB, "--resume", "--overwrite", "--workdir", "{imdb}"), "--resume", "--overwrite"),
    "text and dataset": Case((*CHAR, "--text", "{shelf}/text.txt", "--dataset", "builtin"), "--text", "--dataset"),
    "missing file": Case((*IMDB, "--dataset", "{shelf}/absent.csv"), "absent.csv", "no such file"),
    "missing text": Case((*CHAR, "--text", "{shelf}/absent.txt"), "absent.txt", "no such file"),
    "empty file": Case((*IMDB, "--dataset", "{shelf}/empty.csv"), "empty.csv", "empty"),
    "empty text": Case((*CHAR, "--text", "{shelf}/empty.txt"), "empty.txt", "empty"),
    "header only": Case((*IMDB, "--dataset", "{shelf}/header.csv"), "header.csv"),
    "not UTF-8": Case((*IMDB, "--dataset", "{shelf}/latin1.csv"), "latin1.csv", "UTF-8"),
    "text not UTF-8": Case((*CHAR, "--text", "{shelf}/latin1.txt"), "latin1.txt", "UTF-8"),
    "no label column": Case((*IMDB, "--dataset", "{shelf}/nolabel.csv"), "nolabel.csv", "'label'", "'sentiment'"),
    "one class": Case((*IMDB, "--dataset", "{shelf}/one.csv"), "one.csv", "two or more classes", "'good'"),
    "two examples": Case((*IMDB, "--dataset", "{shelf}/pair.csv"), "pair.csv", "3 or more"),
    "broken JSON": Case((*IMDB, "--dataset", "{shelf}/broken.jsonl"), "broken.jsonl, line 2", "JSON"),
    "missing key": Case((*IMDB, "--dataset", "{shelf}/nokey.jsonl"), "nokey.jsonl, line 2", "'label'"),
    "text as labelled file": Case((*IMDB, "--dataset", "{shelf}/text.txt"), "text.txt", ".csv"),
    "empty folder": Case((*IMDB, "--dataset", "{shelf}/folder"), "folder", "sub-folder"),
    "folder as text": Case((*CHAR, "--text", "{shelf}/folder"), "folder", "plain text file"),
    "short text": Case((*CHAR, "--text", "{shelf}/short.txt"), "short.txt", "at least 30 characters", "9"),
    "tfds without network": Case((*IMDB, "--dataset", "tfds"), "--dataset tfds", "cannot be reached", "builtin"),
    "tfds without network, char": Case((*CHAR, "--dataset", "tfds"), "--dataset tfds", "--data-dir", "builtin"),
    "workdir is a file": Case(
        (*IMDB, "--dataset", "builtin", "--workdir", "{shelf}/text.txt"), "--workdir", "text.txt is a file"
    ),
    "workdir under a file": Case(
        (*CHAR, "--dataset", "builtin", "--workdir", "{shelf}/text.txt/a/b"), "--workdir", "text.txt is a file"
    ),
    "workdir with a long name": Case((*CHAR, "--dataset", "builtin", "--workdir", "x" * 300), "--workdir", "too long"),
    "workdir that cannot be made": Case(
        (*CHAR, "--text", "{shelf}/text.txt", "--workdir", "/proc/rnnjax/run"), "--workdir", "/proc/rnnjax/run"
    ),
    "workdir holds a run": Case(
        (*IMDB, "--dataset", "{shelf}/two.csv", "--workdir", "{imdb}"), "{imdb}", "--resume or --overwrite"
    ),
    "workdir holds a run of another task": Case(
        (*CHAR, "--text", "{shelf}/text.txt", "--workdir", "{imdb}"), "{imdb}", "--resume or --overwrite"
    ),
    "overwrite with bad data": Case(
        (*IMDB, "--dataset", "{shelf}/latin1.csv", "--workdir", "{imdb}", "--overwrite"), "UTF-8"
    ),
    "resume without a folder": Case((*IMDB, "--resume", "--workdir", "{cwd}/absent"), "absent", "no such folder"),
    "resume in an empty folder": Case((*IMDB, "--resume", "--workdir", "{shelf}/folder"), "folder", "config.json"),
    "resume with no run at all": Case((*IMDB, "--resume"), "--workdir", "a run of imdb", "runs"),
    "resume nothing without a task": Case("train --resume", "--workdir", "a run", "runs"),
    "resume another task": Case((*CHAR, "--resume", "--workdir", "{imdb}"), "--task", "imdb", "char"),
    "resume with another option": Case(
        ("train", "--task", "imdb", "--resume", "--workdir", "{imdb}", "--units", "5"), "--units", "4", "5"
    ),
    "resume with a preset": Case(
        ("train", "--task", "char", "--resume", "--workdir", "{char}", "--preset", "large"), "--units", "4", "512"
    ),
    "resume with other data": Case(
        ("train", "--task", "char", "--resume", "--workdir", "{char}", "--text", "{shelf}/empty.txt"),
        "--dataset", "text.txt", "empty.txt",
    ),
    "negative temperature": Case("generate --workdir {char} --temperature -0.5", "--temperature", "at least 0", "-0.5"),
    "temperature nan": Case("generate --workdir {char} --temperature nan", "--temperature", "at least 0", "nan"),
    "temperature infinite": Case("generate --workdir {char} --temperature inf", "--temperature", "at least 0", "inf"),
    "temperature hot": Case("generate --workdir {char} --temperature hot", "--temperature", "a number", "'hot'"),
    "top-p 0": Case("generate --workdir {char} --top-p 0", "--top-p", "above 0 and at most 1", "0"),
    "top-p 1.5": Case("generate --workdir {char} --top-p 1.5", "--top-p", "above 0 and at most 1", "1.5"),
    "top-p nan": Case("generate --workdir {char} --top-p nan", "--top-p", "above 0 and at most 1", "nan"),
    "top-k 0": Case("generate --workdir {char} --top-k 0", "--top-k", "at least 1", "0"),
    "negative length": Case("generate --workdir {char} --length -1", "--length", "at least 1", "-1"),
    "no samples": Case("generate --workdir {char} --num-samples 0", "--num-samples", "at least 1", "0"),
    "unseen characters": Case(("generate", "--workdir", "{char}", "--prompt", "the €"), "--prompt", "'€'"),
    "prompt not UTF-8": Case(("generate", "--workdir", "{char}", "--prompt", os.fsdecode(b"\xff")), "--prompt"),
    "generate from no folder": Case("generate --workdir {cwd}/absent", "--workdir", "absent", "no such folder"),
    "generate from an empty folder": Case("generate --workdir {shelf}/folder", "folder", "config.json"),
    "generate from a file": Case("generate --workdir {shelf}/text.txt", "text.txt", "folder"),
    "generate from a long name": Case(("generate", "--workdir", "x" * 300), "--workdir", "too long"),
    "generate from a classifier": Case("generate --workdir {imdb}", "language model", "imdb"),
    "generate from nothing": Case("generate", "--workdir", "language model", "runs"),
    "predict from no folder": Case("predict --workdir {cwd}/absent --text x", "--workdir", "absent", "no such folder"),
    "predict from a language model": Case("predict --workdir {char} --text x", "classifier", "char"),
    "predict from nothing": Case("predict --text x", "--workdir", "classifier", "runs"),
    "predict bytes": Case(("predict", "--workdir", "{imdb}", "--text", os.fsdecode(b"\xff")), "--text", "UTF-8"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_refused_in_one_line(
    name: str, invoke: Any, cwd: Path, shelf: Path, imdb_run: Path, char_run: Path, snapshot: Any
) -> None:
    def filled(word: str) -> str:
        for key, path in {"shelf": shelf, "cwd": cwd, "imdb": imdb_run, "char": char_run}.items():
            word = word.replace(f"{{{key}}}", str(path))
        return word

    folders = (cwd, shelf, imdb_run.parent, char_run.parent)
    before = [snapshot(folder) for folder in folders]
    ended = invoke(*map(filled, CASES[name].line))
    assert ended.status == 2, ended
    assert ended.out == ""
    assert len(ended.err.splitlines()) == 1, ended.err
    assert ended.err.startswith("rnnjax: ")
    assert ended.err.endswith("\n")
    for words in CASES[name].expected:
        assert filled(words) in ended.err
    assert [snapshot(folder) for folder in folders] == before


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def checkpoints(run: Path) -> list[Path]:
    return sorted((run / "checkpoints").iterdir())


def largest(checkpoint: Path) -> Path:
    return max((path for path in checkpoint.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "no checkpoints": lambda run: shutil.rmtree(run / "checkpoints"),
    "empty checkpoints": lambda run: [shutil.rmtree(path) for path in checkpoints(run)],
    "all truncated": lambda run: [truncate(largest(path)) for path in checkpoints(run)],
    "all manifests truncated": lambda run: [truncate(path / "manifest.json") for path in checkpoints(run)],
    "vocabulary missing": lambda run: (run / "tokenizer.json").unlink(),
    "vocabulary truncated": lambda run: truncate(run / "tokenizer.json"),
    "vocabulary of nothing": lambda run: (run / "tokenizer.json").write_text("[]"),
    "config truncated": lambda run: truncate(run / "config.json"),
    "config empty": lambda run: (run / "config.json").write_text(""),
    "config is bytes": lambda run: (run / "config.json").write_bytes(b"\xff\x00"),
    "config is a list": lambda run: (run / "config.json").write_text("[1]"),
    "config is null": lambda run: (run / "config.json").write_text("null"),
    "config is a folder": lambda run: ((run / "config.json").unlink(), (run / "config.json").mkdir()),
    "config of another task": lambda run: edit(run, task="translation"),
    "config without settings": lambda run: edit(run, config={"unit": 4}),
    "config with settings in a list": lambda run: edit(run, config=[]),
    "config with a bad setting": lambda run: edit(run, config={"units": -4}),
    "config of another size": lambda run: edit(run, config={**read(run)["config"], "units": 7}),
    "config without info": lambda run: edit(run, info={}),
}


def read(run: Path) -> dict[str, Any]:
    return json.loads((run / "config.json").read_text())


def edit(run: Path, **changes: Any) -> None:
    (run / "config.json").write_text(json.dumps({**read(run), **changes}))


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", ["generate", "predict"])
def test_damaged_run_is_refused_in_one_line(
    kind: str, damage: str, invoke: Any, copied: Any, cwd: Path, imdb_run: Path, char_run: Path, snapshot: Any
) -> None:
    run = copied(char_run if kind == "generate" else imdb_run)
    DAMAGES[damage](run)
    before = snapshot(run)
    ended = invoke(kind, "--workdir", run, *(["--length", "3"] if kind == "generate" else ["--text", "fine"]))
    assert ended.status == 2, ended
    assert ended.out == ""
    assert len(ended.err.splitlines()) == 1, ended.err
    assert ended.err.startswith("rnnjax: ")
    assert str(run) in ended.err or "translation" in ended.err
    assert snapshot(run) == before
    assert list(cwd.iterdir()) == []


@pytest.mark.parametrize(
    "damage", [name for name in DAMAGES if name.startswith("config") and name != "config without info"]
)
def test_resume_with_a_damaged_configuration(
    damage: str, invoke: Any, copied: Any, imdb_run: Path, snapshot: Any
) -> None:
    run = copied(imdb_run)
    (run / "results.json").unlink()
    DAMAGES[damage](run)
    before = snapshot(run)
    ended = invoke("train", "--task", "imdb", "--workdir", run, "--resume")
    assert (ended.status, ended.out) == (2, "")
    assert len(ended.err.splitlines()) == 1, ended.err
    assert snapshot(run) == before


def test_lines_that_are_not_utf8(invoke: Any, imdb_run: Path) -> None:
    ended = subprocess.run(
        [sys.executable, ROOT / "predict.py", "--workdir", imdb_run], input=b"fine\n\xff\n", capture_output=True
    )
    assert ended.returncode == 2
    assert ended.stdout == b""
    assert ended.stderr.splitlines() == [b"rnnjax: standard input: expected UTF-8; byte 6 is not. Convert it to UTF-8."]


@pytest.mark.parametrize(
    ("script", "line"),
    [
        ("train.py", ["--task", "imdb", "--dataset", "absent.csv"]),
        ("train.py", ["--task", "char", "--resume", "--workdir", "absent"]),
        ("generate.py", ["--temperature", "-1"]),
        ("predict.py", ["--workdir", "absent", "--text", "x"]),
    ],
)
def test_scripts_refuse_as_the_command_does(script: str, line: list[str], cwd: Path) -> None:
    ended = subprocess.run([sys.executable, ROOT / script, *line], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stderr.startswith("rnnjax: ")
    assert list(cwd.iterdir()) == []


def test_closed_streams_are_as_empty_ones(imdb_run: Path, char_run: Path) -> None:
    for line in (
        "predict.py --workdir {imdb} <&-",
        "generate.py --workdir {char} --length 3 >&-",
        "train.py --list >&-",
    ):
        command = f"{sys.executable} {ROOT}/{line}".format(imdb=imdb_run, char=char_run)
        ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_overwriting_a_run_whose_checkpoints_lie_elsewhere(
    invoke: Any, copied: Any, char_run: Path, shelf: Path, tmp_path: Path
) -> None:
    run = copied(char_run)
    (run / "checkpoints").rename(tmp_path / "elsewhere")
    (run / "checkpoints").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "99999999").mkdir()
    ended = invoke(*CHAR, "--text", shelf / "text.txt", "--workdir", run, "--overwrite")
    assert ended.status == 0, ended.err
    assert (run / "checkpoints").is_symlink()
    assert (run / "results.json").exists()
    saved = sorted(path.name for path in (tmp_path / "elsewhere").iterdir())
    assert 1 <= len(saved) <= 2
    assert "99999999" not in saved
