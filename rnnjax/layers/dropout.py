"""Dropout of whole sequences."""

from flax import linen as nn
from jaxtyping import Array, Float

from rnnjax.cells.base import check_rate


class VariationalDropout(nn.Module):
    """Dropout with one mask for all steps of a sequence, also called locked dropout (Gal and Ghahramani 2016).

        y[..., t, d] = x[..., t, d] * m[..., d] / (1 - rate),    m[..., d] = 1 with probability 1 - rate, else 0

    Each example draws a mask of its own, from the "dropout" stream. What is dropped, NaN included, reaches nothing.
    The recurrent layers drop their own inputs in this way (`dropout_rate`); this is for what stands between and after
    other layers. No step depends on another, so padding needs no mask here.
    """

    rate: float
    """Share of the features dropped."""
    deterministic: bool = True
    """No dropout. A call's `deterministic=` overrides it."""

    def __post_init__(self) -> None:
        """Check the rate where it is written."""
        check_rate("VariationalDropout", "rate", self.rate)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Float[Array, "*B T D"], *, deterministic: bool | None = None) -> Float[Array, "*B T D"]:
        """Drop features of `x`.

        Raises:
            ValueError: `x` has no axis of steps.
        """
        if x.ndim < 2:
            raise ValueError(f"VariationalDropout expects inputs [..., T, D]; got {x.shape}.")
        deterministic = self.deterministic if deterministic is None else deterministic
        return nn.Dropout(self.rate, broadcast_dims=(-2,))(x, deterministic=deterministic)
