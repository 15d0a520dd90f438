"""Contributions sum to the change of the logit and are those of float64 NumPy; activations those of single steps."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from sklearn.metrics import roc_auc_score

import rnnjax
from rnnjax.interpret import CHUNK, activations, class_scores, find_followers, integrated_gradients, unit_scores
from rnnjax.models.classifier import Classifier
from rnnjax.models.language_model import LanguageModel

ENCODERS = {
    "lstm": (lambda: rnnjax.LSTM(4, return_sequences=False), None),
    "gru": (lambda: rnnjax.GRU(4, reset_after=False, return_sequences=False), None),
    "stack": (lambda: rnnjax.Stack([rnnjax.LSTM(4), rnnjax.GRU(3, return_sequences=False)]), None),
    "bidirectional": (lambda: rnnjax.Bidirectional(rnnjax.SimpleRNN(4, return_sequences=False)), None),
    "mean": (lambda: rnnjax.LSTM(4), rnnjax.MeanPooling()),
    "attention": (lambda: rnnjax.Bidirectional(rnnjax.GRU(4)), rnnjax.AttentionPooling()),
    "max": (lambda: rnnjax.LSTM(4), rnnjax.MaxPooling()),
}
TOKENS = np.random.default_rng(0).integers(2, 9, size=(3, 6), dtype=np.int32)
LENGTHS = np.array([6, 3, 0], np.int32)


def make(encoder, num_classes, **options):
    """A model with weights in float64, large enough to saturate."""
    layer, pooling = ENCODERS[encoder]
    model = Classifier(9, num_classes, 5, layer(), pooling, **options)
    params = model.init(jax.random.key(1), TOKENS)["params"]
    draw = np.random.default_rng(2)
    return model, jax.tree.map(lambda leaf: jnp.asarray(draw.normal(size=leaf.shape) * 0.7, jnp.float64), params)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("encoder", "num_classes"), [*((name, 2) for name in ENCODERS), ("lstm", 3)])
def test_contributions_sum_to_the_change_of_the_logit(encoder, num_classes):
    model, params = make(encoder, num_classes)
    logits = np.asarray(model.apply({"params": params}, TOKENS, lengths=LENGTHS))
    blank = {**params, "embedding": {"embedding": jnp.zeros((9, 5))}}
    baseline = np.asarray(model.apply({"params": blank}, TOKENS, lengths=LENGTHS))
    if num_classes == 2:
        logits, baseline = np.hstack([-logits, logits]), np.hstack([-baseline, baseline])
    # The predicted class of each example, and another.
    rows = np.tile(np.arange(3), 2)
    classes = np.concatenate([logits.argmax(axis=1), (logits.argmax(axis=1) + 1) % num_classes])
    found = integrated_gradients(model, params, TOKENS[rows], LENGTHS[rows], classes=classes, tolerance=1e-7)
    np.testing.assert_allclose(found.score, logits[rows, classes], rtol=1e-12)
    np.testing.assert_allclose(found.baseline, baseline[rows, classes], rtol=1e-12)
    np.testing.assert_allclose(found.contributions.sum(axis=1), found.score - found.baseline, atol=1e-6)
    np.testing.assert_array_equal(found.contributions[[1, 4], 3:], 0)
    np.testing.assert_array_equal(found.contributions[[2, 5]], 0)
    assert np.abs(found.contributions[[0, 3]]).min() > 1e-6


@pytest.mark.usefixtures("x64")
def test_contributions_are_those_of_the_oracle():
    """NumPy's own LSTM, its derivative by differences along each step's vector, its integral by the midpoint rule."""
    model, params = make("lstm", 3)
    weights = oracles.by_gate(params["recurrent"]["recurrence"], oracles.LSTM_BLOCKS)
    kernel, bias = (np.asarray(params["output"][name], np.float64) for name in ("kernel", "bias"))
    vectors = np.asarray(params["embedding"]["embedding"])[TOKENS[0]]  # [T, E]

    def score(x):
        state = (np.zeros(4), np.zeros(4))
        for row in x:
            state = oracles.lstm_step(weights, state, row)
        return (state[0] @ kernel + bias)[1]

    expected, num_places, step = np.zeros(6), 100, 1e-5
    for place in (np.arange(num_places) + 0.5) / num_places:
        for t in range(6):
            along = np.zeros_like(vectors)
            along[t] = vectors[t] * step
            expected[t] += (score(place * vectors + along) - score(place * vectors - along)) / (2 * step) / num_places
    found = integrated_gradients(model, params, TOKENS[:1], classes=np.array([1]), tolerance=1e-6)
    np.testing.assert_allclose(found.contributions[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("x64")
def test_a_linear_model_is_explained_exactly():
    """Of a function that is linear in each vector, contributions are products."""
    model, params = make("mean", 2)

    class Linear(Classifier):
        def __call__(self, tokens, *, lengths=None, deterministic=True, vectors=None):
            return (vectors * jnp.arange(1.0, 31.0).reshape(1, 6, 5)).sum(axis=(1, 2))[:, None] + 7

    linear = Linear(9, 2, 5, model.encoder)
    found = integrated_gradients(linear, params, TOKENS[:1], classes=np.array([0]))
    vectors = np.asarray(params["embedding"]["embedding"])[TOKENS[0]]
    np.testing.assert_allclose(found.contributions[0], -(vectors * np.arange(1.0, 31.0).reshape(6, 5)).sum(axis=1))
    np.testing.assert_allclose(found.baseline, [-7])
    with pytest.raises(ValueError, match="tolerance"):
        integrated_gradients(linear, params, TOKENS, tolerance=0.0)


def test_a_model_that_changes_its_mind_at_once():
    """At a cliff on the path equal steps go wrong; the sum is right nevertheless, and so is each word's part of it."""

    class Cliff(Classifier):
        def __call__(self, tokens, *, lengths=None, deterministic=True, vectors=None):
            return jnp.tanh(3e4 * (vectors.sum(axis=(1, 2)) - 0.123))[:, None]

    model = Cliff(4, 2, 1, rnnjax.LSTM(1))
    params = {"embedding": {"embedding": jnp.array([[0.0], [0.5], [1.0], [-0.25]])}}
    found = integrated_gradients(model, params, np.array([[1, 2, 3]]), classes=np.array([1]))
    np.testing.assert_allclose([found.baseline[0], found.score[0]], [-1, 1])
    np.testing.assert_allclose(found.contributions[0], 2 * np.array([0.5, 1, -0.25]) / 1.25, atol=5e-3)


