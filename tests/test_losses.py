"""Cross-entropy against SciPy's logarithms, and padding that counts for nothing."""

import numpy as np
import scipy.special

from rnnjax import losses

RNG = np.random.default_rng(0)


def test_several_classes():
    logits, labels = RNG.normal(size=(5, 4)).astype(np.float32), np.array([0, 3, 1, 2, 2])
    weight = np.array([1, 1, 1, 1, 0], np.float32)
    sums = losses.classification(logits, {"labels": labels, "weight": weight})
    each = -scipy.special.log_softmax(logits.astype(np.float64), axis=1)[np.arange(5), labels]
    np.testing.assert_allclose(sums["loss"], (each[:4].sum(), 4), rtol=1e-6)
    np.testing.assert_allclose(sums["accuracy"], ((logits.argmax(axis=1) == labels)[:4].sum(), 4))


def test_two_classes_have_one_logit():
    logits, labels = RNG.normal(size=(6, 1)).astype(np.float32), np.array([0, 1, 0, 1, 1, 0])
    sums = losses.classification(logits, {"labels": labels, "weight": np.ones(6, np.float32)})
    probability = scipy.special.expit(logits[:, 0].astype(np.float64))
    each = -np.log(np.where(labels, probability, 1 - probability))
    np.testing.assert_allclose(sums["loss"], (each.sum(), 6), rtol=1e-6)
    np.testing.assert_allclose(sums["accuracy"], (((probability > 0.5) == labels).sum(), 6))


def test_one_logit_a_class_even_of_one_class():
    batch = {"labels": np.zeros(2, int), "weight": np.ones(2, np.float32)}
    sums = losses.cross_entropy(np.array([[3.0], [-3.0]], np.float32), batch)
    np.testing.assert_array_equal([sums["loss"], sums["accuracy"]], [(0, 2), (2, 2)])
