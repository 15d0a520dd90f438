"""ConvLSTM against a NumPy loop over windows, in one, two and three spatial axes."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import LSTM_BLOCKS, by_gate, central_differences, conv_lstm_step

import rnnjax

B, C, H = 2, 2, 2
FORMS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "1d": ((4,), {"kernel_size": (2,)}),
    "1d_dilated": ((6,), {"kernel_size": (2,), "kernel_dilation": 3, "padding": "VALID"}),
    "2d": ((3, 2), {"kernel_size": (3, 2)}),
    "2d_strided": ((5, 4), {"kernel_size": (3, 2), "strides": (2, 3)}),
    "2d_valid": ((5, 4), {"kernel_size": (2, 3), "strides": (2, 1), "padding": "VALID"}),
    "3d": ((2, 3, 2), {"kernel_size": (2, 1, 2), "strides": (1, 2, 1)}),
}
"""Spatial sizes of one example's inputs, and options."""
SIZES = {"1d": (4,), "1d_dilated": (3,), "2d": (3, 2), "2d_strided": (3, 2), "2d_valid": (2, 2), "3d": (2, 2, 2)}
"""Of the state."""


def arguments(name: str) -> tuple[dict, tuple, np.ndarray]:
    """Weights, state and inputs `[B, *S, C]`."""
    rng = np.random.default_rng(0)
    size, kernel = FORMS[name][0], FORMS[name][1]["kernel_size"]
    params = {
        "kernel": 0.6 * rng.standard_normal((*kernel, C, 4 * H)) + 0.1,
        "recurrent_kernel": 0.6 * rng.standard_normal((*kernel, H, 4 * H)) - 0.1,
        "bias": rng.standard_normal(4 * H),
    }
    state = tuple(rng.uniform(-0.9, 0.9, (B, *SIZES[name], H)) for _ in range(2))
    return params, state, rng.standard_normal((B, *size, C))


def expected_step(name: str, params: dict, state: tuple, x: np.ndarray) -> tuple:
    options, axes = FORMS[name][1], x.ndim - 2

    def each(value):
        return (value,) * axes if isinstance(value, int) else value

    rows = [
        conv_lstm_step(
            by_gate(params, LSTM_BLOCKS),
            tuple(part[b] for part in state),
            x[b],
            each(options.get("strides", 1)),
            options.get("padding", "SAME"),
            each(options.get("kernel_dilation", 1)),
        )
        for b in range(len(x))
    ]
    return tuple(np.stack(parts) for parts in zip(*rows, strict=True))


@pytest.mark.parametrize("name", FORMS)
def test_a_step_equals_the_loop_over_windows_in_values_and_gradients(name, x64):
    cell = rnnjax.ConvLSTMCell(H, **FORMS[name][1])
    weights = np.random.default_rng(1).standard_normal((2, B, *SIZES[name], H))
    params, state, x = arguments(name)

    def ours(arguments):
        params, state, x = arguments
        after, output = cell.apply({"params": params}, rnnjax.LSTMState(*state), x)
        return sum(jnp.sum(w * part) for w, part in zip(weights, after, strict=True)), (after, output)

    (_, (after, output)), got = jax.jit(jax.value_and_grad(ours, has_aux=True))((params, state, x))
    want = expected_step(name, params, state, x)
    np.testing.assert_array_equal(output, after.h)
    for part, expected in zip(after, want, strict=True):
        np.testing.assert_allclose(part, expected, rtol=0, atol=1e-12)

    # Along random directions, one of each argument: number by number would take minutes.
    rng = np.random.default_rng(2)
    for place in ("kernel", "recurrent_kernel", "bias", "h", "c", "x"):
        direction = jax.tree.map(np.zeros_like, (params, dict(zip("hc", state, strict=True)), x))
        if place == "x":
            direction = (*direction[:2], rng.standard_normal(x.shape))
        else:
            part = direction[0] if place in params else direction[1]
            part[place] = rng.standard_normal(part[place].shape)
        along = (direction[0], tuple(direction[1].values()), direction[2])

        def moved(step, along=along):
            by_hand = jax.tree.map(lambda value, way: value + float(step[0]) * way, (params, state, x), along)
            return float(sum(np.sum(w * part) for w, part in zip(weights, expected_step(name, *by_hand), strict=True)))

        slope = sum(jax.tree.leaves(jax.tree.map(lambda g, way: np.sum(g * way), got, along)))
        np.testing.assert_allclose(slope, central_differences(moved, np.zeros(1))[0], rtol=1e-6, atol=1e-8)
        assert slope != 0


