"""One number for each sequence: a recurrent encoder and one dense layer."""

from typing import Any

from flax import linen as nn
from jaxtyping import Array, Float, Int

from rnnjax.models.output import output_layer


class SequenceRegressor(nn.Module):
    """Predict a number from sequences of vectors, by what a recurrent layer gives after the last real step."""

    encoder: nn.Module
    """A layer that gives one vector a sequence: `LSTM(64, return_sequences=False)`, a `Stack` that ends in one, ..."""
    matmul_dtype: Any = None
    """Type to which the operands of the output layer's products are rounded; those of the encoder are its own."""

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T D"],
        *,
        lengths: Int[Array, "B"] | None = None,
        deterministic: bool = True,
    ) -> Float[Array, "B"]:
        """Numbers `[B]`."""
        encoder = self.encoder.clone(parent=self, name="recurrent", deterministic=deterministic)
        numbers: Float[Array, "B 1"] = output_layer(1, self.matmul_dtype)(encoder(x, lengths=lengths))
        return numbers[:, 0]
