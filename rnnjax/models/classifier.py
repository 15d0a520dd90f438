"""Text classifier: embedding, a recurrent encoder, one dense layer."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from rnnjax.layers.embedding import Embedding


class Classifier(nn.Module):
    """Classify token sequences by what a recurrent layer gives after their last real step.

    Two classes have one logit (of the second class), as with a sigmoid output; more have a logit each.
    """

    vocabulary_size: int
    num_classes: int
    embedding_size: int
    encoder: nn.Module
    """A layer that gives one vector a sequence: `LSTM(64, return_sequences=False)`, a `Stack` that ends in one, ..."""

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "B T"],
        *,
        lengths: Int[Array, "B"] | None = None,
        deterministic: bool = True,
    ) -> Float[Array, "B C"]:
        """Logits `[B, 1]` for two classes, `[B, C]` for C of them."""
        x = Embedding(self.vocabulary_size, self.embedding_size, name="embedding")(tokens)  # [B, T, E]
        encoder = self.encoder.clone(parent=self, name="recurrent", deterministic=deterministic)
        x = encoder(x, lengths=lengths)  # [B, H]
        num_logits = 1 if self.num_classes == 2 else self.num_classes
        return nn.Dense(num_logits, kernel_init=nn.initializers.glorot_uniform(), name="output")(x)


def probabilities(logits: Float[Array, "B C"]) -> Float[Array, "B C"]:
    """Probability of each class, from the logits of a `Classifier`."""
    if logits.shape[1] == 1:
        second = jax.nn.sigmoid(logits)  # [B, 1]
        return jnp.concatenate([1 - second, second], axis=1)  # [B, 2]
    return jax.nn.softmax(logits)
