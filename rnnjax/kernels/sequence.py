"""What every recurrence over a padded batch needs, on arrays."""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

Tree = TypeVar("Tree")


def sigmoid(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Logistic function, through tanh, which XLA vectorises on CPU where it does not for `jax.nn.sigmoid`."""
    return 0.5 * jnp.tanh(0.5 * x) + 0.5


NORM_EPSILON = 1e-5
"""Added to variances, as PyTorch's LayerNorm does."""


def split_columns(x: Float[Array, "*T G"], shares: Sequence[int]) -> list[Float[Array, "*T N"]]:
    """Parts of the last axis, so many of its equal blocks each."""
    width = x.shape[-1] // sum(shares)
    return jnp.split(x, [width * end for end in accumulate(shares)][:-1], axis=-1)


def normalise(x: Float[Array, "*T G"], scale: Float[Array, " G"], groups: tuple[int, ...]) -> Float[Array, "*T G"]:
    """Layer normalisation (Ba et al. 2016) over groups of so many equal blocks of the last axis, then the scale."""

    def centre(part: Array) -> Array:
        part = part - part.mean(axis=-1, keepdims=True)
        return part * jax.lax.rsqrt((part * part).mean(axis=-1, keepdims=True) + NORM_EPSILON)

    x = jnp.concatenate([centre(part) for part in split_columns(x, groups)], axis=-1)
    return x * scale.reshape((1,) * (x.ndim - 1) + scale.shape)


def mask_from_lengths(lengths: Int[Array, "*B"], num_steps: int) -> Bool[Array, "*B T"]:
    """True at the first `lengths[b]` of `num_steps` steps."""
    steps = jnp.arange(num_steps).reshape((1,) * lengths.ndim + (num_steps,))
    return steps < lengths[..., None]


def select(condition: Bool[Array, "B"], on_true: Tree, on_false: Tree) -> Tree:
    """Choose between two trees of `[B, ...]` arrays, example by example."""

    def choose(a: Array, b: Array) -> Array:
        return jnp.where(condition.reshape(condition.shape + (1,) * (a.ndim - condition.ndim)), a, b)

    return jax.tree.map(choose, on_true, on_false)


def zero_where_masked(mask: Bool[Array, "B T"], x: Float[Array, "B T ..."]) -> Float[Array, "B T ..."]:
    """Put zeros where `mask` is False, so that neither a value nor a gradient (NaN included) passes."""
    return jnp.where(mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim)), x, 0)


def masked_step(
    advance: Callable[[Any], tuple[Any, Array]],
    state: Any,
    fresh: Any,
    mask: Bool[Array, "B"] | None,
    resets: Bool[Array, "B"] | None,
) -> tuple[Any, Float[Array, "B H"]]:
    """Take one step where `mask` is True, from `fresh` where `resets` is True: (state, output).

    Elsewhere the state stays as it is and the output is zero.
    """
    after, output = advance(state if resets is None else select(resets, fresh, state))
    if mask is None:
        return after, output
    return select(mask, after, state), select(mask, output, jnp.zeros_like(output))
