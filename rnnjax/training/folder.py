"""The run folder: what lies where, and what is read back from it."""

import contextlib
import datetime
import errno
import itertools
import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import rnnjax
from rnnjax import atomic
from rnnjax.errors import InputError, RunError
from rnnjax.training import lock

TRACKED_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "regex")
CONFIG_KEYS = {"task": str, "config": dict, "info": dict, "dataset": str, "fingerprint": str, "environment": dict}
"""What config.json must hold to be used, and of which types."""
Kinds = Mapping[str, type | tuple[type, ...]]
METRICS_KEYS: Kinds = {"step": int, "epoch": int, "split": str, "seconds": (int, float)}
"""What stands in each line of metrics.jsonl beside the metrics."""
MISTAKES_KEYS: Kinds = {"label": str, "predicted": str, "probability": (int, float), "text": str}
"""What stands in each line of mistakes.jsonl."""


class RunFolder:
    """Files of one run; `config.json` is written last of those that a run starts with."""

    def __init__(self, path: str | Path) -> None:
        """Name a folder; nothing is read or made."""
        self._name(path)

    def _name(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.json"
        self.vocabulary = self.path / "tokenizer.json"
        self.metrics = self.path / "metrics.jsonl"
        self.plot = self.path / "history.png"
        self.diagnosis = self.path / "diagnosis.jsonl"
        self.diagnosis_plot = self.path / "diagnosis.png"
        self.checkpoints = self.path / "checkpoints"
        self.results = self.path / "results.json"
        self.group = self.path / "group.json"
        """The list of runs in folders within this one, instead of a run."""
        self.confusion = self.path / "confusion.png"
        self.mistakes = self.path / "mistakes.jsonl"
        self.tensorboard = self.path / "tensorboard"
        self.pictures = self.path / "pictures"
        """What a task draws of what its model does."""

    @property
    def holds_run(self) -> bool:
        """Whether there is a run here, or what is left of one whose `config.json` was lost: nothing to write over."""
        return any(
            path.exists()
            for path in [
                self.config,
                self.checkpoints,
                self.metrics,
                self.results,
                self.vocabulary,
                self.plot,
                self.group,
            ]
        )

    @property
    def is_finished(self) -> bool:
        """Whether the run here went to its end, and its results can be read: broken ones are written anew."""
        try:
            return isinstance(json.loads(self.results.read_text(encoding="utf-8")), dict)
        except (OSError, ValueError, RecursionError):
            return False

    def check_new(self, overwrite: bool) -> None:
        """Hold this folder, without making it, against what a run that starts needs.

        Raises:
            InputError: it holds a run and `overwrite` is not asked for, another process trains in it, or it cannot be
                made or written.
        """
        self.check_idle()
        self._check_new(overwrite)

    def check_idle(self) -> None:
        """Raise InputError where another process trains in this folder."""
        lock.check_free(self.path)

    def _check_new(self, overwrite: bool) -> None:
        with self._explain():
            if self.holds_run and not overwrite:
                options = "--resume or --overwrite" if self.config.exists() or self.group.exists() else "--overwrite"
                raise InputError(
                    f"--workdir {self.path}: expected a folder without a run; it holds one. Add {options}."
                )
            self.check_writable()

    def check_writable(self) -> None:
        """Raise InputError where this folder could not be made or written, without making it."""
        with self._explain():
            parent = self.path
            while not parent.exists() and parent != parent.parent:
                parent = parent.parent
        if not parent.is_dir():
            raise InputError(f"--workdir {self.path}: expected a folder; {parent} is a file. Name another folder.")
        if not os.access(parent, os.W_OK | os.X_OK):
            raise InputError(
                f"--workdir {self.path}: expected a folder that can be written; {parent} cannot. Name another."
            )

    def claim(self) -> None:
        """Make this folder or, where there is one (of a run that began at the same time), become `path-2` and so on."""
        path = self.path
        for number in itertools.count(2):
            with self._explain():
                self.path.parent.mkdir(parents=True, exist_ok=True)
                try:
                    self.path.mkdir()
                    return
                except FileExistsError:
                    self._name(f"{path}-{number}")

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Make the folder, and keep other processes from training in it (see `lock`).

        Raises:
            InputError: another process trains in it, or it cannot be made or written.
        """
        with contextlib.ExitStack() as stack:
            with self._explain():
                self.path.mkdir(parents=True, exist_ok=True)
                stack.enter_context(lock.held(self.path))
                atomic.remove_leftovers(self.path)
            yield

    def start(self, settings: Mapping[str, Any], vocabulary: Any, overwrite: bool) -> None:
        """Make the folder, with `overwrite` clear away an earlier run, and write what a run starts with.

        Raises:
            InputError: the folder cannot be written, or holds a run that is not to be written over.
        """
        self._check_new(overwrite)  # again: another run may have been here while the data were read
        with self._explain():
            self.path.mkdir(parents=True, exist_ok=True)
            self.clear()
            if vocabulary is not None:
                vocabulary.save(self.vocabulary)
            atomic.write_text(self.config, json.dumps(settings, indent=2) + "\n")

    @contextlib.contextmanager
    def _explain(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise _failed(self.path, error, "start again") from error
            raise InputError(
                f"--workdir {self.path}: expected a folder that can be written; {error.strerror or error}. "
                "Name another."
            ) from error

    def clear(self) -> None:
        """Delete the run that is here, and nothing else."""
        # The configuration goes first: without it what is left is no run, should this be cut short.
        texts = (self.config, self.results, self.metrics, self.vocabulary, self.group, self.diagnosis)
        for file in (*texts, self.plot, self.diagnosis_plot):
            file.unlink(missing_ok=True)
        for file in (self.confusion, self.mistakes):
            file.unlink(missing_ok=True)
        for folder in (self.tensorboard, self.pictures):
            shutil.rmtree(folder, ignore_errors=True)
        if not self.checkpoints.is_dir():
            self.checkpoints.unlink(missing_ok=True)
        else:  # or a link to one on another disk
            for entry in self.checkpoints.iterdir():
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()

    def read_config(self) -> dict[str, Any]:
        """What `start` wrote.

        Raises:
            InputError: there is no run here, or its configuration cannot be read.
        """
        try:
            if not self.path.is_dir():
                raise InputError(
                    f"--workdir {self.path}: expected a run folder; there is no such folder. Train one first."
                )
            if not self.config.exists():
                mend = "Start it again with --overwrite" if self.holds_run else "Train one first"
                raise InputError(f"--workdir {self.path}: expected a run folder; it holds no config.json. {mend}.")
        except OSError as error:
            raise InputError(
                f"--workdir {self.path}: expected a run folder; {error.strerror}. Name another."
            ) from error
        with self.explain_config():
            settings = json.loads(self.config.read_text(encoding="utf-8"))
            for name, kind in CONFIG_KEYS.items():
                if not isinstance(settings[name], kind):
                    raise ValueError(f"{name} is {settings[name]!r}")
        return settings

    @contextlib.contextmanager
    def explain_config(self) -> Iterator[None]:
        """Turn what a broken config.json leads to within into an InputError that names it."""
        try:
            yield
        except Exception as error:  # what is wrong in it shows as any of a dozen types, but not as these two
            if isinstance(error, MemoryError) or (
                isinstance(error, RuntimeError) and not isinstance(error, RecursionError)
            ):
                raise
            raise InputError(
                f"{self.config}: expected the configuration of a run; cannot use it ({type(error).__name__}: {error}). "
                "Restore it, or train again."
            ) from error

    def append_metrics(self, record: Mapping[str, Any]) -> None:
        """Add one line to metrics.jsonl; it is on its way to the disk when this returns."""
        with self.writing(self.metrics), self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def read_metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; errors as for `read_lines`."""
        return read_lines(self.metrics, METRICS_KEYS)

    def read_mistakes(self) -> list[dict[str, Any]]:
        """The lines of mistakes.jsonl, which only classifiers have; errors as for `read_lines`."""
        return read_lines(self.mistakes, MISTAKES_KEYS)

    def read_results(self) -> dict[str, Any] | None:
        """What results.json holds; None of a run that is not finished.

        Raises:
            InputError: it is broken.
        """
        if not self.results.exists():
            return None
        try:
            results = json.loads(self.results.read_text(encoding="utf-8"))
            if not isinstance(results, dict):
                raise ValueError(f"it is {type(results).__name__}")
        except (OSError, ValueError) as error:
            raise InputError(
                f"{self.results}: expected the results of a run; cannot use them ({error}). Restore the file, or "
                "remove it and --resume."
            ) from error
        return results

    @contextlib.contextmanager
    def writing(self, path: Path) -> Iterator[None]:
        """Turn a failure to write a file into a RunError that names it."""
        try:
            yield
        except OSError as error:
            raise _failed(path, error, "--resume") from error

    def cut_metrics(self, step: int) -> None:
        """Drop lines past `step`, and a last line that a kill tore; of the diagnosis too."""
        for path in (self.metrics, self.diagnosis):
            if path.exists():
                self._cut(path, step)

    def _cut(self, path: Path, step: int) -> None:
        kept = []
        with self.writing(path):
            for line in path.read_bytes().split(b"\n"):
                try:
                    record = json.loads(line)
                except (ValueError, RecursionError):
                    continue
                if isinstance(record, dict) and isinstance(record.get("step"), int) and record["step"] <= step:
                    kept.append(line + b"\n")
            atomic.write_bytes(path, b"".join(kept))


def _failed(path: Path, error: OSError, mend: str) -> RunError:
    return RunError(
        f"{path}: cannot be written ({error.strerror or error}); what was saved before is whole. Make room, and {mend}."
    )


def read_lines(path: Path, kinds: Kinds) -> list[dict[str, Any]]:
    """The objects in the whole lines of a file, each of which holds values of these kinds; none where there is no file.

    The last line may be torn, or still being written.

    Raises:
        InputError: another line is broken.
    """
    records = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1] if path.exists() else [], start=1):
        try:
            record = json.loads(line)
            for name, kind in kinds.items():
                if not isinstance(record[name], kind):
                    raise ValueError(f"{name} is {record[name]!r}")
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"{path}: expected an object with {', '.join(kinds)} in line {number}; cannot use it "
                f"({type(error).__name__}: {error}). Restore the file, or remove the line."
            ) from error
        records.append(record)
    return records


def run_settings(task: str, config: Mapping[str, Any], info: Mapping[str, Any], dataset: str, fingerprint: str) -> dict:
    """What config.json holds: all that rebuilds the model and the data, and where it ran."""
    import jax

    return {
        "task": task,
        "config": dict(config),
        "info": dict(info),
        "dataset": dataset,
        "fingerprint": fingerprint,
        "environment": environment(),
        "device": jax.devices()[0].device_kind,
        "created": datetime.datetime.now().astimezone().isoformat(),
    }


def environment() -> dict[str, Any]:
    """What, besides the settings, results depend on to the bit."""
    import jax

    return {
        "python": platform.python_version(),
        "packages": {"rnnjax": rnnjax.__version__} | {name: version(name) for name in TRACKED_PACKAGES},
        "platform": jax.default_backend(),
        "devices": jax.device_count(),
        "threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }
