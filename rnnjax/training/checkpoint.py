"""Checkpoints that are whole or not there.

A checkpoint is a folder, named by its step: `state/` and `best/` as Orbax writes them, `shapes.json` with the shapes of
their arrays, `progress.json` for what lives on the host, and `manifest.json` with the SHA-256 sum of every other file.
It is written under another name and renamed when all is on the disk, so that a kill leaves the ones before it. Orbax
does not verify content, so the sums are checked before anything is restored, and the checkpoint before is used where
they differ.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp

from rnnjax.errors import RunError, first_line

KEPT = 2
"""How many checkpoints stay."""
SPARE_BYTES = 1 << 20
"""What a checkpoint may need beyond its arrays."""


class Restored(NamedTuple):
    """What a checkpoint held."""

    state: Any
    best: Any
    progress: dict[str, Any]


def save(folder: Path, step: int, state: Any, best: Any, progress: dict[str, Any]) -> None:
    """Write a checkpoint, then delete all but the newest `KEPT`.

    Raises:
        RunError: it could not be written; the checkpoints before it are as they were.
    """
    temporary = folder / f".{_name(step)}"
    try:
        folder.mkdir(exist_ok=True)
        _remove_hidden(folder)
        # Asked beforehand, since on a full disk Orbax fills the terminal with the tracebacks of its threads.
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves((state, best))) + SPARE_BYTES
        if (free := shutil.disk_usage(folder).free) < needed:
            raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {needed:,} bytes needed, {free:,} free")
        _write(temporary, state, best, progress)
        target = folder / _name(step)
        if target.exists():  # this step again, after falling back to an earlier checkpoint: the one here was not whole
            _remove(target)
        temporary.rename(target)
        _sync(folder)
    except Exception as error:  # Orbax shows a full disk as any of several types
        shutil.rmtree(temporary, ignore_errors=True)
        raise RunError(
            f"{folder}: the checkpoint of step {step} cannot be written ({first_line(error)}); "
            "what was saved before is whole. Make room, and --resume."
        ) from error
    with contextlib.suppress(OSError):  # more stay than are needed
        for old in steps(folder)[:-KEPT]:
            _remove(folder / _name(old))


def _write(temporary: Path, state: Any, best: Any, progress: dict[str, Any]) -> None:
    temporary.mkdir()
    with _checkpointer() as checkpointer:
        checkpointer.save((temporary / "state").absolute(), state)
        checkpointer.save((temporary / "best").absolute(), best)
        checkpointer.wait_until_finished()
    shapes = {"state": _shapes(state), "best": _shapes(best)}
    (temporary / "shapes.json").write_text(json.dumps(shapes), encoding="utf-8")
    (temporary / "progress.json").write_text(json.dumps(progress), encoding="utf-8")
    sums = {str(path.relative_to(temporary)): _sha256(path) for path in _files(temporary)}
    (temporary / "manifest.json").write_text(json.dumps(sums, indent=1), encoding="utf-8")
    for path in [*_files(temporary), *(p for p in temporary.rglob("*") if p.is_dir()), temporary]:
        _sync(path)


def steps(folder: Path) -> list[int]:
    """Steps of the checkpoints in a folder, oldest first."""
    names = [path.name for path in folder.glob("[0-9]*") if path.name.isascii() and path.name.isdigit()]
    return sorted(int(name) for name in names if name == _name(int(name)))


def newest_whole(folder: Path, notify: Callable[[str], None]) -> Path | None:
    """The newest checkpoint whose files are as they were written; a notice for each newer one that is not."""
    broken: set[int] = set()
    while found := [step for step in steps(folder) if step not in broken]:
        path = folder / _name(found[-1])
        fault = find_fault(path)
        if fault is None:
            return path
        if os.path.lexists(path):  # otherwise a run that goes on has removed it meanwhile
            broken.add(found[-1])
            notify(f"{path}: {fault}; looking for the checkpoint before it")
    return None


def read_newest(folder: Path, read: Callable[[Path], Any], notify: Callable[[str], None]) -> Any:
    """What `read` makes of the newest whole checkpoint, also while a run goes on; None where there is none."""
    while True:
        path = newest_whole(folder, notify)
        try:
            return None if path is None else read(path)
        except Exception:
            if path is None or os.path.lexists(path):
                raise  # otherwise the run has removed it meanwhile, and has written newer ones


def drop_after(folder: Path, step: int) -> None:
    """Remove the checkpoints past `step`, which a run that went back to it will write anew, and what a kill left."""
    _remove_hidden(folder)
    for later in steps(folder):
        if later > step:
            _remove(folder / _name(later))


def _name(step: int) -> str:
    return f"{step:08d}"


def _remove(path: Path) -> None:
    """Remove a checkpoint in one step: whoever reads it meanwhile finds it whole or not there."""
    hidden = path.with_name(f".{path.name}.old")
    _delete(hidden)
    path.rename(hidden)
    _delete(hidden)


def _remove_hidden(folder: Path) -> None:
    for leftover in folder.glob(".*"):
        _delete(leftover)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def find_fault(path: Path) -> str | None:
    """What is wrong with a checkpoint's files, None where they match the manifest."""
    try:
        sums = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        files = {str(file.relative_to(path)) for file in _files(path)} - {"manifest.json"}
        if missing := sums.keys() - files:
            return f"{min(missing)!r} is missing"
        if files - sums.keys():
            return "there are files that the manifest does not name"
        for name, expected in sums.items():
            if _sha256(path / name) != expected:
                return f"{name} is not as it was written"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        return f"it cannot be read ({error})"
    return None


def restore(path: Path, state: Any, best: Any) -> Restored:
    """Read a whole checkpoint into trees of the shapes of `state` and `best`.

    Raises:
        ValueError: it holds other shapes.
    """
    progress = json.loads((path / "progress.json").read_text(encoding="utf-8"))
    return Restored(_restore(path / "state", state), _restore(path / "best", best), progress)


def restore_best(path: Path, best: Any) -> Any:
    """Read only the best parameters of a whole checkpoint; errors as for `restore`."""
    return _restore(path / "best", best)


def _restore(path: Path, tree: Any) -> Any:
    held, expected = json.loads((path.parent / "shapes.json").read_text(encoding="utf-8"))[path.name], _shapes(tree)
    for name in sorted(held.keys() | expected.keys()):
        if held.get(name) != expected.get(name):
            raise ValueError(f"{path}{name} has shape {held.get(name)}; expected {expected.get(name)}")
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)
    with _checkpointer() as checkpointer:
        return checkpointer.restore(path.absolute(), abstract)


def _checkpointer() -> ocp.StandardCheckpointer:
    """One that waits for no other process: each reads for itself, and one alone writes."""
    me = jax.process_index()
    options = ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process_{me}"
    )
    return ocp.StandardCheckpointer(multiprocessing_options=options)


def _shapes(tree: Any) -> dict[str, list[int]]:
    leaves, _ = jax.tree.flatten_with_path(tree)
    return {jax.tree_util.keystr(path): list(leaf.shape) for path, leaf in leaves}


def _files(folder: Path) -> list[Path]:
    """Every file that Orbax or `save` wrote; hidden ones are those of the desktop (.DS_Store)."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
