"""Dropout masks of the cells: their values, and where they enter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.errors import InvalidRngError
from oracles import CASES, EVERY_CASE

from rnnjax.cells.base import Constants

B, D, H = 3, 4, 5


@pytest.mark.parametrize("name", ["simple", "lstm", "gru"])
def test_masks_are_zero_or_the_inverse_of_what_is_kept_with_mean_one(name):
    case = CASES[name]
    cell = case.make_cell(40, dropout_rate=0.25, recurrent_dropout_rate=0.6)
    variables = {"params": case.random_params(0, 50, 40, np.float32)}
    rngs = {"dropout": jax.random.key(1)}
    constants = cell.apply(variables, (200, 50), False, rngs=rngs, method="constants")
    for mask, rate, width in [(constants.input_mask, 0.25, 50), (constants.recurrent_mask, 0.6, 40)]:
        assert mask.shape == (200, width)
        kept = np.asarray(mask) != 0
        np.testing.assert_allclose(np.asarray(mask)[kept], 1 / (1 - rate), rtol=1e-6)
        assert kept.mean() == pytest.approx(1 - rate, abs=0.02)
        assert kept.mean(axis=0).min() > 0  # no column lost in all examples: rows are drawn one by one
        assert len(np.unique(kept, axis=0)) > 190


@pytest.mark.parametrize("name", CASES)
def test_step_applies_the_input_mask_to_x_and_the_recurrent_mask_to_h(name, x64):
    case = CASES[name]
    params = case.random_params(1, D, H)
    cell = case.make_cell(H, dropout_rate=0.5, recurrent_dropout_rate=0.3, deterministic=False)
    state = case.random_state(2, B, H)
    x = np.random.default_rng(3).standard_normal((B, D))
    rngs = {"dropout": jax.random.key(4)}
    constants = cell.apply({"params": params}, (B, D), rngs=rngs, method="constants")
    assert 0 < np.mean(np.asarray(constants.input_mask) == 0) < 1
    assert 0 < np.mean(np.asarray(constants.recurrent_mask) == 0) < 1
    new_state, output = cell.apply({"params": params}, state, x, rngs=rngs)
    z = cell.apply({"params": params}, x, constants, method="project")
    by_parts, _ = cell.apply({"params": params}, state, z, constants, method="step")
    weights = case.weights(params)
    for b in range(B):
        drop_x, drop_h = np.asarray(constants.input_mask)[b], np.asarray(constants.recurrent_mask)[b]
        expected = case.step(weights, tuple(part[b] for part in state), x[b] * drop_x, drop_h)
        np.testing.assert_allclose(output[b], expected[0], rtol=0, atol=1e-12)
        for got, parts, want in zip(new_state, by_parts, expected, strict=True):
            np.testing.assert_allclose(got[b], want, rtol=0, atol=1e-12)
            np.testing.assert_allclose(parts[b], want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["simple", "lstm", "gru", "gru_before"])
def test_deterministic_is_the_default_and_a_call_overrides_the_field(name):
    case = CASES[name]
    variables = {"params": case.random_params(1, D, H, np.float32)}
    state, x = case.random_state(2, B, H, np.float32), np.ones((B, D), np.float32)
    rates = {"dropout_rate": 0.5, "recurrent_dropout_rate": 0.5}
    rngs = {"dropout": jax.random.key(0)}
    _, plain = case.make_cell(H).apply(variables, state, x)
    _, default = case.make_cell(H, **rates).apply(variables, state, x)
    _, field = case.make_cell(H, deterministic=False, **rates).apply(variables, state, x, rngs=rngs)
    _, keyword = case.make_cell(H, **rates).apply(variables, state, x, deterministic=False, rngs=rngs)
    _, overridden = case.make_cell(H, deterministic=False, **rates).apply(variables, state, x, deterministic=True)
    np.testing.assert_array_equal(default, plain)
    np.testing.assert_array_equal(overridden, plain)
    np.testing.assert_array_equal(field, keyword)
    assert np.abs(np.asarray(field) - np.asarray(plain)).max() > 1e-3


def test_only_a_rate_above_zero_draws_and_the_two_masks_are_different_draws():
    case = CASES["lstm"]
    variables = {"params": case.random_params(0, 30, 30, np.float32)}
    rngs = {"dropout": jax.random.key(0)}

    def constants(**rates) -> Constants:
        return case.make_cell(30, **rates).apply(variables, (8, 30), False, rngs=rngs, method="constants")

    assert constants() == Constants()
    assert constants(dropout_rate=0.5).recurrent_mask is None
    assert constants(recurrent_dropout_rate=0.5).input_mask is None
    both = constants(dropout_rate=0.5, recurrent_dropout_rate=0.5)
    assert np.mean(np.asarray(both.input_mask) == np.asarray(both.recurrent_mask)) < 0.65


def test_without_a_key_the_error_is_the_one_of_flax():
    case = CASES["gru"]
    variables = {"params": case.random_params(0, D, H, np.float32)}
    cell = case.make_cell(H, dropout_rate=0.5, deterministic=False)
    with pytest.raises(InvalidRngError, match="dropout"):
        cell.apply(variables, cell.initial_state(B), jnp.ones((B, D)))


@pytest.mark.parametrize(
    ("name", "way"),
    [("lstm", "scan"), ("lstm", "fused"), ("gru_before", "scan"), ("gru_before", "fused"), ("indrnn", "scan")],
)
def test_weight_drop_is_one_mask_of_the_kernel_for_all_steps_and_examples(name, way, x64):
    """The call is that of a plain layer with the masked kernel, in values and in gradients."""
    case, features = EVERY_CASE[name], 8
    params, x = case.random_params(1, D, features), np.random.default_rng(2).standard_normal((B, 4, D))
    layer = case.make_layer(features, weight_drop_rate=0.4, deterministic=False, implementation=way)
    plain = case.make_layer(features, implementation="scan")
    _, drawn = layer.apply(
        {"params": {"recurrence": params}},
        x,
        rngs={"dropout": jax.random.key(4)},
        capture_intermediates=lambda module, method: method == "constants",
        mutable=["intermediates"],
    )
    mask = drawn["intermediates"]["recurrence"]["constants"][0].kernel_mask
    assert mask.shape == params["recurrent_kernel"].shape
    np.testing.assert_allclose(np.unique(mask), [0, 1 / 0.6], rtol=1e-6)

    def loss(params, x, model, kernel_mask):
        params = {**params, "recurrent_kernel": params["recurrent_kernel"] * kernel_mask}
        y = model.apply({"params": {"recurrence": params}}, x, rngs={"dropout": jax.random.key(4)})
        return jnp.sum(jnp.sin(3 * y)), y

    run = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True), static_argnums=2)
    dropped, masked = run(params, x, layer, 1.0), run(params, x, plain, mask)
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=0, atol=1e-6), dropped, masked)
    gradient = np.asarray(dropped[1][0]["recurrent_kernel"])
    np.testing.assert_array_equal(gradient[np.asarray(mask) == 0], 0)
    assert np.any(gradient != 0)


def test_the_share_of_dropped_weights_is_the_rate():
    cell = CASES["lstm"].make_cell(50, weight_drop_rate=0.3, deterministic=False)
    constants = cell.apply({}, (B, D), rngs={"dropout": jax.random.key(0)}, method="constants")
    assert np.mean(np.asarray(constants.kernel_mask) == 0) == pytest.approx(0.3, abs=0.02)
    assert cell.apply({}, (B, D), True, method="constants") == Constants()
