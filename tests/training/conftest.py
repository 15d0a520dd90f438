"""Tiny runs in this process."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rnnjax.cli.runs import get_task
from rnnjax.training.devices import Devices
from rnnjax.training.folder import RunFolder, run_settings
from rnnjax.training.loop import Run
from rnnjax.training.signals import StopRequest

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
TEXT = "".join(f"{WORDS[i * i % 10]} and {WORDS[i % 7]}, not {WORDS[i % 3]}. " for i in range(40))
SETTINGS = {
    "imdb": {"max_length": 6, "batch_size": 8, "units": 4, "embedding": 4, "epochs": 4, "learning_rate": 0.02},
    "char": {"window": 8, "batch_size": 6, "units": 5, "embedding": 4, "epochs": 4, "learning_rate": 0.02},
    "adding": {"length": 5, "batch_size": 16, "units": 4, "epochs": 4, "learning_rate": 0.02},
}


class StopAfter(StopRequest):
    """A request that comes with the given step, as a signal would."""

    def __init__(self, run: Run, step: int | None) -> None:
        super().__init__()
        train_step = run.train_step

        def counted(state: Any, batch: Any, key: Any) -> Any:
            after = train_step(state, batch, key)
            if step is not None and int(after[0].step) == step:
                self.number = 15
            return after

        run.train_step = counted


@pytest.fixture(autouse=True)
def _no_cache(no_cache: None) -> None:
    """For all tests of this folder."""


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A data file for each task, but for what is generated."""
    monkeypatch.setattr("rnnjax.tasks.adding.TRAIN_EXAMPLES", 64)
    monkeypatch.setattr("rnnjax.tasks.adding.HELD_OUT", {"validation": 20, "test": 20})
    rows = [
        f"{WORDS[i % 10]} {WORDS[i * 3 % 7]} {WORDS[i * i % 5]},{'even' if i % 10 % 2 else 'odd'}" for i in range(46)
    ]
    (tmp_path / "data.csv").write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    (tmp_path / "data.txt").write_text(TEXT, encoding="utf-8")
    return {"imdb": tmp_path / "data.csv", "char": tmp_path / "data.txt", "adding": "builtin"}


@pytest.fixture
def make_run(data: dict[str, Any], tmp_path: Path) -> Callable[..., Run]:
    """A run of a task in a folder of this name, which is started unless there is one."""

    def make(name: str, folder: str = "run", devices: Devices | None = None, **settings: Any) -> Run:
        task = get_task(name)
        config = task.config(**{"dataset": str(data[name]), "patience": 0, **SETTINGS[name], **settings})
        splits = task.load(config)
        run_folder = RunFolder(tmp_path / folder)
        if not run_folder.holds_run:
            described = run_settings(name, dataclasses.asdict(config), splits.info, splits.dataset, splits.fingerprint)
            run_folder.start(described, splits.vocabulary, overwrite=False)
        return Run(task, config, splits, run_folder, devices)

    return make


@pytest.fixture
def stop_after() -> type[StopAfter]:
    """A stop request at a step."""
    return StopAfter
