"""Matrix products whose operands may be narrower than their sums."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def rows(x: Float[Array, "*T N"]) -> Float[Array, "*T N"]:
    """All steps' examples as rows: XLA multiplies matrices without the copies that it makes for two summed axes.

    Over several devices (`jax.set_mesh`) the axes stay as they are, since XLA would bring all rows to each device.
    """
    mesh = jax.sharding.get_abstract_mesh()
    return x if not mesh.empty and mesh.size > 1 else x.reshape(-1, x.shape[-1])


def over_devices(table: Float[Array, "V D"]) -> Float[Array, "V D"]:
    """A table that each device has, its rows divided over them where they are several (`jax.set_mesh`)."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return table
    return jax.lax.with_sharding_constraint(table, jax.sharding.PartitionSpec(mesh.axis_names))


def sum_of_products(a: Float[Array, "*T N"], b: Float[Array, "*T G"], dtype: Any) -> Float[Array, "N G"]:
    """The products of each step and example, summed in `dtype`: the gradient of a kernel."""
    a, b = rows(a), rows(b)
    if a.ndim == 2:
        return narrow_dot(a.T, b, dtype)
    summed = tuple(range(a.ndim - 1))
    return jax.lax.dot_general(a, b, ((summed, summed), ((), ())), preferred_element_type=dtype)


def multiply(x: Float[Array, "*T D"], kernel: Float[Array, "D G"], operand_dtype: Any = None) -> Float[Array, "*T G"]:
    """`x @ kernel`, with both operands rounded to `operand_dtype` and the sums formed in the type of `x`.

    Derivatives round their operands likewise, so that all three products of a layer run at the narrower type's speed.
    With a type, derivatives are reverse-mode only.
    """
    if operand_dtype is None or jnp.dtype(operand_dtype) == x.dtype:
        return (rows(x) @ kernel).reshape(*x.shape[:-1], kernel.shape[1])
    return _rounded(jnp.dtype(operand_dtype), x, kernel)


def narrow_dot(a: Float[Array, "N D"], b: Float[Array, "D G"], dtype: Any) -> Float[Array, "N G"]:
    """`a @ b`, both of one type, summed in `dtype`."""
    return jnp.dot(a, b, preferred_element_type=dtype)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _rounded(operand_dtype: Any, x: Array, kernel: Array) -> Array:
    return _rounded_forward(operand_dtype, x, kernel)[0]


def _rounded_forward(operand_dtype: Any, x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array, Any]]:
    narrow_x, narrow_kernel = x.astype(operand_dtype), kernel.astype(operand_dtype)
    product = narrow_dot(rows(narrow_x), narrow_kernel, x.dtype).reshape(*x.shape[:-1], kernel.shape[1])
    return product, (narrow_x, narrow_kernel, jnp.zeros((), kernel.dtype))


def _rounded_backward(operand_dtype: Any, kept: Any, gradient: Array) -> tuple[Array, Array]:
    x, kernel, like_kernel = kept
    narrow = gradient.astype(operand_dtype)
    return (
        narrow_dot(rows(narrow), kernel.T, gradient.dtype).reshape(x.shape),
        sum_of_products(x, narrow, like_kernel.dtype),
    )


_rounded.defvjp(_rounded_forward, _rounded_backward)
