"""The loop: what is evaluated, what is kept as best, and that stopping anywhere changes nothing."""

import json

import jax
import numpy as np
import pytest

from rnnjax.errors import RunError
from rnnjax.tasks import char
from rnnjax.training import checkpoint, loop
from rnnjax.training.loop import parameters_sha256
from rnnjax.training.signals import Stopped


def metrics(run):
    lines = [json.loads(line) for line in run.folder.metrics.read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def without_seconds(results):
    return {name: value for name, value in results.items() if name != "train_seconds"}


@pytest.mark.parametrize("name", ["imdb", "char", "adding"])
def test_stopped_at_any_step_and_resumed_is_as_uninterrupted(name, make_run, stop_after):
    settings = {"ema_decay": 0.8, "schedule": "cosine", "clip_norm": 0.5}
    if name != "adding":
        settings["dropout"] = 0.2
    whole = make_run(name, "whole", **settings)
    expected = whole.train(stop_after(whole, None))
    steps = int(whole.state.step)
    per_epoch = whole.steps_per_epoch
    assert (steps, per_epoch > 2) == (4 * per_epoch, True)
    for number, stop in enumerate([2 * per_epoch + 2] if name == "char" else [per_epoch]):
        run = make_run(name, f"cut{number}", **settings)
        with pytest.raises(Stopped) as stopped:
            run.train(stop_after(run, stop))
        assert stopped.value.exit_status == 128 + 15
        assert checkpoint.steps(run.folder.checkpoints)[-1] == stop
        run = make_run(name, f"cut{number}", **settings)
        run.restore()
        assert int(run.state.step) == stop
        results = run.train(stop_after(run, None))
        assert without_seconds(results) == without_seconds(expected)
        assert metrics(run) == metrics(whole)
        jax.tree.map(np.testing.assert_array_equal, run.state, whole.state)


def test_a_checkpoint_in_the_middle_of_a_long_epoch(make_run, stop_after, monkeypatch):
    whole = make_run("char", "whole", epochs=1, batch_size=30)
    expected = whole.train(stop_after(whole, None))
    monkeypatch.setattr(loop, "MOST_SECONDS_LOST", -1.0)
    run = make_run("char", "cut", epochs=1, batch_size=30)
    saved = []
    save = checkpoint.save
    monkeypatch.setattr(checkpoint, "save", lambda folder, step, *rest: (saved.append(step), save(folder, step, *rest)))
    assert without_seconds(run.train(stop_after(run, None))) == without_seconds(expected)
    assert set(range(1, run.steps_per_epoch)) <= set(saved)


@pytest.mark.parametrize("name", ["imdb", "char"])
def test_best_parameters_reproduce_the_best_val_loss(name, make_run, stop_after):
    run = make_run(name, epochs=12, learning_rate=1.0 if name == "char" else 0.3, patience=1, schedule="constant")
    results = run.train(stop_after(run, None))
    validation = [record["validation"]["loss"] for record in run.progress.history]
    best = int(np.argmin(validation)) + 1
    assert results["best_epoch"] == best
    assert results["epochs_run"] == len(validation) == min(12, best + 1)
    assert best < len(validation), "a rate so high makes it worse at some epoch"
    path = checkpoint.newest_whole(run.folder.checkpoints, pytest.fail)
    params = checkpoint.restore_best(path, run.best)
    assert run.evaluate(params, run.splits.validation)["loss"] == results["val_loss"] == min(validation)
    assert run.evaluate(params, run.splits.test)["loss"] == results["test_loss"]
    assert results["parameters_sha256"]["best"] == parameters_sha256(params)
    assert results["parameters_sha256"]["last"] == parameters_sha256(run.state.params)
    assert results["parameters_sha256"]["best"] != results["parameters_sha256"]["last"]


def test_evaluation_counts_each_example_once(make_run):
    run = make_run("imdb")
    source = run.splits.train
    count = len(source)
    assert count % 8, "the last batch is to be partial"
    logits = run.model.apply({"params": run.best}, source.arrays["inputs"], lengths=source.arrays["lengths"])
    logits, labels = np.asarray(logits, np.float64)[:, 0], source.arrays["labels"]
    losses = np.log1p(np.exp(-(2 * labels - 1) * logits))
    given = run.evaluate(run.best, source)
    assert given["loss"] == pytest.approx(losses.mean(), rel=1e-5)
    assert given["accuracy"] == pytest.approx(((logits > 0) == labels).mean())


@pytest.mark.parametrize("batch_size", [1, 4])
def test_language_model_evaluation_is_one_pass_over_the_text(make_run, batch_size):
    run = make_run("char", batch_size=batch_size, learning_rate=0.1, epochs=1)
    part = char.HalvedPart(*(getattr(run.splits.validation, name) for name in ("tokens", "window", "context")))
    text = np.concatenate([part.context, part.tokens])
    params = jax.tree.map(lambda leaf: 2 * leaf, run.best)
    logits = np.asarray(run.model.apply({"params": params}, text[None, :-1]), np.float64)[0]  # [T, V]
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(logits)), text[1:]]
    losses = losses[-len(part.tokens) :]
    given = run.evaluate(params, part)
    assert given["loss"] == pytest.approx(losses.mean(), rel=1e-4)
    half = len(losses) // 2
    assert given["first_half_loss"] == pytest.approx(losses[:half].mean(), rel=1e-4)
    assert given["last_half_loss"] == pytest.approx(losses[half:].mean(), rel=1e-4)


