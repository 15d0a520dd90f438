"""Penalties on outputs and on weights, and constraints on weights, for a training loop of one's own.

    def loss(params):
        y = lstm.apply(params, x, lengths=lengths, deterministic=False, rngs=rngs)
        penalty = weight_penalty(params, l2={"recurrence/kernel": 1e-5, "recurrent_kernel": 1e-4})
        penalty += 2 * activation_penalty(y, lengths=lengths) + temporal_activation_penalty(y, lengths=lengths)
        return cross_entropy(y) + penalty

    optimizer = optax.chain(optax.adam(1e-3), constrain({"recurrent_kernel": max_norm(3.0)}))

Weights are named by the end of their path in the tree of parameters, whatever it is nested in: "kernel" is each kernel,
"recurrence/kernel" the input kernel of each recurrent layer, "backward/recurrence/kernel" that of each backward
direction, "output/kernel" that of a dense layer called "output". Where several names fit a weight, the longest counts.
Parameters of a recurrent layer stand under "recurrence": `kernel`, `recurrent_kernel`, `bias`, and what its cell has
besides.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from rnnjax.kernels.sequence import zero_where_masked
from rnnjax.layers.recurrent import resolve_mask

Constraint = Callable[[Array], Array]


def activation_penalty(
    y: Float[Array, "*B T H"],
    *,
    lengths: Int[Array, "*B"] | None = None,
    mask: Bool[Array, "*B T"] | None = None,
) -> Float[Array, ""]:
    """Activation regularisation (AR): the mean of y^2 over real steps and features (Merity et al. 2017).

    Args:
        y: outputs `[*B, T, H]` of a layer, after dropout.
        lengths: `[*B]`, the number of real steps of each sequence.
        mask: `[*B, T]`, True at real steps; instead of `lengths`.

    Returns:
        A scalar, to be scaled by a coefficient (2 in the paper's code) and added to the loss. 0 without a real step.

    Raises:
        ValueError: outputs, lengths or mask of the wrong shape or type.
    """
    y, mask = _real_steps("activation_penalty", y, lengths, mask)
    return _mean_square(y, mask)


def temporal_activation_penalty(
    y: Float[Array, "*B T H"],
    *,
    lengths: Int[Array, "*B"] | None = None,
    mask: Bool[Array, "*B T"] | None = None,
) -> Float[Array, ""]:
    """Temporal activation regularisation (TAR): the mean square of changes between real steps (Merity et al. 2017).

    The mean of (y_t - y_s)^2 over features and real steps t, s the nearest real step before t: as everywhere in this
    library, a masked step is as if it were not there.

    Args:
        y: outputs `[*B, T, H]` of a layer, without dropout.
        lengths: `[*B]`, the number of real steps of each sequence.
        mask: `[*B, T]`, True at real steps; instead of `lengths`.

    Returns:
        A scalar, to be scaled by a coefficient (1 in the paper's code) and added to the loss. 0 without two real steps.

    Raises:
        ValueError: outputs, lengths or mask of the wrong shape or type.
    """
    y, mask = _real_steps("temporal_activation_penalty", y, lengths, mask)
    steps = jnp.broadcast_to(jnp.arange(mask.shape[-1]).reshape((1,) * (mask.ndim - 1) + (-1,)), mask.shape)
    before = jax.lax.cummax(jnp.where(mask, steps, -1), axis=mask.ndim - 1)[..., :-1]  # of t + 1; -1 with none
    change = y[..., 1:, :] - jnp.take_along_axis(y, jnp.maximum(before, 0)[..., None], axis=-2)  # [*B, T - 1, H]
    return _mean_square(change, mask[..., 1:] & (before >= 0))


def _real_steps(
    name: str, y: Float[Array, "*B T H"], lengths: Int[Array, "*B"] | None, mask: Bool[Array, "*B T"] | None
) -> tuple[Float[Array, "*B T H"], Bool[Array, "*B T"]]:
    """Outputs, zero at masked steps, and the mask."""
    if y.ndim < 2:
        raise ValueError(f"{name} expects outputs [..., T, H]; got {y.shape}.")
    mask = resolve_mask(name, y.shape[:-1], lengths, mask)
    return (y, jnp.ones(y.shape[:-1], bool)) if mask is None else (zero_where_masked(mask, y), mask)


def _mean_square(values: Float[Array, "*B T H"], mask: Bool[Array, "*B T"]) -> Float[Array, ""]:
    count = mask.sum() * values.shape[-1]
    return jnp.square(zero_where_masked(mask, values)).sum() / jnp.maximum(count, 1).astype(values.dtype)


def weight_penalty(
    params: Any, *, l1: Mapping[str, float] | None = None, l2: Mapping[str, float] | None = None
) -> Float[Array, ""]:
    """Penalties on weights, as Keras's `regularizers.L1L2`: the sum of l1 |w| + l2 w^2.

    Args:
        params: parameters of any model, nested in any way.
        l1: coefficient of the sum of absolute values, for each name of weights: `{"kernel": 1e-5}`.
        l2: coefficient of the sum of squares.

    Returns:
        A scalar, to be added to the loss.

    Raises:
        ValueError: no parameter has one of the names.
    """
    total = jnp.zeros(())
    for coefficients, measure in ((l1 or {}, _magnitude), (l2 or {}, jnp.square)):
        for coefficient, leaf in zip(_by_leaf(params, coefficients), jax.tree.leaves(params), strict=True):
            if coefficient is not None:
                total += coefficient * measure(leaf).sum()
    return total


def _magnitude(weights: Array) -> Array:
    """|w|, with a gradient of 0 at 0, as in Keras; that of `jnp.abs` is 1."""
    return weights * jnp.sign(weights)


def constrain(constraints: Mapping[str, Constraint]) -> optax.GradientTransformation:
    """Keep weights within constraints: a transformation of updates that stands last in `optax.chain`.

    What an update would make of a weight is constrained, and the update becomes what leads there, to rounding. An
    update that leads to a weight that is within the constraint stays as it is.

    Args:
        constraints: for each name of weights, a function from an array to one that is within the constraint:
            `{"recurrent_kernel": max_norm(3.0), "bias": optax.projections.projection_non_negative}`. The functions of
            `optax.projections` take an array as a whole; those of this module each of its columns.

    Raises:
        ValueError: no parameter has one of the names (when `init` is called).
    """

    def init(params: Any) -> optax.EmptyState:
        _by_leaf(params, constraints)
        return optax.EmptyState()

    def update(updates: Any, state: optax.EmptyState, params: Any = None) -> tuple[Any, optax.EmptyState]:
        if params is None:
            raise ValueError("constrain expects optimizer.update(gradients, state, params); got no params.")
        leaves, structure = jax.tree.flatten(updates)
        constrained = [
            step if constraint is None else _within(constraint, leaf, step)
            for constraint, leaf, step in zip(
                _by_leaf(params, constraints), jax.tree.leaves(params), leaves, strict=True
            )
        ]
        return jax.tree.unflatten(structure, constrained), state

    return optax.GradientTransformation(init, update)


def _within(constraint: Constraint, leaf: Array, step: Array) -> Array:
    reached = leaf + step
    allowed = constraint(reached)
    return jnp.where(allowed == reached, step, allowed - leaf)


def max_norm(most: float, axis: int | Sequence[int] = 0) -> Constraint:
    """Scale down each column whose norm is above `most`, as Keras's `MaxNorm` (Srivastava et al. 2014).

    Args:
        most: the largest Euclidean norm.
        axis: axes along which norms are taken. 0: the weights that enter one unit, of a kernel `[D, H]` or of one gate
            of a recurrent layer's; 1: the vector of one word, of an embedding `[V, D]`; (0, 1, 2) for a convolution.

    Keras divides by the norm + 1e-7 and so shrinks every column at each step; here those within stay as they are.
    """
    return min_max_norm(0.0, most, axis=axis)


def unit_norm(axis: int | Sequence[int] = 0) -> Constraint:
    """Scale each column to a norm of 1, as Keras's `UnitNorm`; one of zeros stays. `axis` as in `max_norm`."""
    return min_max_norm(1.0, 1.0, axis=axis)


def min_max_norm(least: float, most: float, rate: float = 1.0, axis: int | Sequence[int] = 0) -> Constraint:
    """Bring the norm of each column into bounds, as Keras's `MinMaxNorm`; one of zeros stays.

    Args:
        least: the smallest Euclidean norm.
        most: the largest.
        rate: how far: 1 brings the norm to the bound, 0.1 a tenth of the way.
        axis: as in `max_norm`.

    Raises:
        ValueError: bounds or a rate that have no meaning.
    """
    if not 0 <= least <= most:
        raise ValueError(f"A constraint expects 0 <= least norm <= largest norm; got {least} and {most}.")
    if not 0 < rate <= 1:
        raise ValueError(f"min_max_norm expects 0 < rate <= 1; got {rate}.")
    axes = axis if isinstance(axis, int) else tuple(axis)

    def constraint(weights: Array) -> Array:
        norm = jnp.sqrt(jnp.square(weights).sum(axis=axes, keepdims=True))
        wanted = norm + rate * (jnp.clip(norm, least, most) - norm)  # norm itself, to the bit, within the bounds
        return weights * jnp.where(norm > 0, wanted / jnp.where(norm > 0, norm, 1), 1)

    return constraint


def _by_leaf(params: Any, values: Mapping[str, Any]) -> list[Any]:
    """For each leaf of `params` the value whose name is the end of its path, None where there is none."""
    paths = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in jax.tree.leaves_with_path(params)]
    fitting = [[name for name in values if f"/{path}".endswith(f"/{name}")] for path in paths]
    unused = set(values) - {name for names in fitting for name in names}
    if unused:
        raise ValueError(f"Expected names of parameters, from {', '.join(paths)}; got {', '.join(sorted(unused))}.")
    return [values[max(names, key=len)] if names else None for names in fitting]
