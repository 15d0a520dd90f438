"""Dropout of layers: one mask for all steps, from the layer's own key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.errors import InvalidRngError
from oracles import CASES, WAYS

import rnnjax

B, T, D, H = 3, 4, 5, 6
MASK = np.asarray([[1, 1, 1, 1], [0, 1, 0, 1], [1, 1, 0, 0]], bool)
RNGS = {"dropout": jax.random.key(5)}
RATES = {"dropout_rate": 0.4, "recurrent_dropout_rate": 0.3}


def drawn(layer, variables, x, **keywords):
    """A call's result, and every `Constants` drawn on the way, by the path of its layer."""
    is_constants = lambda module, method: method == "constants"  # noqa: E731
    result, state = layer.apply(
        variables, x, rngs=RNGS, capture_intermediates=is_constants, mutable=["intermediates"], **keywords
    )
    return result, state["intermediates"]


@pytest.mark.parametrize(("name", "way", "reverse"), [*((*way, False) for way in WAYS), ("lstm", "fused", True)])
def test_the_masks_of_a_call_hold_at_every_step(name, way, reverse, x64):
    case = CASES[name]
    params = case.random_params(1, D, H)
    x = np.random.default_rng(2).standard_normal((B, T, D))
    options = {"reverse": reverse, "implementation": way, "return_state": True, "deterministic": False}
    layer = case.make_layer(H, **options, **RATES)
    (final, y), constants = drawn(layer, {"params": {"recurrence": params}}, x, mask=MASK)
    (constants,) = constants["recurrence"]["constants"]
    for mask, rate in [(constants.input_mask, 0.4), (constants.recurrent_mask, 0.3)]:
        np.testing.assert_allclose(np.unique(mask), [0, 1 / (1 - rate)], rtol=1e-6)
        assert not np.array_equal(mask[0], mask[1])
    expected, outputs = case.run(
        params, x, mask=MASK, reverse=reverse, drop_x=constants.input_mask, drop_h=constants.recurrent_mask
    )
    np.testing.assert_allclose(y, outputs, rtol=0, atol=1e-12)
    for got, want in zip(final, expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["simple", "lstm", "gru"])
def test_gradients_through_dropped_outputs_are_those_of_a_scan(name, x64):
    case = CASES[name]
    arguments = case.random_params(1, D, H), case.random_state(2, B, H), np.random.default_rng(3).random((B, T, D))

    def loss(arguments, way):
        params, state, x = arguments
        layer = case.make_layer(H, implementation=way, deterministic=False, return_state=True, **RATES)
        final, y = layer.apply({"params": {"recurrence": params}}, x, mask=MASK, initial_state=state, rngs=RNGS)
        return jnp.sum(jnp.sin(3 * y)) + sum(jnp.sum(part**2) for part in final)

    scan, fused = (jax.jit(jax.grad(loss), static_argnums=1)(arguments, way) for way in ("scan", "fused"))
    jax.tree.map(lambda f, s: np.testing.assert_allclose(f, s, rtol=0, atol=1e-12), fused, scan)
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(fused))


def linear(**options):
    """A layer whose every step can be read off: h' = x + h."""
    return rnnjax.SimpleRNN(H, activation_fn=lambda z: z, use_bias=False, deterministic=False, **options)


def test_one_mask_for_all_steps_seen_through_an_identity():
    """Found without looking inside: inputs of 1 give the input mask, a state of 1 the recurrent one and its powers."""
    eye, zeros = jnp.eye(H), jnp.zeros((H, H))
    y = linear(dropout_rate=0.5).apply(
        {"params": {"recurrence": {"kernel": eye, "recurrent_kernel": zeros}}}, jnp.ones((64, T, H)), rngs=RNGS
    )
    np.testing.assert_array_equal(y, np.broadcast_to(y[:, :1], y.shape))
    assert set(np.unique(y)) == {0, 2}
    assert np.mean(y) == pytest.approx(1, abs=0.15)
    assert len(np.unique(y[:, 0], axis=0)) > 32  # other examples, other masks

    y = linear(recurrent_dropout_rate=0.5).apply(
        {"params": {"recurrence": {"kernel": zeros, "recurrent_kernel": eye}}},
        jnp.zeros((64, T, H)),
        initial_state=rnnjax.SimpleRNNState(jnp.ones((64, H))),
        rngs=RNGS,
    )
    assert set(np.unique(y[:, 0])) == {0, 2}
    for t in range(T):
        np.testing.assert_array_equal(y[:, t], y[:, 0] ** (t + 1))
    assert len(np.unique(y[:, 0], axis=0)) > 32


