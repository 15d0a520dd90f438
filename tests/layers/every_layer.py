"""Every layer over a cell in small, for tests of what all layers promise."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

import rnnjax

B, T, H = 3, 6, 3

LAYERS: dict[str, Callable[..., Any]] = {
    "lstm": functools.partial(rnnjax.LSTM, H),
    "lstm_peephole": functools.partial(rnnjax.LSTM, H, peephole=True),
    "lstm_coupled": functools.partial(rnnjax.LSTM, H, coupled_gates=True),
    "lstm_layer_norm": functools.partial(rnnjax.LSTM, H, layer_norm=True),
    "lstm_projection": functools.partial(rnnjax.LSTM, H, proj_size=2),
    "lstm_full_gates": functools.partial(rnnjax.LSTM, H, full_gate_recurrence=True, peephole=True),
    "lstm_zoneout": functools.partial(rnnjax.LSTM, H, zoneout_rate=0.3, cell_zoneout_rate=0.2),
    "gru": functools.partial(rnnjax.GRU, H),
    "gru_before": functools.partial(rnnjax.GRU, H, reset_after=False),
    "mgu": functools.partial(rnnjax.MGU, H),
    "simple": functools.partial(rnnjax.SimpleRNN, H),
    "irnn": functools.partial(rnnjax.IRNN, H),
    "indrnn": functools.partial(rnnjax.IndRNN, H),
    "conv_lstm_1d": functools.partial(rnnjax.ConvLSTM, 2, kernel_size=(3,), strides=2),
    "conv_lstm_2d": functools.partial(rnnjax.ConvLSTM, 2, kernel_size=(2, 3)),
    "min_gru": functools.partial(rnnjax.MinGRU, H, activation_fn=rnnjax.positive),
    "min_lstm": functools.partial(rnnjax.MinLSTM, H),
    "rglru": functools.partial(rnnjax.RGLRU, H),
}

FUSED = ("lstm", "gru", "gru_before", "simple", "irnn")
LINEAR = ("min_gru", "min_lstm", "rglru")
FORMS = [
    (name, form)
    for name in LAYERS
    for form in ("scan", *(("fused",) if name in FUSED + LINEAR else ()), *(("parallel",) if name in LINEAR else ()))
]
"""Each layer with each implementation that it has."""

# Examples of one step; an RG-LRU's are as wide as its state.
INPUT_SHAPES = {"conv_lstm_1d": (5, 2), "conv_lstm_2d": (3, 2, 2)}


def inputs(name: str, seed: int, batch: tuple[int, ...] = (B,), num_steps: int = T) -> np.ndarray:
    """Inputs `[*B, T, ...]` of a layer."""
    return np.random.default_rng(seed).standard_normal((*batch, num_steps, *INPUT_SHAPES.get(name, (H,))))


@functools.cache
def variables(name: str, seed: int = 0) -> dict[str, Any]:
    """Random float64 parameters, no two alike, of a layer."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(LAYERS[name]().init, jax.random.key(0), inputs(name, 0, (1,), 1))

    def draw(path: Any, leaf: Any) -> np.ndarray:
        # An RG-LRU remembers only where the logit of its decay is large.
        return 0.5 * rng.standard_normal(leaf.shape) + (3 if "decay_logit" in jax.tree_util.keystr(path) else 0)

    return {"params": jax.tree_util.tree_map_with_path(draw, shapes["params"])}


def state_shapes(name: str, batch: tuple[int, ...] = (B,)) -> Any:
    """The final state's shapes and types."""
    layer = LAYERS[name](return_state=True)
    return jax.eval_shape(layer.apply, variables(name), inputs(name, 0, batch))[0]


def state(name: str, seed: int, batch: tuple[int, ...] = (B,)) -> Any:
    """A random state to start from."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: 0.5 * rng.standard_normal(leaf.shape), state_shapes(name, batch))


WEIGHTS = np.sin(1.0 + np.arange(B * T)).reshape(B, T)


def objective(final: Any, outputs: jax.Array, weights: jax.Array) -> jax.Array:
    """A number that sees every part of a state and, with weights `[B, T]`, every output; linear in none."""

    def weigh(part: jax.Array, weights: Any) -> jax.Array:
        return jnp.sum(jnp.asarray(weights, part.dtype) * (part + 0.5 * part * part))

    parts = [weigh(part, np.cos(np.arange(part.size)).reshape(part.shape)) for part in jax.tree.leaves(final)]
    units = np.cos(np.arange(outputs[0, 0].size)).reshape(1, 1, *outputs.shape[2:])
    return sum(parts) + weigh(outputs, weights.reshape(weights.shape + (1,) * (outputs.ndim - 2)) * units)


def differentiated(layer: nn.Module) -> Callable[..., Any]:
    """Compiled: (variables, inputs, initial state, further keywords) -> ((final state, outputs), their gradients)."""

    def loss(variables: Any, x: jax.Array, state: Any, weights: jax.Array, keywords: dict[str, Any]) -> Any:
        final, outputs = layer.apply(variables, x, initial_state=state, return_state=True, **keywords)
        return objective(final, outputs, weights), (final, outputs)

    @jax.jit
    def run(variables: Any, x: jax.Array, state: Any, weights: Any = WEIGHTS, **keywords: Any) -> Any:
        gradients, results = jax.grad(loss, argnums=(0, 1, 2), has_aux=True)(variables, x, state, weights, keywords)
        return results, gradients

    return run


@functools.cache
def compiled(name: str, form: str = "auto", reverse: bool = False) -> Callable[..., Any]:
    """`differentiated` of a layer in one of its forms, compiled once for all tests of a module."""
    return differentiated(LAYERS[name](implementation=form, reverse=reverse))


def jitted(layer: nn.Module, **options: Any) -> Callable[..., Any]:
    """`layer.apply`, compiled; options are those that are no arrays."""
    return jax.jit(functools.partial(layer.apply, **options))


def flipped(x: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Each example's real steps in the opposite order, where they stood; padding as it is."""
    return np.stack(
        [np.concatenate([one[:length][::-1], one[length:]]) for one, length in zip(x, lengths, strict=True)]
    )


def assert_trees_close(got: Any, want: Any, tolerance: float = 1e-12) -> None:
    """Equal structures, and leaves equal within `tolerance` of the larger of 1 and the largest value expected."""
    assert jax.tree.structure(got) == jax.tree.structure(want)

    def compare(got: Any, want: Any) -> None:
        scale = max(1.0, float(np.max(np.abs(want), initial=0)))
        np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * scale)

    jax.tree.map(compare, got, want)
