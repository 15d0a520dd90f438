"""The run folder: what lies where, and what is read back from it."""

import datetime
import json
import os
import platform
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import rnnjax
from rnnjax import atomic
from rnnjax.errors import InputError

TRACKED_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


class RunFolder:
    """Files of one run. A folder holds a run once it has a `config.json`, which is written after all that it needs."""

    def __init__(self, path: str | Path) -> None:
        """Name a folder; nothing is read or made."""
        self.path = Path(path)
        self.config = self.path / "config.json"
        self.vocabulary = self.path / "tokenizer.json"
        self.metrics = self.path / "metrics.jsonl"
        self.plot = self.path / "history.png"
        self.checkpoints = self.path / "checkpoints"
        self.results = self.path / "results.json"

    @property
    def holds_run(self) -> bool:
        """Whether a run was started here."""
        return self.config.exists()

    @property
    def is_finished(self) -> bool:
        """Whether the run here went to its end."""
        return self.results.exists()

    def check_writable(self) -> None:
        """Raise InputError where this folder could not be made or written, without making it."""
        parent = self.path
        while not parent.exists() and parent != parent.parent:
            parent = parent.parent
        if not parent.is_dir():
            raise InputError(f"--workdir {self.path}: expected a folder; {parent} is a file. Name another folder.")
        if not os.access(parent, os.W_OK | os.X_OK):
            raise InputError(
                f"--workdir {self.path}: expected a folder that can be written; {parent} cannot. Name another."
            )

    def start(self, settings: Mapping[str, Any], vocabulary: Any) -> None:
        """Make the folder, clear away an earlier run, and write what a run starts with.

        Raises:
            InputError: the folder cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._clear()
            vocabulary.save(self.vocabulary)
            atomic.write_text(self.config, json.dumps(settings, indent=2) + "\n")
        except OSError as error:
            raise InputError(
                f"--workdir {self.path}: expected a folder that can be written; {error.strerror}. Name another."
            ) from error

    def _clear(self) -> None:
        # The configuration goes first: without it what is left is no run, should this be cut short.
        for file in (self.config, self.results, self.metrics, self.plot, self.vocabulary):
            file.unlink(missing_ok=True)
        if self.checkpoints.exists():
            shutil.rmtree(self.checkpoints)

    def read_config(self) -> dict[str, Any]:
        """What `start` wrote.

        Raises:
            InputError: there is no run here, or its configuration cannot be read.
        """
        if not self.path.is_dir():
            raise InputError(f"--workdir {self.path}: expected a run folder; there is no such folder. Train one first.")
        if not self.holds_run:
            raise InputError(f"--workdir {self.path}: expected a run folder; it holds no config.json. Train one first.")
        try:
            settings = json.loads(self.config.read_text(encoding="utf-8"))
            if not {"task", "config", "info", "dataset", "fingerprint"} <= set(settings):
                raise ValueError("keys are missing")
        except (OSError, ValueError, TypeError) as error:
            raise InputError(
                f"{self.config}: expected the configuration of a run; cannot read it ({error})."
            ) from error
        return settings

    def append_metrics(self, record: Mapping[str, Any]) -> None:
        """Add one line to metrics.jsonl; it is on its way to the disk when this returns."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def cut_metrics(self, step: int) -> None:
        """Drop lines past `step`, and a last line that a kill tore."""
        if not self.metrics.exists():
            return
        kept = []
        for line in self.metrics.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict) and record.get("step", 0) <= step:
                kept.append(line + "\n")
        atomic.write_text(self.metrics, "".join(kept))


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
