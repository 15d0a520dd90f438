"""A classifier of passages that reads hashed character n-grams, all at once and word by word."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from rnnjax.layers.combinators import Bidirectional
from rnnjax.layers.pooling import MaxPooling
from rnnjax.layers.recurrent import GRU
from rnnjax.models.output import output_layer


class AuthorClassifier(nn.Module):
    """Logits of a linear model of the passage's n-grams, plus those of a GRU in each direction over its words.

    Feature v that occurs c times in a passage weighs z_v = (1 + ln c) idf_v, divided by the norm of all z. The linear
    part is sum_v z_v L_v. A word's vector is the sum of z_v E_v over the features that begin in it, normalised
    (`LayerNorm`); the largest outputs of the GRUs over the words go through dropout and a dense layer. L starts at
    zero. So the model contains logistic regression of TF-IDF weights, but that buckets are shared by features.

    `idf` [V] is a parameter that starts at 1, to be set from the data and left as it is.
    """

    num_buckets: int
    num_classes: int
    embedding_size: int = 32
    units: int = 64
    dropout_rate: float = 0.5
    gram_dropout_rate: float = 0.2
    """Share of the features dropped, each place on its own."""
    linear_scale: float = 10.0
    """Factor of the linear part's logits: the larger it is, the less it is held back, like C of logistic regression."""
    num_words: int = 1
    """T, at least the words of every passage."""
    matmul_dtype: Any = None
    """Type to which the operands of matrix products are rounded."""

    @nn.compact
    def __call__(
        self,
        inputs: Int[Array, "B P F"],
        *,
        counts: Int[Array, "B P F"],
        words: Int[Array, "B P"],
        lengths: Int[Array, "B"] | None = None,
        deterministic: bool = True,
    ) -> Float[Array, "B C"]:
        """Logits of each author, from buckets, their counts in the passage (0: none), and each place's word."""
        idf = self.param("idf", nn.initializers.ones, (self.num_buckets,))
        linear = self.param("linear", nn.initializers.zeros, (self.num_buckets, self.num_classes))
        table = self.param("embedding", nn.initializers.normal(1.0), (self.num_buckets, self.embedding_size))
        times = jnp.maximum(counts, 1).astype(jnp.float32)  # [B, P, F]
        share = jnp.where(counts > 0, (1 + jnp.log(times)) * idf[inputs] / times, 0)  # z_v, divided over its places
        norm = jnp.sqrt((times * share**2).sum(axis=(1, 2), keepdims=True))
        share = share / jnp.where(norm > 0, norm, 1)
        share = nn.Dropout(self.gram_dropout_rate, deterministic=deterministic)(share)
        bag = (share[..., None] * linear[inputs]).sum(axis=(1, 2))  # [B, C]
        places = (share[..., None] * table[inputs]).sum(axis=2)  # [B, P, E]
        by_word = jax.vmap(lambda x, word: jax.ops.segment_sum(x, word, self.num_words))
        vectors = nn.LayerNorm(name="norm")(by_word(places, words))  # [B, T, E]
        layer = GRU(self.units, dropout_rate=self.dropout_rate, matmul_dtype=self.matmul_dtype)
        outputs = Bidirectional(layer, name="recurrent", deterministic=deterministic)(vectors, lengths=lengths)
        pooled = MaxPooling()(outputs, lengths=lengths)  # [B, 2H]
        pooled = nn.Dropout(self.dropout_rate, deterministic=deterministic)(pooled)
        deep: Float[Array, "B C"] = output_layer(self.num_classes, self.matmul_dtype)(pooled)
        return deep + self.linear_scale * bag
