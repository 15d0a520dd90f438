"""What goes wrong around a command: one clear line, its exit status, and what was there before is as it was.

Command lines that are wrong in themselves are in test_bad_input.py.
"""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from rnnjax.errors import Interrupted
from rnnjax.training import checkpoint, lock
from rnnjax.training.folder import RunFolder
from rnnjax.training.loop import Run

ROOT = Path(__file__).parents[2]
SMALL = "--units 4 --embedding 4 --epochs 2"
IMDB = f"train --task imdb --dataset {{data}}.csv --max-length 8 --batch-size 16 {SMALL} --workdir"
CHAR = f"train --task char --text {{data}}.txt --window 16 --batch-size 4 {SMALL} --workdir"


class Place:
    """Where a fault happens: copies of two runs of which `results.json` is gone, and of the data that they read."""

    def __init__(self, path: Path, patch: pytest.MonkeyPatch, stack: contextlib.ExitStack) -> None:
        self.path, self.patch, self.stack = path, patch, stack
        self.imdb, self.char, self.data = path / "imdb", path / "char", path / "data"

    def edit(self, file: Path, **changes: Any) -> None:
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    def info(self, run: Path, **changes: Any) -> None:
        self.edit(run / "config.json", info={**json.loads((run / "config.json").read_text())["info"], **changes})

    def setting(self, run: Path, **changes: Any) -> None:
        self.edit(run / "config.json", config={**json.loads((run / "config.json").read_text())["config"], **changes})

    def checkpoints(self, run: Path) -> list[Path]:
        return sorted((run / "checkpoints").iterdir())

    def held(self, run: Path) -> None:
        """Another process trains there."""
        self.patch.setattr(lock, "MOST_SECONDS", 0.1)
        self.stack.enter_context(lock.held(run))

    def disk(self, name: str, options: str) -> Path:
        """A small disk of its own; skipped where this user may mount none."""
        folder = self.path / name
        folder.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", options, "rnnjax-test", str(folder)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("this user may not mount a disk")
        self.stack.callback(subprocess.run, ["umount", "-l", str(folder)], check=True)
        return folder

    def full(self, leave: int = 0) -> Path:
        """A disk `full` with a run on it and so many bytes left."""
        folder = self.disk("full", "size=4m")
        shutil.copytree(self.imdb, folder / "imdb")
        fill(folder, leave)
        return folder

    def read_only(self) -> None:
        """A disk `ro` with a run on it that nobody can write."""
        folder = self.disk("ro", "size=4m")
        shutil.copytree(self.imdb, folder / "imdb")
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)

    def signalled(self, number: int, place: str) -> None:
        """A signal comes when the run gets to a method."""
        original = getattr(Run, place)

        def interrupted(run: Run, *rest: Any) -> Any:
            os.kill(os.getpid(), number)
            return original(run, *rest)

        self.patch.setattr(Run, place, interrupted)

    def raises(self, where: Any, name: str, error: BaseException) -> None:
        def fail(*_: object, **__: object) -> None:
            raise error

        self.patch.setattr(where, name, fail)


def fill(folder: Path, leave: int = 0) -> None:
    with open(folder / "filler", "wb", buffering=0) as file:
        while (free := shutil.disk_usage(folder).free - leave) > 0:
            file.write(bytes(min(free, 1 << 16)))


class Fault(NamedTuple):
    """What goes wrong, the command, and what its line says; {path} stands for the place's folder."""

    line: str
    words: tuple[str, ...]
    setup: Callable[[Place], object] = lambda place: None
    status: int = 2


def full_after_start(place: Place) -> None:
    start = RunFolder.start

    def started(folder: RunFolder, *rest: Any) -> None:
        start(folder, *rest)
        fill(place.path / "full")

    place.disk("full", "size=4m")
    place.patch.setattr(RunFolder, "start", started)
    place.patch.setattr(Run, "is_save_due", lambda run: False)


def task_fails(place: Place, error: BaseException) -> None:
    from rnnjax.tasks import imdb

    place.raises(imdb, "find_corpus", error)


