"""Zoneout: which units keep their value, how many, and what it draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import EVERY_CASE

import rnnjax
from rnnjax.cells.base import Constants

B, D, H = 3, 4, 5
RNGS = {"dropout": jax.random.key(3)}


def both(name: str, **rates):
    """(state before, after a step without zoneout, the cell with it, its variables, inputs)."""
    case = EVERY_CASE[name]
    width = case.input_width(D, H)
    variables = {"params": case.random_params(1, width, H)}
    state, x = case.random_state(2, B, H), np.random.default_rng(3).standard_normal((B, width))
    after, _ = case.make_cell(H).apply(variables, state, x)
    return state, after, case.make_cell(H, **rates), variables, x


@pytest.mark.parametrize("name", ["simple", "gru", "mgu", "indrnn", "min_gru"])
def test_without_dropout_it_is_the_expectation(name, x64):
    state, after, cell, variables, x = both(name, zoneout_rate=0.3)
    zoned, output = cell.apply(variables, state, x)
    np.testing.assert_allclose(zoned.h, 0.3 * state.h + 0.7 * after.h, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(output, zoned.h)


@pytest.mark.parametrize("name", ["lstm", "lstm_projected", "lstm_full_gate_recurrence"])
def test_the_cell_state_of_an_lstm_has_a_rate_of_its_own(name, x64):
    for rate, cell_rate in [(0.3, 0.0), (0.0, 0.4), (0.3, 0.4)]:
        state, after, cell, variables, x = both(name, zoneout_rate=rate, cell_zoneout_rate=cell_rate)
        zoned, output = cell.apply(variables, state, x)
        np.testing.assert_allclose(zoned.h, rate * state.h + (1 - rate) * after.h, rtol=0, atol=1e-14)
        np.testing.assert_allclose(zoned.c, cell_rate * state.c + (1 - cell_rate) * after.c, rtol=0, atol=1e-14)
        np.testing.assert_array_equal(output, zoned.h)
        for part, plain in zip(zoned[2:], after[2:], strict=True):  # what the gates were has none
            np.testing.assert_array_equal(part, plain)


def test_a_unit_is_either_old_or_new_and_the_share_of_old_ones_is_the_rate():
    rates = {"zoneout_rate": 0.3, "cell_zoneout_rate": 0.6}
    case, size = EVERY_CASE["lstm"], 60
    variables = {"params": case.random_params(1, D, size, np.float32)}
    state, x = case.random_state(2, size, size, np.float32), np.ones((size, D), np.float32)
    after, _ = case.make_cell(size).apply(variables, state, x)
    zoned, output = case.make_cell(size, **rates).apply(variables, state, x, deterministic=False, rngs=RNGS)
    old = [np.asarray(part == before) for part, before in zip(zoned, state, strict=True)]
    for is_old, part, new, rate in zip(old, zoned, after, rates.values(), strict=True):
        np.testing.assert_array_equal(np.asarray(part)[~is_old], np.asarray(new)[~is_old])
        assert is_old.mean() == pytest.approx(rate, abs=0.03)
        assert len(np.unique(is_old, axis=0)) == size  # other examples, other units
    assert np.mean(old[0] & old[1]) == pytest.approx(0.3 * 0.6, abs=0.03)  # drawn apart
    np.testing.assert_array_equal(output, zoned.h)


def test_a_step_draws_by_its_number_so_that_longer_sequences_draw_the_same():
    """And each step another draw, in chunks too, and in reverse by the number and not by the order."""
    x = np.random.default_rng(0).standard_normal((B, 6, D)).astype(np.float32)
    options = {"zoneout_rate": 0.4, "cell_zoneout_rate": 0.2, "deterministic": False}
    params = EVERY_CASE["lstm"].random_params(1, D, H, np.float32)

    def run(x, mask=None, **more):
        layer = rnnjax.LSTM(H, **options, **more)
        return jax.jit(layer.apply)({"params": {"recurrence": params}}, x, mask=mask, rngs=RNGS)

    y = run(x)
    np.testing.assert_allclose(run(x[:, :4]), y[:, :4], rtol=0, atol=1e-6)
    np.testing.assert_allclose(run(x, chunk_size=4), y, rtol=0, atol=1e-6)
    # Where all steps but one are masked, both directions take that one step, with the draw of its number.
    one = np.broadcast_to(np.arange(6) == 3, (B, 6))
    np.testing.assert_allclose(run(x, reverse=True, mask=one), run(x, mask=one), rtol=0, atol=1e-6)

    key = jax.random.key(9)
    cell = rnnjax.LSTMCell(H, zoneout_rate=0.4, cell_zoneout_rate=0.2)
    state, constants = cell.initial_state(B), Constants(zoneout_key=key)
    z = cell.apply({"params": params}, x[:, 0], constants, method="project")
    after, _ = cell.apply({"params": params}, state, z, constants, method="step")
    kept = []
    for number in range(3):
        zoned, _ = cell.apply({"params": params}, state, z, constants, number, method="advance")
        keys = jax.random.split(jax.random.fold_in(key, number), 2)
        for part, new, old, rate, one in zip(zoned, after, state, (0.4, 0.2), keys, strict=True):
            expected = np.where(jax.random.bernoulli(one, rate, new.shape), old, new)
            np.testing.assert_array_equal(part, expected)
        kept.append(np.asarray(zoned.h == 0))
    assert not np.array_equal(kept[0], kept[1])
    assert not np.array_equal(kept[1], kept[2])


def test_a_reset_step_keeps_what_the_reset_gave():
    """Zoneout holds on to the state that a step starts from, which after a reset is zero."""
    x = np.random.default_rng(0).standard_normal((B, 2, D)).astype(np.float32)
    apply = jax.jit(rnnjax.GRU(H, zoneout_rate=0.5).apply)
    variables = {"params": {"recurrence": EVERY_CASE["gru"].random_params(1, D, H, np.float32)}}
    y = apply(variables, x, resets=np.asarray([[False, True]] * B))
    fresh = apply(variables, x, resets=np.asarray([[True, False]] * B))
    alone = apply(variables, x[:, ::-1], resets=np.asarray([[True, False]] * B))
    np.testing.assert_allclose(y[:, 1], alone[:, 0], rtol=0, atol=1e-6)
    assert jnp.abs(y[:, 1] - fresh[:, 1]).max() > 1e-3
