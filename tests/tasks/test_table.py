"""The table that `--list` shows agrees with the tasks."""

import dataclasses
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import rnnjax.tasks
from rnnjax.task import Task, TrainConfig
from rnnjax.tasks import PREDICTORS, TASKS


def test_table_names_every_module_and_no_other():
    folder = Path(rnnjax.tasks.__file__).parent
    assert {path.stem for path in folder.glob("*.py")} - {"__init__"} == set(TASKS)


@pytest.mark.parametrize("name", TASKS)
def test_task_agrees_with_the_table(name):
    module = importlib.import_module(f"rnnjax.tasks.{name}")
    task, entry = module.TASK, TASKS[name]
    assert isinstance(task, Task)
    assert task.name == name
    assert entry.kind in (*PREDICTORS, "language model", "regressor", "next frame")
    assert (task.prediction is not None) == (entry.kind in PREDICTORS)
    assert task.stateful or entry.kind != "language model"
    assert f"python train.py --task {name}\n" in module.__doc__
    expectation = re.search(r"Expect: +(.*)", module.__doc__)[1]
    assert expectation.startswith(entry.expected), "one number, said twice"
    assert "benchmarks/scores.json" in module.__doc__


@pytest.mark.parametrize("name", TASKS)
def test_settings_presets_and_aliases(name):
    task = importlib.import_module(f"rnnjax.tasks.{name}").TASK
    assert issubclass(task.config, TrainConfig)
    names = {field.name for field in dataclasses.fields(task.config)}
    task.config()
    for preset in task.presets.values():
        assert task.config(**preset) != task.config()
    assert set(task.aliases.values()) <= names
    assert not set(task.aliases) & names


def test_the_table_imports_nothing_heavy():
    code = "import sys, rnnjax.tasks; print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "rnnjax.tasks" in ended.stdout.split()
    assert not {"jax", "flax", "numpy", "tensorflow_datasets"} & set(ended.stdout.split())