RESUME_IMDB, RESUME_CHAR = "train --resume --workdir {path}/imdb", "train --resume --workdir {path}/char"
PREDICT, GENERATE = "predict --text fine --workdir {path}/imdb", "generate --length 3 --workdir {path}/char"
NEW_IMDB, NEW_CHAR = f"{IMDB} {{path}}/new", f"{CHAR} {{path}}/new"
DEEP = "[" * 100_000
FAULTS = {
    # Data
    "data changed": Fault(
        RESUME_CHAR,
        ("--resume: expected the data", "changed", "data.txt"),
        lambda place: place.data.with_suffix(".txt").write_text("Something else. " * 99),
    ),
    "labels changed": Fault(
        RESUME_IMDB,
        ("--resume: expected the data", "changed", "data.csv"),
        lambda place: place.data.with_suffix(".csv").write_text("text,label\na,x\nb,y\nc,x\nd,y\n"),
    ),
    "data gone": Fault(
        RESUME_CHAR, ("data.txt", "no such file"), lambda place: place.data.with_suffix(".txt").unlink()
    ),
    "labels gone": Fault(
        RESUME_IMDB, ("data.csv", "no such file"), lambda place: place.data.with_suffix(".csv").unlink()
    ),
    "data are a folder now": Fault(
        RESUME_CHAR,
        ("data.txt", "got a folder"),
        lambda place: (place.data.with_suffix(".txt").unlink(), place.data.with_suffix(".txt").mkdir()),
    ),
    "data are in another encoding now": Fault(
        RESUME_CHAR, ("UTF-8", "0xff"), lambda place: place.data.with_suffix(".txt").write_bytes(b"caf\xff" * 99)
    ),
    "data are a circle of links": Fault(
        "train --task imdb --dataset {path}/circle.csv",
        ("circle.csv", "cannot be read"),
        lambda place: (place.path / "circle.csv").symlink_to("circle.csv"),
    ),
    "data are encoded otherwise": Fault(
        RESUME_IMDB,
        ("--resume: expected data that are encoded as",),
        lambda place: place.info(place.imdb, max_length=7),
    ),
    "data of TFDS gone": Fault(
        RESUME_CHAR,
        ("--dataset tfds", "cannot be reached", "--data-dir"),
        lambda place: (
            place.edit(place.char / "config.json", dataset="tiny_shakespeare"),
            place.setting(place.char, dataset="auto"),
        ),
    ),
    "data whose name holds a NUL": Fault(
        RESUME_CHAR, ("cannot be read",), lambda place: place.setting(place.char, dataset="a\0b")
    ),
    # What a run holds
    "no whole checkpoint to resume": Fault(
        RESUME_IMDB,
        ("--resume: expected a whole checkpoint in {path}/imdb/checkpoints", "--overwrite"),
        lambda place: [(path / "manifest.json").unlink() for path in place.checkpoints(place.imdb)],
    ),
    "empty checkpoints to resume": Fault(
        RESUME_CHAR,
        ("--resume: expected a whole checkpoint in {path}/char/checkpoints",),
        lambda place: [(shutil.rmtree(path), path.mkdir()) for path in place.checkpoints(place.char)],
    ),
    "checkpoints of another task to resume": Fault(
        RESUME_IMDB,
        ("{path}/imdb/config.json", "shape"),
        lambda place: (
            shutil.rmtree(place.imdb / "checkpoints"),
            shutil.copytree(place.char / "checkpoints", place.imdb / "checkpoints"),
        ),
    ),
    "checkpoints of another task to predict with": Fault(
        PREDICT,
        ("{path}/imdb/config.json", "shape"),
        lambda place: (
            shutil.rmtree(place.imdb / "checkpoints"),
            shutil.copytree(place.char / "checkpoints", place.imdb / "checkpoints"),
        ),
    ),
    "progress that is none": Fault(
        RESUME_IMDB, ("{path}/imdb/config.json", "speed"), lambda place: resign(place, place.imdb, '{"speed": 3}')
    ),
    "vocabulary of another task": Fault(
        PREDICT,
        ("{path}/imdb", "tokenizer.json", "characters"),
        lambda place: shutil.copy(place.char / "tokenizer.json", place.imdb / "tokenizer.json"),
    ),
    "vocabulary of another run": Fault(
        GENERATE,
        ("{path}/char", "tokenizer.json has 2 characters"),
        lambda place: place.edit(place.char / "tokenizer.json", model={"type": "Characters", "characters": "ab"}),
    ),
    "vocabulary too deep": Fault(
        GENERATE, ("{path}/char/tokenizer.json",), lambda place: (place.char / "tokenizer.json").write_text(DEEP)
    ),
    "configuration too deep": Fault(
        GENERATE, ("{path}/char/config.json",), lambda place: (place.char / "config.json").write_text(DEEP)
    ),
    "configuration too deep to resume": Fault(
        RESUME_CHAR, ("{path}/char/config.json",), lambda place: (place.char / "config.json").write_text(DEEP)
    ),
    "a first character beyond the vocabulary": Fault(
        GENERATE, ("{path}/char/config.json", "first"), lambda place: place.info(place.char, first=1000)
    ),
    "no length of texts": Fault(
        PREDICT, ("{path}/imdb/config.json", "max_length"), lambda place: place.info(place.imdb, max_length=0)
    ),
    "more classes than there are": Fault(
        PREDICT, ("{path}/imdb/config.json", "shape"), lambda place: place.info(place.imdb, classes=["a", "b", "c"])
    ),
    "classes that are none": Fault(
        PREDICT, ("{path}/imdb/config.json",), lambda place: place.info(place.imdb, classes=3)
    ),
    "a vocabulary of less than nothing": Fault(
        PREDICT, ("{path}/imdb/config.json",), lambda place: place.info(place.imdb, vocabulary_size=-3)
    ),
    "killed before its configuration, to resume": Fault(
        RESUME_IMDB,
        ("{path}/imdb", "holds no config.json", "--overwrite"),
        lambda place: (place.imdb / "config.json").unlink(),
    ),
    "killed before its configuration": Fault(
        IMDB + " {path}/imdb",
        ("{path}/imdb", "holds one", "Add --overwrite."),
        lambda place: (place.imdb / "config.json").unlink(),
    ),
    "configuration is a folder, overwritten": Fault(
        IMDB + " {path}/imdb --overwrite",
        ("--workdir {path}/imdb", "expected a folder that can be written"),
        lambda place: ((place.imdb / "config.json").unlink(), (place.imdb / "config.json").mkdir()),
    ),
    # Two at a time
    "another resumes": Fault(
        RESUME_IMDB, ("--workdir {path}/imdb", f"process {os.getpid()} on"), lambda place: place.held(place.imdb)
    ),
    "another is overwritten": Fault(
        IMDB + " {path}/imdb --overwrite",
        ("--workdir {path}/imdb", f"process {os.getpid()} on"),
        lambda place: place.held(place.imdb),
    ),
    "another is started again": Fault(
        CHAR + " {path}/char",
        ("--workdir {path}/char", f"process {os.getpid()} on"),
        lambda place: place.held(place.char),
    ),
    "another that starts now": Fault(
        NEW_CHAR,
        ("--workdir {path}/new", f"process {os.getpid()} on"),
        lambda place: ((place.path / "new").mkdir(), place.held(place.path / "new")),
    ),
    "a lock that is a folder": Fault(
        RESUME_IMDB,
        ("--workdir {path}/imdb", "expected a folder that can be written"),
        lambda place: (place.imdb / ".lock").mkdir(),
    ),
    # Disks
    "read-only": Fault(f"{IMDB} {{path}}/ro/new", ("{path}/ro/new", "can be written"), Place.read_only),
    "read-only, resumed": Fault(
        "train --resume --workdir {path}/ro/imdb", ("{path}/ro/imdb", "can be written"), Place.read_only
    ),
    "read-only, overwritten": Fault(
        f"{IMDB} {{path}}/ro/imdb --overwrite", ("{path}/ro/imdb", "can be written"), Place.read_only
    ),
    "read-only, converted to": Fault(
        "convert {path}/imdb {path}/ro/model.keras", ("{path}/ro/model.keras", "can be written"), Place.read_only
    ),
    "full as it starts": Fault(
        f"{IMDB} {{path}}/full/new", ("{path}/full/new", "No space left on device", "Make room"), Place.full, 1
    ),
    "full at a checkpoint, as the disk says": Fault(
        NEW_IMDB,
        ("{path}/new/checkpoints", "No space left on device", "--resume"),
        lambda place: place.patch.setattr(checkpoint, "SPARE_BYTES", 1 << 60),
        1,
    ),
    "full at a line of metrics": Fault(
        f"{IMDB} {{path}}/full/new",
        ("{path}/full/new/metrics.jsonl", "No space left on device", "--resume"),
        full_after_start,
        1,
    ),
    "full as it is resumed": Fault(
        "train --resume --workdir {path}/full/imdb", ("{path}/full/imdb", "No space left on device"), Place.full, 1
    ),
    "full, converted to": Fault(
        "convert {path}/imdb {path}/full/model.keras",
        ("{path}/full/model.keras", "No space left on device"),
        lambda place: (pytest.importorskip("h5py"), place.full()),
        1,
    ),
    # The run itself
    "diverged": Fault(
        NEW_IMDB + " --learning-rate 1e38 --clip-norm 0 --cell simple", ("became", "--learning-rate"), status=1
    ),
    "out of memory": Fault(
        NEW_IMDB, ("out of memory", "--batch-size"), lambda place: task_fails(place, MemoryError()), 1
    ),
    "Ctrl-C while data are read": Fault(
        NEW_IMDB, ("stopped by SIGINT",), lambda place: task_fails(place, KeyboardInterrupt()), 130
    ),
    "SIGTERM while data are downloaded": Fault(
        NEW_IMDB, ("stopped by SIGTERM",), lambda place: task_fails(place, Interrupted(signal.SIGTERM)), 143
    ),
    "Ctrl-C in an epoch": Fault(
        NEW_CHAR,
        ("stopped by SIGINT", "a checkpoint is saved"),
        lambda place: place.signalled(signal.SIGINT, "train_epoch"),
        130,
    ),
    "SIGTERM at the end of an epoch": Fault(
        NEW_IMDB,
        ("stopped by SIGTERM", "a checkpoint is saved"),
        lambda place: place.signalled(signal.SIGTERM, "finish_epoch"),
        143,
    ),
    # Names and numbers
    "a name of two lines": Fault("train --resume --workdir {path}/a\nb", ("{path}/a b: expected a run folder",)),
    "a name that rings": Fault("train --resume --workdir {path}/a\a\x1b[31m", (r"{path}/a\x07\x1b[31m: expected",)),
    "a name that is not UTF-8": Fault(
        f"predict --text x --workdir {{path}}/{os.fsdecode(bytes([255]))}", (r"{path}/\udcff: expected a run folder",)
    ),
    "data of two lines": Fault("train --task imdb --dataset {path}/a\nb.csv", ("a b.csv", "no such file")),
    "no name": Fault("train --task char --workdir ", ("--workdir: expected the name of a folder; got ''",)),
    "no name to generate from": Fault("generate --workdir ", ("--workdir: expected the name of a folder",)),
    "no name to predict from": Fault("predict --workdir ", ("--workdir: expected the name of a folder",)),
    "no name of data": Fault("train --task imdb --dataset ", ("--dataset: expected the name of a file or folder",)),
    "no name of vectors": Fault("train --task imdb --vectors ", ("--vectors: expected the name of a file or folder",)),
    "layers beyond counting": Fault("train --task char --layers 1000000000", ("--layers", "at most 100")),
    "a window beyond counting": Fault("train --task char --window 99999999999", ("--window", "at most")),
    "a length beyond counting": Fault(GENERATE + " --length 99999999999999", ("--length", "at most")),
    "samples beyond counting": Fault(GENERATE + " --num-samples 99999999999999", ("--num-samples", "at most")),
    "more digits than are read": Fault(f"train --task imdb --units {'9' * 5000}", ("--units", "whole number")),
    "a mistyped option": Fault("train --task imdb --learningrate 1", ("Did you mean --learning-rate?",)),
    "a mistyped task": Fault("train --task imbd", ("'imbd'", "Did you mean imdb?")),
    "a mistyped command": Fault("generat", ("'generat'", "Did you mean generate?")),
    "runs is a file": Fault(
        "train --task char --text {data}.txt --units 4",
        ("runs is a file",),
        lambda place: (place.path / "runs").write_text(""),
    ),
    "runs lead to nowhere": Fault(
        f"{CHAR} {{path}}/link", ("{path}/link", "File exists"), lambda place: (place.path / "link").symlink_to("gone")
    ),
}  # fmt: skip


