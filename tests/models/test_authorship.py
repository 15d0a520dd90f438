"""The authors' language models against NumPy, a step at a time."""

import jax
import numpy as np

import rnnjax
from rnnjax.models.authorship import SHARPNESS, AuthorLanguageModel, probabilities

V, K = 7, 3
INPUTS = np.array([[1, 2, 3, 4, 5, 6], [1, 6, 0, 2, 0, 0], [1, 0, 0, 0, 0, 0]], np.int32)  # 0: unknown, or padding


def make():
    model = AuthorLanguageModel(V, K, embedding_size=4, units=5)
    params = model.init(jax.random.key(0), INPUTS)["params"]
    return model, params


def test_nats_are_those_of_each_authors_softmax():
    model, params = make()
    draw = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: draw.normal(size=leaf.shape).astype(np.float32), params)
    nats = model.apply({"params": params}, INPUTS)
    x = np.asarray(params["embedding"]["embedding"])[INPUTS[:, :-1]]
    h = np.asarray(rnnjax.GRU(5).apply({"params": params["recurrent"]}, x), np.float64)
    common, own = (
        {name: np.asarray(part, np.float64) for name, part in params[of].items()} for of in ("output", "authors")
    )
    for row in range(len(INPUTS)):
        expected = np.zeros(K)
        for t in range(INPUTS.shape[1] - 1):
            target = INPUTS[row, t + 1]
            if target == 0:
                continue
            for k in range(K):
                columns = slice(k * V, (k + 1) * V)
                logits = h[row, t] @ (common["kernel"] + own["kernel"][:, columns])
                logits += common["bias"] + own["bias"][columns]
                expected[k] += logits[target] - np.log(np.exp(logits).sum())
        np.testing.assert_allclose(nats[row], expected, rtol=1e-4, atol=1e-4)


def test_all_authors_begin_as_one():
    model, params = make()
    nats = np.asarray(model.apply({"params": params}, INPUTS))
    np.testing.assert_array_equal(nats, np.repeat(nats[:, :1], K, axis=1))
    assert nats[0, 0] < nats[1, 0] < nats[2, 0] == 0  # more characters, fewer, none
    np.testing.assert_allclose(probabilities(nats), np.full((3, K), 1 / K), rtol=1e-6)


def test_probabilities():
    nats = np.array([[-300.0, -310.0, -305.0]], np.float32)
    weights = np.exp(SHARPNESS * (nats.astype(np.float64) + 300))
    np.testing.assert_allclose(probabilities(nats), weights / weights.sum(), rtol=1e-5)
