"""The bag of words, and the classifier over it, against NumPy."""

import jax
import numpy as np

from rnnjax.models.bag import BagClassifier, bag_of_words

TOKENS = np.array([[3, 3, 1, 4], [2, 4, 4, 2]], np.int32)
LENGTHS = np.array([3, 2], np.int32)


def test_each_word_counts_once_and_padding_never():
    expected = [[0, 1, 0, 1, 0, 0], [0, 0, 1, 0, 1, 0]]
    np.testing.assert_array_equal(bag_of_words(TOKENS, LENGTHS, 6), expected)
    padded = np.where(np.arange(4) < LENGTHS[:, None], TOKENS, 0)
    np.testing.assert_array_equal(bag_of_words(padded, None, 6), expected)


def test_logits_are_those_of_two_dense_layers():
    model = BagClassifier(6, 3, units=5)
    params = model.init(jax.random.key(0), TOKENS)["params"]
    params = jax.tree.map(lambda leaf: jax.random.normal(jax.random.key(leaf.size), leaf.shape), params)

    logits = model.apply({"params": params}, TOKENS, lengths=LENGTHS)

    weights = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    bag = np.array([[0, 1, 0, 1, 0, 0], [0, 0, 1, 0, 1, 0]])
    hidden = np.maximum(bag @ weights["hidden"]["kernel"] + weights["hidden"]["bias"], 0)
    np.testing.assert_allclose(logits, hidden @ weights["output"]["kernel"] + weights["output"]["bias"], rtol=1e-5)


def test_dropout_scales_what_it_leaves():
    model = BagClassifier(6, 3, units=2000, dropout_rate=0.5)
    params = model.init(jax.random.key(0), TOKENS)["params"]
    params["output"]["kernel"] = np.full((2000, 3), 1e-3, np.float32)
    clean = model.apply({"params": params}, TOKENS, lengths=LENGTHS)
    dropped = model.apply(
        {"params": params}, TOKENS, lengths=LENGTHS, deterministic=False, rngs={"dropout": jax.random.key(1)}
    )
    np.testing.assert_allclose(dropped, clean, rtol=0.15)
    assert np.abs(dropped - clean).max() > 1e-4
