"""Dropout of whole sequences and of whole words: which values share a mask, and their scale."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.errors import InvalidRngError

import rnnjax

RNGS = {"dropout": jax.random.key(3)}


def test_one_mask_for_all_steps_and_one_for_each_sequence():
    x = np.random.default_rng(0).standard_normal((2, 40, 5, 6)).astype(np.float32) + 3
    y = np.asarray(rnnjax.VariationalDropout(0.25, deterministic=False).apply({}, x, rngs=RNGS))
    kept = y != 0  # x is nowhere 0
    np.testing.assert_array_equal(kept, np.broadcast_to(kept[:, :, :1], kept.shape))
    np.testing.assert_allclose(y, np.where(kept, x / 0.75, 0), rtol=1e-6)
    assert kept[:, :, 0].mean() == pytest.approx(0.75, abs=0.06)
    assert len(np.unique(kept[:, :, 0].reshape(80, 6), axis=0)) > 20


def test_what_is_dropped_reaches_nothing_and_gets_no_gradient():
    layer = rnnjax.VariationalDropout(0.5, deterministic=False)
    x = np.ones((3, 4, 8), np.float32)
    kept = np.asarray(layer.apply({}, x, rngs=RNGS)) != 0
    assert 0 < kept.sum() < kept.size
    x = np.where(kept, 1, np.nan)
    np.testing.assert_array_equal(layer.apply({}, x, rngs=RNGS), np.where(kept, 2, 0))
    gradient = jax.grad(lambda x: layer.apply({}, x, rngs=RNGS).sum())(x)
    np.testing.assert_array_equal(gradient, np.where(kept, 2, 0))


def test_a_call_overrides_the_field():
    x = jnp.ones((3, 4, 8))
    on, off = rnnjax.VariationalDropout(0.5, deterministic=False), rnnjax.VariationalDropout(0.5)
    np.testing.assert_array_equal(off.apply({}, x), x)
    np.testing.assert_array_equal(on.apply({}, x, deterministic=True), x)
    np.testing.assert_array_equal(rnnjax.VariationalDropout(0.0).apply({}, x, deterministic=False), x)
    np.testing.assert_array_equal(off.apply({}, x, deterministic=False, rngs=RNGS), on.apply({}, x, rngs=RNGS))
    with pytest.raises(InvalidRngError, match="dropout"):
        on.apply({}, x)


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_a_rate_without_meaning_is_refused(rate):
    with pytest.raises(ValueError, match="VariationalDropout expects 0 <= rate < 1"):
        rnnjax.VariationalDropout(rate)
    with pytest.raises(ValueError, match="Embedding expects 0 <= word_dropout_rate < 1"):
        rnnjax.Embedding(3, 2, word_dropout_rate=rate)


def test_inputs_without_steps_are_refused():
    with pytest.raises(ValueError, match=r"expects inputs \[..., T, D\]; got \(3,\)"):
        rnnjax.VariationalDropout(0.5).apply({}, jnp.ones(3))


def test_a_dropped_word_is_dropped_wherever_it_stands():
    table = np.random.default_rng(1).standard_normal((50, 3)).astype(np.float32)
    ids = np.random.default_rng(2).integers(50, size=(30, 20))
    layer = rnnjax.Embedding(50, 3, word_dropout_rate=0.4)
    variables = {"params": {"embedding": table}}
    y = np.asarray(layer.apply(variables, ids, deterministic=False, rngs=RNGS))
    rows = np.asarray(layer.apply(variables, np.arange(50), deterministic=False, rngs=RNGS))
    np.testing.assert_array_equal(y, rows[ids])  # one draw for the table, whatever the ids
    kept = rows.any(axis=1)
    np.testing.assert_allclose(rows, np.where(kept[:, None], table / 0.6, 0), rtol=1e-6)
    assert kept.mean() == pytest.approx(0.6, abs=0.2)
    gradient = jax.grad(lambda t: layer.apply({"params": {"embedding": t}}, ids, deterministic=False, rngs=RNGS).sum())
    counts = np.bincount(ids.ravel(), minlength=50)
    expected = np.broadcast_to((kept * counts / 0.6)[:, None], table.shape)
    np.testing.assert_allclose(gradient(table), expected, rtol=1e-5)


def test_word_dropout_is_off_unless_asked_for():
    table = np.random.default_rng(1).standard_normal((5, 3)).astype(np.float32)
    ids = np.array([[4, 0], [1, 1]])
    variables = {"params": {"embedding": table}}
    off = rnnjax.Embedding(5, 3, word_dropout_rate=0.4)
    on = rnnjax.Embedding(5, 3, word_dropout_rate=0.4, deterministic=False)
    np.testing.assert_array_equal(off.apply(variables, ids), table[ids])
    np.testing.assert_array_equal(on.apply(variables, ids, deterministic=True), table[ids])
    np.testing.assert_array_equal(rnnjax.Embedding(5, 3).apply(variables, ids, deterministic=False), table[ids])
    many = [np.asarray(on.apply(variables, ids, rngs={"dropout": jax.random.key(i)})) for i in range(300)]
    np.testing.assert_allclose(np.mean(many, axis=0), table[ids], atol=0.25)
    with pytest.raises(InvalidRngError, match="dropout"):
        on.apply(variables, ids)