@pytest.mark.parametrize("name", ["1d", "2d_strided"])
def test_a_layer_equals_the_loop(name, x64):
    params, state, _ = arguments(name)
    mask = np.asarray([[1, 1, 1], [0, 1, 0]], bool)
    resets = np.asarray([[0, 0, 1], [0, 0, 1]], bool)
    x = np.random.default_rng(3).standard_normal((B, 3, *FORMS[name][0], C))
    layer = rnnjax.ConvLSTM(H, return_state=True, **FORMS[name][1])
    final, y = jax.jit(layer.apply)(
        {"params": {"recurrence": params}}, x, mask=mask, resets=resets, initial_state=rnnjax.LSTMState(*state)
    )
    for b in range(B):
        one = tuple(part[b : b + 1] for part in state)
        for t in range(3):
            if not mask[b, t]:
                np.testing.assert_array_equal(y[b, t], 0)
                continue
            if resets[b, t]:
                one = tuple(map(np.zeros_like, one))
            one = expected_step(name, params, one, x[b : b + 1, t])
            np.testing.assert_allclose(y[b, t], one[0][0], rtol=0, atol=1e-12)
        for got, want in zip(final, one, strict=True):
            np.testing.assert_allclose(got[b], want[0], rtol=0, atol=1e-12)


def test_masks_of_dropout_are_those_of_a_pixel():
    """One for all steps, drawn for inputs and for the state in their own sizes."""
    cell = rnnjax.ConvLSTMCell(
        H, kernel_size=(3, 2), strides=(2, 3), dropout_rate=0.5, recurrent_dropout_rate=0.25, weight_drop_rate=0.5
    )

    @jax.jit
    def draw(key):
        return cell.apply({}, (B, 5, 4, C), False, rngs={"dropout": key}, method="constants")

    constants = draw(jax.random.key(0))
    for mask, shape, scale in [
        (constants.input_mask, (B, 5, 4, C), 2),
        (constants.recurrent_mask, (B, 3, 2, H), 4 / 3),
        (constants.kernel_mask, (3, 2, H, 4 * H), 2),
    ]:
        assert mask.shape == shape
        np.testing.assert_allclose(np.unique(mask), [0, scale], rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 3}, "expects kernel_size, 1 to 3 integers >= 1; got 3."),
        ({"kernel_size": (2, 2, 2, 2)}, "expects kernel_size, 1 to 3 integers >= 1; got (2, 2, 2, 2)."),
        ({"kernel_size": (3, 0)}, "expects kernel_size, 1 to 3 integers >= 1; got (3, 0)."),
        ({"padding": "CAUSAL"}, "expects padding to be one of SAME, VALID; got 'CAUSAL'."),
        ({"strides": (1, 2, 3)}, "expects strides, an integer or 2; got (1, 2, 3)."),
        ({"kernel_dilation": (1,)}, "expects kernel_dilation, an integer or 2; got (1,)."),
        ({"cell_zoneout_rate": 1.0}, "expects 0 <= cell_zoneout_rate < 1; got 1.0."),
        ({"layer_norm": True}, "has no layer_norm."),
        ({"matmul_dtype": jnp.bfloat16}, "has no matmul_dtype."),
    ],
)
def test_options_without_meaning(options, message):
    for make in (rnnjax.ConvLSTM, rnnjax.ConvLSTMCell):
        with pytest.raises(ValueError, match=f"^{make.__name__} {re.escape(message)}$"):
            make(H, **options)


def test_inputs_and_states_without_their_spatial_axes():
    cell = rnnjax.ConvLSTMCell(H)
    message = "ConvLSTMCell expects the shape of a batch and its 2 spatial axes, such as (8, 64, 64); got 3."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        cell.initial_state(3)
    state = cell.initial_state((1, 4, 4))
    message = "ConvLSTMCell expects the inputs of one step [B, X, Y, D]; got (4, 4, 1). For one example, pass x[None]."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        cell.init(jax.random.key(0), state, jnp.ones((4, 4, 1)))
