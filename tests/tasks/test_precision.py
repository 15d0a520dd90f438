"""With --precision bfloat16 the operands of every matrix product are bfloat16, and nothing else is."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.cli.runs import get_task
from rnnjax.errors import InputError
from rnnjax.training.optimizer import make_optimizer
from rnnjax.training.step import (
    dropout_key,
    initial_train_state,
    make_evaluation_step,
    make_train_step,
)

INFO = {"vocabulary_size": 7, "num_words": 6, "classes": ["no", "yes"], "max_length": 5}
SMALL = {"units": 4, "embedding": 3, "batch_size": 2}
TENSOR = r"tensor<(?:\d+x)*([a-z]+\d+)>"
PRODUCT = re.compile(rf"stablehlo\.dot_general .* : \({TENSOR}, {TENSOR}\) -> {TENSOR}")
CASES = [
    ("imdb", {"model": "single", "cell": "lstm"}),
    ("imdb", {"model": "stacked", "cell": "simple"}),
    ("imdb", {"model": "bidirectional", "cell": "gru"}),
    ("imdb", {"model": "bidirectional", "pooling": "max", "output_dropout": 0.5}),
    ("imdb", {"model": "cnn", "filters": 4}),
    ("imdb", {"model": "cnn_lstm", "filters": 4}),
    ("imdb", {"model": "fasttext"}),
    ("imdb", {"model": "single", "ngrams": 2}),
    ("char", {"cell": "lstm", "layers": 2}),
    ("char", {"cell": "gru", "embedding": 0}),
]


def make(name, **settings):
    """Configuration, model, optimizer and batch of a small run."""
    task = get_task(name)
    config = task.config(**{**SMALL, **settings})
    draw = np.random.default_rng(0)
    batch = {"inputs": draw.integers(1, 7, size=(2, 5), dtype=np.int32)}
    if task.stateful:
        batch |= {"targets": draw.integers(7, size=(2, 5), dtype=np.int32), "weight": np.ones((2, 5), np.float32)}
    else:
        batch |= {"lengths": np.array([5, 3], np.int32), "labels": np.array([0, 1]), "weight": np.ones(2, np.float32)}
    model, optimizer = task.build(config, INFO), make_optimizer(config, 9)
    return task, config, model, optimizer, batch


@pytest.mark.parametrize(("name", "settings"), CASES)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_operands_of_every_product(name, settings, precision):
    task, config, model, optimizer, batch = make(name, precision=precision, **settings)
    state = jax.eval_shape(lambda: initial_train_state(model, config, optimizer, batch, task.stateful))
    short = {"float32": "f32", "bfloat16": "bf16"}[precision]
    train, evaluation = make_train_step(model, task, config, optimizer), make_evaluation_step(model, task)
    for lowered in (train.lower(state, batch, dropout_key(0)), evaluation.lower(state.params, batch, state.carry)):
        text = lowered.as_text()
        products = PRODUCT.findall(text)
        assert len(products) == text.count("stablehlo.dot_general") > 0
        assert set(products) == {(short, short, "f32")}
    after, sums = jax.eval_shape(train, state, batch, dropout_key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves((after, sums))} <= {jnp.dtype("float32"), jnp.dtype("int32")}
    assert jax.tree.map(lambda leaf: leaf.dtype, after) == jax.tree.map(lambda leaf: leaf.dtype, state)


def test_a_step_differs_by_the_rounding_of_operands_alone():
    results = {}
    for precision in ("float32", "bfloat16"):
        task, config, model, optimizer, batch = make("imdb", precision=precision, units=16, embedding=16)
        params = initial_train_state(model, config, optimizer, batch, False).params
        params = jax.tree.map(lambda leaf: leaf * 3, params)

        def objective(params, model=model, batch=batch, task=task):
            logits = model.apply({"params": params}, batch["inputs"], lengths=batch["lengths"])
            return task.loss(logits, batch)["loss"][0]

        gradients = jax.jit(jax.grad(objective))(params)
        results[precision] = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(gradients)])
    difference = np.linalg.norm(results["bfloat16"] - results["float32"]) / np.linalg.norm(results["float32"])
    assert 1e-4 < difference < 2**-7  # bfloat16 has eight significant bits


def test_it_is_float32_unless_it_is_asked_for():
    for name in ("imdb", "char"):
        config = get_task(name).config()
        assert (config.precision, config.matmul_dtype) == ("float32", None)
    with pytest.raises(InputError, match=r"--precision: expected one of float32, bfloat16; got 'float16'"):
        get_task("imdb").config(precision="float16")
