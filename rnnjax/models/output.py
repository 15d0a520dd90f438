"""Dense layers of the models, with Keras's initial kernels."""

from typing import Any

from flax import linen as nn
from jaxtyping import Array

from rnnjax.cells.base import GLOROT, Initializer
from rnnjax.kernels.products import multiply


def output_layer(features: int, matmul_dtype: Any = None) -> nn.Dense:
    """The dense layer that ends a model, as the child `output` of the module that asks for it; see `dense`."""
    return dense(features, "output", matmul_dtype)


def dense(features: int, name: str, matmul_dtype: Any = None, kernel_init: Initializer = GLOROT) -> nn.Dense:
    """`nn.Dense` with Keras's initial kernel, or another.

    With `matmul_dtype` the operands of its products are rounded to this type, as in the recurrent layers.
    """

    def product(x: Array, kernel: Array, dimensions: Any, precision: Any = None) -> Array:
        return multiply(x, kernel, matmul_dtype)

    return nn.Dense(
        features,
        kernel_init=kernel_init,
        dot_general=None if matmul_dtype is None else product,
        name=name,
    )
