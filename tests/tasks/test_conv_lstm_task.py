"""Films of moving squares, the loss of their pixels, and a run."""

import json

import conv_lstm as comparison
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.errors import InputError
from rnnjax.tasks import conv_lstm
from rnnjax.tasks.conv_lstm import TASK, Config
from rnnjax.training.optimizer import make_optimizer
from rnnjax.training.step import dropout_key, initial_train_state, make_train_step


def test_a_frame_is_what_was_to_be_predicted_but_for_the_rims():
    films = conv_lstm.draw_films(np.random.default_rng(0), 20, 6, 20)
    inputs, targets = films["inputs"][..., 0], films["targets"][..., 0]
    assert inputs.shape == targets.shape == (20, 6, 20, 20)
    assert set(np.unique(targets)) == {0, 1}
    np.testing.assert_array_equal(inputs[:, 1:] > 0.5, targets[:, :-1] > 0.5)
    off = inputs[:, 1:] - targets[:, :-1]
    assert 0.1 < np.mean(np.abs(off) > 0.05) < 0.5
    np.testing.assert_allclose(off * 10, np.round(off * 10), atol=1e-4)
    assert inputs.max() <= 1
    again = conv_lstm.draw_films(np.random.default_rng(0), 20, 6, 20)
    np.testing.assert_array_equal(again["inputs"], films["inputs"])


def test_a_square_moves_by_one_step_of_its_own(monkeypatch):
    monkeypatch.setattr(conv_lstm, "SQUARES", (1, 1))
    films = conv_lstm.draw_films(np.random.default_rng(0), 300, 4, 40)["targets"][..., 0]
    steps, sides = set(), set()
    for film in films:
        if not film.any(axis=(1, 2)).all():
            continue
        rows, columns = (np.nonzero(film.any(axis=axis)) for axis in (2, 1))
        corners = np.array([[part[1][part[0] == t][[0, -1]] for part in (rows, columns)] for t in range(4)])
        if corners.min() == 0 or corners.max() == 39:
            continue
        moved = np.diff(corners, axis=0)  # of both corners at each step
        assert (moved == moved[0, :, :1][None]).all()
        steps.add(tuple(moved[0, :, 0]))
        height, width = corners[0, :, 1] - corners[0, :, 0] + 1
        assert film[0].sum() == height * width
        assert height == width
        sides.add(int(height))
    assert steps == {(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)}
    assert sides == {4, 6}


def test_loss_by_hand():
    logits = jnp.array([0.0, 2.0, -1.0, jnp.nan]).reshape(2, 1, 2, 1, 1)
    batch = {
        "targets": np.array([1, 0, 0, 0], np.float32).reshape(2, 1, 2, 1, 1),
        "weight": np.array([1, 0], np.float32),
    }
    sums = TASK.loss(logits, batch)
    half, high = 0.5, 1 / (1 + np.exp(-2))
    assert float(sums["loss"][0]) == pytest.approx(-(np.log(half) + np.log(1 - high)) / 2, rel=1e-5)
    assert float(sums["squared_error"][0]) == pytest.approx((0.25 + high**2) / 2, rel=1e-5)
    assert float(sums["loss"][1]) == float(sums["squared_error"][1]) == 1


def test_a_network_learns_two_films():
    config = Config(films=2, frames=4, size=8, units=6, layers=1, learning_rate=0.02, schedule="constant")
    batch = TASK.load(config).train.training_epoch(0, 1, 2)[0]
    model, optimizer = TASK.build(config, {}), make_optimizer(config, 150)
    state = initial_train_state(model, config, optimizer, batch, stateful=False)
    step = make_train_step(model, TASK, config, optimizer)
    for _ in range(150):
        state, sums = step(state, batch, dropout_key(0))
    assert float(sums["loss"][0] / sums["loss"][1]) < 0.1


def test_a_film_goes_on_with_what_was_predicted():
    config = Config(films=1, frames=3, size=6, units=2, layers=1)
    seen = TASK.load(config).train.arrays["inputs"][0]
    model = TASK.build(config, {})
    params = model.init(jax.random.key(0), seen[None])["params"]
    film = list(seen)
    for _ in range(2):
        logits = model.apply({"params": params}, np.stack(film)[None])
        film.append(np.asarray(jax.nn.sigmoid(logits))[0, -1])
    np.testing.assert_allclose(conv_lstm.continued(model, params, seen, 2), film[3:], atol=1e-6)


def test_baselines():
    """A linear rule is found; a cut answer costs what the formula says."""
    inputs = np.random.default_rng(0).random((3, 4, 5, 5, 1))
    rule = np.random.default_rng(1).standard_normal(19)
    padded = np.pad(inputs[..., 0], ((0, 0), (0, 0), (1, 1), (1, 1)))
    targets = np.zeros((3, 4, 5, 5, 1))
    for t, i, j in np.ndindex(4, 5, 5):
        if t:
            now, before = (padded[:, s, i : i + 3, j : j + 3].reshape(3, 9) for s in (t, t - 1))
            targets[:, t, i, j, 0] = now @ rule[:9] + before @ rule[9:18] + rule[18]
    np.testing.assert_allclose(comparison.fit({"inputs": inputs, "targets": targets}), rule, atol=1e-8)
    entropy = comparison.entropy(np.array([0.0, 1.0, 1.0]), np.array([0, 1, 0]), 0.1)
    assert entropy == pytest.approx(-(2 * np.log(0.9) + np.log(0.1)) / 3)


def test_settings_that_do_not_fit():
    with pytest.raises(InputError, match=r"--dataset: expected auto or builtin, .*; got films.npz"):
        TASK.load(Config(dataset="films.npz"))
    with pytest.raises(InputError, match=r"--precision: expected one of float32; got 'bfloat16'"):
        Config(precision="bfloat16")


def test_a_run_on_the_command_line(tmp_path, capsys, monkeypatch):
    from rnnjax.cli import main

    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    run = tmp_path / "run"
    line = ["train", "--task", "conv_lstm", "--films", "5", "--frames", "3", "--size", "8", "--units", "2"]
    line += ["--epochs", "1", "--batch-size", "2"]
    assert main([*line, "--workdir", str(run)]) == 0
    results = json.loads((run / "results.json").read_text())
    assert (results["task"], results["dataset"]) == ("conv_lstm", "builtin")
    assert {"test_loss", "test_squared_error"} <= results.keys()
    assert (run / "pictures" / "frames.png").stat().st_size > 2_000
    capsys.readouterr()
    assert main([*line, "--workdir", str(run), "--resume"]) == 0
    compared = comparison.compare(run)
    assert compared["conv_lstm"]["loss"] > 0
    assert main([*line, "--workdir", str(tmp_path / "other"), "--dataset", "tfds"]) == 2
    assert not (tmp_path / "other").exists()
