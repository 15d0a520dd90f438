"""Masked sums, merged and divided."""

import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.metrics import masked_sum, means, merge, per_token


def test_what_stands_at_weight_0_is_left_out():
    values = jnp.array([[1.0, jnp.nan, 4.0], [jnp.inf, 8.0, -jnp.inf]])
    weight = jnp.array([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    total, count = masked_sum(values, weight)
    assert (float(total), float(count)) == (13, 3)


def test_parts_merge_to_the_whole():
    values = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    weight = (np.random.default_rng(1).random(1000) < 0.7).astype(np.float32)
    total = {}
    for part in np.array_split(np.arange(1000), 13):
        total = merge(total, {"loss": masked_sum(jnp.asarray(values[part]), jnp.asarray(weight[part]))})
    assert means(total)["loss"] == pytest.approx(values[weight > 0].mean(dtype=np.float64), rel=1e-5)
    assert total["loss"][1] == (weight > 0).sum()


def test_merge_counts_beyond_single_precision_and_changes_nothing():
    before = {"loss": (2.0**24, 2.0**24)}
    one = {"loss": (jnp.ones(()), jnp.ones(())), "accuracy": (jnp.ones(()), 2 * jnp.ones(()))}
    assert merge(before, one) == {"loss": (2**24 + 1, 2**24 + 1), "accuracy": (1, 2)}
    assert before == {"loss": (2.0**24, 2.0**24)}


def test_means_start_with_the_loss_and_leave_out_what_was_not_counted():
    assert list(means({"b": (1, 2), "loss": (3, 4), "a": (0, 5), "none": (0, 0)}).items()) == [
        ("loss", 0.75),
        ("a", 0),
        ("b", 0.5),
    ]


def test_a_loss_in_bits_and_as_perplexity():
    """Of a uniform guess among eight: three bits, and eight choices."""
    given = per_token({"loss": np.log(8.0), "other": 1.0})
    assert given == {"bits": pytest.approx(3), "perplexity": pytest.approx(8)}
    assert np.isfinite(per_token({"loss": 1e9})["perplexity"]), "results.json has no infinite numbers"
