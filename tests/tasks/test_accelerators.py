"""Every task's steps, and the sampler, are lowered for GPU and TPU, so that nothing gets in that only a CPU can do."""

from typing import Any, get_args, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.cli.runs import get_task
from rnnjax.sampling import PROMPT_CHUNK, Sampler
from rnnjax.tasks import TASKS
from rnnjax.training.optimizer import make_optimizer
from rnnjax.training.step import (
    dropout_key,
    initial_train_state,
    make_evaluation_step,
    make_train_step,
)

PLATFORMS = ("cuda", "tpu")


def lower(function: Any, *arguments: Any, **keywords: Any) -> None:
    """Export `function` for each platform; raises for what one does not have or cannot load."""
    for platform in PLATFORMS:
        exported = jax.export.export(function, platforms=[platform])(*arguments, **keywords)
        assert exported.platforms == (platform,)
        assert exported.mlir_module_serialized


def cases() -> list[tuple[str, dict[str, Any]]]:
    """Each task with each of its cells and models, and in each precision."""
    found = []
    for name in TASKS:
        kinds = get_type_hints(get_task(name).config)
        found += [
            (name, {option: choice})
            for option in ("cell", "model", "precision")
            for choice in get_args(kinds.get(option))
        ]
    return [*found, ("mnist", {"shift": 1})]


@pytest.mark.parametrize(("name", "settings"), cases(), ids=str)
def test_steps(name: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnnjax.tasks.imdb.BUILTIN_EXAMPLES", 60)
    monkeypatch.setattr("rnnjax.tasks.mnist.BUILTIN_EXAMPLES", 60)
    task = get_task(name)
    config = task.config(dataset="builtin", **settings)
    splits = task.load(config)
    model, optimizer = task.build(config, splits.info), make_optimizer(config, 9)
    batch = splits.train.training_epoch(0, 1, config.batch_size)[0]

    def start() -> Any:
        return initial_train_state(model, config, optimizer, batch, task.stateful, keywords=task.keywords(batch))

    state = jax.eval_shape(start)
    lower(jax.jit(start))
    lower(make_train_step(model, task, config, optimizer), state, batch, dropout_key(0))
    held_out = splits.validation.evaluation(config.batch_size)[0]
    carry = jax.eval_shape(lambda: model.initial_state(len(held_out["inputs"]))) if task.stateful else None
    lower(make_evaluation_step(model, task), state.params, held_out, carry)


@pytest.mark.parametrize("options", [{}, {"temperature": 0.0}, {"top_k": 3, "top_p": 0.9}])
def test_sampler(options: dict[str, Any]) -> None:
    task = get_task("char")
    model = task.build(task.config(layers=2), {"vocabulary_size": 7})
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1), jnp.int32))["params"]
    sampler = Sampler(model, params, **options)
    one, three = (jax.eval_shape(lambda size=size: model.initial_state(size)) for size in (1, 3))
    prompt = np.zeros((1, PROMPT_CHUNK), np.int32)
    lower(sampler._read, sampler.variables, one, prompt, np.ones(1, np.int32))
    logits = jax.ShapeDtypeStruct((3, 7), jnp.float32)
    lower(sampler._draw, sampler.variables, three, logits, jax.random.split(jax.random.key(0), 3), 0, num_steps=5)


def test_what_only_this_process_can_do_is_found() -> None:
    def through_python(x: Any) -> Any:
        return jax.pure_callback(lambda x: x, jax.ShapeDtypeStruct((2,), jnp.float32), x)

    with pytest.raises(Exception, match="cpu is different from the lowering platform cuda"):
        lower(jax.jit(through_python), jnp.zeros(2))
