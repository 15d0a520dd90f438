"""Find run folders, and load what is in them."""

import datetime
import importlib
import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from rnnjax.cli.options import closest
from rnnjax.errors import InputError
from rnnjax.tasks import TASKS

if TYPE_CHECKING:
    from flax import linen as nn

    from rnnjax.task import Task, TrainConfig

RUNS = Path("runs")


class TrainedModel(NamedTuple):
    """A model from a run folder alone."""

    model: "nn.Module"
    params: Any
    vocabulary: Any
    """None where there is no text."""
    info: dict[str, Any]
    task: "Task"
    config: "TrainConfig"


def get_task(name: str) -> "Task":
    """Import a task.

    Raises:
        InputError: there is none of this name.
    """
    if name not in TASKS:
        raise InputError(
            f"--task: expected one of {', '.join(TASKS)}; got {name!r}.{closest(name, TASKS)} --list describes them."
        )
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
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
    if not found:
        raise InputError(
            f"--workdir: expected a folder, or {wanted} under {RUNS}/; found none. Train one: rnnjax train."
        )
    return max(found)[1]


def load_model(workdir: str | None, kinds: str | Collection[str], notify: Callable[[str], None]) -> TrainedModel:
    """The best model of a run folder, by default of the newest run of these kinds that has a checkpoint.

    Raises:
        InputError: no run, a run of another kind, or no whole checkpoint.
    """
    import jax

    from rnnjax.data.vocabulary import load_vocabulary
    from rnnjax.training import checkpoint
    from rnnjax.training.folder import RunFolder

    kinds = [kinds] if isinstance(kinds, str) else kinds
    wanted = " or ".join(f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}" for kind in kinds)
    if workdir is None:

        def is_trained(settings: dict[str, Any], path: Path) -> bool:
            return TASKS[settings["task"]].kind in kinds and bool(checkpoint.steps(RunFolder(path).checkpoints))

        workdir = str(newest(is_trained, f"a run of {wanted} with a checkpoint"))
        notify(f"using {workdir}")
    folder = RunFolder(workdir)
    settings = folder.read_config()
    task = get_task(settings["task"])
    kind = TASKS[task.name].kind
    if kind not in kinds:
        raise InputError(f"--workdir {workdir}: expected a run of {wanted}; it holds a run of {task.name}.")
    with folder.explain_config():
        config: TrainConfig = task.config(**settings["config"])
        model = task.build(config, settings["info"])
        example = task.example(settings["info"])
        arrays = (example["inputs"], task.keywords(example))
        shapes = jax.eval_shape(lambda x, more: model.init(jax.random.key(0), x, **more), *arrays)["params"]
        params = checkpoint.read_newest(folder.checkpoints, lambda path: checkpoint.restore_best(path, shapes), notify)
    if params is None:
        raise InputError(
            f"--workdir {workdir}: expected a whole checkpoint in {folder.checkpoints}; found none. Train it again."
        )
    has_text = kind in ("classifier", "language model") or folder.vocabulary.exists()
    vocabulary = load_vocabulary(folder.vocabulary) if has_text else None
    with folder.explain_config():
        check_fit(kind, settings["info"], vocabulary)
    return TrainedModel(model, params, vocabulary, settings["info"], task, config)


def check_fit(kind: str, info: dict[str, Any], vocabulary: Any) -> None:
    """Hold what the commands read of `info` against their needs, and a vocabulary against both.

    Raises:
        ValueError, KeyError, InputError: they do not fit.
    """
    from rnnjax.data.vocabulary import CharacterVocabulary, WordVocabulary
    from rnnjax.task import Bounds, Count, check_value

    if kind not in ("classifier", "language model"):
        return
    size, is_of_characters = len(vocabulary), isinstance(vocabulary, CharacterVocabulary)
    if info["vocabulary_size"] != size or isinstance(vocabulary, WordVocabulary) != (kind == "classifier"):
        raise ValueError(
            f"tokenizer.json has {size} {'characters' if is_of_characters else 'words'}: that of another run"
        )
    if kind == "language model":
        check_value("first", Annotated[int, Bounds(0, size - 1)], info["first"])
    else:
        check_value("max_length", Count, info["max_length"])
