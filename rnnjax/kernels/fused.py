"""Recurrences with a derivative of their own.

Differentiating a scan adds to the gradient of the recurrent kernel at every step, a small product and a pass over the
whole matrix each time, and keeps every intermediate value. Here the kernel's gradient is one product of [H, T * B] by
[T * B, G] after the loop that runs back, as in cuDNN. A step's derivative is linear in the gradient that comes in, so
that the forward loop leaves its factors and the loop that runs back does nothing but multiply. It leaves them where the
pre-activations stood, and there the loop that runs back leaves their gradient: no third array of that size is made.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from rnnjax.kernels.products import narrow_dot, sum_of_products
from rnnjax.kernels.sequence import masked_step, select, split_columns

Times = Callable[[int, Array], Array]
"""(k, x) -> the product of x with the k-th part of the recurrent kernel, or with its transpose."""
Store = Callable[[Array], Array]
"""Puts a step's row in its place. Use what it gives back from there on, and call it last of all that reads the row."""


class Kept(NamedTuple):
    """What the derivative of a step needs."""

    row: Float[Array, "B G"]
    """What takes the place of the pre-activations."""
    rest: tuple[Float[Array, "B H"], ...] = ()


class StepRule(NamedTuple):
    """One step of a recurrence whose state enters through products with the recurrent kernel, and its derivative.

    States are NamedTuples of [B, H] arrays whose first field is h; z is [B, G], and so are all products together.
    """

    forward: Callable[[Any, Array, Array, Times], tuple[Any, tuple[Array, ...], Kept]]
    """(state, its h as it enters, z, times) -> (next state, the left factor of each product, what `backward` needs)."""
    backward: Callable[[Kept, Any, Store, Times], tuple[tuple[Array, ...] | None, Array, Any]]
    """(what `forward` kept, gradient of the next state, where z's gradient is put, times with the transpose) ->
    gradients of each product (None where they are the columns of z's, since z and products are only added), of the
    entering h, and of the state other than through that."""
    parts: tuple[int, ...] = (1,)
    """Columns of the kernel that each product takes, as shares."""


class Loop(NamedTuple):
    """What of a recurrence is no array."""

    rule: StepRule
    reverse: bool
    unroll: int
    return_sequences: bool
    operand_dtype: Any = None
    """Type to which the operands of the products are rounded; None for no rounding."""


class Steps(NamedTuple):
    """What each step reads, time first."""

    z: Float[Array, "T B G"]
    mask: Bool[Array, "T B"] | None
    resets: Bool[Array, "T B"] | None
    number: Int[Array, " T"] | None = None
    """Only where a step draws noise of its own, which no rule here does."""


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def recurrence(
    loop: Loop,
    kernel: Float[Array, "H G"],
    bias: Float[Array, " G"] | None,
    input_bias: Float[Array, " G"] | None,
    initial: Any,
    fresh: Any,
    recurrent_mask: Float[Array, "B H"] | None,
    steps: Steps,
) -> tuple[Any, Float[Array, "T B H"] | None]:
    """Run a recurrence in which h enters as recurrent_mask * h, through products x @ kernel + bias.

    Args:
        loop: the form.
        kernel: recurrent kernel `[H, G]`.
        bias: recurrent bias `[G]`; None where there is none.
        input_bias: `[G]`, what is still to be added to the pre-activations; None for nothing.
        initial: the state at the start.
        fresh: the state that a reset returns to, a constant.
        recurrent_mask: dropout of h where it enters the products, a constant; None for none.
        steps: pre-activations, mask and resets.

    Returns:
        The final state, and the outputs `[T, B, H]` (None unless `loop.return_sequences`). It has reverse-mode
        derivatives only.
    """
    return _run(loop, kernel, bias, input_bias, initial, fresh, recurrent_mask, steps, keep=False)[0]


def _times(loop: Loop, kernels: list[Array], biases: list[Array] | None) -> Times:
    """Products with the parts of a kernel, operands rounded as the loop says."""
    narrow = kernels if loop.operand_dtype is None else [part.astype(loop.operand_dtype) for part in kernels]

    def times(part: int, x: Array) -> Array:
        product = narrow_dot(x.astype(narrow[part].dtype), narrow[part], x.dtype)
        return product if biases is None else product + biases[part][None, :]

    return times


def _run(
    loop: Loop,
    kernel: Array,
    bias: Array | None,
    input_bias: Array | None,
    initial: Any,
    fresh: Any,
    recurrent_mask: Array | None,
    steps: Steps,
    *,
    keep: bool,
) -> tuple[tuple[Any, Array | None], Any]:
    """The recurrence and, with `keep`, for each step what entered the products and what the rule keeps."""
    parts = loop.rule.parts
    times = _times(loop, split_columns(kernel, parts), None if bias is None else split_columns(bias, parts))

    def body(state: Any, z: Array, others: tuple[Any, Any], store: Store) -> tuple[Any, tuple[Array | None, Any]]:
        def advance(before: Any) -> tuple[Any, Array]:
            entering = before[0] if recurrent_mask is None else before[0] * recurrent_mask
            whole = z if input_bias is None else z + input_bias[None, :]
            after, factors, rule_keeps = loop.rule.forward(before, entering, whole, times)
            if keep:
                stored = store(rule_keeps.row)
                if rule_keeps.row is after[0]:
                    # What is as cheap as a ReLU, XLA computes anew for each reader. It then has two readers of z, and
                    # copies all rows at each step, which takes forty times as long at 784 steps.
                    after = after._replace(**{after._fields[0]: stored})
            if loop.operand_dtype is not None:
                factors = tuple(factor.astype(loop.operand_dtype) for factor in factors)
            # One array: that spares a loop over all steps for each but the first.
            kept.append((factors, jnp.stack(rule_keeps.rest) if rule_keeps.rest else None))
            return after, after[0]

        kept: list[Any] = []
        state, output = masked_step(advance, state, fresh, *others)
        return state, (output if loop.return_sequences else None, kept[0] if keep else None)

    others = steps.mask, steps.resets
    if not keep:

        def plain(state: Any, step: tuple[Array, Any]) -> Any:
            return body(state, *step, lambda row: row)

        final, (outputs, _) = jax.lax.scan(plain, initial, (steps.z, others), reverse=loop.reverse, unroll=loop.unroll)
        return (final, outputs), None
    final, rows, (outputs, (factors, rest)) = _scan_rows(body, initial, steps.z, others, loop.reverse, loop.unroll)
    return (final, outputs), (factors, rows, rest)