def test_training_metrics_are_means_over_the_epoch(make_run, stop_after):
    run = make_run("imdb", epochs=1, learning_rate=1e-30, dropout=0.0, recurrent_dropout=0.0)
    at_start = run.evaluate(run.best, run.splits.train)
    run.train(stop_after(run, None))
    (train,) = (line for line in metrics(run) if line["split"] == "train")
    assert train["loss"] == pytest.approx(at_start["loss"], rel=1e-6)
    assert train["accuracy"] == pytest.approx(at_start["accuracy"])


def test_stopped_in_the_first_epoch_it_keeps_what_was_learned(make_run, stop_after):
    run = make_run("char")
    with pytest.raises(Stopped):
        run.train(stop_after(run, 3))
    path = checkpoint.newest_whole(run.folder.checkpoints, pytest.fail)
    assert parameters_sha256(checkpoint.restore_best(path, run.best)) == parameters_sha256(run.state.params)


def test_a_loss_that_is_no_number_ends_the_run(make_run, stop_after):
    run = make_run("imdb", epochs=1, batch_size=64)
    run.state = run.state._replace(params=jax.tree.map(lambda leaf: leaf * np.nan, run.state.params))
    with pytest.raises(RunError, match="the loss became nan"):
        run.train(stop_after(run, None))


def test_a_val_loss_that_is_no_number_ends_the_run(make_run, stop_after):
    run = make_run("imdb", epochs=1, batch_size=64, learning_rate=1e38, clip_norm=0.0)
    run.train_step = lambda state, batch, key, step=run.train_step: (
        lambda after: (after[0]._replace(params=jax.tree.map(lambda leaf: leaf * np.nan, after[0].params)), after[1])
    )(step(state, batch, key))
    with pytest.raises(RunError, match="val_loss became nan"):
        run.train(stop_after(run, None))
    assert not run.folder.results.exists()


def test_sha256_is_of_values_in_a_fixed_order():
    tree = {"b": np.arange(3.0), "a": {"x": np.ones(2, np.float32)}}
    turned = {"a": {"x": np.ones(2, np.float32)}, "b": np.arange(3.0)}
    assert parameters_sha256(tree) == parameters_sha256(turned)
    assert parameters_sha256(tree) != parameters_sha256({**tree, "b": np.array([0.0, 1.0, np.nextafter(2, 3)])})
