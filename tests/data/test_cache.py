import os
import zipfile

import numpy as np
import pytest

from rnnjax.data import cache
from rnnjax.data.cache import cached_arrays


class Maker:
    """Counts its calls."""

    def __init__(self, **arrays):
        self.arrays = arrays
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return self.arrays


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RNNJAX_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def assert_same(arrays, expected):
    assert arrays.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype


def test_made_once(folder):
    make = Maker(ids=np.arange(6, dtype=np.int32).reshape(2, 3), words=np.array(["a", "é"]))
    for key in ({"a": 1, "b": [2]}, {"b": [2], "a": 1}):
        assert_same(cached_arrays(key, make), make.arrays)
    assert make.calls == 1
    cached_arrays({"a": 1, "b": [3]}, make)
    assert make.calls == 2
    assert len(list(folder.iterdir())) == 2


def flip(content):
    middle = content.index(np.arange(1000).tobytes()) + 100
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage", [lambda c: b"", lambda c: c[: len(c) // 2], lambda c: c[:-10], lambda c: b"foreign", flip]
)
def test_a_broken_entry_is_replaced(folder, damage):
    make = Maker(ids=np.arange(1000))
    cached_arrays({}, make)
    (entry,) = folder.iterdir()
    whole = entry.read_bytes()
    entry.write_bytes(damage(whole))
    assert_same(cached_arrays({}, make), make.arrays)
    assert make.calls == 2
    with zipfile.ZipFile(entry) as archive:
        assert archive.testzip() is None
    cached_arrays({}, make)
    assert make.calls == 2


def test_objects_are_never_unpickled(folder):
    make = Maker(ids=np.array([{}], object))
    cached_arrays({}, make)
    cached_arrays({}, make)
    assert make.calls == 2


def test_no_cache_on_request_or_where_none_can_be(tmp_path, monkeypatch):
    make = Maker(ids=np.arange(3))
    (tmp_path / "file").touch()
    for place in ("", str(tmp_path / "file" / "below")):
        monkeypatch.setenv("RNNJAX_CACHE_DIR", place)
        assert_same(cached_arrays({}, make), make.arrays)
    assert make.calls == 2
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_the_users_cache_folder_is_the_default(tmp_path, monkeypatch):
    monkeypatch.delenv("RNNJAX_CACHE_DIR", raising=False)
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name, appauthor: str(tmp_path / name))
    cached_arrays({}, Maker(ids=np.arange(3)))
    assert len(list((tmp_path / "rnnjax").glob("*.npz"))) == 1


def test_entries_unused_for_longest_go(folder, monkeypatch):
    monkeypatch.setattr(cache, "MAX_BYTES", 10_000)
    make = Maker(ids=np.zeros(4000, np.uint8))
    entries = []
    for key in range(2):
        cached_arrays({"key": key}, make)
        (entry,) = set(folder.iterdir()) - set(entries)
        os.utime(entry, (key, key))  # long ago, the first before the second
        entries.append(entry)
    cached_arrays({"key": 0}, make)  # used again
    cached_arrays({"key": 2}, make)
    assert make.calls == 3
    assert entries[0].exists()
    assert not entries[1].exists()
    monkeypatch.setattr(cache, "MAX_BYTES", 0)
    cached_arrays({"key": 3}, make)
    assert len(list(folder.iterdir())) == 1  # the newest stays, whatever its size
