"""The two series against their definitions, rows that go on where they ended, and what carrying the state is worth."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.errors import InputError
from rnnjax.tasks import stateful
from rnnjax.tasks.stateful import TASK, Config, Series
from rnnjax.training.optimizer import make_optimizer
from rnnjax.training.step import dropout_key, forward, initial_train_state, make_train_step

SMALL = {"length": 120, "batch_size": 4, "units": 3}


def test_the_lag_problem_is_a_moving_mean():
    splits = TASK.load(Config(length=30_000, lag=3))
    for part in (splits.train, splits.validation, splits.test):
        values = part.values.astype(float)
        for place in (0, 1, 2, 3, 77, 29_999):
            seen = values[max(0, place - 2) : place + 1]
            assert part.targets[place] == pytest.approx(sum(seen) / len(seen), abs=1e-6)
        assert -1 <= values.min() < -0.999 < 0.999 < values.max() <= 1
        assert values.var() == pytest.approx(1 / 3, abs=0.01)
    assert abs(np.corrcoef(splits.train.values, splits.test.values)[0, 1]) < 0.03


def test_the_cosine_is_damped_and_its_target_lies_ahead():
    splits = TASK.load(Config(problem="cosine", length=4_000, lag=250, batch_size=1))
    times = np.arange(4_250)
    curve = np.exp(-times / 10_000) * np.cos(2 * np.pi * times / 1_000)
    np.testing.assert_allclose(splits.train.values, curve[:4_000], atol=1e-6)
    for place in (0, 249, 3_999):
        assert splits.train.targets[place] == pytest.approx(curve[place + 1 : place + 251].mean(), abs=1e-6)
    one = TASK.load(Config(problem="cosine", length=4_000, lag=1)).train
    np.testing.assert_allclose(one.targets[:-1], one.values[1:], atol=1e-7)
    # Held out are other phases of the same curve.
    starts = [splits.validation.values[0], splits.test.values[0], 1]
    assert len(set(starts)) == 3
    envelope = np.abs(splits.test.values[:1_000]).max()
    assert 0.9 < envelope <= 1


def test_a_row_goes_on_where_it_ended_and_all_windows_come_once():
    values = np.arange(1, 48, dtype=np.float32)  # 15 windows of 3; two values are left out
    series = Series(values, 100 + values, 3, 5)
    batches = list(series.evaluation(4))
    assert len(batches) == 4
    real = [[row for batch in batches if (row := batch["inputs"][b, :, 0])[0] >= 0] for b in range(4)]
    assert np.concatenate(real[0][:3]).tolist() == list(range(1, 10))
    assert np.concatenate(real[1]).tolist() == list(range(10, 22))
    counted = [target for batch in batches for target in batch["targets"][batch["weight"] > 0]]
    # The first window of each row holds three values, and five are needed.
    assert sorted(counted) == [106, 109, 115, 118, 121, 127, 130, 133, 139, 142, 145]
    for batch in batches:
        np.testing.assert_array_equal(batch["targets"], 100 + batch["inputs"][:, -1, 0])


def test_interleaved_rows_read_every_bth_value():
    values = np.arange(50, dtype=np.float32)  # 16 windows of 3, four to a row
    series = Series(values, -values, 3, 20, is_interleaved=True)
    batches = list(series.evaluation(4))
    assert len(batches) == 4
    for b in range(4):
        read = np.concatenate([batch["inputs"][b, :, 0] for batch in batches])
        assert read.tolist() == list(range(b, 48, 4))
        assert [batch["targets"][b] for batch in batches] == [-b - 8, -b - 20, -b - 32, -b - 44]
        assert [batch["weight"][b] for batch in batches] == [0, 1, 1, 1]  # 12, 24, ... values were passed
    for epoch in range(1, 5):
        for batch in series.training_epoch(0, epoch, 4):
            for row, weight in zip(batch["inputs"][:, :, 0], batch["weight"], strict=True):
                assert set(np.diff(row) % 48) == {4}
                assert weight <= (row[-1] >= 19)


def test_a_training_epoch_is_a_ring_opened_by_seed_and_epoch():
    values = np.arange(1, 48, dtype=np.float32)
    series = Series(values, values, 3, 5)
    openings = set()
    for epoch in range(1, 9):
        batches, again = (series.training_epoch(0, epoch, 4) for _ in range(2))
        read = {}
        for i, batch in enumerate(batches):
            np.testing.assert_array_equal(batch["inputs"], again[i]["inputs"])
            for b, row in enumerate(batch["inputs"][:, :, 0]):
                read.setdefault(b, []).extend(row)
                # What counts was preceded by five values of the series, in their order.
                if batch["weight"][b]:
                    assert read[b][-5:] == list(range(int(row[-1]) - 4, int(row[-1]) + 1))
        assert {value for row in read.values() for value in row} == set(range(1, 46))
        openings.add(read[0][0])
    assert len(openings) > 3
    others = [series.training_epoch(seed, 1, 4)[0]["inputs"][0, 0, 0] for seed in range(9)]
    assert len(set(others)) > 3


@pytest.mark.parametrize("carried", [True, False])
def test_what_a_window_starts_from(carried):
    """Carried: the answers of one pass over the whole row. Not carried: of each window by itself."""
    config = Config(**SMALL, window=3, stateful=carried, layers=2)
    splits = TASK.load(config)
    model, batches = TASK.build(config, splits.info), list(splits.train.training_epoch(0, 1, 4))
    params = model.init(jax.random.key(0), batches[0]["inputs"])["params"]
    carry, answers = model.initial_state(4), []
    run = jax.jit(lambda batch, carry: forward(TASK, model, params, batch, carry, deterministic=True))
    for batch in batches:
        carry, one = run(batch, carry)
        answers.append(one)
    for end in (1, 2, len(batches)):
        read = np.concatenate([batch["inputs"] for batch in batches[0 if carried else end - 1 : end]], axis=1)
        np.testing.assert_allclose(answers[end - 1], model.apply({"params": params}, read), atol=1e-6)


def test_loss_by_hand():
    batch = {"targets": np.array([1.0, 0.5, 2.0], np.float32), "weight": np.array([1, 1, 0], np.float32)}
    total, count = TASK.loss(jnp.array([0.5, 0.7, np.nan]), batch)["loss"]
    assert (float(total), float(count)) == (pytest.approx(0.29), 2)


def test_only_a_carried_state_knows_what_the_window_does_not_show():
    """Without it no answer has an error below the variance of the half mean that is not seen: 1/3 / 4."""
    losses = {}
    for carried in (True, False):
        config = Config(length=6_400, stateful=carried, learning_rate=0.01, units=8, schedule="constant")
        splits = TASK.load(config)
        model, optimizer = TASK.build(config, splits.info), make_optimizer(config, 600)
        first = splits.train.training_epoch(0, 1, 32)[0]
        state = initial_train_state(model, config, optimizer, first, stateful=True)
        step = make_train_step(model, TASK, config, optimizer)
        for epoch in range(1, 4):
            state = state._replace(carry=jax.tree.map(jnp.zeros_like, state.carry))
            for batch in splits.train.training_epoch(0, epoch, 32):
                state, _ = step(state, batch, dropout_key(0))
        followed = stateful.follow(splits.test, 32, model, state.params)
        losses[carried] = np.mean((followed["target"] - followed["answer"]) ** 2)
    assert losses[True] < 0.03
    assert losses[False] == pytest.approx(1 / 12, rel=0.1)


def test_following_a_series_is_in_its_order():
    config = Config(**SMALL, window=2, lag=3)
    splits = TASK.load(config)
    model = TASK.build(config, splits.info)
    params = model.init(jax.random.key(0), np.zeros((1, 2, 1), np.float32))["params"]
    followed = stateful.follow(splits.test, 4, model, params)
    # 60 windows in four rows of 15, the first of each is shorter than the lag.
    expected = [2 * window + 1 for window in range(60) if window % 15]
    assert followed["place"].tolist() == expected
    np.testing.assert_array_equal(followed["target"], splits.test.targets[expected])
    row = splits.test.values[30:60][None, :, None]
    np.testing.assert_allclose(followed["answer"][27], model.apply({"params": params}, row)[0], atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dataset": "series.csv"}, r"--dataset: expected auto or builtin, .*; got series.csv"),
        ({"length": 10, "window": 11}, r"--window: expected at most --length, 10 values; got 11"),
        ({"problem": "cosine", "length": 999}, r"--length: expected at least 4000, four turns of .*; got 999"),
        ({"length": 100, "batch_size": 10, "lag": 4}, r"--lag: expected at most 3, a third of .*; got 4"),
    ],
)
def test_settings_that_leave_nothing_to_learn(settings, message):
    with pytest.raises(InputError, match=message):
        TASK.load(Config(**settings))


def test_a_run_on_the_command_line(tmp_path, capsys, monkeypatch):
    from rnnjax.cli import main

    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    run = tmp_path / "run"
    line = ["train", "--task", "stateful", "--length", "200", "--batch-size", "4", "--epochs", "2", "--window", "2"]
    assert main([*line, "--workdir", str(run), "--diagnose"]) == 0
    results = json.loads((run / "results.json").read_text())
    assert (results["task"], results["model"], results["dataset"]) == ("stateful", "lstm", "builtin")
    assert {"test_loss", "val_loss"} <= results.keys()
    assert (run / "pictures" / "series.png").stat().st_size > 5_000
    capsys.readouterr()
    assert main([*line, "--workdir", str(run), "--resume"]) == 0
    cosine = ["--problem", "cosine", "--length", "4000"]
    assert main([*line, "--workdir", str(tmp_path / "other"), "--no-stateful", *cosine]) == 0
    assert main([*line, "--workdir", str(tmp_path / "bad"), "--lag", "17"]) == 2
    assert not (tmp_path / "bad").exists()
