"""The dense layer that ends a model."""

from typing import Any

from flax import linen as nn
from jaxtyping import Array

from rnnjax.kernels.products import multiply


def output_layer(features: int, matmul_dtype: Any = None, name: str = "output") -> nn.Dense:
    """`nn.Dense` with Keras's initial kernel, as the child `name` of the module that asks for it.

    With `matmul_dtype` the operands of its products are rounded to this type, as in the recurrent layers.
    """

    def product(x: Array, kernel: Array, dimensions: Any, precision: Any = None) -> Array:
        return multiply(x, kernel, matmul_dtype)

    return nn.Dense(
        features,
        kernel_init=nn.initializers.glorot_uniform(),
        dot_general=None if matmul_dtype is None else product,
        name=name,
    )
