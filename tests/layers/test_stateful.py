"""Layers that start where their last call ended."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_layer import LAYERS, B, H, T, assert_trees_close, inputs, jitted, state, variables
from flax import linen as nn

import rnnjax

PIECES = (slice(0, 2), slice(2, 4), slice(4, 6))
MASK = np.asarray([[0, 1, 1, 0, 1, 0], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]], bool)


def in_pieces(layer, weights, x, pieces=PIECES, **keywords):
    """The last collection "carry", and the outputs of calls on one piece after another; keywords are cut as `x` is."""
    held, outputs, apply = at_the_start(weights, layer, x), [], jitted(layer, mutable=["carry"])
    for piece in pieces:
        y, updated = apply(held, x[:, piece], **{name: value[:, piece] for name, value in keywords.items()})
        held = {**weights, **updated}
        outputs.append(y)
    return held["carry"], outputs


def at_the_start(weights, layer, x):
    """Variables as they are after `init`."""
    carry = jax.eval_shape(layer.init, jax.random.key(0), x)["carry"]
    return {**weights, "carry": jax.tree.map(lambda leaf: np.zeros(leaf.shape), carry)}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("lstm", {"chunk_size": 2}),
        ("gru", {}),
        ("lstm_full_gates", {}),
        ("conv_lstm_1d", {}),
        ("rglru", {}),
    ],
)
def test_calls_in_turn_are_one_long_pass(name, options, x64):
    x, resets = inputs(name, 1), np.zeros((B, T), bool)
    resets[1, [0, 4]] = True
    final, y = jitted(LAYERS[name](return_state=True))(variables(name), x, mask=MASK, resets=resets)
    carry, outputs = in_pieces(LAYERS[name](stateful=True, **options), variables(name), x, mask=MASK, resets=resets)
    np.testing.assert_allclose(np.concatenate(outputs, axis=1), y, rtol=0, atol=1e-12)
    assert_trees_close(carry["state"], final)


def test_calls_in_turn_of_a_reversed_layer_go_from_the_last_piece_to_the_first(x64):
    x = inputs("gru", 2)
    y = jitted(LAYERS["gru"](reverse=True))(variables("gru"), x, mask=MASK)
    layer = LAYERS["gru"](reverse=True, stateful=True)
    _, outputs = in_pieces(layer, variables("gru"), x, PIECES[::-1], mask=MASK)
    np.testing.assert_allclose(np.concatenate(outputs[::-1], axis=1), y, rtol=0, atol=1e-12)


def test_the_collection_is_zeros_after_init_and_is_updated_only_where_it_is_mutable(x64):
    layer, x = LAYERS["lstm"](stateful=True), inputs("lstm", 3)
    held = jax.jit(layer.init)(jax.random.key(0), x)
    read, write = jitted(layer), jitted(layer, mutable=["carry"])
    assert sorted(held) == ["carry", "params"]
    expected = rnnjax.LSTMState(*np.zeros((2, B, H)))
    jax.tree.map(np.testing.assert_array_equal, held["carry"]["state"], expected)

    first, updated = write(held, x)
    moved = {**held, **updated}
    second = read(moved, x)  # not mutable: reads what is carried, and leaves it
    again, after = write(moved, x)
    np.testing.assert_array_equal(second, again)
    assert np.max(np.abs(second - first)) > 0.01
    assert np.max(np.abs(after["carry"]["state"].h - updated["carry"]["state"].h)) > 1e-4


def test_without_the_collection_all_examples_start_anew(x64):
    layer, x = LAYERS["gru"](stateful=True), inputs("gru", 4)
    expected = jitted(LAYERS["gru"]())(variables("gru"), x)
    np.testing.assert_array_equal(jitted(layer, mutable=["carry"])(variables("gru"), x)[0], expected)
    np.testing.assert_array_equal(jitted(layer)(variables("gru"), x), expected)  # an evaluation, say


def test_a_reset_at_the_first_step_starts_one_example_anew(x64):
    layer, x, resets = LAYERS["lstm"](stateful=True), inputs("lstm", 5), np.zeros((B, T), bool)
    held = {**variables("lstm"), "carry": {"state": state("lstm", 6)}}
    apply, plain = jitted(layer), jitted(LAYERS["lstm"]())
    carried, fresh = apply(held, x, resets=resets), plain(variables("lstm"), x, resets=resets)
    resets[1, 0] = True
    mixed = apply(held, x, resets=resets)
    for b, expected in enumerate((carried, fresh, carried)):
        np.testing.assert_allclose(mixed[b], expected[b], rtol=0, atol=1e-14)


def test_an_example_without_real_steps_keeps_what_it_carries(x64):
    layer, x, before = LAYERS["gru"](stateful=True), inputs("gru", 7), state("gru", 8)
    held = {**variables("gru"), "carry": {"state": before}}
    _, updated = jitted(layer, mutable=["carry"])(held, x, lengths=np.asarray([0, T, 0]))
    after = updated["carry"]["state"].h
    np.testing.assert_array_equal(after[::2], before.h[::2])
    assert np.all(after[1] != before.h[1])


def test_an_initial_state_takes_the_place_of_what_is_carried(x64):
    layer, x, given = LAYERS["gru"](stateful=True), inputs("gru", 9), state("gru", 10)
    held = {**variables("gru"), "carry": {"state": state("gru", 11)}}
    y, updated = jitted(layer, mutable=["carry"])(held, x, initial_state=given)
    final, expected = jitted(LAYERS["gru"](return_state=True))(variables("gru"), x, initial_state=given)
    np.testing.assert_array_equal(y, expected)
    jax.tree.map(np.testing.assert_array_equal, updated["carry"]["state"], final)


@pytest.mark.parametrize("name", ["lstm", "conv_lstm_1d"])
def test_another_batch_size_is_an_error_that_says_so(name):
    layer = LAYERS[name](stateful=True)
    held = at_the_start(variables(name), layer, inputs(name, 0))
    with pytest.raises(
        ValueError, match=rf"{type(layer).__name__} expects the collection \"carry\".* arrays \(2, .*; got \[\(3, "
    ):
        layer.apply(held, inputs(name, 0, (2,)), mutable=["carry"])


def test_gradients_stop_at_what_is_carried(x64):
    layer, x, weights = LAYERS["lstm"](stateful=True), inputs("lstm", 12), variables("lstm")
    first, second = x[:, :3], x[:, 3:]

    def two_calls(weights, first):
        _, updated = layer.apply(weights, first, mutable=["carry"])
        return jnp.sum(layer.apply({**weights, **updated}, second) ** 2)

    def second_call(weights):
        _, updated = layer.apply(variables("lstm"), first, mutable=["carry"])
        return jnp.sum(LAYERS["lstm"]().apply(weights, second, initial_state=updated["carry"]["state"]) ** 2)

    to_weights, to_first = jax.jit(jax.grad(two_calls, argnums=(0, 1)))(weights, first)
    assert not np.any(to_first)
    assert_trees_close(to_weights, jax.jit(jax.grad(second_call))(weights))


@pytest.mark.parametrize("wrap", ["jax.jit", "nn.jit", "nn.remat"])
def test_under_jit_and_remat(wrap, x64):
    kind = {"nn.jit": nn.jit, "nn.remat": nn.remat}.get(wrap, lambda kind: kind)(rnnjax.LSTM)
    layer, x = kind(H, stateful=True), inputs("lstm", 13)
    apply = jax.jit(lambda held, x: layer.apply(held, x, mutable=["carry"]))
    held, outputs = variables("lstm"), []
    for piece in PIECES:
        y, updated = apply(held, x[:, piece])
        held = {**held, **updated}
        outputs.append(y)
    expected = jitted(LAYERS["lstm"]())(variables("lstm"), x)
    np.testing.assert_allclose(np.concatenate(outputs, axis=1), expected, rtol=0, atol=1e-13)


def test_over_many_calls_in_a_scan_of_jax(x64):
    """Truncated back-propagation in one compiled loop: what is carried has one type throughout."""
    layer, x = LAYERS["gru"](stateful=True), inputs("gru", 14)
    start = at_the_start({}, layer, x)["carry"]

    def call(carry, piece):
        y, updated = layer.apply({**variables("gru"), "carry": carry}, piece, mutable=["carry"])
        return updated["carry"], y

    _, y = jax.lax.scan(call, start, jnp.stack([x[:, :2], x[:, 2:4], x[:, 4:]]))
    expected = jitted(LAYERS["gru"]())(variables("gru"), x)
    np.testing.assert_allclose(np.concatenate(list(y), axis=1), expected, rtol=0, atol=1e-13)


def test_inside_a_stack_each_layer_carries_its_own(x64):
    x, given = (
        inputs("gru", 15),
        {"params": {"layer_0": variables("gru")["params"], "layer_1": variables("lstm")["params"]}},
    )
    plain = rnnjax.Stack([rnnjax.GRU(H), rnnjax.LSTM(H)], return_state=True)
    states, y = jitted(plain)(given, x, mask=MASK)
    stack = rnnjax.Stack([rnnjax.GRU(H, stateful=True), rnnjax.LSTM(H, stateful=True)])
    carry, outputs = in_pieces(stack, given, x, mask=MASK)
    np.testing.assert_allclose(np.concatenate(outputs, axis=1), y, rtol=0, atol=1e-12)
    assert_trees_close((carry["layer_0"]["state"], carry["layer_1"]["state"]), states)


def test_inside_bidirectional_each_direction_carries_its_own(x64):
    x, both = inputs("gru", 16), {"forward": variables("gru", 1)["params"], "backward": variables("gru", 2)["params"]}
    plain = jitted(rnnjax.Bidirectional(rnnjax.GRU(H), return_state=True))
    zeros = rnnjax.Bidirectional(rnnjax.GRU(H)).initial_state(B, np.float64)
    middle, first = plain({"params": both}, x, mask=MASK, initial_state=zeros)
    final, second = plain({"params": both}, x, mask=MASK[::-1], initial_state=middle)
    layer = rnnjax.Bidirectional(rnnjax.GRU(H, stateful=True))
    apply = jitted(layer, mutable=["carry"])
    got_first, updated = apply(at_the_start({"params": both}, layer, x), x, mask=MASK)
    got_second, updated = apply({"params": both, **updated}, x, mask=MASK[::-1])
    assert_trees_close((got_first, got_second), (first, second))
    assert_trees_close((updated["carry"]["forward"]["state"], updated["carry"]["backward"]["state"]), tuple(final))


def test_several_batch_axes_carry_a_state_each(x64):
    x = inputs("lstm", 17, (2, 3))
    final, y = jitted(LAYERS["lstm"](return_state=True))(variables("lstm"), x)
    layer = LAYERS["lstm"](stateful=True, return_state=True)
    apply = jitted(layer, mutable=["carry"])
    (_, first), updated = apply(at_the_start(variables("lstm"), layer, x), x[:, :, :3])
    (got_final, second), _ = apply({**variables("lstm"), **updated}, x[:, :, 3:])
    assert_trees_close((got_final, jnp.concatenate([first, second], axis=2)), (final, y))


def test_the_last_output_alone_and_dropout_leave_the_carry_right(x64):
    x = inputs("gru", 18)
    layer = LAYERS["gru"](stateful=True, return_sequences=False, zoneout_rate=0.5, recurrent_dropout_rate=0.5)
    rngs = {"dropout": jax.random.key(1)}
    apply = jitted(layer, deterministic=False, return_state=True, mutable=["carry"])
    (final, last), updated = apply(variables("gru"), x, rngs=rngs)
    np.testing.assert_array_equal(last, final.h)
    jax.tree.map(np.testing.assert_array_equal, updated["carry"]["state"], final)
