"""A folder is locked by one at a time, and by nobody that has ended."""

import errno
import fcntl
import logging
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from rnnjax import atomic
from rnnjax.errors import InputError
from rnnjax.training import lock
from rnnjax.training.folder import RunFolder

HOLD = """
import sys, time
from pathlib import Path
from rnnjax.training import lock
with lock.held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(100)
"""


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch):
    monkeypatch.setattr(lock, "MOST_SECONDS", 0.1)


def refusals(folder: Path) -> list[str]:
    """What both who would look and who would lock are told."""
    found = []
    for attempt in (lambda: lock.check_free(folder), lambda: lock.held(folder).__enter__()):
        with pytest.raises(InputError) as refusal:
            attempt()
        found.append(str(refusal.value))
    return found


def test_one_at_a_time(tmp_path):
    with lock.held(tmp_path):
        first, second = refusals(tmp_path)
        assert first == second
        assert first.startswith(f"--workdir {tmp_path}: expected a run that no other process trains; ")
        assert f"process {os.getpid()} on {socket.gethostname()} does" in first
        assert "\n" not in first
    assert list(tmp_path.iterdir()) == []
    lock.check_free(tmp_path)
    with lock.held(tmp_path):
        pass


def test_a_killed_process_holds_nothing(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    assert f"process {holder.pid} on {socket.gethostname()}" in refusals(tmp_path)[0]
    holder.send_signal(signal.SIGKILL)
    assert holder.wait(20) == -signal.SIGKILL
    holder.stdout.close()
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    assert not RunFolder(tmp_path).holds_run
    lock.check_free(tmp_path)
    with lock.held(tmp_path):
        assert f"process {os.getpid()} on" in refusals(tmp_path)[0]
    assert list(tmp_path.iterdir()) == []


def test_looking_changes_nothing(tmp_path):
    before = tmp_path.stat().st_mtime_ns
    lock.check_free(tmp_path)
    lock.check_free(tmp_path / "absent")
    assert tmp_path.stat().st_mtime_ns == before
    (tmp_path / ".lock").write_bytes(b"process 1 on nowhere")
    before = tmp_path.stat().st_mtime_ns
    lock.check_free(tmp_path)
    assert tmp_path.stat().st_mtime_ns == before
    assert (tmp_path / ".lock").read_bytes() == b"process 1 on nowhere"


def test_a_holder_that_ends_just_then(tmp_path, monkeypatch):
    """The file that was opened is removed before it is locked: a lock on it would be a lock on nothing."""
    original, removed = lock._lock, []

    def remove_first(descriptor, folder):
        if not removed:
            (tmp_path / ".lock").unlink()
            removed.append(1)
        original(descriptor, folder)

    monkeypatch.setattr(lock, "_lock", remove_first)
    with lock.held(tmp_path):
        assert removed
        refusals(tmp_path)


def test_a_disk_without_locks(tmp_path, monkeypatch, caplog):
    def flock(descriptor, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with caplog.at_level(logging.WARNING, "rnnjax"), lock.held(tmp_path):
        pass
    assert [record.message for record in caplog.records] == [
        f"{tmp_path} cannot be locked (No locks available): see that no other process trains there"
    ]


def test_what_a_killed_process_was_writing_is_removed(tmp_path):
    folder = RunFolder(tmp_path / "run")
    with folder.lock():
        (folder.path / ".config.json.0123456789abcdef0123456789abcdef.tmp").write_text("{")
        (folder.path / ".mine.tmp").write_text("x")
    with folder.lock():
        atomic.write_text(folder.config, "{}")
    assert sorted(path.name for path in folder.path.iterdir()) == [".mine.tmp", "config.json"]