def _forward(loop: Loop, *arguments: Any) -> tuple[Any, Any]:
    result, kept = _run(loop, *arguments, keep=True)
    kernel, bias, input_bias, _, _, recurrent_mask, steps = arguments
    return result, (kernel, bias, input_bias, recurrent_mask, steps.mask, steps.resets, *kept)


def _backward(loop: Loop, residuals: Any, gradients: Any) -> tuple[Any, ...]:
    kernel, bias, input_bias, recurrent_mask, mask, resets, factors, rows, rest = residuals
    final, outputs = gradients
    times = _times(loop, [part.T for part in split_columns(kernel, loop.rule.parts)], None)

    def body(after: Any, row: Array, inputs: Any, store: Store) -> tuple[Any, tuple[Array, ...] | None]:
        """Gradients pass one step: from the state after it to the state before it."""
        rest, mask, resets, output = inputs
        through = after if output is None else after._replace(**{after._fields[0]: after[0] + output})
        if mask is not None:
            through = select(mask, through, jax.tree.map(jnp.zeros_like, through))
        rest = () if rest is None else tuple(rest)
        products, h, before = loop.rule.backward(Kept(row, rest), through, store, times)
        h = before[0] + (h if recurrent_mask is None else h * recurrent_mask)
        before = before._replace(**{before._fields[0]: h})
        if resets is not None:  # a reset state is a constant
            before = select(resets, jax.tree.map(jnp.zeros_like, before), before)
        if mask is not None:
            before = select(mask, before, after)
        return before, products

    inputs = rest, mask, resets, outputs
    initial, z, products = _scan_rows(body, final, rows, inputs, not loop.reverse, loop.unroll)
    products = split_columns(z, loop.rule.parts) if products is None else products  # [T, B, G] together
    kernel_gradient = jnp.concatenate(
        [
            sum_of_products(factor, product.astype(factor.dtype), kernel.dtype)
            for factor, product in zip(factors, products, strict=True)
        ],
        axis=1,
    )
    bias_gradient = None if bias is None else jnp.concatenate([part.sum(axis=(0, 1)) for part in products])
    input_bias_gradient = None if input_bias is None else z.sum(axis=(0, 1))
    return kernel_gradient, bias_gradient, input_bias_gradient, initial, None, None, Steps(z, None, None)


recurrence.defvjp(_forward, _backward)


def _scan_rows(
    body: Callable[[Any, Array, Any, Store], tuple[Any, Any]],
    carry: Any,
    rows: Float[Array, "T B G"],
    others: Any,
    reverse: bool,
    unroll: int,
) -> tuple[Any, Float[Array, "T B G"], Any]:
    """Scan `body(carry, row, other, store) -> (carry, y)`: the last carry, the rows that it stored, and all y.

    On CPU the new rows take the memory of the old ones, which spares passing over an array more than caches hold.
    """

    def in_place(carry: Any, rows: Array, others: Any) -> tuple[Any, Array, Any]:
        def step(state: tuple[Any, Array], inputs: tuple[Array, Any]) -> tuple[tuple[Any, Array], Any]:
            (carry, rows), (t, other) = state, inputs

            def store(row: Array) -> Array:
                nonlocal rows
                rows = jax.lax.dynamic_update_index_in_dim(rows, row, t, 0)
                # XLA copies all rows at each step if it cannot tell that everyone has read a row before it changes.
                return jax.lax.dynamic_index_in_dim(rows, t, 0, keepdims=False)

            row = jax.lax.dynamic_index_in_dim(rows, t, 0, keepdims=False)
            carry, y = body(carry, row, other, store)
            return (carry, rows), y

        inputs = jnp.arange(rows.shape[0]), others
        (carry, rows), ys = jax.lax.scan(step, (carry, rows), inputs, reverse=reverse, unroll=unroll)
        return carry, rows, ys

    def stacked(carry: Any, rows: Array, others: Any) -> tuple[Any, Array, Any]:
        def step(carry: Any, inputs: tuple[Array, Any]) -> tuple[Any, tuple[Array, Any]]:
            stored: list[Array] = []

            def store(row: Array) -> Array:
                stored.append(row)
                return row

            carry, y = body(carry, *inputs, store)
            return carry, (stored[0], y)

        carry, (rows, ys) = jax.lax.scan(step, carry, (rows, others), reverse=reverse, unroll=unroll)
        return carry, rows, ys

    if rows.shape[0] == 0:
        return stacked(carry, rows, others)
    return jax.lax.platform_dependent(carry, rows, others, cpu=in_place, default=stacked)
