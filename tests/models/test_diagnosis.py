"""Gradients by states are those of a recurrence unrolled in float64 NumPy; gates and units are counted by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from flax import linen as nn

import rnnjax
from rnnjax.layers.pooling import MeanPooling
from rnnjax.models.classifier import Classifier
from rnnjax.models.diagnosis import DEAD, diagnose, look
from rnnjax.models.language_model import LanguageModel

B, T, D, H = 3, 4, 2, 2
LENGTHS = np.array([4, 2, 0], np.int32)
WEIGHTS = np.cos(np.arange(B * T * H)).reshape(B, T, H)


def loss(outputs):
    """Sees every output, and is linear in none."""
    return (WEIGHTS * (outputs + 0.5 * outputs**2)).sum()


def looked(model, params, loss, *inputs, **keywords):
    """`look`, compiled."""
    return jax.jit(lambda params, inputs, keywords: look(model, params, loss, *inputs, **keywords))(
        params, inputs, keywords
    )


def diagnosed(model, params, loss, *inputs, **keywords):
    """`diagnose`, compiled."""
    return jax.jit(lambda params, inputs, keywords: diagnose(model, params, loss, *inputs, **keywords))(
        params, inputs, keywords
    )


def unrolled(case, params, x, shifts, lengths, reverse):
    """Outputs of the oracle whose state after each step is shifted, each part by an array [T, B, H]."""
    weights = case.weights(params)
    outputs = np.zeros((B, T, H))
    for b in range(B):
        state = tuple(np.zeros(H) for _ in shifts)
        for t in reversed(range(T)) if reverse else range(T):
            if t < lengths[b]:
                state = case.step(weights, state, x[b, t])
                state = tuple(part + shift[t, b] for part, shift in zip(state, shifts, strict=True))
                outputs[b, t] = state[0]
    return outputs


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", ["lstm", "lstm_peephole", "gru", "gru_before", "simple"])
def test_gradients_by_states(name, reverse, x64):
    case = oracles.CASES[name]
    params = case.random_params(0, D, H)
    x = np.random.default_rng(1).standard_normal((B, T, D))
    zeros = tuple(np.zeros((T, B, H)) for _ in range(case.num_states))

    def by_oracle(shifts):
        return loss(unrolled(case, params, x, shifts, LENGTHS, reverse))

    want = oracles.central_differences(by_oracle, zeros)
    layer = case.make_layer(H, reverse=reverse)
    value, by_params, layers = looked(layer, {"recurrence": params}, loss, x, lengths=LENGTHS)
    assert value == pytest.approx(by_oracle(zeros), rel=1e-12)
    (path,) = layers
    assert path == ""
    assert len(layers[""].gradients) == len(want)
    for got, expected in zip(layers[""].gradients, want, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-9)
    first = T - 1 if reverse else 0  # of the longest example; after the last step only an output follows
    assert all((np.abs(part[first, 0]) > 1e-4).any() for part in want), "early steps are to count"
    np.testing.assert_array_equal(layers[""].mask, np.arange(T)[:, None] < LENGTHS)
    np.testing.assert_allclose(
        np.swapaxes(layers[""].states.h, 0, 1) * layers[""].mask.T[..., None],
        unrolled(case, params, x, zeros, LENGTHS, reverse),
        atol=1e-12,
    )
    by_autodiff = jax.jit(jax.grad(lambda params: loss(layer.apply({"params": params}, x, lengths=LENGTHS))))
    direct = by_autodiff({"recurrence": params})
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), by_params, direct)

    described = diagnosed(layer, {"recurrence": params}, loss, x, rows=np.array([True, True, False]), lengths=LENGTHS)
    for part, expected in zip(layers[""].states._fields, want, strict=True):
        norms = np.sqrt((expected**2).sum(axis=2))  # [T, B]
        counts = np.array([2, 2, 1, 1])
        np.testing.assert_allclose(
            described["layers"][""]["state_gradients"][part], 2 * norms.sum(axis=1) / counts, rtol=1e-6, atol=1e-9
        )
    np.testing.assert_allclose(
        described["parameter_gradients"]["recurrence/kernel"],
        np.linalg.norm(direct["recurrence"]["kernel"]),
        rtol=1e-9,
    )


@pytest.mark.parametrize("name", ["lstm", "gru", "gru_before"])
def test_gates_are_those_that_make_the_next_state(name, x64):
    case = oracles.CASES[name]
    params = {key: 3 * value for key, value in case.random_params(0, D, H).items()}
    x = np.random.default_rng(1).standard_normal((B, T, D))
    layer = case.make_layer(H)
    described = diagnosed(layer, {"recurrence": params}, loss, x, lengths=LENGTHS)["layers"][""]
    _, _, layers = looked(layer, {"recurrence": params}, loss, x, lengths=LENGTHS)
    states, weights = layers[""].states, case.weights(params)
    opened = {gate: [] for gate in weights if gate != "candidate"}
    for b in range(B):
        h = np.zeros(H)
        for t in range(LENGTHS[b]):
            for gate, values in opened.items():
                own = weights[gate]
                values.append(oracles.sigmoid(x[b, t] @ own.W + h @ own.U + own.b + own.v))
                np.testing.assert_allclose(layers[""].gates[gate][t, b], values[-1], atol=1e-12)
            h = np.asarray(states.h[t, b])
    assert set(layers[""].gates) == set(opened)
    for gate, values in opened.items():
        assert described["gates"][gate]["below"] == pytest.approx(np.mean(np.array(values) < 0.1))
        assert described["gates"][gate]["above"] == pytest.approx(np.mean(np.array(values) > 0.9))
    assert sum(float(share["above"]) for share in described["gates"].values()) > 0


def test_dead_units():
    """Of a layer of rectified units with large negative biases; padding, which is constant too, does not count."""
    bias = np.array([-100.0, 0.5], np.float32)
    layer = rnnjax.SimpleRNN(H, activation_fn=jax.nn.relu)
    x = np.random.default_rng(0).standard_normal((B, T, D)).astype(np.float32)
    params = layer.init(jax.random.key(0), x)["params"]
    params = {"recurrence": {**params["recurrence"], "bias": bias}}
    described = diagnosed(layer, params, jnp.sum, x, lengths=np.array([T, 1, 0]))["layers"][""]
    assert (int(described["dead_units"]), int(described["units"]), described["gates"]) == (1, H, {})
    outputs = layer.apply({"params": params}, x)
    real = np.concatenate([outputs[0], outputs[1, :1]])
    assert ((real.std(axis=0) < DEAD) == [True, False]).all()


def models():
    """Every layer over vectors inside the combinators, or alone."""
    pairs = {
        "lstm, gru": (rnnjax.LSTM, rnnjax.GRU),
        "simple, indrnn": (rnnjax.SimpleRNN, rnnjax.IndRNN),
        "mgu, irnn": (rnnjax.MGU, rnnjax.IRNN),
        "min_gru, min_lstm": (rnnjax.MinGRU, rnnjax.MinLSTM),
    }
    for name, (lower, upper) in pairs.items():
        yield name, rnnjax.Stack([rnnjax.Bidirectional(lower(3)), upper(4)])
    yield "rglru", rnnjax.RGLRU(D)
    yield "lstm in chunks, with projection", rnnjax.LSTM(4, proj_size=2, chunk_size=2)
    yield "lstm with full gate recurrence and zoneout", rnnjax.LSTM(3, full_gate_recurrence=True, zoneout_rate=0.2)


@pytest.mark.parametrize(("name", "model"), [*models()], ids=lambda value: value if isinstance(value, str) else "")
def test_every_layer_is_seen_and_the_loss_is_that_of_the_model_itself(name, model):
    x = np.random.default_rng(0).standard_normal((B, T, D)).astype(np.float32)
    params = jax.jit(model.init)(jax.random.key(0), x)["params"]

    def squares(outputs):
        return (outputs**2).sum()

    by_autodiff = jax.jit(jax.value_and_grad(lambda p: squares(model.apply({"params": p}, x, lengths=LENGTHS))))
    want, by_params = by_autodiff(params)
    value, got, layers = looked(model, params, squares, x, lengths=LENGTHS)
    np.testing.assert_allclose(value, want, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5), got, by_params)
    stacked = {"layer_0/forward", "layer_0/backward", "layer_1"}
    assert set(layers) == (stacked if isinstance(model, rnnjax.Stack) else {""})
    for layer in layers.values():
        first = jax.tree.leaves(layer.gradients)[0]
        real = np.arange(T)[:, None] < LENGTHS
        assert ((np.abs(first).max(axis=2) > 0) == real).all()


def test_a_lower_layers_gradient_goes_through_the_upper_one(x64):
    """By jax.jacobian of a loop over cells, written out."""
    x = np.random.default_rng(0).standard_normal((2, 4, D))
    model = rnnjax.Stack([rnnjax.GRU(3), rnnjax.LSTM(2, return_sequences=False)])
    params = jax.tree.map(lambda leaf: leaf + 0.3, jax.jit(model.init)(jax.random.key(0), x)["params"])
    lower, upper = rnnjax.GRUCell(3), rnnjax.LSTMCell(2)

    def by_hand(shift):
        g, s = lower.initial_state(2, x.dtype), upper.initial_state(2, x.dtype)
        for t in range(4):
            g, _ = lower.apply({"params": params["layer_0"]["recurrence"]}, g, x[:, t])
            g = g._replace(h=g.h + shift[t])
            s, _ = upper.apply({"params": params["layer_1"]["recurrence"]}, s, g.h)
        return (s.h**2).sum()

    want = jax.jit(jax.jacobian(by_hand))(jnp.zeros((4, 2, 3)))
    _, _, layers = looked(model, params, lambda outputs: (outputs**2).sum(), x)
    np.testing.assert_allclose(layers["layer_0"].gradients.h, want, rtol=1e-9, atol=1e-12)


def test_the_models_of_the_tasks():
    tokens = np.random.default_rng(0).integers(1, 7, size=(4, 6))
    encoder = rnnjax.Bidirectional(rnnjax.LSTM(3))
    classifier = Classifier(7, 2, 4, encoder, MeanPooling())
    params = jax.jit(classifier.init)(jax.random.key(0), tokens)["params"]
    _, _, layers = looked(classifier, params, jnp.sum, tokens, lengths=np.array([6, 5, 4, 3]))
    assert set(layers) == {"recurrent/forward", "recurrent/backward"}
    language = LanguageModel(7, 0, rnnjax.Stack([rnnjax.GRU(3), rnnjax.GRU(3)]))
    params = jax.jit(language.init)(jax.random.key(0), tokens)["params"]
    _, _, layers = looked(language, params, lambda logits: (logits**2).sum(), tokens)
    assert set(layers) == {"recurrent/layer_0", "recurrent/layer_1"}
    _, _, layers = looked(
        nn.Dense(2), nn.Dense(2).init(jax.random.key(0), tokens * 1.0)["params"], jnp.sum, tokens * 1.0
    )
    assert layers == {}


def test_layers_hold_nothing_for_those_who_do_not_look():
    x = np.zeros((B, T, D), np.float32)
    layer = rnnjax.LSTM(H)
    variables = jax.jit(layer.init)(jax.random.key(0), x)
    assert set(variables) == {"params"}
    _, changed = layer.apply(variables, x, mutable=["carry"])
    assert changed == {}
