"""Vectors for token ids."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax


def test_initial_vectors_are_uniform_between_minus_and_plus_0_05_as_in_keras():
    ids = jnp.zeros((1, 1), jnp.int32)
    table = np.asarray(rnnjax.Embedding(200, 50).init(jax.random.key(0), ids)["params"]["embedding"])
    assert table.shape == (200, 50)
    assert -0.05 <= table.min() < -0.0499
    assert 0.0499 < table.max() <= 0.05
    assert abs(table.mean()) < 1e-3
    assert table.std() == pytest.approx(0.1 / np.sqrt(12), rel=0.02)


def test_an_id_gives_its_row():
    table = np.random.default_rng(0).standard_normal((7, 3)).astype(np.float32)
    ids = np.asarray([[0, 6, 2], [2, 2, 5]])
    y = rnnjax.Embedding(7, 3).apply({"params": {"embedding": table}}, ids)
    np.testing.assert_array_equal(y, table[ids])
