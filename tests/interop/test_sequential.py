"""`Sequential`, and rnnjax's own models as one."""

import functools

import jax
import numpy as np
import pytest
from flax import linen as nn

import rnnjax
from rnnjax.interop import Sequential
from rnnjax.interop.sequential import as_sequential
from rnnjax.models.classifier import Classifier
from rnnjax.models.language_model import LanguageModel

TOKENS = np.asarray([[3, 1, 2, 4], [2, 0, 1, 0], [0, 0, 0, 0]])


def make_model(**options):
    layers = {
        "embedding": rnnjax.Embedding(5, 3, word_dropout_rate=0.5),
        "drop": nn.Dropout(0.5),
        "locked": rnnjax.VariationalDropout(0.5),
        "lstm": rnnjax.LSTM(4, recurrent_dropout_rate=0.5),
        "both": rnnjax.Bidirectional(rnnjax.GRU(2)),
        "dense": nn.Dense(2),
        "tanh": nn.tanh,
    }
    return Sequential(layers, **options)


@pytest.fixture(scope="module")
def variables():
    return jax.jit(make_model().init)(jax.random.key(0), TOKENS)


def test_layers_run_in_turn_on_their_own_parameters(variables):

    @jax.jit
    def run(params):
        x = rnnjax.Embedding(5, 3).apply({"params": params["embedding"]}, TOKENS)
        x = rnnjax.LSTM(4).apply({"params": params["lstm"]}, x, mask=TOKENS != 0)
        x = rnnjax.Bidirectional(rnnjax.GRU(2)).apply({"params": params["both"]}, x, mask=TOKENS != 0)
        return nn.Dense(2).apply({"params": params["dense"]}, x)

    want = np.tanh(run(variables["params"]))
    for model, keywords in [(make_model(), {"mask": TOKENS != 0}), (make_model(mask_zero=True), {})]:
        got = jax.jit(lambda tokens, model=model, keywords=keywords: model.apply(variables, tokens, **keywords))(TOKENS)
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)


def test_lengths_and_zeros_both_mask(variables):
    got = jax.jit(make_model(mask_zero=True).apply)(variables, TOKENS, lengths=np.asarray([2, 4, 4]))
    want = jax.jit(make_model().apply)(
        variables, TOKENS, mask=(TOKENS != 0) & np.asarray([[1, 1, 0, 0]] + 2 * [[1] * 4], bool)
    )
    np.testing.assert_array_equal(got, want)


def test_states_are_carried(variables):
    layers = {name: layer for name, layer in make_model().layers.items() if name != "both"}
    layers["dense"] = nn.Dense(2)
    model = Sequential(layers)
    variables = jax.jit(model.init)(jax.random.key(1), TOKENS)
    run = jax.jit(functools.partial(model.apply, return_state=True))
    states, whole = run(variables, TOKENS)
    before, first = run(variables, TOKENS[:, :2])
    after, second = run(variables, TOKENS[:, 2:], initial_state=before)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), whole, rtol=0, atol=1e-6)
    assert len(after) == 1
    np.testing.assert_allclose(after[0].c, states[0].c, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="Sequential expects 1 initial states; got 2"):
        model.apply(variables, TOKENS, initial_state=before * 2)


def test_dropout_only_when_asked_for(variables):
    model = make_model()
    plain = model.apply(variables, TOKENS)
    noisy = [
        model.apply(variables, TOKENS, deterministic=False, rngs={"dropout": jax.random.key(n)}) for n in (0, 0, 1)
    ]
    np.testing.assert_array_equal(noisy[0], noisy[1])
    assert np.any(noisy[0] != noisy[2])
    assert np.any(noisy[0] != plain)


def test_names_that_would_hide_a_field():
    with pytest.raises(ValueError, match=r"expects names of layers other than layers, .*; got 'mask_zero'"):
        Sequential({"mask_zero": nn.Dense(1)})


def classifier(encoder, num_classes):
    return Classifier(vocabulary_size=5, num_classes=num_classes, embedding_size=3, encoder=encoder)


@pytest.mark.parametrize(
    "model",
    [
        classifier(rnnjax.Bidirectional(rnnjax.LSTM(4, return_sequences=False)), 2),
        classifier(rnnjax.Stack([rnnjax.GRU(4), rnnjax.GRU(3, return_sequences=False)]), 3),
        LanguageModel(vocabulary_size=5, embedding_size=3, stack=rnnjax.Stack([rnnjax.LSTM(4)]), dropout_rate=0.5),
        LanguageModel(vocabulary_size=5, embedding_size=0, stack=rnnjax.Stack([rnnjax.LSTM(4)] * 2)),
    ],
)
def test_models_as_sequential_give_the_same_outputs(model):
    variables = jax.jit(model.init)(jax.random.key(0), TOKENS)
    sequential, params = as_sequential(model, variables["params"])
    got = jax.jit(sequential.apply)({"params": params}, TOKENS)
    np.testing.assert_allclose(got, jax.jit(model.apply)(variables, TOKENS), rtol=0, atol=1e-6)


def test_other_models_are_refused():
    with pytest.raises(ValueError, match=r"got Dense\. Put its layers into a Sequential"):
        as_sequential(nn.Dense(3), {})
