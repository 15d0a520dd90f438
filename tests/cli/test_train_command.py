"""`train.py`: listing, help, the run folder, and starting again."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import rnnjax
from rnnjax.cli.runs import get_task
from rnnjax.tasks import TASKS
from rnnjax.training import checkpoint
from rnnjax.training.folder import RunFolder

ROOT = Path(__file__).parents[2]
IMDB = ("train", "--task", "imdb", "--max-length", "8", "--batch-size", "16", "--units", "4", "--embedding", "4",
        "--epochs", "2", "--learning-rate", "0.05")  # fmt: skip


def test_list_answers_at_once_with_names_first(cwd: Path) -> None:
    begun = time.monotonic()
    ended = subprocess.run([sys.executable, ROOT / "train.py", "--list"], capture_output=True, text=True, check=True)
    assert time.monotonic() - begun < 2
    assert [line.split()[0] for line in ended.stdout.splitlines()] == list(TASKS)
    assert ended.stderr == ""
    assert list(cwd.iterdir()) == []


def help_of(invoke: Any, *arguments: str) -> dict[str, str]:
    """The help of each option, its lines joined."""
    ended = invoke("train", *arguments, "--help")
    assert (ended.status, ended.err) == (0, "")
    texts: dict[str, str] = {}
    name = ""
    for line in ended.out.splitlines():
        if option := re.match(r"  (?:-h, )?(--[\w-]+)", line):
            name = option[1]
            texts[name] = line
        elif line.startswith("   ") and name:
            texts[name] += f" {line.strip()}"
    return texts


def test_help_shows_a_tasks_own_defaults(invoke: Any) -> None:
    imdb, char = help_of(invoke, "--task", "imdb"), help_of(invoke, "--task", "char")
    for name, texts in (("imdb", imdb), ("char", char)):
        for field in dataclasses.fields(get_task(name).config):
            text = texts[f"--{field.name.replace('_', '-')}"]
            if field.default is None:  # its docstring says what happens without it
                assert "(default:" not in text
            else:
                assert text.endswith(f" (default: {field.default})")
    assert imdb["--units"] != char["--units"]
    assert {"--model", "--max-length"} <= imdb.keys() - char.keys()
    assert {"--text", "--window", "--layers"} <= char.keys() - imdb.keys()
    common = "workdir data-dir dataset preset epochs batch-size learning-rate optimizer clip-norm seed resume overwrite"
    assert {f"--{name}" for name in common.split()} <= imdb.keys() & char.keys()
    for text in (*imdb.values(), *char.values()):
        assert re.search(r"[A-Z].* [a-z]+", text.split("(default")[0].replace("TEXT", "")), f"no help in {text}"
    large = help_of(invoke, "--task", "char", "--preset", "large")
    assert "(default: 512)" in large["--units"]
    assert {"--task", "--list"} <= help_of(invoke).keys()


def test_help_of_the_other_commands(invoke: Any) -> None:
    ended = invoke("generate", "--help")
    assert ended.status == 0
    for name in ["workdir", "temperature", "top-k", "top-p", "length", "prompt", "num-samples", "seed"]:
        assert f"--{name} " in ended.out
    ended = invoke("predict", "--help")
    assert ended.status == 0
    assert "--text TEXT" in ended.out
    ended = invoke("--help")
    assert (ended.status, ended.err) == (0, "")
    assert all(f"  {name}" in ended.out for name in ("train", "generate", "predict"))


def test_run_folder(imdb_run: Path, shelf: Path) -> None:
    files = {path.name for path in imdb_run.iterdir()}
    assert files == {
        "config.json", "tokenizer.json", "metrics.jsonl", "history.png", "checkpoints", "results.json",
        "confusion.png", "mistakes.jsonl",
    }  # fmt: skip
    config = json.loads((imdb_run / "config.json").read_text())
    assert config["task"] == "imdb"
    assert config["config"]["units"] == 4
    assert config["config"]["dropout"] == 0.2, "a default is recorded too"
    assert config["info"]["classes"] == ["bad", "good"]
    assert config["environment"]["packages"]["rnnjax"] == rnnjax.__version__
    assert config["environment"]["packages"]["jax"] == jax.__version__
    assert config["environment"]["threads"] >= 1
    assert config["environment"]["devices"] == jax.device_count()
    assert config["device"] == jax.devices()[0].device_kind

    lines = [json.loads(line) for line in (imdb_run / "metrics.jsonl").read_text().splitlines()]
    places = [(line["step"], line["epoch"], line["split"]) for line in lines]
    steps = -(-56 // 16)  # of 70 texts, 80 % are to train on
    assert places == [
        (steps, 1, "train"), (steps, 1, "validation"), (2 * steps, 2, "train"), (2 * steps, 2, "validation")
    ]  # fmt: skip
    assert all({"loss", "accuracy", "seconds"} <= line.keys() for line in lines)
    assert lines[-1]["seconds"] >= lines[0]["seconds"] > 0

    results = json.loads((imdb_run / "results.json").read_text())
    assert results["task"] == "imdb"
    assert results["model"] == "single"
    assert results["dataset"] == str(shelf / "two.csv")
    assert (results["seed"], results["epochs_run"]) == (0, 2)
    validation = {line["epoch"]: line for line in lines if line["split"] == "validation"}
    best = min(validation, key=lambda epoch: validation[epoch]["loss"])
    assert results["best_epoch"] == best
    assert results["val_loss"] == validation[best]["loss"]
    assert results["val_accuracy"] == validation[best]["accuracy"]
    assert 0 <= results["test_accuracy"] <= 1
    assert results["test_loss"] > 0
    table = results["classes"]
    assert list(table) == ["bad", "good"]
    assert results["test_macro_f1"] == pytest.approx((table["bad"]["f1"] + table["good"]["f1"]) / 2)
    tested = sum(figures["support"] for figures in table.values())
    assert tested == 7
    right = sum(figures["recall"] * figures["support"] for figures in table.values())
    assert results["test_accuracy"] == pytest.approx(right / tested)
    mistakes = [json.loads(line) for line in (imdb_run / "mistakes.jsonl").read_text().splitlines()]
    assert len(mistakes) == pytest.approx(tested - right)
    assert results["train_seconds"] >= lines[-1]["seconds"]
    words = config["info"]["vocabulary_size"]
    assert results["parameters"] == words * 4 + 4 * (4 * 4 + 4 * 4 + 4) + 4 + 1
    assert results["parameters_sha256"].keys() == {"best", "last"}
    assert (imdb_run / "history.png").read_bytes().startswith(b"\x89PNG")
    assert len(list((imdb_run / "checkpoints").iterdir())) <= 2


def test_default_folder_is_named_by_task_and_time(invoke: Any, cwd: Path, shelf: Path, char_run: Path) -> None:
    ended = invoke(
        "train", "--task", "char", "--text", shelf / "text.txt", "--units", 4, "--embedding", 4, "--epochs", 1,
        "--window", 16, "--batch-size", 4,
    )  # fmt: skip
    assert ended.status == 0
    (folder,) = (cwd / "runs" / "char").iterdir()
    time.strptime(folder.name, "%Y%m%d-%H%M%S")
    assert json.loads(ended.out) == json.loads((folder / "results.json").read_text())
    # The newest character run is the one that `generate` takes.
    ended = invoke("generate", "--length", 5)
    assert ended.status == 0
    assert f"runs/char/{folder.name}" in ended.err
    assert len(ended.out) == 5 + 1


def test_resume_of_a_finished_run_changes_nothing(invoke: Any, copied: Any, imdb_run: Path, snapshot: Any) -> None:
    run = copied(imdb_run)
    before = snapshot(run)
    for line in (
        ["--task", "imdb", "--resume", "--workdir", run],
        ["--resume", "--workdir", run],
        ["--task", "imdb", "--resume", "--workdir", run, "--units", "4", "--data-dir", "elsewhere"],
    ):
        ended = invoke("train", *line)
        assert (ended.status, ended.out) == (0, "")
        assert "finished" in ended.err
        assert snapshot(run) == before


def sha256(run: Path) -> Any:
    return json.loads((run / "results.json").read_text())["parameters_sha256"]


def test_overwrite_starts_again(invoke: Any, copied: Any, imdb_run: Path, shelf: Path) -> None:
    run = copied(imdb_run)
    (run / "checkpoints" / "00000999").mkdir()
    ended = invoke(*IMDB, "--dataset", shelf / "two.csv", "--workdir", run, "--overwrite")
    assert ended.status == 0
    assert sha256(run) == sha256(imdb_run)
    assert json.loads((run / "config.json").read_text())["created"] > json.loads(
        (imdb_run / "config.json").read_text()
    )["created"]  # fmt: skip
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 4
    assert 999 not in checkpoint.steps(run / "checkpoints")


def test_resume_without_checkpoints_begins_again_and_ends_the_same(invoke: Any, copied: Any, imdb_run: Path) -> None:
    run = copied(imdb_run)
    (run / "results.json").unlink()
    shutil.rmtree(run / "checkpoints")
    (run / "checkpoints" / ".00000004").mkdir(parents=True)
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"step": 99, "ep')  # as a kill would leave it
    ended = invoke("train", "--task", "imdb", "--resume", "--workdir", run)
    assert ended.status == 0
    assert "resuming from the beginning" in ended.err
    assert sha256(run) == sha256(imdb_run)

    def without_seconds(run: Path) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]

    assert without_seconds(run) == without_seconds(imdb_run)


def test_broken_results_are_written_anew(invoke: Any, copied: Any, imdb_run: Path) -> None:
    run = copied(imdb_run)
    (run / "results.json").write_text('{"task": "im')
    ended = invoke("train", "--resume", "--workdir", run)
    assert ended.status == 0, ended.err
    for results in (json.loads(ended.out), json.loads((run / "results.json").read_text())):
        assert {**results, "train_seconds": 0} == {
            **json.loads((imdb_run / "results.json").read_text()),
            "train_seconds": 0,
        }


def test_training_on_odd_labels(invoke: Any, tmp_path: Path, cwd: Path) -> None:
    labels = ["très bon", "$1$ \\frac", "悪い", "0"]
    rows = [{"text": f"word{i % 4} and more", "label": labels[i % 4]} for i in range(80)]
    data = tmp_path / "odd $na_me$ \\.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    ended = invoke(*IMDB, "--dataset", data, "--workdir", "run", "--epochs", 12, "--dropout", 0, "--clip-norm", 0)
    assert ended.status == 0, ended.err
    results = json.loads(ended.out)
    assert results["dataset"] == str(data)
    assert results["test_accuracy"] == 1
    for label, i in zip(labels, range(4), strict=True):
        ended = invoke("predict", "--workdir", "run", "--text", f"Word{i} and MORE")
        assert ended.status == 0
        assert ended.out.split("\t")[0] == label


def test_no_data_and_no_network_takes_the_sample_and_says_so(
    invoke: Any, cwd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rnnjax.tasks import imdb

    monkeypatch.setattr(imdb, "BUILTIN_EXAMPLES", 60)
    monkeypatch.setenv("RNNJAX_CACHE_DIR", "")
    ended = invoke(*IMDB, "--workdir", "run")
    assert ended.status == 0
    assert json.loads(ended.out)["dataset"] == "builtin"
    assert any("BUILT-IN SAMPLE" in line and "NO NETWORK" in line for line in ended.err.splitlines())
    assert np.isfinite(json.loads(ended.out)["test_loss"])


def test_a_metric_that_there_is_not_is_refused_before_a_folder_is_made(
    invoke: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = invoke("train", "--task", "adding", "--length", "4", "--units", "4", "--monitor", "val_beauty")
    assert (ended.status, ended.out) == (2, "")
    assert "--monitor: expected one of val_loss" in ended.err
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_a_workdir_finds_a_name_of_its_own(tmp_path: Path) -> None:
    first, second = RunFolder(tmp_path / "runs" / "now"), RunFolder(tmp_path / "runs" / "now")
    first.claim()
    second.claim()
    assert [folder.path.name for folder in (first, second)] == ["now", "now-2"]
    assert second.results == tmp_path / "runs" / "now-2" / "results.json"
