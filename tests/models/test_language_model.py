"""The language model: steps with a carried state are one pass, and no step sees what follows it."""

import jax
import numpy as np
import pytest

import rnnjax
from rnnjax.models.language_model import LanguageModel

TOKENS = np.random.default_rng(0).integers(7, size=(2, 11), dtype=np.int32)


@pytest.fixture(params=[rnnjax.LSTM, rnnjax.GRU])
def trained(request):
    model = LanguageModel(7, 5, rnnjax.Stack([request.param(6), request.param(4, dropout_rate=0.5)]), dropout_rate=0.5)
    return model, jax.jit(model.init)(jax.random.key(0), TOKENS)


def test_carried_state_is_one_pass(trained):
    model, variables = trained
    expected_state, expected = model.apply(variables, TOKENS, return_state=True)
    state, logits = model.initial_state(2), []
    for start, end in ((0, 1), (1, 6), (6, 11)):
        state, part = model.apply(variables, TOKENS[:, start:end], initial_state=state, return_state=True)
        logits.append(part)
    np.testing.assert_allclose(np.concatenate(logits, axis=1), expected, rtol=1e-4, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), state, expected_state)


def test_no_step_sees_what_follows(trained):
    model, variables = trained
    logits = model.apply(variables, TOKENS)
    changed = TOKENS.copy()
    changed[:, 6] = (changed[:, 6] + 1) % 7
    difference = np.abs(np.asarray(model.apply(variables, changed) - logits)).max(axis=(0, 2))
    assert (difference[:6] == 0).all()
    assert (difference[6:] > 0).all()


def test_padding_leaves_the_state(trained):
    model, variables = trained
    state, _ = model.apply(variables, TOKENS, lengths=np.array([4, 11], np.int32), return_state=True)
    expected, _ = model.apply(variables, TOKENS[:1, :4], return_state=True)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[:1], b, rtol=1e-4, atol=1e-6), state, expected)


def test_dropout_only_where_asked_for(trained):
    model, variables = trained
    key = jax.random.key(1)
    plain = model.apply(variables, TOKENS)
    dropped = model.apply(variables, TOKENS, deterministic=False, rngs={"dropout": key})
    again = model.apply(variables, TOKENS, deterministic=False, rngs={"dropout": key})
    np.testing.assert_array_equal(dropped, again)
    assert np.abs(np.asarray(dropped - plain)).max() > 1e-4


def test_one_hot_is_an_identity_as_embedding():
    stack = rnnjax.Stack([rnnjax.LSTM(4)])
    plain = LanguageModel(7, 0, stack)
    variables = plain.init(jax.random.key(0), TOKENS)
    assert "embedding" not in variables["params"]
    embedded = {"params": {**variables["params"], "embedding": {"embedding": np.eye(7, dtype=np.float32)}}}
    expected = LanguageModel(7, 7, stack).apply(embedded, TOKENS)
    np.testing.assert_allclose(plain.apply(variables, TOKENS), expected, rtol=1e-6)
