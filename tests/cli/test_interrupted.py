"""Runs that are killed or stopped, and go on: they end to the bit as one that never was."""

import json
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LINES = {
    "imdb": ("--dataset", "{shelf}/two.csv", "--max-length", "8", "--epochs", "400", "--ema-decay", "0.9"),
    "char": ("--text", "{shelf}/text.txt", "--window", "16", "--epochs", "120", "--dropout", "0.1"),
}
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}


class Command:
    """`train.py` in a process of its own."""

    def __init__(self, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, ROOT / "train.py", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def interrupt(self, number: int, run: Path, seconds: float) -> tuple[int, str]:
        """Send a signal `seconds` after the first checkpoint that is not there yet: exit status and standard error."""
        before = names(run)
        while self.process.poll() is None and not names(run) - before:
            time.sleep(0.01)
        time.sleep(seconds)
        self.process.send_signal(number)
        return self.end()

    def end(self) -> tuple[int, str]:
        _, err = self.process.communicate(timeout=100)
        return self.process.returncode, err


def names(run: Path) -> set[str]:
    return {path.name for path in (run / "checkpoints").glob("[0-9]*")}


def settled(run: Path) -> tuple[Any, list[dict[str, Any]], list[str]]:
    """Results and metrics but for their seconds, and the names of the checkpoints' last."""
    results = json.loads((run / "results.json").read_text())
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    del results["train_seconds"]
    for line in lines:
        del line["seconds"]
    return results, lines, sorted(names(run))[-1:]


@pytest.mark.parametrize("task", LINES)
def test_killed_stopped_and_resumed_is_as_uninterrupted(task: str, shelf: Path, tmp_path: Path) -> None:
    line = [word.format(shelf=shelf) for word in LINES[task]]
    line += ["--task", task, "--units", "4", "--embedding", "4", "--batch-size", "8", "--patience", "0"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    uninterrupted = Command(*line, "--workdir", whole)

    delays = [random.SystemRandom().uniform(0, 1), 0.2]
    status, err = Command(*line, "--workdir", cut).interrupt(signal.SIGKILL, cut, delays[0])
    assert status == -signal.SIGKILL, f"it was to be killed {delays[0]} seconds after its first checkpoint; {err}"
    assert not (cut / "results.json").exists()
    with open(cut / "metrics.jsonl", "a") as file:
        file.write('{"step": 1')  # as a kill may tear the last line

    number = signal.SIGINT if task == "imdb" else signal.SIGTERM
    status, err = Command("--resume", "--workdir", cut).interrupt(number, cut, delays[1])
    assert status == STATUS[number], err
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith(f"rnnjax: stopped by {number.name}; a checkpoint is saved")
    saved = max(int(name) for name in names(cut))
    assert not (cut / "results.json").exists()

    status, err = Command("--task", task, "--resume", "--workdir", cut).end()
    assert status == 0, err
    assert re.search(rf"resuming from step {saved}, epoch \d+", err)
    assert uninterrupted.end()[0] == 0
    assert settled(cut) == settled(whole), delays
    assert len(names(cut)) == 2
    assert list((cut / "checkpoints").glob(".*")) == []


@pytest.mark.parametrize("number", STATUS)
def test_stopped_while_it_starts(number: signal.Signals, shelf: Path, tmp_path: Path) -> None:
    """Whatever is being imported or compiled: one line, and the status of the signal."""
    line = [word.format(shelf=shelf) for word in LINES["char"]]
    for i in range(2):
        started = Command("--task", "char", *line, "--epochs", "1000000", "--workdir", tmp_path / str(i))
        time.sleep(random.SystemRandom().uniform(1, 4))
        started.process.send_signal(number)
        status, err = started.end()
        assert status == STATUS[number], err
        assert err.splitlines()[-1].startswith(f"rnnjax: stopped by {number.name}")
        assert "Traceback" not in err


SLOW_SAVE = """
import sys, time
from rnnjax import cli
from rnnjax.training import checkpoint
write, written = checkpoint._write, []
def slow(temporary, *rest):
    write(temporary, *rest)
    written.append(1)
    if len(written) > 2:
        print("writing", flush=True)
        time.sleep(100)
checkpoint._write = slow
cli.script("train")
"""


def test_a_second_signal_ends_at_once_and_the_last_checkpoint_is_whole(
    shelf: Path, tmp_path: Path, invoke: Any
) -> None:
    run = tmp_path / "run"
    line = [word.format(shelf=shelf) for word in LINES["char"]]
    line += ["--task", "char", "--units", "4", "--epochs", "100000", "--workdir", str(run)]
    with subprocess.Popen(
        [sys.executable, "-c", SLOW_SAVE, *line], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        before = names(run)
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):  # it waits for the checkpoint
            process.wait(1)
        process.send_signal(signal.SIGINT)
        begun = time.monotonic()
        _, err = process.communicate(timeout=20)
        assert time.monotonic() - begun < 5
    assert process.returncode == 130
    assert err.splitlines()[-1] == "rnnjax: stopped by a second signal, SIGINT; nothing more is saved"
    assert "Traceback" not in err
    assert names(run) == before
    assert len(before) == 2
    assert len(list((run / "checkpoints").glob(".*"))) == 1
    ended = invoke("generate", "--workdir", run, "--length", "3")
    assert (ended.status, ended.err) == (0, "")


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    text = "It was a dark and stormy night; the rain fell in torrents. " * 20
    command = [sys.executable, ROOT / "train.py", "--task", "char", "--text", "/dev/stdin", "--units", "4"]
    for i, content in enumerate((text, text + text)):
        run = tmp_path / str(i)
        subprocess.run([*command, "--epochs", "1", "--workdir", run], input=content.encode(), check=True)
    prints = [json.loads((tmp_path / name / "config.json").read_text())["fingerprint"] for name in "01"]
    assert prints[0] != prints[1]
