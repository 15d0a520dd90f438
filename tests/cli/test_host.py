"""Settings of the process: compiled programs are kept, and whatever lies in their place does no harm."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rnnjax.cli import host
from rnnjax.data import cache

ROOT = Path(__file__).parents[2]

DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated": lambda entry: entry.write_bytes(entry.read_bytes()[: entry.stat().st_size // 2]),
    "empty": lambda entry: entry.write_bytes(b""),
    "foreign": lambda entry: entry.write_bytes(b"of another program\n" * 9),
}


def predict(run: Path, cache_folder: str) -> subprocess.CompletedProcess[str]:
    """`predict.py` in a process of its own, which compiles some programs."""
    return subprocess.run(
        [sys.executable, ROOT / "predict.py", "--workdir", run, "--text", "it was fine"],
        capture_output=True, text=True, env={**os.environ, "RNNJAX_CACHE_DIR": cache_folder},
    )  # fmt: skip


def test_a_broken_program_is_discarded_and_written_anew(imdb_run: Path, tmp_path: Path) -> None:
    first = predict(imdb_run, str(tmp_path))
    assert (first.returncode, first.stderr) == (0, "")
    entries = {path: path.read_bytes() for path in tmp_path.rglob("*-cache")}
    assert any(path.name.startswith("jit_step-") for path in entries)
    for number, (name, damage) in enumerate(DAMAGES.items()):
        for path in sorted(entries)[number :: len(DAMAGES)]:
            damage(path)
            assert path.read_bytes() != entries[path], name
    second = predict(imdb_run, str(tmp_path))
    assert (second.returncode, second.stdout, second.stderr) == (0, first.stdout, "")
    sizes = {path: path.stat().st_size for path in tmp_path.rglob("*-cache")}
    # Compiled again: the same but for the seconds that it took.
    assert sizes == {path: pytest.approx(len(content), rel=0.05, abs=50) for path, content in entries.items()}
    written = {path: path.stat().st_mtime_ns for path in sizes}
    assert predict(imdb_run, str(tmp_path)).stdout == first.stdout
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*-cache")} == written, "all were used"


def test_a_folder_that_cannot_be_made_is_done_without(imdb_run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    ended = predict(imdb_run, str(tmp_path / "file" / "below"))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.count("\t") == 1


@pytest.mark.parametrize(("folder", "named"), [("", None), ("{tmp_path}", "{tmp_path}/own"), (None, None)])
def test_where_programs_are_kept(
    folder: str | None, named: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name, appauthor: str(tmp_path / "home" / name))
    for variable, value in (("RNNJAX_CACHE_DIR", folder), ("JAX_COMPILATION_CACHE_DIR", named)):
        monkeypatch.setenv(variable, "")  # so that it goes after the test
        monkeypatch.delenv(variable)
        if value is not None:
            monkeypatch.setenv(variable, value.format(tmp_path=tmp_path))
    host.keep_programs()
    chosen = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if folder == "":
        assert chosen is None
    elif named:
        assert chosen == f"{tmp_path}/own"
    else:
        assert chosen is not None
        assert Path(chosen).parent == tmp_path / "home" / "rnnjax" / "programs"
    assert list(tmp_path.iterdir()) == [], "nothing is made before something is compiled"


def test_old_programs_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RNNJAX_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(cache, "MAX_BYTES", 2500)
    entries = [tmp_path / "programs" / processor / f"jit_{processor}-0-cache" for processor in "abc"]
    for age, entry in enumerate(entries):
        entry.parent.mkdir(parents=True)
        entry.write_bytes(bytes(1000))
        os.utime(entry, (1000 - age, 1000 - age))
    (tmp_path / "data.npz").write_bytes(bytes(5000))
    host.keep_programs()
    assert [entry.exists() for entry in entries] == [True, True, False]
    assert (tmp_path / "data.npz").exists()


@pytest.mark.parametrize(("before", "after"), [(None, "1"), ("3", "3")])
def test_one_thread_makes_orthogonal_weights_unless_told_otherwise(
    before: str | None, after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if before is not None:
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", before)
    assert host.prepare()
    assert os.environ["OPENBLAS_NUM_THREADS"] == after


@pytest.mark.parametrize(
    ("cores", "flags", "before", "after"),
    [
        (1, "", None, "1"),
        (2, "", None, "2"),
        (64, "", None, "2"),
        (64, "", "5", "5"),
        (64, "--xla_force_host_platform_device_count=8", None, None),
    ],
)
def test_a_cpu_has_two_devices_unless_told_otherwise(
    cores: int, flags: str, before: str | None, after: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "num_cores", lambda: cores)
    monkeypatch.setenv("XLA_FLAGS", flags)
    if before is not None:
        monkeypatch.setenv("JAX_NUM_CPU_DEVICES", before)
    host.use_cores()
    assert os.environ.get("JAX_NUM_CPU_DEVICES") == after


def test_cores_are_those_that_the_process_may_use() -> None:
    allowed = {min(os.sched_getaffinity(0))}
    line = f"import os; os.sched_setaffinity(0, {allowed}); from rnnjax.cli import host; print(host.num_cores())"
    assert subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True).stdout == "1\n"
