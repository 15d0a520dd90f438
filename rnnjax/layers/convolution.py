"""Convolution over the real steps of sequences, and the largest values of blocks of steps."""

from collections.abc import Callable
from typing import Any, overload

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from rnnjax.cells.base import GLOROT, Initializer
from rnnjax.kernels.products import multiply
from rnnjax.kernels.sequence import mask_from_lengths, zero_where_masked
from rnnjax.layers.recurrent import resolve_mask


class Convolution(nn.Module):
    """One dense layer over every window of neighbouring steps, "Conv1D" with padding "valid" (LeCun et al. 1989).

        y_t = activation(sum_i x_{t+i} W_i + b),    i from 0 to kernel_size - 1

    A window counts where all of its steps are real, so T steps give T - kernel_size + 1 (`num_windows`). A sequence
    that is shorter than the kernel, but not empty, gives one, with zeros for the steps that it lacks. Padding, NaN
    included, reaches neither outputs nor gradients; outputs past the last window are zero. Parameters are `kernel` W
    [kernel_size, D, features] and `bias` b [features], as in Flax and Keras.
    """

    features: int
    kernel_size: int
    activation: Callable[[Array], Array] = nn.relu
    kernel_init: Initializer = GLOROT
    bias_init: Initializer = nn.initializers.zeros
    matmul_dtype: Any = None
    """Type to which the operands of the products are rounded, such as `jnp.bfloat16`, as in the recurrent layers."""

    def __post_init__(self) -> None:
        """Check the sizes where they are written."""
        for name in ("features", "kernel_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"Convolution expects {name} >= 1; got {getattr(self, name)}.")
        super().__post_init__()

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T D"], *, lengths: Int[Array, "B"] | None = None
    ) -> Float[Array, "B K features"]:
        """Outputs of all windows.

        Args:
            x: `[B, T, D]`.
            lengths: `[B]`, the number of real steps of each sequence; the rest is right padding.

        Returns:
            `[B, K, features]`, of which `num_windows(lengths, kernel_size)` are windows of real steps.

        Raises:
            ValueError: inputs or lengths of the wrong shape or type.
        """
        if x.ndim != 3:
            raise ValueError(f"Convolution expects inputs [B, T, D]; got {x.shape}.")
        mask = resolve_mask("Convolution", x.shape[:2], lengths, None)
        if mask is not None:
            x = zero_where_masked(mask, x)
        size, width = self.kernel_size, x.shape[2]
        kernel = self.param("kernel", self.kernel_init, (size, width, self.features))
        bias = self.param("bias", self.bias_init, (self.features,))
        x = jnp.pad(x, ((0, 0), (0, max(size - x.shape[1], 0)), (0, 0)))  # [B, max(T, size), D]
        count = x.shape[1] - size + 1
        # One product, with the steps of a window side by side, whose operands `matmul_dtype` can round like any other.
        windows = jnp.concatenate([x[:, i : i + count] for i in range(size)], axis=2)  # [B, K, size * D]
        y = multiply(windows, kernel.reshape(size * width, self.features), self.matmul_dtype)  # [B, K, features]
        y = self.activation(y + bias.reshape(1, 1, -1))
        if lengths is None:
            return y
        return zero_where_masked(mask_from_lengths(num_windows(lengths, size), count), y)


@overload
def num_windows(lengths: None, kernel_size: int) -> None: ...
@overload
def num_windows(lengths: Int[Array, " B"], kernel_size: int) -> Int[Array, " B"]: ...
def num_windows(lengths: Int[Array, " B"] | None, kernel_size: int) -> Int[Array, " B"] | None:
    """How many outputs of a `Convolution` are real, from the lengths of what it reads; None, all of them, of None."""
    if lengths is None:
        return None
    return jnp.where(lengths > 0, jnp.maximum(lengths - kernel_size + 1, 1), 0)


def largest_of_blocks(
    x: Float[Array, "B T H"], size: int, lengths: Int[Array, " B"] | None = None
) -> Float[Array, "B K H"]:
    """The largest value of each feature in each block of `size` steps, over the real ones: [B, ceil(T / size), H].

    A last block may have fewer steps. Blocks without a real step give zeros, and nothing of padding reaches a gradient.

    Args:
        x: `[B, T, H]`.
        size: steps in a block.
        lengths: `[B]`, the number of real steps; so the first ceil(length / size) blocks are real (`num_blocks`).
    """
    num_examples, num_steps, width = x.shape
    count = -(-num_steps // size)
    limits = jnp.full(num_examples, num_steps) if lengths is None else lengths
    x = jnp.pad(x, ((0, 0), (0, count * size - num_steps), (0, 0)))
    mask = mask_from_lengths(limits, count * size).reshape(num_examples, count, size)
    blocks = x.reshape(num_examples, count, size, width)
    largest = jnp.max(jnp.where(mask[..., None], blocks, -jnp.inf), axis=2)  # [B, K, H]
    return jnp.where(mask.any(axis=2)[..., None], largest, 0)


def num_blocks(lengths: Int[Array, " B"] | None, size: int) -> Int[Array, " B"] | None:
    """How many blocks of `largest_of_blocks` have real steps; None, all of them, of None."""
    return None if lengths is None else -(-lengths // size)