def test_class_scores():
    np.testing.assert_array_equal(class_scores(jnp.array([[3.0], [3.0]]), jnp.array([0, 1])), [-3, 3])
    np.testing.assert_array_equal(class_scores(jnp.array([[1.0, 2.0, 4.0]]), jnp.array([2])), [4])


def test_vectors_in_the_place_of_tokens():
    model = Classifier(9, 3, 5, rnnjax.GRU(4, return_sequences=False))
    variables = model.init(jax.random.key(0), TOKENS)
    vectors = variables["params"]["embedding"]["embedding"][TOKENS]
    given = model.apply(variables, TOKENS, lengths=LENGTHS, vectors=vectors)
    logits = model.apply(variables, TOKENS, lengths=LENGTHS)
    np.testing.assert_allclose(given, logits, rtol=1e-6, atol=1e-7)
    by_default = integrated_gradients(model, variables["params"], TOKENS, LENGTHS)  # the predicted classes
    np.testing.assert_allclose(by_default.score, logits.max(axis=1), rtol=1e-6, atol=1e-7)


STACKS = {
    "lstm": (lambda: [rnnjax.LSTM(5), rnnjax.LSTM(3)], "hc"),
    "gru": (lambda: [rnnjax.GRU(5)], "h"),
    "projected": (lambda: [rnnjax.LSTM(5, proj_size=2)], "hc"),
}


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("embedding_size", [0, 4])
def test_activations_are_those_of_single_steps(stack, embedding_size):
    """Each layer's cell called on one step after another, over the border of two chunks."""
    layers, parts = STACKS[stack]
    model = LanguageModel(7, embedding_size, rnnjax.Stack(layers()))
    tokens = np.random.default_rng(0).integers(7, size=CHUNK + 5, dtype=np.int32)
    params = jax.jit(model.init)(jax.random.key(0), tokens[None, :4])["params"]
    table = params["embedding"]["embedding"] if embedding_size else jnp.eye(7)
    cells = [layer.make_cell(parent=None) for layer in model.stack.layers]

    @jax.jit
    def step(states, token):
        x, after = table[token][None], []
        for number, (cell, state) in enumerate(zip(cells, states, strict=True)):
            variables = {"params": params["recurrent"][f"layer_{number}"]["recurrence"]}
            state, x = cell.apply(variables, state, x)
            after.append(state)
        return tuple(after)

    states, expected = model.initial_state(1), []
    for token in tokens:
        states = step(states, token)
        expected.append(states)
    for part in parts:
        found = activations(model, params, tokens, part)
        assert len(found) == len(cells)
        for number, values in enumerate(found):
            want = np.concatenate([getattr(state[number], part) for state in expected])
            np.testing.assert_allclose(values, want, rtol=1e-4, atol=1e-5)
    if parts == "h":
        with pytest.raises(ValueError, match="part must be one of h; got 'c'"):
            activations(model, params, tokens, "c")
    assert [values.shape[0] for values in activations(model, params, tokens[:0])] == [0] * len(cells)


