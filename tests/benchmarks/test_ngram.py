"""The n-gram models, against the formula worked out by counting afresh, and against what has to sum to one."""

import importlib.util
import math
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).resolve().parent.parent.parent / "benchmarks" / "ngram.py"
spec = importlib.util.spec_from_file_location("ngram", PATH)
assert spec is not None
assert spec.loader is not None
ngram = importlib.util.module_from_spec(spec)
sys.modules["ngram"] = ngram
spec.loader.exec_module(ngram)

TEXT = "abracadabra abba cab"


def brute_force(text, size, context, token):
    below = 1 / size if not context else brute_force(text, size, context[1:], token)
    places = range(len(text) - len(context))
    after = [text[i + len(context)] for i in places if text[i : i + len(context)] == context]
    if not after:
        return below
    return (after.count(token) + len(set(after)) * below) / (len(after) + len(set(after)))


@pytest.mark.parametrize("context", ["", "a", "ab", "bra", "xyz", "zab"])
def test_equals_the_formula_and_sums_to_one(context):
    alphabet = sorted({*TEXT, "z"})
    model = ngram.NGrams(TEXT, len(alphabet), 4)
    found = {token: model.probabilities(context, token) for token in alphabet}
    for order in range(len(context) + 1):
        suffix = context[len(context) - order :]
        expected = [brute_force(TEXT, len(alphabet), suffix, token) for token in alphabet]
        assert [found[token][order] for token in alphabet] == pytest.approx(expected, rel=1e-12)
        assert sum(expected) == pytest.approx(1)


def test_scores_the_rest_of_a_text():
    start = 14
    losses = [
        -math.log(brute_force(TEXT[:start], len(set(TEXT)), TEXT[place - 2 : place], TEXT[place]))
        for place in range(start, len(TEXT))
    ]
    assert ngram.scores(TEXT, start, 3)[3] == pytest.approx(sum(losses) / len(losses), rel=1e-12)
