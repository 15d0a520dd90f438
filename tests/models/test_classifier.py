"""The classifier's probabilities, and that padding reaches nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax
from rnnjax.models.classifier import Classifier, probabilities

ENCODERS = {
    "layer": lambda: rnnjax.LSTM(4, return_sequences=False),
    "stack": lambda: rnnjax.Stack([rnnjax.GRU(4), rnnjax.GRU(3, return_sequences=False)]),
    "bidirectional": lambda: rnnjax.Bidirectional(rnnjax.SimpleRNN(4, return_sequences=False)),
}


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("num_classes", [2, 3])
def test_padding_reaches_nothing(encoder, num_classes):
    model = Classifier(9, num_classes, 5, ENCODERS[encoder]())
    tokens = np.random.default_rng(0).integers(9, size=(3, 6), dtype=np.int32)
    lengths = np.array([6, 2, 0], np.int32)
    variables = jax.jit(model.init)(jax.random.key(0), tokens)
    logits = model.apply(variables, tokens, lengths=lengths)
    assert logits.shape == (3, 1 if num_classes == 2 else 3)
    other = np.where(np.arange(6) < lengths[:, None], tokens, (tokens + 1) % 9)
    np.testing.assert_array_equal(model.apply(variables, other, lengths=lengths), logits)
    alone = model.apply(variables, tokens[1:2, :2])
    np.testing.assert_allclose(logits[1:2], alone, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(logits[2], variables["params"]["output"]["bias"], atol=1e-6)
    assert abs(logits[0] - logits[1]).max() > 1e-4


def test_output_is_the_dense_layer_over_the_last_real_step():
    model = Classifier(9, 3, 5, rnnjax.GRU(4, return_sequences=False))
    tokens = np.random.default_rng(1).integers(9, size=(2, 6), dtype=np.int32)
    params = jax.jit(model.init)(jax.random.key(0), tokens)["params"]
    x = params["embedding"]["embedding"][tokens]
    y = np.asarray(rnnjax.GRU(4).apply({"params": params["recurrent"]}, x))
    expected = y[np.arange(2), [3, 5]] @ np.asarray(params["output"]["kernel"]) + np.asarray(params["output"]["bias"])
    given = model.apply({"params": params}, tokens, lengths=np.array([4, 6], np.int32))
    np.testing.assert_allclose(given, expected, rtol=1e-5, atol=1e-6)


def test_probabilities():
    np.testing.assert_allclose(probabilities(jnp.array([[0.0], [jnp.log(3.0)]])), [[0.5, 0.5], [0.25, 0.75]], rtol=1e-6)
    logits = jnp.log(jnp.array([[0.2, 0.3, 0.5]])) + 7
    np.testing.assert_allclose(probabilities(logits), [[0.2, 0.3, 0.5]], rtol=1e-5)
