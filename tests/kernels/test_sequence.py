"""Functions on arrays that every recurrence over a padded batch uses."""

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax.kernels.sequence import mask_from_lengths, normalise, select, sigmoid, zero_where_masked


def test_sigmoid_is_the_logistic_function_with_its_derivative(x64):
    x = np.linspace(-30, 30, 41)
    expected = 1 / (1 + np.exp(-x))
    np.testing.assert_allclose(sigmoid(jnp.asarray(x)), expected, rtol=0, atol=1e-15)
    slopes = jax.vmap(jax.grad(sigmoid))(jnp.asarray(x))
    np.testing.assert_allclose(slopes, expected * (1 - expected), rtol=0, atol=1e-15)


def test_sigmoid_saturates_without_nan():
    x = jnp.asarray([-jnp.inf, -1e30, 1e30, jnp.inf])
    np.testing.assert_array_equal(sigmoid(x), [0, 0, 1, 1])
    np.testing.assert_array_equal(jax.vmap(jax.grad(sigmoid))(x), [0, 0, 0, 0])


def test_mask_from_lengths():
    mask = mask_from_lengths(jnp.asarray([0, 1, 3, 4, 9]), 4)
    np.testing.assert_array_equal(
        mask, [[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 1]], strict=False
    )
    assert mask.dtype == bool


def test_select_chooses_by_example_in_every_leaf():
    a = (jnp.asarray([1.0, 2.0]), jnp.arange(4.0).reshape(2, 2), jnp.arange(8.0).reshape(2, 2, 2))
    b = jax.tree.map(lambda leaf: -leaf - 10, a)
    chosen = select(jnp.asarray([True, False]), a, b)
    for got, on_true, on_false in zip(chosen, a, b, strict=True):
        np.testing.assert_array_equal(got[0], on_true[0])
        np.testing.assert_array_equal(got[1], on_false[1])


def test_zero_where_masked_stops_nan_in_values_and_gradients():
    mask = jnp.asarray([[True, False], [False, True]])
    x = jnp.asarray([[[1.0, 2.0], [jnp.nan, jnp.inf]], [[-jnp.inf, jnp.nan], [3.0, 4.0]]])
    np.testing.assert_array_equal(zero_where_masked(mask, x), [[[1, 2], [0, 0]], [[0, 0], [3, 4]]])
    gradient = jax.grad(lambda x: jnp.sum(zero_where_masked(mask, x) ** 2))(x)
    np.testing.assert_array_equal(gradient, [[[2, 4], [0, 0]], [[0, 0], [6, 8]]])


def test_normalise_takes_each_group_by_itself(x64):
    rng = np.random.default_rng(0)
    x, scale = rng.standard_normal((4, 2, 12)) * 3 + 5, rng.standard_normal(12)
    for groups, ends in [((1,), [12]), ((2, 1), [8, 12]), ((1, 1, 1), [4, 8, 12]), ((1, 3), [3, 12])]:
        parts = np.split(x, ends[:-1], axis=-1)
        normal = [
            (part - part.mean(axis=-1, keepdims=True)) / np.sqrt(part.var(axis=-1, keepdims=True) + 1e-5)
            for part in parts
        ]
        got = normalise(jnp.asarray(x), jnp.asarray(scale), groups)
        np.testing.assert_allclose(got, np.concatenate(normal, axis=-1) * scale, rtol=0, atol=1e-12)


def test_normalise_of_equal_values_is_zero_with_finite_gradients():
    x, scale = jnp.full((2, 4), 7.0), jnp.ones(4)
    np.testing.assert_array_equal(normalise(x, scale, (1,)), np.zeros((2, 4)))
    gradient = jax.grad(lambda x: jnp.sum(normalise(x, scale, (1,)) * jnp.arange(4.0)[None]))(x)
    expected = (np.arange(4) - 1.5) / np.sqrt(1e-5)
    np.testing.assert_allclose(gradient, np.tile(expected, (2, 1)), rtol=1e-5)
