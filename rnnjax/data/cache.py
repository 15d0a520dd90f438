"""Keep encoded data between runs, so that a second start is fast. A cache that cannot be used is no error."""

import contextlib
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from rnnjax import atomic

FOLDER_VARIABLE = "RNNJAX_CACHE_DIR"
MAX_BYTES = 1 << 30


def cached_arrays(key: dict[str, Any], make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return what `make` returned for this key before, or call it and keep the result.

    Kept in the folder that RNNJAX_CACHE_DIR names (empty: nowhere), by default the user's cache folder. Beyond 1 GiB
    the entries go that have not been used for longest. A broken entry is replaced.

    Args:
        key: all that the arrays depend on, as JSON values.
        make: makes arrays of numbers or strings (not objects), by name.
    """
    folder = cache_folder()
    if folder is None:
        return make()
    path = folder / f"{hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()}.npz"
    arrays = _load(path)
    if arrays is None:
        arrays = make()
        _save(path, arrays)
    return arrays


def cache_folder() -> Path | None:
    """Where this user's caches are; None where there are to be none."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    if chosen is not None:
        return Path(chosen).expanduser() if chosen else None
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("rnnjax", appauthor=False))


def _load(path: Path) -> dict[str, np.ndarray] | None:
    try:
        # A ZIP archive holds a checksum of each member, and reading compares it: a flipped bit is found.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as entry:
            arrays = {name: entry[name] for name in entry.files}
    except Exception:  # no entry, or a broken one, which shows as any of a dozen types
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # used now; the oldest entries go first
    return arrays


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    with contextlib.suppress(OSError):  # a read-only home or a full disk: no cache
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_bytes(path, buffer.getvalue())
        shrink(path.parent.glob("*.npz"), keep=path)


def shrink(entries: Iterable[Path], keep: Path | None = None) -> None:
    """Delete files, the least recent first and never `keep`, until no more than `MAX_BYTES` are left."""
    found = [(file.stat(), file) for file in entries]
    total = sum(status.st_size for status, _ in found)
    for status, file in sorted(found, key=lambda entry: entry[0].st_mtime):
        if total <= MAX_BYTES:
            return
        if file != keep:
            file.unlink(missing_ok=True)
            total -= status.st_size
