"""`--diagnose` in runs: it changes nothing, says what it should, and goes on after a stop; and how a run diverges."""

import json
import logging

import jax
import numpy as np
import pytest

from rnnjax.errors import RunError
from rnnjax.training import checkpoint
from rnnjax.training.diagnosis import plot_diagnosis
from rnnjax.training.signals import Stopped


def lines(run):
    return [json.loads(line) for line in run.folder.diagnosis.read_text().splitlines()]


def metrics(run):
    records = [json.loads(line) for line in run.folder.metrics.read_text().splitlines()]
    return [{name: value for name, value in record.items() if name != "seconds"} for record in records]


@pytest.mark.parametrize(
    ("name", "settings", "layers"),
    [
        ("imdb", {"model": "bidirectional", "dropout": 0.2}, ["recurrent/backward", "recurrent/forward"]),
        ("char", {"cell": "gru", "layers": 2, "dropout": 0.2}, ["recurrent/layer_0", "recurrent/layer_1"]),
    ],
)
def test_a_diagnosed_run_is_the_same_run(name, settings, layers, make_run, stop_after):
    plain = make_run(name, "plain", epochs=2, **settings)
    plain.train(stop_after(plain, None))
    run = make_run(name, "diagnosed", epochs=2, diagnose=True, **settings)
    run.train(stop_after(run, None))
    jax.tree.map(np.testing.assert_array_equal, run.state, plain.state)
    assert metrics(run) == metrics(plain)
    assert not plain.folder.diagnosis.exists()
    assert not plain.folder.diagnosis_plot.exists()
    per_epoch = run.steps_per_epoch
    assert [(line["step"], line["epoch"]) for line in lines(run)] == [(per_epoch * i, i) for i in (1, 2)]
    assert list(lines(run)[0]["layers"]) == layers
    assert run.folder.diagnosis_plot.read_bytes().startswith(b"\x89PNG")


def test_the_compiled_step_is_the_same(make_run):
    plain, run = (make_run("char", str(diagnose), diagnose=diagnose) for diagnose in (False, True))
    batch = run.splits.train.training_epoch(0, 1, run.config.batch_size)[0]
    texts = [one.train_step.lower(one.state, batch, one.key).as_text() for one in (plain, run)]
    assert texts[0] == texts[1]


def test_it_goes_on_after_a_stop(make_run, stop_after):
    run = make_run("imdb", "whole", epochs=2, diagnose=True)
    run.train(stop_after(run, None))
    per_epoch = run.steps_per_epoch
    cut = make_run("imdb", "cut", epochs=2, diagnose=True)
    with pytest.raises(Stopped):
        cut.train(stop_after(cut, per_epoch + 1))
    with cut.folder.diagnosis.open("a") as file:
        file.write(json.dumps({"step": 2 * per_epoch, "epoch": 2}) + '\n{"step"')  # past the checkpoint, and torn
    cut = make_run("imdb", "cut", epochs=2, diagnose=True)
    cut.restore()
    cut.train(stop_after(cut, None))
    assert lines(cut) == lines(run)


def test_the_numbers_are_of_the_first_batch_without_dropout(make_run, stop_after):
    run = make_run("imdb", epochs=1, batch_size=24, diagnose=True, dropout=0.5, recurrent_dropout=0.5)
    run.train(stop_after(run, None))
    (line,) = lines(run)
    batch = run.splits.train.training_epoch(run.config.seed, 1, 24)[0]

    def objective(params):
        logits = run.model.apply({"params": params}, batch["inputs"], lengths=batch["lengths"])
        total, count = run.task.loss(logits, batch)["loss"]
        return total / count

    value, gradients = jax.value_and_grad(objective)(run.state.params)
    assert line["loss"] == pytest.approx(float(value), rel=1e-3)
    leaves = {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.linalg.norm(leaf)
        for path, leaf in jax.tree.flatten_with_path(gradients)[0]
    }
    assert line["parameter_gradients"] == pytest.approx(leaves, rel=1e-3)
    layer = line["layers"]["recurrent"]
    assert set(layer["gates"]) == {"input", "forget", "output"}
    assert set(layer["state_gradients"]) == {"h", "c"}
    assert (layer["units"], len(layer["state_gradients"]["h"])) == (4, batch["inputs"].shape[1])


def test_a_picture_of_what_has_no_logarithm(tmp_path):
    layer = {
        "state_gradients": {"h": [0.0, None, 0.0]},
        "gates": {"input": {"below": None, "above": None}},
        "dead_units": 0,
        "units": 3,
    }
    record = {"step": 1, "epoch": 1, "layers": {"recurrent": layer}, "parameter_gradients": {"kernel": 0.0}}
    plot_diagnosis(tmp_path / "picture.png", [record])
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_over_fitting_is_said_once_and_not_again_after_a_stop(make_run, stop_after, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("rnnjax"), "propagate", True)
    settings = {"epochs": 7, "dropout": 0.0, "recurrent_dropout": 0.0}
    run = make_run("imdb", "cut", **settings)
    falling, rising = iter([5.0, 4.0, 4.5, 4.6]), iter([4.7, 4.8, 4.9])
    run.evaluate = lambda params, source: {"loss": next(falling)}
    train_loss = iter(np.linspace(3, 1, 7))

    def finish_epoch(run):
        finish = run.finish_epoch

        def finished():
            run.progress.sums = {"loss": (float(next(train_loss)), 1.0)}
            finish()

        return finished

    run.finish_epoch = finish_epoch(run)
    with pytest.raises(Stopped):
        run.train(stop_after(run, 4 * run.steps_per_epoch + 1))
    said = [record.getMessage() for record in caplog.records if "over-fitting" in record.getMessage()]
    assert len(said) == 1
    assert "after epoch 2 (4.0000) and is 4.6000 now" in said[0]
    run = make_run("imdb", "cut", **settings)
    run.restore()
    run.evaluate = lambda params, source: {"loss": next(rising, 1.0)}
    run.finish_epoch = finish_epoch(run)
    run.train(stop_after(run, None))
    assert len([record for record in caplog.records if "over-fitting" in record.getMessage()]) == 1


def spoiled(run, step):
    """Parameters are no numbers after this step."""
    train_step = run.train_step

    def stepped(state, batch, key):
        after, sums = train_step(state, batch, key)
        if int(after.step) == step:
            after = after._replace(params=jax.tree.map(lambda leaf: leaf * np.nan, after.params))
        return after, sums

    run.train_step = stepped


def test_a_diverged_run_names_step_checkpoint_and_remedies(make_run, stop_after):
    run = make_run("char", "run", clip_norm=0.0)
    per_epoch = run.steps_per_epoch
    spoiled(run, per_epoch + 1)
    with pytest.raises(RunError) as error:
        run.train(stop_after(run, None))
    assert str(error.value).startswith(
        f"the loss became nan at step {per_epoch + 2}, epoch 2; the last good checkpoint is of step {per_epoch}. Try "
    )
    for words in ("--clip-norm 1", "a lower --learning-rate (it is 0.02)", "--diagnose"):
        assert words in str(error.value)
    assert checkpoint.steps(run.folder.checkpoints) == [per_epoch]
    run = make_run("char", "other", clip_norm=0.5, diagnose=True)
    spoiled(run, 1)
    with pytest.raises(RunError) as error:
        run.train(stop_after(run, None))
    assert "nan at step 2, epoch 1; there is no checkpoint yet. Try a lower --learning-rate" in str(error.value)
    assert "--clip-norm" not in str(error.value)
