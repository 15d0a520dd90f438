"""Parameters that start from given values, and those that stay, to the bit."""

import jax
import numpy as np
import optax
import pytest

import rnnjax
from rnnjax.losses import classification
from rnnjax.models.classifier import Classifier
from rnnjax.task import Task, TrainConfig
from rnnjax.training.named import keep, start_from, train_all_but
from rnnjax.training.optimizer import make_optimizer
from rnnjax.training.step import dropout_key, initial_train_state, make_train_step

NAMES = ("embedding/embedding",)
TASK = Task("test", TrainConfig, None, None, classification, frozen=lambda config: NAMES)
TABLE = np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32)
TABLE[0] = -0.0  # which an update of +0 would make +0


def model():
    return Classifier(9, 2, 4, rnnjax.GRU(3, return_sequences=False))


def batches():
    draw = np.random.default_rng(1)
    return [
        {
            "inputs": draw.integers(9, size=(6, 5), dtype=np.int32),
            "lengths": draw.integers(1, 6, size=6, dtype=np.int32),
            "labels": draw.integers(2, size=6, dtype=np.int32),
            "weight": np.ones(6, np.float32),
        }
        for _ in range(5)
    ]


def bits(array):
    return np.asarray(array).tobytes()


OPTIMIZERS = {
    "adam": lambda config: make_optimizer(config, 5, NAMES),
    "weight decay": lambda config: train_all_but(NAMES, optax.adamw(0.01, weight_decay=0.1)),
    "weight decay of all": lambda config: optax.adamw(0.01, weight_decay=0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_frozen_parameters_stay_to_the_bit_and_so_does_their_average(name):
    config = TrainConfig(ema_decay=0.9, clip_norm=1.0, learning_rate=0.05)
    optimizer = OPTIMIZERS[name](config)
    start = initial_train_state(model(), config, optimizer, batches()[0], False, initial={NAMES[0]: TABLE})
    before = jax.tree.map(np.array, start.params)
    assert bits(before["embedding"]["embedding"]) == TABLE.tobytes()
    if name != "weight decay of all":
        assert TABLE.shape not in [leaf.shape for leaf in jax.tree.leaves(start.optimizer)], "nothing to remember of it"
    step, state = make_train_step(model(), TASK, config, optimizer), start
    for batch in batches():
        state, _ = step(state, batch, dropout_key(0))
    for params in (state.params, state.averaged):
        assert bits(params["embedding"]["embedding"]) == TABLE.tobytes()
        changed = jax.tree.map(lambda old, new: np.abs(np.asarray(new) - old).max() > 1e-4, before, params)
        assert jax.tree.leaves(changed).count(False) == 1


def test_gradients_of_frozen_parameters_do_not_count_for_clipping():
    config = TrainConfig(clip_norm=0.01)
    optimizer = train_all_but(NAMES, optax.chain(optax.clip_by_global_norm(0.01), optax.sgd(1.0)))
    batch = batches()[0]
    state = initial_train_state(model(), config, optimizer, batch, False)
    before = jax.tree.map(np.array, state.params)
    state, _ = make_train_step(model(), TASK, config, optimizer)(state, batch, dropout_key(0))
    moved = jax.tree.map(lambda old, new: np.asarray(new) - old, before, state.params)
    assert np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(moved))) == pytest.approx(0.01, rel=1e-4)


def test_start_from_given_values():
    params = {"a": {"b": np.zeros((2, 3), np.float32), "c": np.ones(2, np.float32)}, "b": np.zeros(2, np.float32)}
    started = start_from(params, {"a/b": np.arange(6.0).reshape(2, 3)})
    np.testing.assert_array_equal(started["a"]["b"], [[0, 1, 2], [3, 4, 5]])
    assert started["a"]["b"].dtype == np.float32
    np.testing.assert_array_equal(started["a"]["c"], 1)
    with pytest.raises(ValueError, match=r"Expected a/b of shape \(2, 3\); got \(3, 2\)"):
        start_from(params, {"a/b": np.zeros((3, 2))})
    with pytest.raises(ValueError, match="Expected names of parameters; got a, a/d"):
        start_from(params, {"a": np.zeros(2), "a/d": np.zeros(2)})


def test_keep():
    old, new = {"a": {"b": 1, "c": 2}, "b": 3}, {"a": {"b": 4, "c": 5}, "b": 6}
    assert keep(("a/b",), old, new) == {"a": {"b": 1, "c": 5}, "b": 6}
    assert keep((), old, new) == new
