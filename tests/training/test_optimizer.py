"""Optimizers, schedules and averages against the same arithmetic in NumPy, in float64."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.errors import InputError
from rnnjax.task import TrainConfig
from rnnjax.training.optimizer import Average, learning_rate, make_optimizer, make_plateau
from rnnjax.training.signals import StopRequest

STEPS = 6
RATE = 0.05


class ByHand:
    """One optimizer on one array."""

    def __init__(self, name: str, momentum: float = 0.0) -> None:
        self.name, self.momentum = name, momentum
        self.first = self.second = 0.1 if name == "adagrad" else 0.0
        self.count = 0

    def direction(self, g: np.ndarray) -> np.ndarray:
        self.count += 1
        if self.name in ("adam", "adamw"):
            self.first = 0.9 * self.first + 0.1 * g
            self.second = 0.999 * self.second + 0.001 * g**2
            mean, square = self.first / (1 - 0.9**self.count), self.second / (1 - 0.999**self.count)
            return mean / (np.sqrt(square) + 1e-7)
        if self.name == "rmsprop":
            self.second = 0.9 * self.second + 0.1 * g**2
            return g / np.sqrt(self.second + 1e-7)
        if self.name == "adagrad":
            self.second = self.second + g**2
            return g / np.sqrt(self.second + 1e-7)
        if self.name == "adadelta":
            self.second = 0.95 * self.second + 0.05 * g**2
            change = g * np.sqrt(self.first + 1e-7) / np.sqrt(self.second + 1e-7)
            self.first = 0.95 * self.first + 0.05 * change**2
            return change
        self.first = self.momentum * self.first + g
        return self.first


def gradients(seed: int = 0) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(seed)
    return [{"bias": random.normal(size=3), "kernel": random.normal(size=(2, 3))} for _ in range(STEPS)]


def train(config: TrainConfig, all_gradients: list[dict[str, np.ndarray]]) -> dict[str, jax.Array]:
    optimizer = make_optimizer(config, len(all_gradients))
    params = {"bias": jnp.ones(3), "kernel": jnp.full((2, 3), -2.0)}
    state = optimizer.init(params)
    for g in all_gradients:
        updates, state = jax.jit(optimizer.update)(jax.tree.map(jnp.float32, g), state, params)
        params = jax.tree.map(jnp.add, params, updates)
    return params


@pytest.mark.parametrize(
    "settings",
    [
        *({"optimizer": name} for name in ("adam", "adamw", "rmsprop", "sgd", "adadelta", "adagrad", "asgd")),
        {"optimizer": "sgd", "momentum": 0.8},
        {"optimizer": "sgd", "weight_decay": 0.3, "l2": 0.2, "clip_value": 0.7, "clip_norm": 0.9},
        {"optimizer": "adamw", "weight_decay": 0.0},
        {"optimizer": "rmsprop", "l2": 0.1},
    ],
    ids=str,
)
def test_updates_equal_those_by_hand(settings):
    config = TrainConfig(learning_rate=RATE, **settings)
    decay = {"auto": 0.004 if config.optimizer == "adamw" else 0.0}.get(config.weight_decay, config.weight_decay)
    expected = {"bias": np.ones(3), "kernel": np.full((2, 3), -2.0)}
    by_hand = {name: ByHand(config.optimizer, config.momentum) for name in expected}
    for given in gradients():
        g = {"bias": given["bias"], "kernel": given["kernel"] + 2 * config.l2 * expected["kernel"]}
        if config.clip_value:
            g = {name: np.clip(value, -config.clip_value, config.clip_value) for name, value in g.items()}
        if config.clip_norm:
            norm = math.sqrt(sum((value**2).sum() for value in g.values()))
            g = {name: value * min(1, config.clip_norm / norm) for name, value in g.items()}
        for name, value in g.items():
            direction = by_hand[name].direction(value)
            if name == "kernel":  # biases are not pulled to zero
                direction = direction + decay * expected[name]
            expected[name] = expected[name] - RATE * direction
    for name, value in train(config, gradients()).items():
        np.testing.assert_allclose(value, expected[name], rtol=2e-5, err_msg=name)


def test_gradients_of_several_batches_make_one_update():
    parts = gradients()
    pairs = [jax.tree.map(lambda a, b: (a + b) / 2, parts[i], parts[i + 1]) for i in range(0, STEPS, 2)]
    settings = {"optimizer": "adam", "schedule": "cosine", "learning_rate": RATE, "clip_norm": 0.5}
    together = train(TrainConfig(**settings), pairs)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
        train(TrainConfig(**settings, accumulation=2), parts),
        together,
    )
    # The batches since the last update wait for those that come.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
        train(TrainConfig(**settings, accumulation=2), parts[:-1]),
        train(TrainConfig(**settings), pairs[:-1]),
    )


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, lambda n: 1.0),
        ({"schedule": "cosine"}, lambda n: (1 + math.cos(math.pi * n / 40)) / 2),
        ({"schedule": "exponential", "decay_rate": 0.3}, lambda n: 0.3 ** (n / 10)),
        ({"schedule": "exponential", "decay_epochs": 2}, lambda n: 0.5 ** (n / 20)),
        ({"schedule": "step", "decay_rate": 0.1, "decay_epochs": 2}, lambda n: 0.1 ** (n // 20)),
        ({"schedule": "step", "accumulation": 2}, lambda n: 0.5 ** (n // 5)),
        ({"schedule": "cosine", "accumulation": 2}, lambda n: (1 + math.cos(math.pi * n / 20)) / 2),
        ({"warmup_steps": 4}, lambda n: min((n + 1) / 5, 1)),
        (
            {"warmup_steps": 4, "schedule": "cosine"},
            lambda n: (n + 1) / 5 if n < 4 else (1 + math.cos(math.pi * (n - 4) / 36)) / 2,
        ),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_schedules(settings, expected):
    schedule = learning_rate(TrainConfig(learning_rate=0.2, **settings), num_steps=40, steps_per_epoch=10)
    for n in range(20):
        rate = schedule(n) if callable(schedule) else schedule
        assert float(rate) == pytest.approx(0.2 * expected(n), rel=1e-5), n


def test_a_warm_up_longer_than_the_run_is_refused():
    with pytest.raises(InputError, match="--warmup-steps: expected fewer than the 20 updates"):
        make_optimizer(TrainConfig(warmup_steps=20, accumulation=2), 40)


@pytest.mark.parametrize("accumulation", [1, 3])
def test_average_over_all_weights_since_it_began(accumulation):
    average = Average(TrainConfig(optimizer="asgd", accumulation=accumulation))
    weights = np.random.default_rng(1).normal(size=(12, 4)).astype(np.float32).repeat(accumulation, axis=0)
    averaged, count = average.init(weights[0])
    kept = []
    for step, value in enumerate(weights[1:], start=accumulation - 1):
        if step == 5 * accumulation:
            count = jnp.int32(0)
        averaged, count = average.update(averaged, count, value, step)
        if (step + 1) % accumulation == 0:
            kept.append(value)
        before = step < 5 * accumulation
        expected = kept[-1] if before else np.mean(kept[5:] or [averaged], axis=0)
        np.testing.assert_allclose(averaged, expected, rtol=1e-5, atol=1e-6)
    assert len(kept) > 8


def test_moving_average_takes_each_update_once():
    weights = np.random.default_rng(2).normal(size=(9, 4)).astype(np.float32)
    once, thrice = (Average(TrainConfig(ema_decay=0.6, accumulation=n)) for n in (1, 3))
    averaged, _ = once.init(weights[0])
    same, _ = thrice.init(weights[0])
    for step, value in enumerate(weights[1:]):
        averaged, _ = once.update(averaged, None, value, step)
        for part in range(3):
            now = value if part == 2 else weights[step]
            same, _ = thrice.update(same, None, now, 3 * step + part)
        np.testing.assert_allclose(same, averaged, rtol=1e-6)


@pytest.mark.parametrize(
    ("values", "begins_after"),
    [
        ([9, 8, 7, 6, 5, 4, 3, 2, 1], None),
        ([5, 6, 6, 6, 6, 6, 6], 7),  # worse than the best of more than five epochs before
        ([5, 6, 6, 6, 6, 6], None),
        ([9, 8, 7, 6, 5, 6, 6, 6, 6, 6, 5.5], 11),
        ([9, 8, 7, 6, 5, 6, 6, 6, 6, 6, 5, 4.9, 4.8, 4.7], None),
    ],
)
def test_when_the_average_begins(values, begins_after):
    began = next((n for n in range(1, len(values) + 1) if Average.begins(values[:n])), None)
    assert began == begins_after


# In a run


def finished(run):
    with StopRequest() as stop:
        results = run.train(stop)
    lines = [json.loads(line) for line in run.folder.metrics.read_text().splitlines()]
    return results, [line for line in lines if line["split"] == "validation"]


def test_the_learning_rate_falls_on_a_plateau(make_run, capsys):
    settings = {"learning_rate": 3.0, "epochs": 12, "clip_norm": 0.0, "schedule": "constant"}
    run = make_run("imdb", plateau_patience=2, plateau_factor=0.25, min_change=0.01, **settings)
    _, lines = finished(run)
    scale, best, waited = 1.0, math.inf, 0
    for line in lines:
        waited = 0 if line["loss"] < best - 0.01 else waited + 1
        best = min(best, line["loss"]) if waited == 0 else best
        if waited == 2:
            scale, waited = scale * 0.25, 0
    assert scale < 1
    assert float(run.state.plateau.scale) == pytest.approx(scale)
    assert "val_loss got no better for 2 epochs: learning rate x 0.25 from here" in capsys.readouterr().err


def test_a_plateau_scales_the_update(make_run):
    run = make_run("imdb", plateau_patience=3, optimizer="sgd")
    batch = run.devices.divide_batch(run.splits.train.training_epoch(0, 1, run.config.batch_size)[0])
    before = jax.tree.map(np.asarray, run.state.params)

    def change(scale: float) -> list[np.ndarray]:
        plateau = run.state.plateau._replace(scale=jnp.float32(scale))
        copied = jax.tree.map(jnp.array, run.state._replace(plateau=plateau))
        after, _ = run.train_step(run.devices.copy(copied), batch, run.key)
        return jax.tree.leaves(jax.tree.map(lambda a, b: np.asarray(a) - b, after.params, before))

    for whole, part in zip(change(1.0), change(0.125), strict=True):
        np.testing.assert_allclose(part, 0.125 * whole, atol=1e-7)


def test_the_best_epoch_by_another_metric(make_run):
    results, lines = finished(make_run("imdb", monitor="val_accuracy", epochs=6))
    values = [line["accuracy"] for line in lines]
    assert results["best_epoch"] == 1 + int(np.argmax(values))
    assert results["val_accuracy"] == max(values)


def test_the_last_epoch_where_the_best_is_not_restored(make_run):
    results, lines = finished(make_run("imdb", restore_best=False, learning_rate=0.5, epochs=6))
    losses = [line["loss"] for line in lines]
    assert results["best_epoch"] == 1 + int(np.argmin(losses)) < 6
    assert results["val_loss"] == losses[-1]
    assert results["parameters_sha256"]["best"] == results["parameters_sha256"]["last"]


def test_a_metric_that_there_is_not(make_run):
    with pytest.raises(InputError, match="--monitor: expected one of val_loss, val_accuracy, loss, accuracy; got 'f1'"):
        make_run("imdb", monitor="f1")
    with pytest.raises(
        InputError, match="--monitor: expected one of val_loss, val_bits, loss, bits; got 'val_accuracy'"
    ):
        make_run("char", "other", monitor="val_accuracy")


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "asgd", "learning_rate": 2.0, "accumulation": 2, "epochs": 12, "plateau_patience": 2},
        {"optimizer": "adamw", "warmup_steps": 5, "ema_decay": 0.5, "accumulation": 3, "clip_value": 0.1},
    ],
    ids=lambda settings: settings["optimizer"],
)
@pytest.mark.parametrize("name", ["imdb", "char"])
def test_resumed_equals_uninterrupted(make_run, stop_after, name, settings):
    from rnnjax.training.signals import Stopped

    results, lines = finished(make_run(name, "whole", **settings))
    run = make_run(name, "parts", **settings)
    middle = run.steps_per_epoch * run.epochs * 3 // 4 + 1
    with stop_after(run, middle) as stop, pytest.raises(Stopped):
        run.train(stop)
    run = make_run(name, "parts", **settings)
    run.restore()
    again, lines_again = finished(run)
    assert again["parameters_sha256"] == results["parameters_sha256"]
    assert [line["loss"] for line in lines_again] == [line["loss"] for line in lines]
    if settings["optimizer"] == "asgd" and name == "imdb":
        assert int(run.state.averaged_count) > 0


def test_a_state_that_no_plateau_and_no_average_need_holds_none(make_run):
    state = make_run("imdb").state
    assert (state.averaged, state.averaged_count, state.plateau) == (None, None, None)
    assert make_plateau(TrainConfig()) is None
