"""Log-count ratios against a count by hand, with exact fractions."""

import math
from fractions import Fraction

import numpy as np
import pytest

from rnnjax.data.naive_bayes import log_count_ratios


@pytest.mark.parametrize("num_classes", [2, 3])
def test_against_fractions(num_classes):
    draw = np.random.default_rng(num_classes)
    num_texts, longest, num_ids = 40, 7, 12
    inputs = draw.integers(num_ids, size=(num_texts, longest), dtype=np.int32)
    lengths = draw.integers(longest + 1, size=num_texts).astype(np.int32)
    labels = draw.integers(num_classes, size=num_texts).astype(np.int32)
    found = log_count_ratios(inputs, lengths, labels, num_ids, num_classes)
    texts = [set(row[:length].tolist()) for row, length in zip(inputs, lengths, strict=True)]
    for column, wanted in enumerate([1] if num_classes == 2 else range(num_classes)):
        counts = [
            [
                1 + sum(v in text for text, label in zip(texts, labels, strict=True) if (label == wanted) == side)
                for v in range(num_ids)
            ]
            for side in (True, False)
        ]
        for v in range(num_ids):
            ratio = Fraction(counts[0][v], sum(counts[0])) / Fraction(counts[1][v], sum(counts[1]))
            assert found[v, column] == pytest.approx(math.log(ratio), abs=1e-6)
    assert found.shape == (num_ids, 1 if num_classes == 2 else num_classes)
    assert found.dtype == np.float32
