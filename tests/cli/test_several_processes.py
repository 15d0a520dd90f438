"""Two processes of two devices each train as one process of one device, stop together, and leave a run for it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LINE = ("--task", "char", "--text", "{shelf}/text.txt", "--window", "16", "--units", "4", "--embedding", "4",
        "--batch-size", "6", "--dropout", "0.1", "--patience", "0", "--learning-rate", "0.01")  # fmt: skip


class Pair:
    """`train.py --distributed` twice; the second one in an empty folder."""

    def __init__(self, tmp_path: Path, *arguments: object, second: tuple[object, ...] = ()) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        self.elsewhere = tmp_path / "elsewhere"
        self.elsewhere.mkdir(exist_ok=True)
        self.processes = []
        for number in range(2):
            environment = {
                "JAX_COORDINATOR_ADDRESS": address,
                "JAX_NUM_PROCESSES": "2",
                "JAX_PROCESS_ID": str(number),
                "JAX_NUM_CPU_DEVICES": "2",
                "JAX_PLATFORMS": "cpu",
            }
            command = [sys.executable, ROOT / "train.py", "--distributed", *map(str, arguments)]
            self.processes.append(
                subprocess.Popen(
                    [*command, *map(str, second if number else ())],
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment},
                    cwd=self.elsewhere if number else None,
                )
            )  # fmt: skip

    def end(self) -> tuple[list[int], list[str], list[str]]:
        """Exit status, standard output and what we wrote on standard error, of each."""
        ended = [process.communicate(timeout=100) for process in self.processes]
        errors = ["".join(line for line in err.splitlines(True) if "[Gloo]" not in line) for _, err in ended]
        return [process.returncode for process in self.processes], [out for out, _ in ended], errors


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_trained_stopped_and_gone_on_with(shelf: Path, tmp_path: Path) -> None:
    line = [word.format(shelf=shelf) for word in (*LINE, "--epochs", "60")]
    alone = subprocess.Popen(
        [sys.executable, ROOT / "train.py", *line, "--workdir", tmp_path / "alone"], stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    pair = Pair(tmp_path, *line, "--workdir", tmp_path / "run")
    assert alone.wait(100) == 0
    while pair.processes[0].poll() is None and not list((tmp_path / "run" / "checkpoints").glob("[0-9]*")):
        time.sleep(0.01)
    pair.processes[1].send_signal(signal.SIGTERM)
    status, out, err = pair.end()
    assert status == [143, 143], err
    assert out == ["", ""]
    assert "run folder" in err[0]
    assert err[1] == "rnnjax: stopped by SIGTERM; a checkpoint is saved, --resume goes on from it\n"

    # What two processes left, one goes on from, and says so; and two from that.
    ended = subprocess.run(
        [sys.executable, ROOT / "train.py", "--resume", "--workdir", tmp_path / "run"], capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert "resuming with other devices than before" in ended.stderr
    for a, b in zip(metrics(tmp_path / "run"), metrics(tmp_path / "alone"), strict=True):
        assert [a[name] for name in ("step", "epoch", "split")] == [b[name] for name in ("step", "epoch", "split")]
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-3)
    assert list(pair.elsewhere.iterdir()) == []


def test_two_processes_to_the_end(shelf: Path, tmp_path: Path) -> None:
    line = ["--task", "imdb", "--dataset", shelf / "two.csv", "--max-length", "8", "--batch-size", "18", "--units", "4"]
    line += ["--embedding", "4", "--epochs", "2", "--recurrent-dropout", "0.2"]
    alone = subprocess.run(
        [sys.executable, ROOT / "train.py", *line, "--workdir", tmp_path / "alone"], capture_output=True, check=True
    )
    pair = Pair(tmp_path, *line, "--workdir", tmp_path / "run")
    status, out, err = pair.end()
    assert status == [0, 0], err
    assert (out[1], err[1]) == ("", "")
    results, expected = json.loads(out[0]), json.loads(alone.stdout)
    assert results == json.loads((tmp_path / "run" / "results.json").read_text())
    for name in ("test_loss", "val_loss"):
        assert results[name] == pytest.approx(expected[name], rel=1e-4)
    assert results["classes"] == expected["classes"]
    for folder in ("run", "alone"):
        assert (tmp_path / folder / "confusion.png").exists()
        mistakes = [json.loads(line) for line in (tmp_path / folder / "mistakes.jsonl").read_text().splitlines()]
        assert len(mistakes) == round(7 * (1 - expected["test_accuracy"]))
    assert json.loads((tmp_path / "run" / "config.json").read_text())["environment"]["devices"] == 4
    assert not (tmp_path / "run" / ".lock").exists()
    assert list(pair.elsewhere.iterdir()) == []


def test_processes_that_differ_are_refused(shelf: Path, tmp_path: Path) -> None:
    line = [word.format(shelf=shelf) for word in LINE]
    status, out, err = Pair(tmp_path, *line, "--workdir", tmp_path / "run", second=("--seed", 1)).end()
    assert (status, out) == ([2, 2], ["", ""])
    for text in err:
        assert text.count("\n") == 1
        assert text.startswith("rnnjax: --distributed: expected the same options and data in all processes")
    assert not (tmp_path / "run").exists()