@pytest.mark.parametrize("make", [lambda **o: rnnjax.LSTM(H, **o), lambda **o: rnnjax.GRU(H, **o)])
def test_deterministic_by_default_and_the_same_key_gives_the_same_masks(make):
    x = np.random.default_rng(0).standard_normal((B, T, D)).astype(np.float32)
    layer = make(**RATES)
    variables = jax.jit(layer.init)(jax.random.key(0), x)
    plain = make().apply(variables, x)
    np.testing.assert_array_equal(layer.apply(variables, x), plain)
    np.testing.assert_array_equal(layer.apply(variables, x, rngs=RNGS), plain)
    one = layer.apply(variables, x, deterministic=False, rngs=RNGS)
    again = layer.apply(variables, x, deterministic=False, rngs=RNGS)
    by_field = make(deterministic=False, **RATES).apply(variables, x, rngs=RNGS)
    other = layer.apply(variables, x, deterministic=False, rngs={"dropout": jax.random.key(6)})
    overridden = make(deterministic=False, **RATES).apply(variables, x, deterministic=True)
    np.testing.assert_array_equal(one, again)
    np.testing.assert_array_equal(one, by_field)
    np.testing.assert_array_equal(overridden, plain)
    assert np.abs(np.asarray(one) - np.asarray(other)).max() > 0.01
    assert np.abs(np.asarray(one) - np.asarray(plain)).max() > 0.01


@pytest.mark.parametrize("rate", RATES)
def test_without_a_key_the_error_is_the_one_of_flax(rate):
    x = jnp.ones((B, T, D))
    layer = rnnjax.LSTM(H, **{rate: 0.5})
    variables = layer.init(jax.random.key(0), x)
    for model, params in [
        (layer, variables["params"]),
        (rnnjax.Stack([layer]), {"layer_0": variables["params"]}),
        (rnnjax.Bidirectional(layer), {"forward": variables["params"], "backward": variables["params"]}),
    ]:
        with pytest.raises(InvalidRngError, match="dropout"):
            model.apply({"params": params}, x, deterministic=False)
    rnnjax.LSTM(H).apply(variables, x, deterministic=False)  # nothing to draw, no key needed


def test_directions_and_layers_of_a_stack_draw_masks_of_their_own():
    x = jnp.ones((8, T, 2 * H))
    layer = rnnjax.LSTM(H, deterministic=False, **RATES)
    model = rnnjax.Stack([rnnjax.Bidirectional(layer), rnnjax.Bidirectional(layer)])
    rngs = {"params": jax.random.key(0), **RNGS}
    _, constants = drawn(model, {"params": jax.jit(model.init)(rngs, x)["params"]}, x)
    masks = [
        np.asarray(constants[number][direction]["recurrence"]["constants"][0][which])
        for number in ("layer_0", "layer_1")
        for direction in ("forward", "backward")
        for which in (0, 1)
    ]
    assert len(masks) == 8
    zeros = [mask[:, :H] == 0 for mask in masks]
    for first in range(8):
        for second in range(first):
            assert np.mean(zeros[first] == zeros[second]) < 0.85
    keyword = rnnjax.Stack([rnnjax.Bidirectional(rnnjax.LSTM(H, **RATES))] * 2)
    variables = jax.jit(model.init)(rngs, x)
    np.testing.assert_array_equal(
        model.apply(variables, x, rngs=RNGS), keyword.apply(variables, x, deterministic=False, rngs=RNGS)
    )


def test_dropped_inputs_get_no_gradient():
    x = np.random.default_rng(0).standard_normal((B, T, D)).astype(np.float32)
    layer = rnnjax.GRU(H, dropout_rate=0.5, deterministic=False)
    variables = rnnjax.GRU(H).init(jax.random.key(0), x)
    _, constants = drawn(layer, variables, x)
    kept = np.asarray(constants["recurrence"]["constants"][0].input_mask) != 0
    gradient = jax.grad(lambda x: jnp.sum(layer.apply(variables, x, rngs=RNGS)))(x)
    np.testing.assert_array_equal(np.asarray(gradient) != 0, np.broadcast_to(kept[:, None], x.shape))
