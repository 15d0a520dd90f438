import os
import stat

import pytest

from rnnjax import atomic


def test_written_whole_with_the_usual_permissions(tmp_path):
    path = tmp_path / "a.json"
    for text in ("é\r\n", "short"):
        atomic.write_text(path, text)
        assert path.read_bytes() == text.encode()
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]
    (tmp_path / "plain").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_a_failure_leaves_the_old_file_alone(tmp_path, monkeypatch):
    path = tmp_path / "a"
    atomic.write_bytes(path, b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space") as failure:
        atomic.write_bytes(path, b"new")
    assert failure.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]
    with pytest.raises(FileNotFoundError):
        atomic.write_bytes(tmp_path / "none" / "a", b"new")
