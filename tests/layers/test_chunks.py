"""`chunk_size`: the same values and gradients for less memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_layer import LAYERS, B, H, assert_trees_close, differentiated, inputs, state, variables

import rnnjax

T = 7
MASK = np.asarray([[0, 1, 1, 0, 1, 1, 0], [1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0, 0]], bool)
RESETS = np.asarray([[0, 0, 1, 1, 0, 1, 0], [1, 0, 0, 1, 0, 0, 1], [0, 1, 0, 0, 0, 0, 0]], bool)
WEIGHTS = np.sin(1.0 + np.arange(B * T)).reshape(B, T)


@pytest.mark.parametrize(
    ("name", "form", "reverse"),
    [
        ("lstm", "fused", False),
        ("lstm_full_gates", "scan", True),
        ("gru_before", "fused", False),
        ("simple", "fused", True),
        ("conv_lstm_1d", "scan", False),
        ("min_lstm", "parallel", True),
        ("rglru", "fused", False),
        ("min_gru", "scan", True),
    ],
)
def test_chunks_change_neither_values_nor_gradients(name, form, reverse, x64):
    """With a last chunk that is not whole, masked steps, resets and a state to start from."""
    x, initial = inputs(name, 1, num_steps=T), state(name, 2)
    options = {"implementation": form, "reverse": reverse}
    want, got = (
        differentiated(LAYERS[name](chunk_size=size, **options))(
            variables(name), x, initial, WEIGHTS, mask=MASK, resets=RESETS
        )
        for size in (None, 3)
    )
    assert_trees_close(got, want)


@pytest.mark.parametrize(("name", "form", "reverse"), [("gru", "fused", True), ("rglru", "parallel", False)])
def test_chunks_of_any_size(name, form, reverse, x64):
    """One step, a part, more than T; all outputs or the last alone."""
    x, initial = inputs(name, 3, num_steps=T), state(name, 4)
    layer = LAYERS[name](implementation=form, reverse=reverse, return_state=True)
    keywords = {"initial_state": initial, "mask": MASK, "resets": RESETS}
    want, y = jax.jit(layer.apply)(variables(name), x, **keywords)
    for size, return_sequences in ((1, True), (2, False), (T + 5, True)):
        chunked = layer.clone(chunk_size=size, return_sequences=return_sequences)
        final, outputs = jax.jit(chunked.apply)(variables(name), x, **keywords)
        assert_trees_close(final, want)
        np.testing.assert_allclose(outputs, y if return_sequences else want.h, rtol=0, atol=1e-12)
    nothing, outputs = jax.jit(layer.clone(chunk_size=2).apply)(variables(name), x[:, :0], initial_state=initial)
    jax.tree.map(np.testing.assert_array_equal, nothing, initial)
    assert outputs.shape == (B, 0, y.shape[-1])


@pytest.mark.parametrize("form", ["scan", "fused"])
def test_what_is_dropped_in_chunks_is_what_is_dropped_without(form, x64):
    """Masks of inputs, of previous outputs and of weights; in a scan also the draws of each step."""
    options = {"dropout_rate": 0.4, "recurrent_dropout_rate": 0.4, "weight_drop_rate": 0.3}
    if form == "scan":
        options |= {"zoneout_rate": 0.4, "cell_zoneout_rate": 0.3}
    layer = rnnjax.LSTM(H, implementation=form, deterministic=False, **options)
    x, rngs = inputs("lstm", 5, num_steps=T), {"dropout": jax.random.key(6)}

    def run(size, weights, x):
        return jnp.sum(layer.clone(chunk_size=size).apply(weights, x, mask=MASK, rngs=rngs) ** 2)

    want, got, other = (
        jax.jit(jax.value_and_grad(run, argnums=(1, 2)), static_argnums=0)(size, variables("lstm"), part)
        for size, part in ((None, x), (3, x), (3, 2 * x))
    )
    assert_trees_close(got, want)
    assert abs(other[0] - want[0]) > 0.01


def test_parameters_and_initial_values_are_those_without_chunks():
    x = jnp.ones((2, 5, 3))
    for layer in (rnnjax.GRU(3), rnnjax.RGLRU(3), rnnjax.LSTM(3, layer_norm=True, proj_size=2)):
        want, got = (jax.jit(layer.clone(chunk_size=size).init)(jax.random.key(0), x) for size in (None, 2))
        jax.tree.map(np.testing.assert_array_equal, got, want)


def test_chunks_inside_other_layers(x64):
    x = inputs("gru", 7, num_steps=T)

    def model(size):
        lower = rnnjax.Bidirectional(rnnjax.GRU(2, chunk_size=size))
        return rnnjax.Stack([lower, rnnjax.LSTM(2, chunk_size=size, return_sequences=False)])

    given = jax.tree.map(np.float64, jax.jit(model(None).init)(jax.random.key(1), x))
    want, got = (jax.jit(model(size).apply)(given, x, mask=MASK, resets=RESETS) for size in (None, 3))
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [0, -1])
def test_a_size_without_meaning_is_refused(size):
    with pytest.raises(ValueError, match=rf"^LSTM expects chunk_size, an integer >= 1 or None; got {size}\."):
        rnnjax.LSTM(2, chunk_size=size)


def temporary_bytes(layer, num_steps: int, batch_size: int = 16) -> int:
    """What the compiled gradient of `layer` needs besides its arguments and results."""
    x = jax.ShapeDtypeStruct((batch_size, num_steps, 1), jnp.float32)
    given = jax.eval_shape(layer.init, jax.random.key(0), x)
    gradient = jax.jit(jax.grad(lambda given, x: jnp.sum(layer.apply(given, x))))
    return gradient.lower(given, x).compile().memory_analysis().temp_size_in_bytes


@pytest.fixture
def optimized():
    """Compile as users do."""
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.parametrize(("kind", "form"), [(rnnjax.LSTM, "scan"), (rnnjax.GRU, "fused"), (rnnjax.MinGRU, "parallel")])
def test_gradients_need_a_fifth_of_the_memory_and_it_grows_as_the_root_of_the_steps(kind, form, optimized):
    layer = kind(64, implementation=form, return_sequences=False)
    short, long = (temporary_bytes(layer.clone(chunk_size=size), size * size) for size in (16, 64))
    assert temporary_bytes(layer.clone(chunk_size=64), 2048) < temporary_bytes(layer, 2048) / 5
    assert long < 6 * short  # of 16 times the steps
