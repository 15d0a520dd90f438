"""Collected by test_devices.py alone, in a process that has eight devices.

The same step, run and evaluation on one device and on several.
"""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rnnjax
from rnnjax.losses import classification
from rnnjax.models.classifier import Classifier, probabilities
from rnnjax.models.language_model import LanguageModel
from rnnjax.task import Task, TrainConfig
from rnnjax.tasks import char
from rnnjax.training import checkpoint
from rnnjax.training.devices import Devices
from rnnjax.training.signals import Stopped
from rnnjax.training.step import dropout_key, initial_train_state, make_evaluation_step, make_train_step

# Leaves the parameters as they are and keeps the gradients.
GRADIENTS = optax.GradientTransformation(
    init=lambda params: jax.tree.map(jnp.zeros_like, params),
    update=lambda gradients, state, params: (jax.tree.map(jnp.zeros_like, gradients), gradients),
)


def first(count):
    assert jax.device_count() == 8
    return Devices(jax.devices()[:count])


def assert_close(given, expected, tolerance=1e-5):
    """Each array within a share of its own largest value."""
    for a, b in zip(jax.tree.leaves(given), jax.tree.leaves(expected), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert np.abs(b).max() > 0
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


CLASSIFIERS = {
    "lstm": rnnjax.LSTM(5, dropout_rate=0.3, recurrent_dropout_rate=0.4, return_sequences=False),
    "gru both ways, stacked": rnnjax.Stack(
        [
            rnnjax.Bidirectional(rnnjax.GRU(3, dropout_rate=0.3)),
            rnnjax.SimpleRNN(4, recurrent_dropout_rate=0.4, return_sequences=False),
        ]
    ),
}


@pytest.mark.parametrize(
    ("encoder", "num_rows", "num_devices"), [("lstm", 24, 8), ("lstm", 10, 8), ("gru both ways, stacked", 10, 3)]
)
def test_loss_and_gradients_of_a_classifier(encoder, num_rows, num_devices):
    one, several = first(1), first(num_devices)
    draw = np.random.default_rng(0)
    batch = {
        "inputs": draw.integers(9, size=(num_rows, 7), dtype=np.int32),
        "lengths": draw.integers(1, 8, size=num_rows, dtype=np.int32),
        "labels": draw.integers(2, size=num_rows, dtype=np.int32),
        # Unevenly over the devices: all that counts stands in the first rows, as in the last batch of a pass.
        "weight": (np.arange(num_rows) < 7).astype(np.float32),
    }
    model = Classifier(9, 2, 4, CLASSIFIERS[encoder])
    task = Task("test", TrainConfig, None, None, classification, probabilities=probabilities)
    results = {}
    for devices in (one, several):
        state = initial_train_state(model, TrainConfig(), GRADIENTS, batch, False, devices)
        step = make_train_step(model, task, TrainConfig(), GRADIENTS, devices)
        placed = devices.divide_batch(batch)
        shards = {shard.data.shape[0] for shard in jnp.asarray(placed["inputs"]).addressable_shards}
        assert shards == {-(-num_rows // devices.mesh.size)}
        after, sums = step(state, placed, dropout_key(0))
        results[devices] = (sums, after.optimizer)
        params = devices.copy(jax.device_get(after.params))
        _, evaluated, predicted = make_evaluation_step(model, task, devices)(params, placed, None)
        assert float(evaluated["loss"][1]) == float(sums["loss"][1]) == 7
        assert float(evaluated["loss"][0]) != float(sums["loss"][0]), "dropout"
        logits = model.apply({"params": params}, batch["inputs"], lengths=batch["lengths"])
        given = jax.tree.map(lambda leaf: leaf[:num_rows], devices.gather(predicted))
        np.testing.assert_array_equal(given.label, np.asarray(logits)[:, 0] > 0)
        np.testing.assert_allclose(given.probability, 1 / (1 + np.exp(-np.abs(logits[:, 0]))), rtol=1e-5)
        assert {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(after)} == {devices.mesh.size}
    assert_close(results[several], results[one])


def test_loss_gradients_and_state_of_a_language_model():
    one, several = first(1), first(4)
    model = LanguageModel(5, 3, rnnjax.Stack([rnnjax.GRU(4, recurrent_dropout_rate=0.3)]), dropout_rate=0.3)
    task = Task("test", TrainConfig, None, None, char.loss, stateful=True)
    tokens = np.random.default_rng(0).integers(5, size=(10, 13), dtype=np.int32)
    weight = (np.arange(10) < 7).astype(np.float32)[:, None] * np.ones(4, np.float32)
    batches = [
        {"inputs": tokens[:, i : i + 4], "targets": tokens[:, i + 1 : i + 5], "weight": weight} for i in (0, 4, 8)
    ]
    results = {}
    for devices in (one, several):
        state = initial_train_state(model, TrainConfig(), GRADIENTS, batches[0], True, devices)
        step = make_train_step(model, task, TrainConfig(), GRADIENTS, devices)
        results[devices] = []
        for batch in batches:
            state, sums = step(state, devices.divide_batch(batch), dropout_key(0))
            carry = jax.tree.map(lambda leaf: leaf[:10], devices.gather(state.carry))
            results[devices].append(jax.device_get((sums, state.optimizer, carry)))
    assert_close(results[several], results[one])


@pytest.mark.parametrize("matmul_dtype", [None, jnp.bfloat16])
def test_devices_tell_each_other_sums_alone(matmul_dtype):
    """No device is brought the rows of another, to do its work over again."""
    devices = first(8)
    batch = {
        "inputs": np.ones((8, 5), np.int32),
        "lengths": np.full(8, 5, np.int32),
        "labels": np.ones(8, np.int32),
        "weight": np.ones(8, np.float32),
    }
    layer = rnnjax.GRU(3, dropout_rate=0.3, recurrent_dropout_rate=0.3, matmul_dtype=matmul_dtype)
    model = Classifier(9, 2, 4, rnnjax.Stack([rnnjax.Bidirectional(layer), layer.clone(return_sequences=False)]))
    state = initial_train_state(model, TrainConfig(), GRADIENTS, batch, False, devices)
    task = Task("test", TrainConfig, None, None, classification)
    step = make_train_step(model, task, TrainConfig(), GRADIENTS, devices)
    program = step.lower(state, devices.divide_batch(batch), dropout_key(0)).compile().as_text()
    exchanges = re.findall(r"= .*? (all-\w+|collective-\w+|reduce-scatter)(?:-start)?\(", program)
    assert set(exchanges) == {"all-reduce"}


def metrics(run):
    return [json.loads(line) for line in run.folder.metrics.read_text().splitlines()]


def assert_same_run(given, expected):
    """Metrics, parameters and carried state, of runs whose sums were rounded otherwise."""
    for a, b in zip(metrics(given), metrics(expected), strict=True):
        assert {name: a[name] for name in ("step", "epoch", "split")} == {
            name: b[name] for name in ("step", "epoch", "split")
        }
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-3)
    shapes = [jax.tree.map(np.shape, run._without_padding(run.state)) for run in (given, expected)]
    assert shapes[0] == shapes[1]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(np.asarray(a), np.asarray(b), atol=1e-3),
        given.best, expected.best,
    )  # fmt: skip


@pytest.mark.parametrize(("name", "num_devices"), [("imdb", 3), ("char", 8)])
def test_a_run_moves_between_devices(name, num_devices, make_run, stop_after):
    one, several = first(1), first(num_devices)
    settings = {"dropout": 0.2, "recurrent_dropout": 0.2, "epochs": 3}
    expected = make_run(name, "one", devices=one, **settings)
    expected.train(stop_after(expected, None))
    # Begun on several, stopped in the middle of an epoch; on one device to the middle of the next; then several again.
    stops = [expected.steps_per_epoch + 2, 2 * expected.steps_per_epoch + 1, None]
    for devices, stop in zip((several, one, several), stops, strict=True):
        run = make_run(name, "moved", devices=devices, **settings)
        if stop != stops[0]:
            run.restore()
        if stop is None:
            results = run.train(stop_after(run, None))
        else:
            with pytest.raises(Stopped):
                run.train(stop_after(run, stop))
            assert checkpoint.steps(run.folder.checkpoints)[-1] == stop
    assert_same_run(run, expected)
    test = expected.evaluate(expected.best, expected.splits.test)
    assert results["test_loss"] == pytest.approx(test["loss"], rel=1e-3)
    if name == "imdb":
        support = [figures["support"] for figures in results["classes"].values()]
        assert support == np.bincount(expected.splits.test.arrays["labels"], minlength=2).tolist()


def test_several_devices_are_reproduced_to_the_bit(make_run, stop_after):
    several = first(8)
    whole = make_run("char", "whole", devices=several, epochs=2)
    whole.train(stop_after(whole, None))
    run = make_run("char", "cut", devices=several, epochs=2)
    with pytest.raises(Stopped):
        run.train(stop_after(run, whole.steps_per_epoch + 1))
    run = make_run("char", "cut", devices=several, epochs=2)
    run.restore()
    run.train(stop_after(run, None))
    for a, b in zip(metrics(run), metrics(whole), strict=True):
        assert {**a, "seconds": 0} == {**b, "seconds": 0}
    jax.tree.map(np.testing.assert_array_equal, run._without_padding(run.state), whole._without_padding(whole.state))


@pytest.mark.parametrize("num_devices", [1, 3, 8])
def test_what_is_placed_comes_back(num_devices):
    several = first(num_devices)
    tree = {"a": np.arange(6.0).reshape(2, 3), "step": np.asarray(3, np.int32)}
    jax.tree.map(np.testing.assert_array_equal, several.gather(several.copy(tree)), tree)
    state = {"h": np.arange(1.0, 11.0, dtype=np.float32).reshape(5, 2)}
    gathered = several.gather(several.divide_state(state))["h"]
    np.testing.assert_array_equal(gathered[:5], state["h"])
    assert len(gathered) % several.mesh.size == 0
    assert (gathered[5:] == 0).all()


def test_no_program_is_started_before_the_last_has_ended(make_run, stop_after, monkeypatch):
    """Two at a time could wait for each other's sums for ever, with a thread for each core."""
    run = make_run("imdb", devices=first(2), epochs=2)
    earlier: list[jax.Array] = []

    def watched(step):
        def watch(*arguments):
            assert all(leaf.is_ready() for leaf in earlier if not leaf.is_deleted())
            results = step(*arguments)
            earlier.extend(jax.tree.leaves(results))
            return results

        return watch

    settled = []
    settle = run.devices.settle
    monkeypatch.setattr(run.devices, "settle", lambda results: (settled.append(None), settle(results)))
    for name in ("train_step", "evaluation_step"):
        monkeypatch.setattr(run, name, watched(getattr(run, name)))
    run.train(stop_after(run, None))
    held_out = (run.splits.validation, run.splits.validation, run.splits.test)  # of two epochs, and at the end
    evaluated = sum(len(source.evaluation(run.config.batch_size)) for source in held_out)
    assert len(settled) == 2 * run.steps_per_epoch + evaluated
