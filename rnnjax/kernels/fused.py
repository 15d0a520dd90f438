"""Recurrences with a derivative of their own.

Differentiating a scan adds to the gradient of the recurrent kernel at every step, a small product and a pass over the
whole matrix each time, and keeps every intermediate value. Here a cell says what it keeps and how gradients pass one
step; the loop that runs back leaves the gradients of the products, and the kernel's gradient is one product of
[H, T * B] by [T * B, G] after it, as in cuDNN.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rnnjax.kernels.sequence import masked_step, select


class StepRule(NamedTuple):
    """One step of a recurrence of the form state' = f(state, z, h @ kernel + bias), and its derivative.

    States are NamedTuples of [B, H] arrays whose first field is h; z and the product are [B, G].
    """

    forward: Callable[[Any, Array, Array], tuple[Any, Any]]
    """(state, z, product) -> (next state, what `backward` needs)."""
    backward: Callable[[Any, Any], tuple[Array, Array, Any]]
    """(what `forward` kept, gradient of the next state) -> gradients of z, of the product, and of the state other than
    through the product."""
    additive: bool
    """`forward` only ever adds z and the product, so that their gradients are one."""


class Loop(NamedTuple):
    """What of a recurrence is no array."""

    rule: StepRule
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
    bias: Float[Array, " G"] | None,
    initial: Any,
    fresh: Any,
    recurrent_mask: Float[Array, "B H"] | None,
    steps: Steps,
) -> tuple[Any, Float[Array, "T B H"] | None]:
    """Run a recurrence of the form state' = rule(state, z, (recurrent_mask * h) @ kernel + bias).

    Args:
        loop: the form.
        kernel: recurrent kernel `[H, G]`.
        bias: recurrent bias `[G]`; None where there is none.
        initial: the state at the start.
        fresh: the state that a reset returns to, a constant.
        recurrent_mask: dropout of h where it enters the product, a constant; None for none.
        steps: pre-activations, mask and resets.

    Returns:
        The final state, and the outputs `[T, B, H]` (None unless `loop.return_sequences`). It has reverse-mode
        derivatives only.
    """
    return _run(loop, kernel, bias, initial, fresh, recurrent_mask, steps, keep=False)[0]


def _run(
    loop: Loop,
    kernel: Array,
    bias: Array | None,
    initial: Any,
    fresh: Any,
    recurrent_mask: Array | None,
    steps: Steps,
    keep: bool,
) -> tuple[tuple[Any, Array | None], Any]:
    """The recurrence and, with `keep`, for each step what entered the product `[T, B, H]` and what the rule keeps."""

    def body(state: Any, step: Steps) -> tuple[Any, tuple[Array | None, Any]]:
        def advance(before: Any) -> tuple[Any, Array]:
            entering = before[0] if recurrent_mask is None else before[0] * recurrent_mask
            product = entering @ kernel
            if bias is not None:
                product = product + bias[None, :]
            after, rule_keeps = loop.rule.forward(before, step.z, product)
            kept.append((entering, rule_keeps))
            return after, after[0]

        kept: list[Any] = []
        state, output = masked_step(advance, state, fresh, step.mask, step.resets)
        return state, (output if loop.return_sequences else None, kept[0] if keep else None)

    final, (outputs, kept) = jax.lax.scan(body, initial, steps, reverse=loop.reverse, unroll=loop.unroll)
    return (final, outputs), kept


def _forward(
    loop: Loop, kernel: Array, bias: Array | None, initial: Any, fresh: Any, recurrent_mask: Array | None, steps: Steps
) -> tuple[Any, Any]:
    result, kept = _run(loop, kernel, bias, initial, fresh, recurrent_mask, steps, keep=True)
    return result, (kernel, bias, recurrent_mask, steps.mask, steps.resets, kept)


def _backward(loop: Loop, residuals: Any, gradients: Any) -> tuple[Any, ...]:
    kernel, bias, recurrent_mask, mask, resets, (entering, kept) = residuals
    final, outputs = gradients
    transposed = kernel.T

    def body(after: Any, inputs: Any) -> tuple[Any, tuple[Array, Array | None]]:
        """Gradients pass one step: from the state after it to the state before it."""
        kept, mask, resets, output = inputs
        through = after if output is None else after._replace(**{after._fields[0]: after[0] + output})
        if mask is not None:
            through = select(mask, through, jax.tree.map(jnp.zeros_like, through))
        z, product, before = loop.rule.backward(kept, through)
        h = product @ transposed
        h = before[0] + (h if recurrent_mask is None else h * recurrent_mask)
        before = before._replace(**{before._fields[0]: h})
        if resets is not None:  # a reset state is a constant
            before = select(resets, jax.tree.map(jnp.zeros_like, before), before)
        if mask is not None:
            before = select(mask, before, after)
        return before, (z, None if loop.rule.additive else product)

    inputs = kept, mask, resets, outputs
    initial, (z, own) = jax.lax.scan(body, final, inputs, reverse=not loop.reverse, unroll=loop.unroll)
    products = z if own is None else own  # [T, B, G]
    kernel_gradient = _rows(entering).T @ _rows(products)
    bias_gradient = None if bias is None else products.sum(axis=(0, 1))
    return kernel_gradient, bias_gradient, initial, None, None, Steps(z, None, None)


def _rows(x: Float[Array, "T B N"]) -> Float[Array, "T*B N"]:
    """All steps' examples as rows: XLA multiplies matrices without the copies that it makes for two summed axes."""
    return x.reshape(-1, x.shape[-1])


recurrence.defvjp(_forward, _backward)
