"""The authorship model against NumPy, and its linear part against TF-IDF as scikit-learn weighs it."""

import jax
import numpy as np

from rnnjax.data import authors
from rnnjax.models.authorship import AuthorClassifier

TEXTS = ["the cat sat on the mat", "a dog", "the the the"]
BUCKETS, CLASSES = 512, 3


def make():
    model = AuthorClassifier(BUCKETS, CLASSES, embedding_size=4, units=3, linear_scale=2.0, num_words=8)
    batch = authors.encode(TEXTS, BUCKETS, num_words=8)
    arguments = {name: batch[name] for name in ("counts", "words", "lengths")}
    params = model.init(jax.random.key(0), batch["inputs"], **arguments)["params"]
    keys = iter(jax.random.split(jax.random.key(1), 2))
    params = {**params, "linear": jax.random.normal(next(keys), (BUCKETS, CLASSES))}
    params["idf"] = 1 + jax.random.uniform(next(keys), (BUCKETS,))
    return model, params, batch, arguments


def test_the_linear_part_is_a_dot_product_of_normalised_tfidf():
    model, params, batch, arguments = make()
    without = {**params, "linear": np.zeros((BUCKETS, CLASSES), np.float32)}
    both, deep = (model.apply({"params": p}, batch["inputs"], **arguments) for p in (params, without))
    idf, linear = np.asarray(params["idf"], np.float64), np.asarray(params["linear"], np.float64)
    for row in range(len(TEXTS)):
        z = np.zeros(BUCKETS)
        for bucket, count in zip(batch["inputs"][row].ravel(), batch["counts"][row].ravel(), strict=True):
            if count:
                z[bucket] = (1 + np.log(count)) * idf[bucket]
        expected = 2.0 * (z / np.linalg.norm(z)) @ linear
        np.testing.assert_allclose(both[row] - deep[row], expected, rtol=1e-3, atol=1e-4)


def test_padding_reaches_nothing():
    model, params, _, _ = make()
    for texts in (TEXTS[1:2], TEXTS):  # alone, and beside longer ones
        batch = authors.encode(texts, BUCKETS, num_places=60, num_words=8)
        logits = model.apply(
            {"params": params}, batch["inputs"], **{name: batch[name] for name in ("counts", "words", "lengths")}
        )
        row = logits[texts.index("a dog")]
        if len(texts) == 1:
            alone = row
    np.testing.assert_allclose(row, alone, rtol=1e-4, atol=1e-5)
