"""Forms and types of every layer: sequences of no steps, errors, narrow products, transformations of Flax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_layer import LAYERS, B, H, T, assert_trees_close, inputs, jitted, state, variables
from flax import linen as nn

import rnnjax

MASK = np.asarray([[0, 1, 1, 0, 1, 0], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]], bool)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("lstm_projection", "scan"),
        ("gru", "fused"),
        ("conv_lstm_1d", "scan"),
        ("rglru", "fused"),
        ("rglru", "parallel"),
    ],
)
def test_no_steps_at_all_give_the_initial_state_and_its_gradient(name, form, x64):
    x, initial = inputs(name, 1)[:, :0], state(name, 2)
    layer = LAYERS[name](implementation=form, return_state=True)
    final, y = jitted(layer)(variables(name), x, initial_state=initial, lengths=np.zeros(B, int))
    jax.tree.map(np.testing.assert_array_equal, final, initial)
    assert y.shape == (B, 0, *initial.h.shape[1:])
    last = jitted(layer, return_sequences=False)(variables(name), x, initial_state=initial)[1]
    np.testing.assert_array_equal(last, initial.h)

    def loss(variables, state):
        final, y = layer.apply(variables, x, initial_state=state)
        return jnp.sum(final.h**2) + jnp.sum(y)

    to_variables, to_state = jax.jit(jax.grad(loss, argnums=(0, 1)))(variables(name), initial)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(to_variables))
    np.testing.assert_allclose(to_state.h, 2 * initial.h, rtol=1e-15)


def test_inputs_of_the_wrong_rank_say_which_axes_were_expected():
    def expect(layer, shape, message):
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(layer.init, jax.random.key(0), jnp.ones(shape))

    expect(rnnjax.MGU(2), (3, 4), r"^MGU expects inputs \[B, T, D\]; got \(3, 4\)\. For one example, pass x\[None\]\.")
    expect(rnnjax.RGLRU(3), (3,), r"^RGLRU expects inputs \[B, T, D\]; got \(3,\)\.")
    expect(rnnjax.RGLRU(3), (2, 4, 5), r"^RGLRUCell expects inputs as wide as its features, 3; got 5\.")
    images = rnnjax.ConvLSTM(2, kernel_size=(3, 3))
    expect(images, (4, 8, 8, 1), r"^ConvLSTM expects inputs \[B, T, X, Y, D\]; got \(4, 8, 8, 1\)\. For one example")
    expect(images, (8, 8, 1), r"^ConvLSTM expects inputs \[B, T, X, Y, D\]; got \(8, 8, 1\)\.")
    expect(rnnjax.ConvLSTM(2, kernel_size=(3,)), (8, 8, 1), r"inputs \[B, T, X, D\]; got \(8, 8, 1\)\. For one example")
    ranks = {name: make().input_rank for name, make in LAYERS.items()}
    assert {name for name, rank in ranks.items() if rank != 1} == {"conv_lstm_1d", "conv_lstm_2d"}
    assert (ranks["conv_lstm_1d"], ranks["conv_lstm_2d"]) == (2, 3)
    assert rnnjax.Stack([rnnjax.Bidirectional(images)]).input_rank == 3


def test_a_form_that_does_not_exist_or_that_the_layer_lacks_is_refused():
    with pytest.raises(
        ValueError, match=r"^GRU expects implementation to be one of auto, scan, fused, parallel; got 'f"
    ):
        rnnjax.GRU(2, implementation="fast")
    x = jnp.ones((2, 4, 3))
    for layer, form in (
        (rnnjax.LSTM(3, implementation="parallel"), "parallel"),
        (rnnjax.LSTM(3, implementation="fused", zoneout_rate=0.1), "fused"),
        (rnnjax.MinGRU(3, implementation="parallel", zoneout_rate=0.1), "parallel"),
        (rnnjax.ConvLSTM(3, implementation="fused", kernel_size=(3,)), "fused"),
    ):
        sequences = x if not isinstance(layer, rnnjax.ConvLSTM) else x[..., None]
        with pytest.raises(ValueError, match=f"^{type(layer).__name__} with these options has no {form} form"):
            jax.eval_shape(layer.init, jax.random.key(0), sequences)


@pytest.mark.parametrize(
    ("name", "form"),
    [("lstm_projection", "scan"), ("gru", "fused"), ("rglru", "parallel")],
)
def test_narrow_products_leave_states_wide_and_come_close(name, form):
    """Values and gradients: within a few roundings of the operands, 2 ** -8 each, and not the same."""
    narrow = {"matmul_dtype": jnp.bfloat16}
    given, x, initial = jax.tree.map(np.float32, (variables(name), inputs(name, 3), state(name, 4)))

    def run(given, x, options):
        layer = LAYERS[name](implementation=form, return_state=True, **options)
        final, y = layer.apply(given, x, initial_state=initial, mask=MASK)
        return jnp.sum(y * y), (final, y)

    want, got = (
        jax.jit(jax.value_and_grad(lambda given, x, options=options: run(given, x, options), has_aux=True))(given, x)
        for options in ({}, narrow)
    )
    for leaf in jax.tree.leaves(got):
        assert leaf.dtype == np.float32
    assert_trees_close(got, want, 0.03)
    assert np.max(np.abs(np.asarray(got[0][1][1]) - np.asarray(want[0][1][1]))) > 1e-5


@pytest.mark.parametrize("name", ["lstm_full_gates", "mgu", "conv_lstm_1d", "rglru"])
def test_layers_lifted_by_flax(name, x64):
    """`nn.jit` and `nn.remat` change nothing; `nn.vmap` over weights is each set of weights by itself."""
    plain, x = LAYERS[name](), inputs(name, 5)
    kind, options = type(plain), {field: getattr(plain, field) for field in LAYERS[name].keywords}
    apply = jitted(plain)
    expected = apply(variables(name), x, mask=MASK)
    gradient = jax.jit(jax.grad(lambda given: jnp.sum(plain.apply(given, x, mask=MASK) ** 2)))(variables(name))
    for lift in (nn.jit, nn.remat):
        lifted = lift(kind)(plain.features, **options)
        np.testing.assert_allclose(jitted(lifted)(variables(name), x, mask=MASK), expected, rtol=0, atol=1e-13)
    assert_trees_close(
        jax.jit(jax.grad(lambda given: jnp.sum(lifted.apply(given, x, mask=MASK) ** 2)))(variables(name)), gradient
    )
    several = nn.vmap(kind, variable_axes={"params": 0}, split_rngs={"params": True}, in_axes=None, axis_size=2)
    both = jax.tree.map(lambda *parts: np.stack(parts), variables(name), variables(name, 6))
    y = jitted(several(plain.features, **options))(both, x)
    for number, weights in enumerate((variables(name), variables(name, 6))):
        expected = apply(weights, x, mask=np.ones((B, T), bool))
        np.testing.assert_allclose(y[number], expected, rtol=0, atol=1e-13)


def test_a_stateful_layer_over_ensembles(x64):
    """`nn.vmap` over weights, inputs and what is carried."""
    kind = nn.vmap(rnnjax.GRU, variable_axes={"params": 0, "carry": 0}, split_rngs={"params": True})
    layer, x = kind(H, stateful=True), inputs("gru", 7, (2, B))
    both = jax.tree.map(lambda *parts: np.stack(parts), variables("gru", 1), variables("gru", 2))
    apply = jitted(layer, mutable=["carry"])
    first, updated = apply(both, x[:, :, :3])
    second, _ = apply({**both, **updated}, x[:, :, 3:])
    for number in range(2):
        expected = jitted(LAYERS["gru"]())(variables("gru", 1 + number), x[number])
        got = np.concatenate([first[number], second[number]], axis=1)
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-13)