def test_scores_are_those_of_scikit_learn_and_numpy():
    draw = np.random.default_rng(0)
    units = draw.normal(size=(60, 5)).astype(np.float32).round(1)  # with ties
    units[:, 3] = 0.25
    values = np.stack([draw.random(60) < 0.2, draw.normal(size=60), np.ones(60), draw.random(60) < 0.7]).astype(float)
    scores = unit_scores(units, values, np.array([True, False, True, True]))
    for row in (0, 3):
        np.testing.assert_allclose(scores[row], [roc_auc_score(values[row], unit) for unit in units.T])
    correlations = [np.corrcoef(values[1], unit)[0, 1] if unit.std() else 0 for unit in units.T]
    np.testing.assert_allclose(scores[1], correlations, atol=1e-12)
    assert np.isnan(scores[2]).all()


def test_followers_are_chosen_on_the_first_half():
    draw = np.random.default_rng(0)
    binary, numeric = draw.random(400) < 0.3, draw.normal(size=400)
    low, high = draw.normal(size=(400, 6)), draw.normal(size=(400, 4))
    low[:, 2] -= 3 * binary  # everywhere
    high[200:, 1] += 9 * binary[200:]  # too late to be chosen
    high[:200, 3] = numeric[:200]  # luck
    values = np.stack([binary, numeric, np.arange(400) < 200]).astype(float)
    first, second, third = find_followers([low, high], values, np.array([True, False, True]), 2)
    assert (first[0].layer, first[0].unit, first[0].sign) == (0, 2, -1)
    assert first[0].held_out == pytest.approx(roc_auc_score(binary[200:], -low[200:, 2]))
    assert first[0].chosen == pytest.approx(roc_auc_score(binary[:200], -low[:200, 2]))
    assert (second[0].layer, second[0].unit, second[0].sign) == (1, 3, 1)
    assert second[0].chosen == pytest.approx(1)
    assert second[0].held_out == pytest.approx(np.corrcoef(numeric[200:], high[200:, 3])[0, 1])
    assert abs(second[0].held_out) < 0.3
    assert third == []
