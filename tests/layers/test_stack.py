"""Layers one upon another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from oracles import CASES

import rnnjax

B, T, D = 4, 6, 3
MASK = np.asarray([[1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0], [0, 0, 1, 0, 1, 1], [1, 0, 1, 1, 0, 0]], bool)
LENGTHS = np.asarray([6, 0, 1, 4])
RESETS = np.asarray([[0, 0, 1, 0, 1, 0], [1, 0, 0, 1, 0, 0], [0, 0, 1, 1, 0, 1], [1, 1, 0, 1, 1, 0]], bool)
KEY = jax.random.key(0)


def inputs(seed: int = 0, dtype=np.float64) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((B, T, D)).astype(dtype)


def three_layers():
    """An LSTM, a GRU in both directions, a reversed peephole LSTM: their layers and parameters."""
    layers = [
        rnnjax.LSTM(5),
        rnnjax.Bidirectional(rnnjax.GRU(2)),
        rnnjax.RNN(rnnjax.LSTMCell(3, peephole=True), reverse=True),
    ]
    lstm, gru, peephole = CASES["lstm"], CASES["gru"], CASES["lstm_peephole"]
    params = {
        "layer_0": {"recurrence": lstm.random_params(1, D, 5)},
        "layer_1": {
            "forward": {"recurrence": gru.random_params(2, 5, 2)},
            "backward": {"recurrence": gru.random_params(3, 5, 2)},
        },
        "layer_2": {"recurrence": peephole.random_params(4, 4, 3)},
    }
    return layers, params


@pytest.mark.parametrize("steps", [{"mask": MASK}, {"lengths": LENGTHS}])
def test_a_stack_is_the_loops_composed_by_hand(steps, x64):
    layers, params = three_layers()
    x = inputs()
    lstm, gru, peephole = CASES["lstm"], CASES["gru"], CASES["lstm_peephole"]
    initial = (
        lstm.random_state(5, B, 5),
        rnnjax.BidirectionalState(gru.random_state(6, B, 2), gru.random_state(7, B, 2)),
        peephole.random_state(8, B, 3),
    )
    first, y = lstm.run(params["layer_0"]["recurrence"], x, initial=initial[0], **steps)
    both = params["layer_1"]
    forward, one = gru.run(both["forward"]["recurrence"], y, initial=initial[1].forward, **steps)
    backward, other = gru.run(both["backward"]["recurrence"], y, initial=initial[1].backward, reverse=True, **steps)
    y = np.concatenate([one, other], axis=-1)
    last, y = peephole.run(params["layer_2"]["recurrence"], y, initial=initial[2], reverse=True, **steps)
    expected = (first, (forward, backward), last)

    stack = jax.jit(rnnjax.Stack(layers).apply, static_argnames=("return_state",))
    states, outputs = stack({"params": params}, x, initial_state=initial, return_state=True, **steps)
    np.testing.assert_allclose(outputs, y, rtol=0, atol=1e-12)
    assert [type(state) for state in states] == [type(state) for state in initial]
    for got, want in zip(jax.tree.leaves(states), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)


def test_resets_reach_every_layer(x64):
    layers, params = three_layers()
    layers, params = [layers[0], rnnjax.GRU(2)], {"layer_0": params["layer_0"], "layer_1": params["layer_1"]["forward"]}
    _, y = CASES["lstm"].run(params["layer_0"]["recurrence"], inputs(), mask=MASK, resets=RESETS)
    _, y = CASES["gru"].run(params["layer_1"]["recurrence"], y, mask=MASK, resets=RESETS)
    outputs = rnnjax.Stack(layers).apply({"params": params}, inputs(), mask=MASK, resets=RESETS)
    np.testing.assert_allclose(outputs, y, rtol=0, atol=1e-12)


def test_only_the_last_layer_may_give_its_last_output_alone():
    x = inputs(1, np.float32)
    stack = rnnjax.Stack([rnnjax.LSTM(4), rnnjax.GRU(3, return_sequences=False)])
    variables = jax.jit(stack.init)(KEY, x)
    sequences = stack.apply(variables, x, return_sequences=True)
    last = stack.apply(variables, x)
    np.testing.assert_allclose(last, sequences[:, -1], atol=1e-6)
    whole = rnnjax.Stack([rnnjax.LSTM(4), rnnjax.GRU(3)])
    np.testing.assert_array_equal(whole.apply(variables, x), sequences)
    np.testing.assert_array_equal(whole.apply(variables, x, return_sequences=False), last)


@pytest.mark.parametrize("place", ["top", "compact", "setup", "same layer twice"])
def test_each_layer_has_parameters_of_its_own_wherever_the_stack_stands(place):
    class Compact(nn.Module):
        @nn.compact
        def __call__(self, x):
            return rnnjax.Stack([rnnjax.RNN(rnnjax.GRUCell(3)), rnnjax.GRU(3)])(x)

    class Setup(nn.Module):
        def setup(self):
            self.parts = [rnnjax.RNN(rnnjax.GRUCell(3)), rnnjax.GRU(3)]
            self.stack = rnnjax.Stack(self.parts)

        def __call__(self, x):
            return self.stack(x)

    model = {
        "top": lambda: rnnjax.Stack([rnnjax.RNN(rnnjax.GRUCell(3)), rnnjax.GRU(3)]),
        "compact": Compact,
        "setup": Setup,
        "same layer twice": lambda: rnnjax.Stack([rnnjax.GRU(3)] * 2),
    }[place]()
    x = inputs(2, np.float32)
    variables = jax.jit(model.init)(KEY, x)
    params = variables["params"]
    while "layer_0" not in params:
        (params,) = params.values()
    assert sorted(params) == ["layer_0", "layer_1"]
    assert not np.allclose(*(params[name]["recurrence"]["recurrent_kernel"] for name in ("layer_0", "layer_1")))
    y = x
    for name in ("layer_0", "layer_1"):
        _, y = CASES["gru"].run(params[name]["recurrence"], y)
    np.testing.assert_allclose(model.apply(variables, x), y, rtol=0, atol=1e-5)


def test_wrong_stacks_say_what_was_expected_and_what_came():
    x = jnp.zeros((B, T, D))
    with pytest.raises(ValueError, match=r"^Stack expects at least one layer; got none\."):
        rnnjax.Stack([])
    for wrong, came in [
        (rnnjax.LSTM(2), "LSTM"),
        ([rnnjax.LSTM(2), nn.Dense(3)], "LSTM, Dense"),
        ([rnnjax.LSTMCell(2)], "LSTMCell"),
    ]:
        with pytest.raises(ValueError, match=rf"^Stack expects a list of recurrent layers, .*; got {came}\."):
            rnnjax.Stack(wrong)
    for layer, name in [
        (rnnjax.LSTM(2, return_sequences=False), "LSTM"),
        (rnnjax.Bidirectional(rnnjax.LSTM(2, return_sequences=False)), "Bidirectional"),
    ]:
        with pytest.raises(
            ValueError, match=rf"every layer but the last to return sequences; layer 1 \({name}\) does not"
        ):
            rnnjax.Stack([rnnjax.LSTM(2), layer, rnnjax.LSTM(2)]).init(KEY, x)
    stack = rnnjax.Stack([rnnjax.SimpleRNN(2), rnnjax.SimpleRNN(2)])
    with pytest.raises(ValueError, match=r"^Stack expects 2 initial states; got 1\."):
        stack.init(KEY, x, initial_state=(rnnjax.SimpleRNNState(jnp.zeros((B, 2))),))
    with pytest.raises(ValueError, match="Stack expects lengths or mask; got both"):
        stack.init(KEY, x, lengths=LENGTHS, mask=MASK)


def test_fields_serve_as_a_calls_keywords_do():
    x = jax.random.normal(jax.random.key(0), (2, 4, 3))
    layers = [rnnjax.GRU(3, dropout_rate=0.5), rnnjax.GRU(2)]
    plain = rnnjax.Stack(layers)
    variables = plain.init(jax.random.key(1), x)
    rngs = {"dropout": jax.random.key(2)}
    options = {"return_sequences": False, "return_state": True, "deterministic": False}
    by_call = plain.apply(variables, x, rngs=rngs, **options)
    by_field = rnnjax.Stack(layers, **options).apply(variables, x, rngs=rngs)
    jax.tree.map(np.testing.assert_array_equal, by_field, by_call)
    assert by_field[1].shape == (2, 2)
    assert np.any(by_field[1] != plain.apply(variables, x, return_sequences=False))


def test_a_stack_below_a_layer_gives_what_its_last_layer_gives():
    x = jax.random.normal(jax.random.key(0), (2, 4, 3))
    inner = rnnjax.Stack([rnnjax.GRU(3), rnnjax.GRU(2)])
    nested = rnnjax.Stack([inner, rnnjax.LSTM(2)])
    variables = nested.init(jax.random.key(1), x)
    below = inner.apply({"params": variables["params"]["layer_0"]}, x)
    expected = rnnjax.LSTM(2).apply({"params": variables["params"]["layer_1"]}, below)
    np.testing.assert_allclose(nested.apply(variables, x), expected, rtol=1e-6, atol=1e-6)
    closed = rnnjax.Stack([rnnjax.GRU(3), rnnjax.GRU(2, return_sequences=False)])
    with pytest.raises(ValueError, match="return sequences"):
        rnnjax.Stack([closed, rnnjax.LSTM(2)]).init(jax.random.key(1), x)
