"""What a stack puts between its layers: residual connections and dropout; and the states of both directions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_layer import LAYERS, B, H, T, assert_trees_close, flipped, inputs, jitted, state, variables

import rnnjax

LENGTHS = np.asarray([4, 0, 6])
KEY = {"dropout": jax.random.key(3)}


def two_layers():
    """Layers of one width and their parameters."""
    params = {"layer_0": variables("gru")["params"], "layer_1": variables("lstm")["params"]}
    return [rnnjax.GRU(H), rnnjax.LSTM(H)], {"params": params}


def test_a_residual_connection_adds_what_a_layer_reads(x64):
    layers, given = two_layers()
    x = inputs("gru", 1)
    initial = (state("gru", 2), state("lstm", 3))
    lower, upper = (jitted(layer, return_state=True) for layer in layers)
    first, below = lower(variables("gru"), x, lengths=LENGTHS, initial_state=initial[0])
    second, above = upper(variables("lstm"), below, lengths=LENGTHS, initial_state=initial[1])
    stack = jitted(rnnjax.Stack(layers, residual=True), return_state=True)
    states, y = stack(given, x, lengths=LENGTHS, initial_state=initial)
    assert_trees_close((states, y), ((first, second), below + above), 1e-14)
    assert not np.any(np.asarray(y)[np.arange(T)[None, :] >= LENGTHS[:, None]])


def test_residual_connections_that_cannot_be_are_refused():
    x, key = jnp.ones((B, T, H)), jax.random.key(0)
    with pytest.raises(
        ValueError, match=r"residual=True expects layers above the first .* layer 1 reads 3 and gives 4"
    ):
        jax.eval_shape(rnnjax.Stack([rnnjax.GRU(3), rnnjax.GRU(4)], residual=True).init, key, x)
    last_only = rnnjax.Stack([rnnjax.GRU(3), rnnjax.GRU(3, return_sequences=False)], residual=True)
    with pytest.raises(ValueError, match=r"residual=True expects return_sequences=True.*MeanPooling"):
        jax.eval_shape(last_only.init, key, x)
    jax.eval_shape(rnnjax.Stack([rnnjax.GRU(4), rnnjax.GRU(4)], residual=True).init, key, x)  # the first may widen


def test_dropout_between_layers_gives_zero_or_what_was_scaled():
    """Seen through a second layer that puts out what it reads: h' = x."""
    units, rate = 64, 0.25
    lower = rnnjax.IndRNN(units)
    upper = rnnjax.IndRNN(units, use_bias=False, activation_fn=jax.nn.identity)
    x = jax.random.normal(jax.random.key(0), (8, 5, 3))
    plain = rnnjax.Stack([lower, upper])
    given = jax.jit(plain.init)(jax.random.key(1), x)
    given["params"]["layer_1"]["recurrence"] = {"kernel": jnp.eye(units), "recurrent_kernel": jnp.zeros(units)}
    below = np.asarray(jitted(plain)(given, x))
    stack = rnnjax.Stack([lower, upper], dropout_rate=rate)
    np.testing.assert_array_equal(jitted(stack)(given, x, rngs=KEY), below)
    y = np.asarray(jitted(stack, deterministic=False)(given, x, rngs=KEY))
    np.testing.assert_array_equal(jitted(stack.clone(deterministic=False))(given, x, rngs=KEY), y)
    kept, seen = y != 0, below != 0
    np.testing.assert_allclose(y[kept], below[kept] / (1 - rate), rtol=1e-6)
    assert abs(kept[seen].mean() - (1 - rate)) < 0.05
    where_seen = np.where(seen.all(axis=1, keepdims=True), kept, True)
    assert np.any(where_seen[:, 1:] != where_seen[:, :-1])  # at each step anew
    # What goes past a layer is not dropped, nor is what the first layer reads, nor what the last puts out.
    past = jitted(stack.clone(residual=True), deterministic=False)(given, x, rngs=KEY)
    np.testing.assert_allclose(past, below + y, rtol=1e-6, atol=1e-6)
    single = rnnjax.Stack([lower], dropout_rate=0.9)
    alone = {"params": {"layer_0": given["params"]["layer_0"]}}
    np.testing.assert_array_equal(jitted(single, deterministic=False)(alone, x, rngs=KEY), below)


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5])
def test_a_dropout_rate_without_meaning_is_refused(rate):
    with pytest.raises(ValueError, match=rf"^Stack expects 0 <= dropout_rate < 1; got {rate}\."):
        rnnjax.Stack([rnnjax.GRU(2)], dropout_rate=rate)


@pytest.mark.parametrize("name", ["lstm_projection", "conv_lstm_1d", "min_lstm"])
def test_both_directions_start_and_end_under_lengths(name, x64):
    """As two layers, the second on the flipped real steps."""
    x, layer = inputs(name, 4), jitted(LAYERS[name](return_state=True))
    weights = {"forward": variables(name, 5)["params"], "backward": variables(name, 6)["params"]}
    initial = rnnjax.BidirectionalState(state(name, 7), state(name, 8))
    both = rnnjax.Bidirectional(LAYERS[name](), return_state=True)
    keywords = {"lengths": LENGTHS, "initial_state": initial}
    final, y = jitted(both)({"params": weights}, x, **keywords)
    last = jitted(both, return_sequences=False)({"params": weights}, x, **keywords)[1]
    forward, one = layer({"params": weights["forward"]}, x, lengths=LENGTHS, initial_state=initial.forward)
    backward, other = layer(
        {"params": weights["backward"]}, flipped(x, LENGTHS), lengths=LENGTHS, initial_state=initial.backward
    )
    assert_trees_close(tuple(final), (forward, backward))
    np.testing.assert_allclose(
        y, np.concatenate([one, flipped(np.asarray(other), LENGTHS)], axis=-1), rtol=0, atol=1e-12
    )
    np.testing.assert_allclose(last, np.concatenate([forward.h, backward.h], axis=-1), rtol=0, atol=1e-12)
    assert_trees_close(jax.tree.map(lambda part: part[1], final), jax.tree.map(lambda part: part[1], initial), 0)
