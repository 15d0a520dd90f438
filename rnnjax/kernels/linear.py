"""Linear recurrences, h' = decay * h + increment element by element: all steps in parallel, or one after another."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def linear_recurrence(
    parallel: bool,
    reverse: bool,
    decay: Float[Array, "T *B H"],
    increment: Float[Array, "T *B H"],
    initial: Float[Array, "*B H"],
) -> Float[Array, "T *B H"]:
    """h[t] = decay[t] * h[t - 1] + increment[t] for all t, with `initial` before the first.

    Args:
        parallel: by `jax.lax.associative_scan` (Blelloch 1990), in O(log T) dependent operations; otherwise by
            `jax.lax.scan`.
        reverse: from the last step to the first.
        decay: factors `[T, ..., H]`.
        increment: what is added, `[T, ..., H]`.
        initial: `[..., H]`.

    Returns:
        h `[T, ..., H]`. Its gradient is the same recurrence run the other way, which needs h and nothing else; so it
        has reverse-mode derivatives only.
    """
    return _run(parallel, reverse, decay, increment, initial)


def _run(parallel: bool, reverse: bool, decay: Array, increment: Array, initial: Array) -> Array:
    if not parallel:

        def body(h: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
            h = step[0] * h + step[1]
            return h, h

        return jax.lax.scan(body, initial, (decay, increment), reverse=reverse)[1]

    def then(first: tuple[Array, Array], second: tuple[Array, Array]) -> tuple[Array, Array]:
        return first[0] * second[0], second[0] * first[1] + second[1]

    if decay.shape[0] == 0:
        return increment
    first = -1 if reverse else 0
    increment = increment.at[first].add(decay[first] * initial)
    return jax.lax.associative_scan(then, (decay, increment), reverse=reverse)[1]


def _before(h: Array, initial: Array, reverse: bool) -> Array:
    """Of each step, the state that it started from."""
    return jnp.concatenate([h[1:], initial[None]] if reverse else [initial[None], h[:-1]])


def _forward(
    parallel: bool, reverse: bool, decay: Array, increment: Array, initial: Array
) -> tuple[Array, tuple[Array, Array, Array]]:
    h = _run(parallel, reverse, decay, increment, initial)
    return h, (decay, h, initial)


def _backward(
    parallel: bool, reverse: bool, kept: tuple[Array, Array, Array], gradient: Array
) -> tuple[Array, Array, Array]:
    decay, h, initial = kept
    if decay.shape[0] == 0:
        return decay, gradient, jnp.zeros_like(initial)
    # A step's state enters the next one's with that one's decay.
    following = _before(decay, jnp.zeros_like(initial), not reverse)
    through = _run(parallel, not reverse, following, gradient, jnp.zeros_like(initial))
    return through * _before(h, initial, reverse), through, (decay * through)[-1 if reverse else 0]


linear_recurrence.defvjp(_forward, _backward)
