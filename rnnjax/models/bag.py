"""A classifier that sees which words a text has, and not their order."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from rnnjax.kernels.sequence import mask_from_lengths
from rnnjax.models.output import dense, output_layer


class BagClassifier(nn.Module):
    """One hidden layer over a binary bag of words: relu(x W + b), dropout, one logit a class.

    x_v is 1 where word v occurs in the text, and 0 where it does not; padding (id 0) is no word.
    """

    vocabulary_size: int
    num_classes: int
    units: int = 512
    dropout_rate: float = 0.5
    matmul_dtype: Any = None
    """Type to which the operands of products are rounded."""

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "B T"],
        *,
        lengths: Int[Array, "B"] | None = None,
        deterministic: bool = True,
    ) -> Float[Array, "B C"]:
        """Logits of each class."""
        bag = bag_of_words(tokens, lengths, self.vocabulary_size)
        hidden = nn.relu(dense(self.units, "hidden", self.matmul_dtype)(bag))
        hidden = nn.Dropout(self.dropout_rate, deterministic=deterministic)(hidden)
        logits: Float[Array, "B C"] = output_layer(self.num_classes, self.matmul_dtype)(hidden)
        return logits


def bag_of_words(
    tokens: Int[Array, "B T"], lengths: Int[Array, "B"] | None, vocabulary_size: int
) -> Float[Array, "B V"]:
    """1 for each word that occurs in a text, 0 for all others and for padding."""
    if lengths is not None:
        tokens = jnp.where(mask_from_lengths(lengths, tokens.shape[1]), tokens, 0)
    rows = jnp.arange(tokens.shape[0])[:, None]  # [B, 1]
    return jnp.zeros((tokens.shape[0], vocabulary_size)).at[rows, tokens].set(1.0).at[:, 0].set(0.0)
