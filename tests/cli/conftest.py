"""Trained runs that the tests of the commands share, and how these are called."""

import contextlib
import csv
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import pytest

from rnnjax.cli import main
from rnnjax.data import tfds

SMALL = ("--units", "4", "--embedding", "4", "--epochs", "2", "--learning-rate", "0.05")
IMDB = ("--task", "imdb", "--max-length", "8", "--batch-size", "16", *SMALL)
CHAR = ("--task", "char", "--window", "16", "--batch-size", "4", *SMALL)
TEXT = "Die Katze läßt das Mausen nicht — 猫は鼠を捕る!\nthe quick brown fox jumps over it?\n" * 20


class Ended(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str


@pytest.fixture(scope="session")
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], contextlib.AbstractContextManager[None]]:
    """Makes a context for the commands: a cache of their own, no data sets, no network, and quick compilation.

    Each test and each shared run enters one of its own, so that tests elsewhere in the same process see none of it.
    """
    folders = {name: str(tmp_path_factory.mktemp(name)) for name in ("cache", "tfds")}

    def probe(url: str) -> None:
        raise tfds.NetworkUnavailable(f"{url} cannot be reached (ConnectionError)")

    @contextlib.contextmanager
    def enter() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RNNJAX_CACHE_DIR", folders["cache"])
            patch.setenv("TFDS_DATA_DIR", folders["tfds"])
            patch.setenv("RNNJAX_KEEP_PAGES", "0")
            # The commands set these: after two such lines they go when the context ends.
            for variable in ("JAX_COMPILATION_CACHE_DIR", "JAX_NUM_CPU_DEVICES", "OPENBLAS_NUM_THREADS"):
                patch.setenv(variable, "")
                patch.delenv(variable)
            patch.setattr(tfds, "probe", probe)
            # Without most optimizations: these tests run many small programs once.
            jax.config.update("jax_disable_most_optimizations", True)
            yield
            jax.config.update("jax_disable_most_optimizations", False)

    return enter


@pytest.fixture(autouse=True)
def _surrounded(
    quick_compilation: None, surroundings: Callable[[], contextlib.AbstractContextManager[None]]
) -> Iterator[None]:
    """All tests here, as the runs that they share."""
    with surroundings():
        yield


@pytest.fixture
def invoke(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Call `rnnjax ARGUMENTS...` in this process."""

    def call(*arguments: object) -> Ended:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        return Ended(status, *capsys.readouterr())

    return call


@pytest.fixture
def cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in which the commands run."""
    path = tmp_path / "cwd"
    path.mkdir()
    monkeypatch.chdir(path)
    return path


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data files, good and bad."""
    path = tmp_path_factory.mktemp("shelf")
    draw = random.Random(0)
    rows = [(draw.choice(["good", "bad"]), draw.randrange(9)) for _ in range(70)]
    with open(path / "two.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows((f"it was {'fine' if label == 'good' else 'poor'} number {i}", label) for label, i in rows)
    (path / "text.txt").write_text(TEXT, encoding="utf-8")
    (path / "empty.csv").write_bytes(b"")
    (path / "empty.txt").write_bytes(b"")
    (path / "latin1.csv").write_bytes("text,label\nschön,gut\nübel,schlecht\n".encode("latin-1"))
    (path / "latin1.txt").write_bytes(TEXT[:30].encode("latin-1", "replace") + b"\xff" * 3)
    (path / "nolabel.csv").write_text("text,sentiment\nfine,good\npoor,bad\n", encoding="utf-8")
    (path / "header.csv").write_text("text,label\n", encoding="utf-8")
    (path / "one.csv").write_text("text,label\nfine,good\nalso fine,good\nfiner,good\n", encoding="utf-8")
    (path / "pair.csv").write_text("text,label\nfine,good\npoor,bad\n", encoding="utf-8")
    (path / "broken.jsonl").write_text('{"text": "fine", "label": "good"}\n{"text": "poor"\n', encoding="utf-8")
    (path / "nokey.jsonl").write_text('{"text": "fine", "label": "good"}\n{"text": "poor"}\n', encoding="utf-8")
    (path / "short.txt").write_text("too short", encoding="utf-8")
    (path / "folder").mkdir()
    return path


@pytest.fixture(scope="session")
def imdb_run(shelf: Path, tmp_path_factory: pytest.TempPathFactory, surroundings: Callable) -> Path:
    """A finished run of a classifier; not to be changed."""
    path = tmp_path_factory.mktemp("runs") / "imdb"
    with surroundings():
        assert main(["train", *IMDB, "--dataset", str(shelf / "two.csv"), "--workdir", str(path)]) == 0
    return path


@pytest.fixture(scope="session")
def char_run(shelf: Path, tmp_path_factory: pytest.TempPathFactory, surroundings: Callable) -> Path:
    """A finished run of a character model; not to be changed."""
    path = tmp_path_factory.mktemp("runs") / "char"
    with surroundings():
        assert main(["train", *CHAR, "--text", str(shelf / "text.txt"), "--workdir", str(path)]) == 0
    return path


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[Path], Path]:
    """Copy a run, so that a test may change it."""
    return lambda run: Path(shutil.copytree(run, tmp_path / "copies" / run.name))


@pytest.fixture(scope="session")
def snapshot() -> Callable[[Path], dict[str, tuple[int, bytes]]]:
    """Everything in a folder: the time of the last change of each entry, and the bytes of each file."""

    def take(folder: Path) -> dict[str, tuple[int, bytes]]:
        return {
            str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
            for path in [folder, *folder.rglob("*")]
        }

    return take
