"""One vector for a sequence: the mean, the maximum or a weighted mean of its real steps."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.linen.dtypes import promote_dtype
from jaxtyping import Array, Bool, Float, Int

from rnnjax.cells.base import GLOROT, Initializer
from rnnjax.kernels.products import multiply
from rnnjax.kernels.sequence import zero_where_masked
from rnnjax.layers.recurrent import resolve_mask


class Pooling(nn.Module):
    """What the poolings share: `[*B, T, H]` with `lengths=` or `mask=` gives `[*B, H]`.

    What stands in padding, NaN included, reaches neither the result nor a gradient. A sequence without a real step
    gives zeros.
    """

    def __call__(
        self,
        x: Float[Array, "*B T H"],
        *,
        lengths: Int[Array, "*B"] | None = None,
        mask: Bool[Array, "*B T"] | None = None,
    ) -> Float[Array, "*B H"]:
        """Pool the real steps of `x`.

        Args:
            x: `[*B, T, H]`, such as the outputs of a recurrent layer that returns sequences.
            lengths: `[*B]`, the number of real steps of each sequence; the rest is right padding.
            mask: `[*B, T]`, True at real steps, in any pattern; instead of `lengths`.

        Raises:
            ValueError: inputs, lengths or mask of the wrong shape or type.
        """
        name = type(self).__name__
        if x.ndim < 2:
            raise ValueError(f"{name} expects inputs [..., T, H]; got {x.shape}.")
        mask = resolve_mask(name, x.shape[:-1], lengths, mask)
        if mask is None:
            mask = jnp.ones(x.shape[:-1], bool)
        return self.pool(zero_where_masked(mask, x), mask)

    def pool(self, x: Float[Array, "*B T H"], mask: Bool[Array, "*B T"]) -> Float[Array, "*B H"]:
        """Pool `x`, which is zero where `mask` is False."""
        raise NotImplementedError


class MeanPooling(Pooling):
    """The mean of the real steps: sum_t x_t / T."""

    @nn.nowrap
    def pool(self, x: Float[Array, "*B T H"], mask: Bool[Array, "*B T"]) -> Float[Array, "*B H"]:
        """The mean over the steps where `mask` is True."""
        count = mask.sum(axis=-1, keepdims=True)  # [*B, 1]
        return x.sum(axis=-2) / jnp.maximum(count, 1).astype(x.dtype)


class MaxPooling(Pooling):
    """The largest value of each feature over the real steps: max_t x_t. Equal ones share the gradient."""

    @nn.nowrap
    def pool(self, x: Float[Array, "*B T H"], mask: Bool[Array, "*B T"]) -> Float[Array, "*B H"]:
        """The maximum over the steps where `mask` is True."""
        largest = jnp.max(jnp.where(mask[..., None], x, -jnp.inf), axis=-2, initial=-jnp.inf)  # [*B, H]
        return jnp.where(mask.any(axis=-1)[..., None], largest, 0)


class AttentionPooling(Pooling):
    """A mean whose weights are learned: additive attention over the steps (Yang et al. 2016, equations 5 to 7).

        u_t = tanh(x_t W + b)                       [A]
        a_t = exp(u_t . q) / sum_s exp(u_s . q)     over the real steps s
        y   = sum_t a_t x_t                         [H]

    With one attention head this is also the sentence embedding of Lin et al. (2017), which has no b. Parameters are
    `kernel` W [H, A], `bias` b [A] and `query` q [A]. The weights a [*B, T], zero at masked steps, are sown as
    "weights": `apply(..., mutable=["intermediates"])` gives them too.
    """

    features: int | None = None
    """Width A of u; by default that of the inputs."""
    use_bias: bool = True
    kernel_init: Initializer = GLOROT
    bias_init: Initializer = nn.initializers.zeros
    query_init: Initializer = nn.initializers.normal(0.05)
    dtype: Any = None
    """Type of the computation; by default that of inputs and parameters together."""
    param_dtype: Any = jnp.float32
    matmul_dtype: Any = None
    """Type to which the operands of x W are rounded, such as `jnp.bfloat16`, as in the recurrent layers."""

    def __post_init__(self) -> None:
        """Check the width where it is written."""
        if self.features is not None and (not isinstance(self.features, int | np.integer) or self.features < 1):
            raise ValueError(f"AttentionPooling expects features, an integer >= 1; got {self.features!r}.")
        super().__post_init__()

    @nn.compact
    def pool(self, x: Float[Array, "*B T H"], mask: Bool[Array, "*B T"]) -> Float[Array, "*B H"]:
        """The mean over the steps where `mask` is True, by their weights."""
        width = self.features or x.shape[-1]
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], width), self.param_dtype)
        bias = self.param("bias", self.bias_init, (width,), self.param_dtype) if self.use_bias else None
        query = self.param("query", self.query_init, (width,), self.param_dtype)
        x, kernel, bias, query = promote_dtype(x, kernel, bias, query, dtype=self.dtype)
        hidden = multiply(x, kernel, self.matmul_dtype)  # [*B, T, A]
        if bias is not None:
            hidden = hidden + bias.reshape((1,) * (hidden.ndim - 1) + bias.shape)
        scores = jnp.tanh(hidden) @ query  # [*B, T]
        scores = jnp.where(mask, scores, -jnp.inf)
        highest = jnp.max(scores, axis=-1, keepdims=True, initial=jnp.finfo(scores.dtype).min)  # finite with no step
        weights = jnp.exp(scores - jax.lax.stop_gradient(highest))  # [*B, T], 1 at the highest, 0 where masked
        total = weights.sum(axis=-1, keepdims=True)  # 0 with no step, which is not to divide
        weights = weights / jnp.where(total > 0, total, 1)
        self.sow("intermediates", "weights", weights)
        return jnp.einsum("...t,...th->...h", weights, x)
