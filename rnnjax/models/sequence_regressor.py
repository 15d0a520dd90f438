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
    is_stateful: bool = True
    """Start from `initial_state`, where one is given; otherwise every call starts from the encoder's own initial state,
    whatever is given."""

    def initial_state(self, batch_size: int) -> Any:
        """The encoder's state before anything is read."""
        return self.encoder.initial_state(batch_size)

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T D"],
        *,
        lengths: Int[Array, "B"] | None = None,
        initial_state: Any = None,
        return_state: bool = False,
        deterministic: bool = True,
    ) -> Any:
        """Numbers `[B]`; with `return_state`, the encoder's final state and they."""
        options = {"deterministic": deterministic, "return_state": return_state}
        encoder = self.encoder.clone(parent=self, name="recurrent", **options)
        encoded = encoder(x, lengths=lengths, initial_state=initial_state if self.is_stateful else None)
        if return_state:
            state, encoded = encoded  # [B, H]
        numbers: Float[Array, "B 1"] = output_layer(1, self.matmul_dtype)(encoded)
        return (state, numbers[:, 0]) if return_state else numbers[:, 0]
