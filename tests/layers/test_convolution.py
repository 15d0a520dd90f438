"""Convolution and block maxima against NumPy over the real steps alone; padding reaches nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from rnnjax.layers.convolution import Convolution, largest_of_blocks, num_blocks, num_windows

B, T, D, F, SIZE = 5, 7, 3, 4, 3
LENGTHS = np.array([7, 0, 3, 5, 2], np.int32)
WINDOWS = [5, 0, 1, 3, 1]
X = np.random.default_rng(0).standard_normal((B, T, D))
PARAMS = {
    "kernel": np.random.default_rng(1).standard_normal((SIZE, D, F)),
    "bias": np.random.default_rng(2).standard_normal(F),
}


def convolve(steps, params=PARAMS):
    """The equation of the docstring in float64; steps that a short sequence lacks are zeros."""
    if len(steps) == 0:
        return np.zeros((0, F))
    steps = np.concatenate([steps, np.zeros((max(SIZE - len(steps), 0), D))])
    rows = [
        params["bias"] + sum(steps[t + i] @ params["kernel"][i] for i in range(SIZE))
        for t in range(len(steps) - SIZE + 1)
    ]
    return np.maximum(np.array(rows), 0)


def test_windows_of_real_steps_alone(x64):
    layer = Convolution(F, SIZE)
    poisoned = np.where(np.arange(T)[None, :, None] < LENGTHS[:, None, None], X, np.nan)
    y = np.asarray(jax.jit(layer.apply)({"params": PARAMS}, poisoned, lengths=LENGTHS))
    assert num_windows(LENGTHS, SIZE).tolist() == WINDOWS
    assert y.shape == (B, T - SIZE + 1, F)
    for row, length, count in zip(range(B), LENGTHS, WINDOWS, strict=True):
        np.testing.assert_allclose(y[row, :count], convolve(X[row, :length]), rtol=0, atol=1e-12)
        np.testing.assert_array_equal(y[row, count:], 0)
    np.testing.assert_allclose(
        layer.apply({"params": PARAMS}, X), [convolve(row) for row in X], rtol=0, atol=1e-12
    )  # no lengths: all steps are real
    short = layer.apply({"params": PARAMS}, X[:, :2])
    np.testing.assert_allclose(short, [convolve(row[:2]) for row in X], rtol=0, atol=1e-12)
    assert num_windows(None, SIZE) is None


def test_it_is_the_convolution_of_flax(x64):
    flax = nn.Conv(F, (SIZE,), padding="VALID", param_dtype=jnp.float64)
    ours = Convolution(F, SIZE, activation=lambda x: x)
    np.testing.assert_allclose(
        ours.apply({"params": PARAMS}, X), flax.apply({"params": PARAMS}, X), rtol=0, atol=1e-12
    )  # parameters of the same names and shapes


def test_gradients_of_real_steps_and_none_of_padding(x64):
    weight = np.random.default_rng(3).standard_normal((B, T - SIZE + 1, F))
    layer = Convolution(F, SIZE, activation=jnp.tanh)

    def value(params, x):
        return jnp.sum(weight * layer.apply({"params": params}, x, lengths=LENGTHS))

    real = np.arange(T)[None, :] < LENGTHS[:, None]
    of_params, of_x = jax.grad(value, argnums=(0, 1))(PARAMS, np.where(real[..., None], X, np.nan))
    np.testing.assert_array_equal(np.asarray(of_x)[~real], 0)
    draw = np.random.default_rng(4)
    direction = {name: draw.standard_normal(leaf.shape) for name, leaf in PARAMS.items()}
    step, turn = 1e-6, draw.standard_normal(X.shape)
    ends = [
        value({name: leaf + sign * step * direction[name] for name, leaf in PARAMS.items()}, X + sign * step * turn)
        for sign in (1, -1)
    ]
    slope = sum(np.sum(direction[name] * np.asarray(of_params[name])) for name in PARAMS) + np.sum(turn * of_x)
    assert slope == pytest.approx(float(ends[0] - ends[1]) / (2 * step), rel=1e-7)
    assert all(np.isfinite(leaf).all() for leaf in of_params.values())


def test_rounded_operands():
    x, params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), (X, PARAMS))

    def rounded(array):
        return array.astype(jnp.bfloat16).astype(jnp.float32)

    y = Convolution(F, SIZE, matmul_dtype=jnp.bfloat16).apply({"params": params}, x)
    plain = Convolution(F, SIZE).apply
    np.testing.assert_allclose(
        y, plain({"params": {**params, "kernel": rounded(params["kernel"])}}, rounded(x)), atol=1e-5
    )
    assert np.abs(y - plain({"params": params}, x)).max() > 1e-4


def test_initial_parameters():
    params = Convolution(64, 5).init(jax.random.key(0), jnp.zeros((1, 9, 32)))["params"]
    assert params["kernel"].shape == (5, 32, 64)
    limit = np.sqrt(6 / (5 * 32 + 5 * 64))  # Keras's glorot_uniform of a Conv1D
    assert 0.98 * limit < np.abs(params["kernel"]).max() <= limit
    np.testing.assert_array_equal(params["bias"], 0)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 9])
def test_largest_of_blocks(size, x64):
    negative = X - 5  # of which a zero of padding would be the largest
    poisoned = np.where(np.arange(T)[None, :, None] < LENGTHS[:, None, None], negative, np.nan)
    y = np.asarray(jax.jit(largest_of_blocks, static_argnums=1)(poisoned, size, LENGTHS))
    counts = num_blocks(LENGTHS, size)
    assert y.shape == (B, -(-T // size), D)
    for row, length in enumerate(LENGTHS):
        starts = range(0, length, size)
        assert counts[row] == len(starts)
        expected = [negative[row, start : min(start + size, length)].max(axis=0) for start in starts]
        np.testing.assert_array_equal(y[row, : len(starts)], np.reshape(expected, (-1, D)))
        np.testing.assert_array_equal(y[row, len(starts) :], 0)
    np.testing.assert_array_equal(
        largest_of_blocks(negative, size), largest_of_blocks(negative, size, np.full(B, T, np.int32))
    )
    gradient = np.asarray(jax.grad(lambda x: jnp.sum(largest_of_blocks(x, size, LENGTHS)))(poisoned))
    np.testing.assert_array_equal(gradient.sum(axis=1), np.repeat(np.asarray(counts)[:, None], D, axis=1))
    assert num_blocks(None, size) is None


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="Convolution expects kernel_size >= 1; got 0"):
        Convolution(4, 0)
    with pytest.raises(ValueError, match=r"Convolution expects inputs \[B, T, D\]; got \(7, 3\)"):
        Convolution(F, SIZE).apply({"params": PARAMS}, X[0])
    with pytest.raises(ValueError, match="Convolution expects lengths as integers"):
        Convolution(F, SIZE).apply({"params": PARAMS}, X, lengths=LENGTHS[1:])
