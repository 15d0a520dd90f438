"""A training step equals plain JAX with the optimizer's equations written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax
from rnnjax.losses import classification
from rnnjax.models.classifier import Classifier
from rnnjax.models.language_model import LanguageModel
from rnnjax.task import Task, TrainConfig
from rnnjax.tasks import char
from rnnjax.training.optimizer import make_optimizer
from rnnjax.training.step import (
    dropout_key,
    initial_train_state,
    make_evaluation_step,
    make_train_step,
)

NUM_STEPS = 5


def classifier_batches():
    draw = np.random.default_rng(0)
    for _ in range(NUM_STEPS):
        yield {
            "inputs": draw.integers(9, size=(6, 7), dtype=np.int32),
            "lengths": draw.integers(1, 8, size=6, dtype=np.int32),
            "labels": draw.integers(2, size=6, dtype=np.int32),
            "weight": np.array([1, 1, 1, 1, 0, 0], np.float32),
        }


def classifier():
    return Classifier(9, 2, 4, rnnjax.LSTM(5, dropout_rate=0.3, recurrent_dropout_rate=0.4, return_sequences=False))


def copied(tree):
    return jax.tree.map(jnp.array, tree)


class ByHand:
    """Optimizers as their papers (and Keras) write them, in float64."""

    def __init__(self, config):
        self.config, self.count = config, 0
        self.first = self.second = None

    def update(self, params, gradients):
        config = self.config
        gradients = [np.asarray(g, np.float64) for g in gradients]
        if config.clip_norm:
            norm = np.sqrt(sum((g**2).sum() for g in gradients))
            gradients = [g * min(1, config.clip_norm / norm) for g in gradients]
        if self.first is None:
            self.first, self.second = ([np.zeros_like(g) for g in gradients] for _ in range(2))
        rate = config.learning_rate
        if config.schedule == "cosine":
            rate *= (1 + np.cos(np.pi * self.count / NUM_STEPS)) / 2
        self.count += 1
        after = []
        for i, (parameter, g) in enumerate(zip(params, gradients, strict=True)):
            if config.optimizer == "adam":
                self.first[i] = 0.9 * self.first[i] + 0.1 * g
                self.second[i] = 0.999 * self.second[i] + 0.001 * g**2
                m = self.first[i] / (1 - 0.9**self.count)
                v = self.second[i] / (1 - 0.999**self.count)
                after.append(parameter - rate * m / (np.sqrt(v) + 1e-7))
            else:
                self.second[i] = 0.9 * self.second[i] + 0.1 * g**2
                after.append(parameter - rate * g / np.sqrt(self.second[i] + 1e-7))
        return after


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"optimizer": "rmsprop", "clip_norm": 0.05},
        {"schedule": "cosine", "clip_norm": 100.0, "ema_decay": 0.3},
    ],
    ids=["adam", "rmsprop, clipped", "cosine, averaged"],
)
def test_steps_equal_plain_jax(settings):
    config = TrainConfig(seed=3, learning_rate=0.01, **settings)
    model = classifier()
    optimizer = make_optimizer(config, NUM_STEPS)
    task = Task("test", TrainConfig, None, None, classification)
    step = make_train_step(model, task, config, optimizer)
    batches = list(classifier_batches())
    state = initial_train_state(model, config, optimizer, batches[0], stateful=False)
    expected = averaged = copied(state.params)
    by_hand = ByHand(config)
    keys = jax.random.fold_in(jax.random.key(3), 1)

    @jax.jit
    def objective(params, batch, number):
        logits = model.apply(
            {"params": params}, batch["inputs"], lengths=batch["lengths"], deterministic=False,
            rngs={"dropout": jax.random.fold_in(keys, number)},
        )[:4, 0]  # fmt: skip
        signs = 2.0 * batch["labels"][:4] - 1
        return jnp.log1p(jnp.exp(-signs * logits)).mean()

    for number, batch in enumerate(batches):
        value, gradients = jax.value_and_grad(objective)(expected, batch, number)
        leaves, structure = jax.tree.flatten(expected)
        updated = by_hand.update([np.asarray(leaf, np.float64) for leaf in leaves], jax.tree.leaves(gradients))
        expected = jax.tree.unflatten(structure, [np.asarray(leaf, np.float32) for leaf in updated])
        state, sums = step(state, batch, dropout_key(3))
        assert float(sums["loss"][0]) == pytest.approx(4 * float(value), rel=1e-5)
        assert float(sums["loss"][1]) == 4
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), state.params, expected)
        if config.ema_decay:
            decay = min(config.ema_decay, (1 + number) / (10 + number))
            averaged = jax.tree.map(lambda a, p, d=decay: d * a + (1 - d) * p, averaged, expected)
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), state.averaged, averaged)
            assert state.evaluated() is state.averaged
        else:
            assert state.evaluated() is state.params
    assert int(state.step) == NUM_STEPS


def test_state_is_donated_and_not_used_again():
    config = TrainConfig(ema_decay=0.5)
    model, optimizer = classifier(), make_optimizer(TrainConfig(), 5)
    batches = list(classifier_batches())
    step = make_train_step(model, Task("test", TrainConfig, None, None, classification), config, optimizer)
    state = initial_train_state(model, config, optimizer, batches[0], stateful=False)
    after, _ = step(state, batches[0], dropout_key(0))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
    step(after, batches[1], dropout_key(0))


def test_same_seed_same_start_and_other_seed_other():
    batch = next(classifier_batches())

    def params(seed):
        config = TrainConfig(seed=seed)
        return initial_train_state(classifier(), config, make_optimizer(config, 5), batch, False).params

    one, same, other = params(1), params(1), params(2)
    jax.tree.map(np.testing.assert_array_equal, one, same)
    assert (np.asarray(one["embedding"]["embedding"]) != np.asarray(other["embedding"]["embedding"])).all()


def test_language_model_carries_its_state_from_batch_to_batch():
    model = LanguageModel(5, 3, rnnjax.Stack([rnnjax.GRU(4)]))
    config = TrainConfig(learning_rate=1e-30)  # the parameters stay
    task = Task("test", TrainConfig, None, None, char.loss, stateful=True)
    tokens = np.random.default_rng(0).integers(5, size=(2, 13), dtype=np.int32)
    batches = [
        {"inputs": tokens[:, i : i + 4], "targets": tokens[:, i + 1 : i + 5], "weight": np.ones((2, 4), np.float32)}
        for i in (0, 4, 8)
    ]
    optimizer = make_optimizer(config, 3)
    state = initial_train_state(model, config, optimizer, batches[0], stateful=True)
    params = copied(state.params)
    step, evaluation_step = make_train_step(model, task, config, optimizer), make_evaluation_step(model, task)
    logits = np.asarray(model.apply({"params": params}, tokens[:, :-1]), np.float64)  # [2, 12, 5]
    losses = np.log(np.exp(logits).sum(axis=2)) - np.take_along_axis(logits, tokens[:, 1:, None], axis=2)[:, :, 0]
    carry = model.initial_state(2)
    for number, batch in enumerate(batches):
        expected = losses[:, 4 * number : 4 * number + 4].sum()
        state, sums = step(state, batch, dropout_key(0))
        carry, evaluated, predicted = evaluation_step(params, batch, carry)
        assert predicted is None
        for given in (sums, evaluated):
            assert float(given["loss"][0]) == pytest.approx(expected, rel=1e-5)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), state.carry, carry)


def test_rows_of_a_batch_restart_where_it_says_so():
    model = LanguageModel(5, 3, rnnjax.Stack([rnnjax.LSTM(4), rnnjax.LSTM(3)]))
    config = TrainConfig(learning_rate=1e-30)  # the parameters stay
    task = Task("test", TrainConfig, None, None, char.loss, stateful=True)
    draw = np.random.default_rng(0)
    batches = [
        {
            "inputs": draw.integers(5, size=(3, 4), dtype=np.int32),
            "targets": draw.integers(5, size=(3, 4), dtype=np.int32),
            "weight": np.ones((3, 4), np.float32),
            "restart": np.array(restart),
        }
        for restart in ([False] * 3, [False, True, False])
    ]
    optimizer = make_optimizer(config, 2)
    state = initial_train_state(model, config, optimizer, batches[0], stateful=True)
    params = copied(state.params)
    step = make_train_step(model, task, config, optimizer)
    for batch in batches:
        state, _ = step(state, batch, dropout_key(0))
    both = np.concatenate([batch["inputs"] for batch in batches], axis=1)
    for row, tokens in enumerate([both[0], batches[1]["inputs"][1], both[2]]):
        expected, _ = model.apply({"params": params}, tokens[None], return_state=True)
        for found, wanted in zip(jax.tree.leaves(state.carry), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(found[row], wanted[0], atol=1e-6)


def test_a_batch_that_counts_nothing_changes_nothing_to_nan():
    config, batches = TrainConfig(), list(classifier_batches())
    optimizer = make_optimizer(config, 5)
    step = make_train_step(classifier(), Task("test", TrainConfig, None, None, classification), config, optimizer)
    state = initial_train_state(classifier(), config, optimizer, batches[0], stateful=False)
    before = copied(state.params)
    state, sums = step(state, {**batches[0], "weight": np.zeros(6, np.float32)}, dropout_key(0))
    assert float(sums["loss"][1]) == 0
    jax.tree.map(np.testing.assert_array_equal, state.params, before)
