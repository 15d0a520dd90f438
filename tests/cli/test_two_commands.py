"""A second command on a folder in which a run goes on: another run is refused, and the model is read."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LINE = ("--task", "char", "--text", "{shelf}/text.txt", "--window", "16", "--batch-size", "4", "--units", "4",
        "--embedding", "4", "--patience", "0", "--epochs")  # fmt: skip


class Training:
    """`train.py` in a process of its own."""

    def __init__(self, shelf: Path, run: Path, epochs: int) -> None:
        self.line = [word.format(shelf=shelf) for word in (*LINE, str(epochs))]
        self.run = run
        self.process = subprocess.Popen(
            [sys.executable, ROOT / "train.py", *self.line, "--workdir", run],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def checkpoints(self) -> set[str]:
        return {path.name for path in (self.run / "checkpoints").glob("[0-9]*")}

    def wait_for_another_checkpoint(self) -> None:
        before = self.checkpoints()
        while not self.checkpoints() - before:
            assert self.process.poll() is None, self.process.communicate()[1]
            time.sleep(0.01)


@pytest.fixture
def training(shelf: Path, tmp_path: Path) -> Iterator[Training]:
    """A run without an end."""
    training = Training(shelf, tmp_path / "run", 1_000_000)
    yield training
    training.process.kill()
    training.process.communicate()


def test_a_second_run_is_refused(training: Training, invoke: Any, snapshot: Any) -> None:
    training.wait_for_another_checkpoint()
    run = training.run
    training.process.send_signal(signal.SIGSTOP)  # so that nothing changes but by the second
    before = snapshot(run)
    expected = (
        f"rnnjax: --workdir {run}: expected a run that no other process trains; "
        f"process {training.process.pid} on {socket.gethostname()} does. Wait until it ends, or name another folder.\n"
    )
    for options in ([], ["--overwrite"], ["--resume"]):
        ended = invoke("train", *training.line, "--workdir", run, *options)
        assert (ended.status, ended.out, ended.err) == (2, "", expected)
        assert snapshot(run) == before
    training.process.send_signal(signal.SIGCONT)
    training.wait_for_another_checkpoint()

    # After it was killed, its lock is no obstacle.
    training.process.kill()
    training.process.wait()
    assert (run / ".lock").exists()
    assert invoke("generate", "--workdir", run, "--length", "3").status == 0
    settings = json.loads((run / "config.json").read_text())
    done = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["epoch"]
    settings["config"]["epochs"] = done  # so that it ends
    (run / "config.json").write_text(json.dumps(settings))
    ended = invoke("train", "--resume", "--workdir", run)
    assert ended.status == 0, ended.err
    assert not (run / ".lock").exists()
    before = snapshot(run)
    assert invoke("train", "--resume", "--workdir", run).status == 0
    assert snapshot(run) == before


def test_two_that_start_at_once(shelf: Path, tmp_path: Path) -> None:
    """One of them trains to the end, the other is refused."""
    both = [Training(shelf, tmp_path / "run", 20) for _ in range(2)]
    errors = [training.process.communicate(timeout=100)[1] for training in both]
    status = [training.process.returncode for training in both]
    assert sorted(status) == [0, 2], errors
    refusal = errors[status.index(2)]
    assert refusal.count("\n") == 1
    assert refusal.startswith(f"rnnjax: --workdir {tmp_path}/run: expected a ")
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["epochs_run"] == 20
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines[::2]] == list(range(1, 21))
    assert not (tmp_path / "run" / ".lock").exists()


def test_a_model_is_read_while_it_is_trained(training: Training, invoke: Any) -> None:
    training.wait_for_another_checkpoint()
    newest = set()
    for _ in range(12):
        ended = invoke("generate", "--workdir", training.run, "--length", "20")
        assert (ended.status, ended.err, len(ended.out)) == (0, "", 21)
        newest |= training.checkpoints()
    assert len(newest) > 2, "it has written checkpoints meanwhile"
    assert training.process.poll() is None
    training.process.send_signal(signal.SIGINT)
    _, err = training.process.communicate(timeout=60)
    assert training.process.returncode == 130, err
