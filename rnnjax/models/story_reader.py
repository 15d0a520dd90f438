"""A recurrent network that answers a question about a story."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from rnnjax.cells.base import Initializer
from rnnjax.layers.embedding import Embedding
from rnnjax.models.memory_network import sum_of_words
from rnnjax.models.output import dense, output_layer


class StoryReader(nn.Module):
    """Answer a question about a story that a recurrent layer reads from its beginning to its end.

    The question's vector q is the last output of one layer over its words. The steps x_i of the other are the words of
    the story, or its sentences as sums of their words weighted by position. How the two meet is `merge`:

        end        logits of [last output over x_i, q]         Keras's example babi_rnn, first version
        add        last output over x_i + q                    its later version; q is as wide as x_i
        product    last output over [x_i, x_i * q]             ours: a step can be told by its match with the question
    """

    vocabulary_size: int
    num_classes: int
    features: int
    """Width of the word vectors."""
    story: nn.Module
    """A layer that gives one vector a sequence."""
    question: nn.Module
    """Another, `features` wide unless `merge` is "end"."""
    merge: str = "product"
    readings: int = 1
    """How many times the story is read, each time with parameters of its own. What one reading found, h, changes the
    question of the next to q + W h + b, as a memory network's hops do: who has the milk, and then where this person is.
    """
    by_sentence: bool = True
    dropout_rate: float = 0.0
    """Share dropped of all word vectors (or sentence vectors), and of what the answer is read from."""
    embedding_init: Initializer = nn.initializers.normal(1.0)
    """With vectors that start small, products of them are nearly zero, and a story's match with the question is found
    late or never."""
    deterministic: bool = True
    matmul_dtype: Any = None
    """Type to which the operands of the output layer's product are rounded; those of the layers are their own."""

    @nn.compact
    def __call__(
        self, story: Int[Array, "B S W"], *, question: Int[Array, "B Q"], deterministic: bool | None = None
    ) -> Float[Array, "B C"]:
        """Logits of the answers; arguments as those of `MemoryNetwork`."""
        deterministic = self.deterministic if deterministic is None else deterministic
        drop = nn.Dropout(self.dropout_rate, deterministic=deterministic)
        embedding = Embedding(self.vocabulary_size, self.features, embedding_init=self.embedding_init, name="embedding")
        layer = self.question.clone(parent=self, name="asked", deterministic=deterministic)
        q = layer(drop(embedding(question)), mask=question != 0)  # [B, D]
        if self.by_sentence:
            x, mask = sum_of_words(embedding(story), story != 0), (story != 0).any(axis=-1)  # [B, S, D]
        else:
            words = story.reshape(len(story), -1)
            x, mask = embedding(words), words != 0  # [B, S W, D]
        x = drop(x)
        for number in range(1, self.readings + 1):
            if self.merge == "add":
                steps = x + q[:, None]
            elif self.merge == "product":
                steps = jnp.concatenate([x, x * q[:, None]], axis=-1)
            else:
                steps = x
            layer = self.story.clone(parent=self, name=f"reading_{number}", deterministic=deterministic)
            read = layer(steps, mask=mask)  # [B, H]
            if number < self.readings:
                q = q + dense(self.features, f"question_{number + 1}", self.matmul_dtype)(read)
        if self.merge == "end":
            read = jnp.concatenate([read, q], axis=-1)
        logits: Float[Array, "B C"] = output_layer(self.num_classes, self.matmul_dtype)(drop(read))
        return logits
