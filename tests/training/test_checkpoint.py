"""A checkpoint comes back to the bit, or is found to be broken."""

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rnnjax
from rnnjax.errors import RunError
from rnnjax.training import checkpoint
from rnnjax.training.step import TrainState

PROGRESS = {"epoch": 3, "sums": {"loss": [0.1, 7.0]}, "history": [{"train": {"loss": 1 / 3}}]}


def make_state(seed: int, units: int = 4) -> TrainState:
    draw = np.random.default_rng(seed)
    params = {
        "b": {"kernel": jnp.asarray(draw.standard_normal((3, units)), jnp.float32)},
        "a": jnp.asarray([np.pi, -0.0]),
    }
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(0.1, 9)))
    _, optimizer_state = optimizer.update(params, optimizer.init(params), params)
    carry = jax.tree.map(lambda leaf: leaf + seed, rnnjax.Stack([rnnjax.LSTM(2)]).initial_state(3))
    return TrainState(jnp.asarray(seed, jnp.int32), params, jax.tree.map(jnp.sin, params), optimizer_state, carry)


def same(a, b) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Checkpoints of steps 1, 2 and 3, of which the last two are kept."""
    folder = tmp_path / "checkpoints"
    for step in (1, 2, 3):
        state = make_state(step)
        checkpoint.save(folder, step, state, state.params, {**PROGRESS, "batch": step})
    return folder


def test_round_trip_to_the_bit(folder):
    assert checkpoint.steps(folder) == [2, 3]
    notices = []
    path = checkpoint.newest_whole(folder, notices.append)
    assert (path, notices) == (folder / "00000003", [])
    restored = checkpoint.restore(path, make_state(0), make_state(0).params)
    same(restored.state, make_state(3))
    same(restored.best, make_state(3).params)
    assert restored.progress == {**PROGRESS, "batch": 3}
    same(checkpoint.restore_best(path, jax.eval_shape(lambda: make_state(0).params)), make_state(3).params)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(restored.state))


def test_a_restored_state_can_be_donated(folder):
    restored = checkpoint.restore(folder / "00000003", make_state(0), make_state(0).params)
    doubled = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf * 2, tree), donate_argnums=0)(restored.state)
    same(doubled, jax.tree.map(lambda leaf: leaf * 2, make_state(3)))


def test_other_shapes_are_refused_by_name(folder):
    with pytest.raises(ValueError, match=r"kernel.*\[3, 4\].*\[3, 5\]"):
        checkpoint.restore_best(folder / "00000003", make_state(0, units=5).params)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


DAMAGES = {
    "truncated": lambda path: largest(path).write_bytes(largest(path).read_bytes()[:-1]),
    "flipped bit": lambda path: flip(largest(path)),
    "flipped bit in progress": lambda path: flip(path / "progress.json"),
    "missing file": lambda path: largest(path).unlink(),
    "strange file": lambda path: (path / "state" / "more").write_text("x"),
    "missing manifest": lambda path: (path / "manifest.json").unlink(),
    "empty manifest": lambda path: (path / "manifest.json").write_text("{}"),
    "truncated manifest": lambda path: (path / "manifest.json").write_text('{"progress.json": "'),
    "manifest that is a list": lambda path: (path / "manifest.json").write_text("[]"),
    "empty folder": lambda path: (shutil.rmtree(path), path.mkdir()),
    "a file": lambda path: (shutil.rmtree(path), path.write_text("x")),
}


def largest(path: Path) -> Path:
    return max((file for file in path.rglob("d/*") if file.is_file()), key=lambda file: file.stat().st_size)


@pytest.mark.parametrize("damage", DAMAGES)
def test_broken_ones_are_passed_over_with_a_notice(damage, folder):
    DAMAGES[damage](folder / "00000003")
    notices = []
    path = checkpoint.newest_whole(folder, notices.append)
    assert path == folder / "00000002"
    (notice,) = notices
    assert notice.startswith(f"{folder / '00000003'}: ")
    same(checkpoint.restore(path, make_state(0), make_state(0).params).state, make_state(2))


HARMS = {
    "flipped": lambda content: (
        bytes([*content[: len(content) // 2], content[len(content) // 2] ^ 4]) + content[len(content) // 2 + 1 :]
    ),
    "cut": lambda content: content[:-1],
    "longer": lambda content: content + b"\0",
    "emptied": lambda content: b"",
}


@pytest.mark.parametrize("harm", HARMS)
def test_harm_to_any_file_is_found(harm, folder):
    path = folder / "00000003"
    files = [file for file in path.rglob("*") if file.is_file()]
    assert {file.name for file in files} >= {"manifest.json", "progress.json", "shapes.json"}
    for file in files:
        content = file.read_bytes()
        assert content, f"{file} is empty: it can only be longer"
        file.write_bytes(HARMS[harm](content))
        notices = []
        assert checkpoint.newest_whole(folder, notices.append) == folder / "00000002", file
        assert len(notices) == 1
        file.write_bytes(content)
        assert checkpoint.find_fault(path) is None
        file.unlink()
        assert f"{file.name}" in checkpoint.find_fault(path)
        file.write_bytes(content)


def test_a_flip_anywhere_in_the_manifest_is_found(folder):
    manifest = folder / "00000003" / "manifest.json"
    content = manifest.read_bytes()
    for place in range(0, len(content), 11):
        for bit in (1, 4, 32):
            manifest.write_bytes(content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :])
            assert checkpoint.find_fault(folder / "00000003"), (place, bit)


def test_names_that_are_no_steps(folder):
    for name in ("4", "000000004", "00000004x", "0000000\N{SUPERSCRIPT FOUR}", "0000000\N{ARABIC-INDIC DIGIT FOUR}"):
        (folder / name).mkdir()
    assert checkpoint.steps(folder) == [2, 3]
    (folder / "00000009").symlink_to("nowhere")
    notices = []
    assert checkpoint.newest_whole(folder, notices.append) == folder / "00000003"
    assert len(notices) == 1


def test_one_that_is_removed_while_it_is_read(folder, monkeypatch):
    """A run goes on beside it: its newer checkpoints are read, and nothing is said of one that has gone."""
    find_fault, looked = checkpoint.find_fault, []

    def look(path: Path) -> str | None:
        looked.append(path.name)
        if len(looked) == 1:
            for step in (4, 5):
                checkpoint.save(folder, step, make_state(step), make_state(step).params, PROGRESS)
        return find_fault(path)

    read = []

    def restore(path: Path) -> Any:
        read.append(path.name)
        if len(read) == 1:
            for step in (6, 7):
                checkpoint.save(folder, step, make_state(step), make_state(step).params, PROGRESS)
        return checkpoint.restore_best(path, make_state(0).params)

    monkeypatch.setattr(checkpoint, "find_fault", look)
    same(checkpoint.read_newest(folder, restore, pytest.fail), make_state(7).params)
    assert looked == ["00000003", "00000005", "00000007"]
    assert read == ["00000005", "00000007"]


def test_what_cannot_be_read_though_it_is_there(folder):
    with pytest.raises(ValueError, match="kernel"):
        checkpoint.read_newest(
            folder, lambda path: checkpoint.restore_best(path, make_state(0, units=5).params), pytest.fail
        )
    assert checkpoint.read_newest(folder / "absent", pytest.fail, pytest.fail) is None


def test_every_file_is_in_the_manifest(folder):
    path = folder / "00000003"
    files = {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}
    assert set(json.loads((path / "manifest.json").read_text())) == files - {"manifest.json"}
    assert len(files) > 5


def test_what_a_desktop_leaves_is_no_fault(folder):
    (folder / "00000003" / ".DS_Store").write_bytes(b"x")
    assert checkpoint.find_fault(folder / "00000003") is None


def test_what_a_kill_left_is_no_checkpoint_and_is_cleared_away(folder):
    (folder / ".00000004" / "state").mkdir(parents=True)
    (folder / ".00000004" / "manifest.json").write_text("{}")
    (folder / ".00000001.old").mkdir()
    assert checkpoint.newest_whole(folder, pytest.fail) == folder / "00000003"
    checkpoint.save(folder, 4, make_state(4), make_state(4).params, PROGRESS)
    assert sorted(path.name for path in folder.iterdir()) == ["00000003", "00000004"]


def test_none_is_none(tmp_path):
    assert checkpoint.newest_whole(tmp_path / "absent", pytest.fail) is None


def test_a_failed_save_leaves_the_others(folder, monkeypatch):
    def sync(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "_sync", sync)
    with pytest.raises(RunError, match=r"step 4 .*No space left on device"):
        checkpoint.save(folder, 4, make_state(4), make_state(4).params, PROGRESS)
    assert sorted(path.name for path in folder.iterdir()) == ["00000002", "00000003"]
    assert checkpoint.find_fault(folder / "00000003") is None


def test_a_step_is_written_again_over_a_broken_one(folder):
    flip(largest(folder / "00000003"))
    checkpoint.save(folder, 3, make_state(3), make_state(3).params, PROGRESS)
    assert checkpoint.newest_whole(folder, pytest.fail) == folder / "00000003"
