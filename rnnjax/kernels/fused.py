"""Recurrences whose weight gradient is formed after the loop.

Differentiating a scan adds to the gradient of the recurrent kernel at every step: a small product and a pass over the
whole matrix each time. Here the loop that runs back leaves the gradients of the recurrent products, and one product of
[H, T * B] by [T * B, G] makes the kernel's gradient of them, as cuDNN does.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rnnjax.kernels.sequence import masked_step

Combine = Callable[[Any, Any, Array, Array], Any]
"""(weights, state, z [B, G], recurrent product [B, G]) -> state; the state's first field is h [B, H]."""


class Loop(NamedTuple):
    """What of a recurrence is no array."""

    combine: Combine
    additive: bool
    """`combine` only ever adds its two pre-activations, so that their gradients are the same."""
    reverse: bool
    unroll: int
    return_sequences: bool


class Steps(NamedTuple):
    """What each step reads, time first."""

    z: Float[Array, "T B G"]
    mask: Bool[Array, "T B"] | None
    resets: Bool[Array, "T B"] | None


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def recurrence(
    loop: Loop,
    kernel: Float[Array, "H G"],
    weights: Any,
    initial: Any,
    fresh: Any,
    recurrent_mask: Float[Array, "B H"] | None,
    steps: Steps,
) -> tuple[Any, Float[Array, "T B H"] | None]:
    """Run a recurrence of the form state' = combine(weights, state, z, (recurrent_mask * h) @ kernel).

    Args:
        loop: the form.
        kernel: recurrent kernel `[H, G]`.
        weights: what else the cell multiplies or adds by, small; None where there is nothing.
        initial: the state at the start.
        fresh: the state that a reset returns to, a constant.
        recurrent_mask: dropout of h where it enters the product; None for none.
        steps: pre-activations, mask and resets.

    Returns:
        The final state, and the outputs `[T, B, H]` (None unless `loop.return_sequences`).
    """
    return _run(loop, kernel, weights, initial, fresh, recurrent_mask, steps, None)[0]


def _run(
    loop: Loop,
    kernel: Array,
    weights: Any,
    initial: Any,
    fresh: Any,
    recurrent_mask: Array | None,
    steps: Steps,
    offsets: Array | None,
) -> tuple[tuple[Any, Array | None], Array]:
    """The recurrence, and what each product has before the kernel `[T, B, H]`; `offsets` are added to the products."""

    def body(state: Any, inputs: tuple[Steps, Array | None]) -> tuple[Any, tuple[Array | None, Array]]:
        step, offset = inputs

        def advance(before: Any) -> tuple[Any, Array]:
            entering = before[0] if recurrent_mask is None else before[0] * recurrent_mask
            products.append(entering)
            product = entering @ kernel
            after = loop.combine(weights, before, step.z, product if offset is None else product + offset)
            return after, after[0]

        products: list[Array] = []
        state, output = masked_step(advance, state, fresh, step.mask, step.resets)
        return state, (output if loop.return_sequences else None, products[0])

    final, (outputs, entering) = jax.lax.scan(body, initial, (steps, offsets), reverse=loop.reverse, unroll=loop.unroll)
    return (final, outputs), entering


def _forward(
    loop: Loop, kernel: Array, weights: Any, initial: Any, fresh: Any, recurrent_mask: Array | None, steps: Steps
) -> tuple[Any, Any]:
    # The kernel is a constant of what is differentiated here. Zero offsets, added to the products, receive their
    # gradients; where z is only ever added to the product, its own gradient is that.
    def run(weights: Any, initial: Any, recurrent_mask: Any, z: Array, offsets: Any) -> Any:
        return _run(loop, kernel, weights, initial, fresh, recurrent_mask, steps._replace(z=z), offsets)

    offsets = None if loop.additive else jnp.zeros_like(steps.z)
    result, pull_back, entering = jax.vjp(run, weights, initial, recurrent_mask, steps.z, offsets, has_aux=True)
    return result, (pull_back, entering)


def _backward(loop: Loop, residuals: Any, gradients: Any) -> tuple[Any, ...]:
    pull_back, entering = residuals
    weights, initial, recurrent_mask, z, products = pull_back(gradients)
    products = z if loop.additive else products  # [T, B, G]
    kernel = jnp.einsum("tbh,tbg->hg", entering, products)
    return kernel, weights, initial, None, recurrent_mask, Steps(z, None, None)


recurrence.defvjp(_forward, _backward)
