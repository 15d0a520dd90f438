"""Text classifier: embedding, a recurrent encoder, perhaps a pooling, one dense layer."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int

from rnnjax.layers.embedding import Embedding
from rnnjax.layers.pooling import Pooling
from rnnjax.models.output import output_layer


class Classifier(nn.Module):
    """Classify token sequences by what a recurrent layer gives after their last real step, or by all of its steps.

    Two classes have one logit (of the second class), as with a sigmoid output; more have a logit each.
    """

    vocabulary_size: int
    num_classes: int
    embedding_size: int
    encoder: nn.Module
    """A layer that gives one vector a sequence: `LSTM(64, return_sequences=False)`, a `Stack` that ends in one, ..."""
    pooling: Pooling | None = None
    """Makes one vector of the outputs of all real steps, which then the encoder has to give: `MeanPooling()`, ..."""
    matmul_dtype: Any = None
    """Type to which the operands of the output layer's products are rounded; those of the encoder are its own."""
    output_dropout_rate: float = 0.0
    """Share of what the output layer reads dropped."""
    word_dropout_rate: float = 0.0
    """Share of the vocabulary dropped in a call, as in `Embedding`."""

    @property
    def num_logits(self) -> int:
        """1 for two classes, otherwise one a class."""
        return 1 if self.num_classes == 2 else self.num_classes

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "B T"],
        *,
        lengths: Int[Array, "B"] | None = None,
        deterministic: bool = True,
        vectors: Float[Array, "B T E"] | None = None,
    ) -> Float[Array, "B C"]:
        """Logits `[B, 1]` for two classes, `[B, C]` for C of them; `vectors` are read in the place of the tokens'."""
        x: Any = vectors
        if vectors is None:
            table = Embedding(
                self.vocabulary_size,
                self.embedding_size,
                word_dropout_rate=self.word_dropout_rate,
                deterministic=deterministic,
                name="embedding",
            )
            x = table.lookup(tokens)  # [B, T, E]
        encoder = self.encoder.clone(parent=self, name="recurrent", deterministic=deterministic)
        x = encoder(x, lengths=lengths)  # [B, H], or [B, T, H] to be pooled
        if self.pooling is not None:
            x = self.pooling.clone(parent=self, name="pooled")(x, lengths=lengths)  # [B, H]
        if self.output_dropout_rate:
            x = nn.Dropout(self.output_dropout_rate, name="dropout")(x, deterministic=deterministic)
        logits: Float[Array, "B C"] = output_layer(self.num_logits, self.matmul_dtype)(x)
        return logits


def probabilities(logits: Float[Array, "B C"]) -> Float[Array, "B C"]:
    """Probability of each class, from the logits of a `Classifier`."""
    if logits.shape[1] == 1:
        second = jax.nn.sigmoid(logits)  # [B, 1]
        return jnp.concatenate([1 - second, second], axis=1)  # [B, 2]
    return jax.nn.softmax(logits)


def encode_texts(config: Any, info: Mapping[str, Any], vocabulary: Any, texts: Sequence[str]) -> dict[str, np.ndarray]:
    """Texts as `predict.py` gets them, as ids and lengths, cut as those of the data were (`task.Prediction`)."""
    inputs, lengths = vocabulary.encode(texts, info["max_length"])
    return {"inputs": inputs, "lengths": lengths}


def best_classes(
    config: Any, info: Mapping[str, Any], vocabulary: Any, logits: Float[np.ndarray, "B C"], batch: Mapping[str, Any]
) -> list[tuple[str, float]]:
    """The name of each row's most probable class, and its probability (`task.Prediction`)."""
    return most_probable(info["classes"], np.asarray(probabilities(jnp.asarray(logits))))


def most_probable(classes: Sequence[str], rows: Float[np.ndarray, "B C"]) -> list[tuple[str, float]]:
    """The name of the most probable class in each row of probabilities, and its probability."""
    return [(classes[row.argmax()], float(row.max())) for row in rows]