def resign(place: Place, run: Path, progress: str) -> None:
    """Other progress in each checkpoint, with a manifest that agrees."""
    for path in place.checkpoints(run):
        (path / "progress.json").write_text(progress)
        place.edit(path / "manifest.json", **{"progress.json": hashlib.sha256(progress.encode()).hexdigest()})


@pytest.fixture
def place(
    tmp_path: Path, shelf: Path, imdb_run: Path, char_run: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    with contextlib.ExitStack() as stack:
        place = Place(tmp_path, monkeypatch, stack)
        for run, copy, name in ((imdb_run, place.imdb, "two.csv"), (char_run, place.char, "text.txt")):
            shutil.copytree(run, copy)
            (copy / "results.json").unlink()
            data = place.data.with_suffix(Path(name).suffix)
            shutil.copy(shelf / name, data)
            place.edit(copy / "config.json", dataset=str(data))
            place.setting(copy, dataset=str(data))
        monkeypatch.chdir(tmp_path)
        yield place


def hashes(folder: Path) -> dict[str, str]:
    """Every file and folder, and what it holds."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize("name", FAULTS)
def test_fault(name: str, invoke: Any, place: Place) -> None:
    fault = FAULTS[name]
    fault.setup(place)
    before = hashes(place.path)
    ended = invoke(*(word.format(path=place.path, data=place.data) for word in fault.line.split(" ")))
    assert ended.status == fault.status, ended
    assert ended.out == ""
    *notices, line = ended.err.splitlines()
    assert line.startswith("rnnjax: ")
    assert not any(text.startswith("rnnjax: ") for text in notices)
    assert "Traceback" not in ended.err
    for words in fault.words:
        assert words.format(path=place.path) in line
    after = hashes(place.path)
    if fault.status == 2:
        assert notices == []
        assert after == before
    else:  # what was there before is as it was
        assert {path: after.get(path) for path in before} == before


def test_a_run_goes_on_when_there_is_room(invoke: Any, place: Place, imdb_run: Path) -> None:
    """A disk that was full costs nothing of what the run comes to."""
    disk = place.full(leave=1 << 19)
    line = [word.format(path=place.path, data=place.data) for word in IMDB.split()]
    line += [disk / "new", "--learning-rate", "0.05"]
    ended = invoke(*line)
    assert ended.status == 1
    assert ended.err.splitlines()[-1].startswith(f"rnnjax: {disk}/new/checkpoints: the checkpoint of step ")
    assert "No space left on device" in ended.err.splitlines()[-1]
    assert checkpoint.steps(disk / "new" / "checkpoints") == []
    (disk / "filler").unlink()
    ended = invoke("train", "--resume", "--workdir", disk / "new")
    assert ended.status == 0, ended.err
    whole = json.loads((imdb_run / "results.json").read_text())
    assert json.loads(ended.out)["parameters_sha256"] == whole["parameters_sha256"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a device that is always full")
@pytest.mark.parametrize(
    ("line", "status", "message"),
    [
        ("train.py --list >/dev/full", 1, "rnnjax: output: No space left on device; what was saved before is whole\n"),
        ("generate.py --workdir {char} --length 3 >/dev/full", 1, "rnnjax: output: No space left on device; "
         "what was saved before is whole\n"),
        ("train.py --task imbd 2>/dev/full", 2, ""),
    ],
)  # fmt: skip
def test_output_that_is_full(line: str, status: int, message: str, char_run: Path) -> None:
    command = f"{sys.executable} {ROOT}/{line}".format(char=char_run)
    ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (status, "", message)
