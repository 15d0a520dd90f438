"""The run folder: what lies where, and what is read back from it."""

import contextlib
import datetime
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
from rnnjax.errors import InputError

TRACKED_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "regex")
CONFIG_KEYS = {"task": str, "config": dict, "info": dict, "dataset": str, "fingerprint": str, "environment": dict}
"""What config.json must hold to be used, and of which types."""


class RunFolder:
    """Files of one run; `config.json` is written last of those that a run starts with."""

    def __init__(self, path: str | Path) -> None:
        """Name a folder; nothing is read or made."""
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
        """Whether the run here went to its end."""
        return self.results.exists()

    def check_new(self, overwrite: bool) -> None:
        """Hold this folder, without making it, against what a run that starts needs.

        Raises:
            InputError: it holds a run and `overwrite` is not asked for, or it cannot be made or written.
        """
        with self._explain():
            if self.holds_run and not overwrite:
                raise InputError(
                    f"--workdir {self.path}: expected a folder without a run; it holds one. "
                    "Add --resume or --overwrite."
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

    @classmethod
    def claim(cls, path: str | Path) -> "RunFolder":
        """Make a folder of this name or, where there is one (a run that began at the same time), `path-2` and so on."""
        folder = cls(path)
        for number in itertools.count(2):
            with folder._explain():
                folder.path.parent.mkdir(parents=True, exist_ok=True)
                try:
                    folder.path.mkdir()
                    return folder
                except FileExistsError:
                    folder = cls(f"{path}-{number}")
        raise AssertionError

    def start(self, settings: Mapping[str, Any], vocabulary: Any, overwrite: bool) -> None:
        """Make the folder, with `overwrite` clear away an earlier run, and write what a run starts with.

        Raises:
            InputError: the folder cannot be written, or holds a run that is not to be written over.
        """
        self.check_new(overwrite)  # again: another run may have started here while the data were read
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
        if self.checkpoints.exists():  # which may be a link to another disk
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
                raise InputError(
                    f"--workdir {self.path}: expected a run folder; it holds no config.json. Train one first."
                )
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
        except (InputError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(
                f"{self.config}: expected the configuration of a run; cannot use it ({type(error).__name__}: {error}). "
                "Restore it, or train again."
            ) from error

    def append_metrics(self, record: Mapping[str, Any]) -> None:
        """Add one line to metrics.jsonl; it is on its way to the disk when this returns."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def cut_metrics(self, step: int) -> None:
        """Drop lines past `step`, and a last line that a kill tore; of the diagnosis too."""
        for path in (self.metrics, self.diagnosis):
            if path.exists():
                self._cut(path, step)

    def _cut(self, path: Path, step: int) -> None:
        kept = []
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict) and record.get("step", 0) <= step:
                kept.append(line + "\n")
        atomic.write_text(path, "".join(kept))


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
