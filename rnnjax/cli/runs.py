"""Find run folders, and load what is in them."""

import datetime
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rnnjax.errors import InputError
from rnnjax.tasks import TASKS

if TYPE_CHECKING:
    from flax import linen as nn

    from rnnjax.task import Task

RUNS = Path("runs")


class TrainedModel(NamedTuple):
    """A model from a run folder alone."""

    model: "nn.Module"
    params: Any
    vocabulary: Any
    info: dict[str, Any]


def get_task(name: str) -> "Task":
    """Import a task.

    Raises:
        InputError: there is none of this name.
    """
    if name not in TASKS:
        raise InputError(f"--task: expected one of {', '.join(TASKS)}; got {name!r}. --list describes them.")
    task: Task = importlib.import_module(f"rnnjax.tasks.{name}").TASK
    return task


def newest(accept: Callable[[dict[str, Any], Path], bool], wanted: str) -> Path:
    """The run under runs/ that was started last, among those whose config.json and folder `accept` takes.

    Raises:
        InputError: there is none.
    """
    found = []
    for path in RUNS.glob("**/config.json"):
        try:
            settings = json.loads(path.read_text(encoding="utf-8"))
            if settings["task"] in TASKS and accept(settings, path.parent):
                found.append((datetime.datetime.fromisoformat(settings["created"]).astimezone(), path.parent))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    if not found:
        raise InputError(
            f"--workdir: expected a folder, or {wanted} under {RUNS}/; found none. Train one: rnnjax train."
        )
    return max(found)[1]


def load_model(workdir: str | None, kind: str, notify: Callable[[str], None]) -> TrainedModel:
    """The best model of a run folder, by default of the newest run of this kind that has a checkpoint.

    Raises:
        InputError: no run, a run of another kind, or no whole checkpoint.
    """
    import jax
    import jax.numpy as jnp

    from rnnjax.data.vocabulary import load_vocabulary
    from rnnjax.task import TrainConfig
    from rnnjax.training import checkpoint
    from rnnjax.training.folder import RunFolder

    if workdir is None:

        def is_trained(settings: dict[str, Any], path: Path) -> bool:
            return TASKS[settings["task"]].kind == kind and bool(checkpoint.steps(RunFolder(path).checkpoints))

        workdir = str(newest(is_trained, f"a run of a {kind} with a checkpoint"))
        notify(f"using {workdir}")
    folder = RunFolder(workdir)
    settings = folder.read_config()
    task = get_task(settings["task"])
    if TASKS[task.name].kind != kind:
        raise InputError(f"--workdir {workdir}: expected a run of a {kind}; it holds a run of {task.name}.")
    with folder.explain_config():
        config: TrainConfig = task.config(**settings["config"])
        model = task.build(config, settings["info"])
        tokens = jax.ShapeDtypeStruct((1, 1), jnp.int32)
        shapes = jax.eval_shape(model.init, jax.random.key(0), tokens)["params"]
    path = checkpoint.newest_whole(folder.checkpoints, notify)
    if path is None:
        raise InputError(
            f"--workdir {workdir}: expected a whole checkpoint in {folder.checkpoints}; found none. Train it again."
        )
    vocabulary = load_vocabulary(folder.vocabulary)
    with folder.explain_config():
        return TrainedModel(model, checkpoint.restore_best(path, shapes), vocabulary, settings["info"])
