"""Products with rounded operands: exactly the product of what was rounded, in values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.kernels.products import multiply, rows


def draw(seed: int, *shape: int, dtype=np.float32) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def rounded(x) -> np.ndarray:
    """What bfloat16 makes of it, in float64."""
    return np.asarray(jnp.asarray(x).astype(jnp.bfloat16), np.float64)


@pytest.mark.parametrize("leading", [(5,), (3, 4), ()])
def test_values_and_gradients_are_float32_products_of_rounded_operands(leading):
    x, kernel, cotangent = draw(0, *leading, 40), draw(1, 40, 6), draw(2, *leading, 6)
    product, pull = jax.vjp(lambda x, kernel: multiply(x, kernel, jnp.bfloat16), x, kernel)
    to_x, to_kernel = pull(cotangent)
    assert {product.dtype, to_x.dtype, to_kernel.dtype} == {jnp.dtype(jnp.float32)}
    want = rounded(x) @ rounded(kernel)
    np.testing.assert_allclose(product, want, rtol=0, atol=1e-5)
    np.testing.assert_allclose(to_x, rounded(cotangent) @ rounded(kernel).T, rtol=0, atol=1e-5)
    of_kernel = rounded(x).reshape(-1, 40).T @ rounded(cotangent).reshape(-1, 6)
    np.testing.assert_allclose(to_kernel, of_kernel, rtol=0, atol=1e-5)
    # Far more than those tolerances lies between this and the product of what was not rounded.
    assert np.abs(np.asarray(x, np.float64) @ kernel - want).max() > 1e-3


@pytest.mark.parametrize("dtype", [None, jnp.float64, "float64"])
def test_without_rounding_it_is_the_plain_product(dtype, x64):
    x, kernel, cotangent = draw(0, 3, 4, 5, dtype=None), draw(1, 5, 6, dtype=None), draw(2, 3, 4, 6, dtype=None)
    product, pull = jax.vjp(lambda x, kernel: multiply(x, kernel, dtype), x, kernel)
    to_x, to_kernel = pull(cotangent)
    np.testing.assert_allclose(product, x @ kernel, rtol=0, atol=1e-13)
    np.testing.assert_allclose(to_x, cotangent @ kernel.T, rtol=0, atol=1e-13)
    np.testing.assert_allclose(to_kernel, np.einsum("tbd,tbg->dg", x, cotangent), rtol=0, atol=1e-13)


def test_rows_are_in_order():
    x = np.arange(24.0).reshape(2, 3, 4)
    np.testing.assert_array_equal(rows(jnp.asarray(x)), np.concatenate([x[0], x[1]]))
