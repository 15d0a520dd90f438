"""What is compared with each framework: outputs, final states, and the gradients of a random weighting of both."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from oracles import CASES

import rnnjax

TOLERANCES = {"float64": 1e-10, "float32": 1e-5}
"""Times the largest value compared, or 1."""

B, T, D, H = 4, 6, 4, 5
TUTORIAL = (128, 200, 128)
"""Examples, steps and inputs of the tutorial's sentiment model ..."""
TUTORIAL_UNITS = 64
"""... and the width of its LSTM."""


class Problem(NamedTuple):
    """Inputs of a layer, and how its outputs and final states are weighted in the loss that is differentiated."""

    x: np.ndarray
    """[B, T, D]"""
    initial: list[np.ndarray] | None
    """[B, H] each."""
    output_weights: np.ndarray
    """[B, T, F], zero at masked steps."""
    state_weights: list[np.ndarray]
    """[B, H] each."""


class Results(NamedTuple):
    """What a framework made of a problem."""

    outputs: Any
    states: Any
    d_x: Any
    d_weights: Any
    """A list or dict, as the other framework has its weights."""
    d_initial: Any
    """None where no initial state was given."""


def random_like(seed: int, arrays: Any) -> Any:
    """Asymmetric weights in the shapes of these, large enough that every gate leaves its middle."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda array: (0.7 * rng.standard_normal(array.shape) + 0.1).astype(array.dtype), arrays)


def make_ours(cell: str, form: str, features: int = H, **options: Any) -> Any:
    """A layer of a case in `oracles`: "one", "both" directions, or "two" of them one upon another."""
    layer = CASES[cell].make_layer(features, **options)
    if form == "both":
        return rnnjax.Bidirectional(layer)
    return rnnjax.Stack([layer, layer.clone()]) if form == "two" else layer


def make_problem(
    layer: Any,
    shape: tuple[int, int, int] = (B, T, D),
    *,
    dtype: str = "float64",
    mask: np.ndarray | None = None,
    has_initial: bool = False,
) -> Problem:
    """Random inputs `[B, T, D]` for a layer of ours, random states, random weights of all that comes out."""
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(dtype)

    widths = [leaf.shape[1] for leaf in jax.tree.leaves(layer.initial_state(1))]
    num_outputs = 2 * widths[0] if isinstance(layer, rnnjax.Bidirectional) else widths[-1]
    output_weights = draw(*shape[:2], num_outputs)
    if mask is not None:
        output_weights = output_weights * mask[..., None]
    initial = [0.5 * draw(shape[0], width) for width in widths] if has_initial else None
    return Problem(draw(*shape), initial, output_weights, [draw(shape[0], width) for width in widths])


def run_ours(
    layer: Any, convert: Callable[[Any, Any], Any], weights: Any, problem: Problem, **keywords: np.ndarray | None
) -> Results:
    """Our layer on the other framework's weights, and gradients with respect to those.

    Args:
        layer: a layer of ours.
        convert: from the layer and the other framework's weights to our parameters.
        weights: a list or dict of arrays.
        problem: what to run and to differentiate.
        keywords: `lengths` or `mask`.
    """
    structure = jax.tree.structure(layer.initial_state(1))

    def loss(x: Any, weights: Any, initial: Any) -> Any:
        state = None if initial is None else jax.tree.unflatten(structure, initial)
        variables = {"params": convert(layer, weights)}
        final, y = layer.apply(variables, x, initial_state=state, return_state=True, **keywords)
        states = jax.tree.leaves(final)
        total = jnp.sum(y * problem.output_weights)
        total += sum(jnp.sum(s * w) for s, w in zip(states, problem.state_weights, strict=True))
        return total, (y, states)

    differentiate = jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))
    gradients, (y, states) = differentiate(problem.x, weights, problem.initial)
    return Results(y, states, *gradients)


def assert_same(ours: Results, theirs: Results, mask: np.ndarray | None = None) -> None:
    """Hold all results against theirs; of the outputs those at real steps, where `mask` is True."""
    tolerance = TOLERANCES[theirs.outputs.dtype.name]
    if mask is not None:
        ours, theirs = (result._replace(outputs=np.asarray(result.outputs)[mask]) for result in (ours, theirs))
    for name, got, want in zip(Results._fields, ours, theirs, strict=True):
        assert jax.tree.structure(got) == jax.tree.structure(want), name
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1, np.max(np.abs(b))), err_msg=name)
