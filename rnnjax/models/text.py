"""Text classifiers that read windows or bags of words: convolutions, alone or below a recurrent layer, and fastText.

Each is called as `Classifier` is, and has its word vectors in the same place, so that `interpret` explains it too.
"""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from rnnjax.layers.convolution import Convolution, largest_of_blocks, num_blocks, num_windows
from rnnjax.layers.embedding import Embedding
from rnnjax.layers.pooling import MaxPooling, MeanPooling, Pooling
from rnnjax.models.output import dense, output_layer


class TextClassifier(nn.Module):
    """What these classifiers share: word vectors, dropped value by value, at the beginning.

    Two classes have one logit (of the second class), as with a sigmoid output; more have a logit each.
    """

    vocabulary_size: int
    num_classes: int
    embedding_size: int

    @property
    def num_logits(self) -> int:
        """1 for two classes, otherwise one a class."""
        return 1 if self.num_classes == 2 else self.num_classes

    @nn.nowrap
    def embed(
        self, tokens: Int[Array, "B T"], vectors: Float[Array, "B T E"] | None, rate: float, deterministic: bool
    ) -> Float[Array, "B T E"]:
        """Vectors of the tokens, or those given in their place, with a share `rate` of their values dropped."""
        if vectors is None:
            vectors = Embedding(self.vocabulary_size, self.embedding_size, name="embedding")(tokens)
        return drop(vectors, rate, deterministic, "embedding_dropout")


class ConvolutionalClassifier(TextClassifier):
    """The largest value that each filter takes anywhere in a text, and two dense layers (Kim 2014; Collobert 2011).

    The sizes of Keras's example imdb_cnn are 250 filters of 3 words and 250 hidden units.
    """

    filters: int = 250
    kernel_size: int = 3
    hidden_size: int = 250
    dropout_rate: float = 0.0
    """Share of the values of the word vectors dropped."""
    output_dropout_rate: float = 0.0
    """Share of the hidden units dropped, where the output layer reads them."""
    matmul_dtype: Any = None
    """Type to which the operands of all products are rounded."""

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
        x = self.embed(tokens, vectors, self.dropout_rate, deterministic)  # [B, T, E]
        convolution = Convolution(self.filters, self.kernel_size, matmul_dtype=self.matmul_dtype, name="convolution")
        x = convolution(x, lengths=lengths)  # [B, K, F]
        x = MaxPooling(name="pooled")(x, lengths=num_windows(lengths, self.kernel_size))  # [B, F]
        x = nn.relu(dense(self.hidden_size, "hidden", self.matmul_dtype)(x))  # [B, H]
        x = drop(x, self.output_dropout_rate, deterministic, "dropout")
        logits: Float[Array, "B C"] = output_layer(self.num_logits, self.matmul_dtype)(x)
        return logits


class ConvolutionalRecurrentClassifier(TextClassifier):
    """A recurrent layer over the largest values of each filter in blocks of windows (Keras's example imdb_cnn_lstm)."""

    encoder: nn.Module
    """A layer that gives one vector a sequence, as that of a `Classifier`."""
    pooling: Pooling | None = None
    """Makes one vector of the outputs of all blocks, which then the encoder has to give."""
    filters: int = 64
    kernel_size: int = 5
    pool_size: int = 4
    """Windows in a block."""
    dropout_rate: float = 0.0
    """Share of the values of the word vectors dropped."""
    output_dropout_rate: float = 0.0
    """Share of what the output layer reads dropped."""
    matmul_dtype: Any = None
    """Type to which the operands of products are rounded; those of the encoder are its own."""

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
        x = self.embed(tokens, vectors, self.dropout_rate, deterministic)  # [B, T, E]
        convolution = Convolution(self.filters, self.kernel_size, matmul_dtype=self.matmul_dtype, name="convolution")
        x = convolution(x, lengths=lengths)  # [B, K, F]
        lengths = num_windows(lengths, self.kernel_size)
        x = largest_of_blocks(x, self.pool_size, lengths)  # [B, K', F]
        lengths = num_blocks(lengths, self.pool_size)
        encoder = self.encoder.clone(parent=self, name="recurrent", deterministic=deterministic)
        x = encoder(x, lengths=lengths)  # [B, H], or [B, K', H] to be pooled
        if self.pooling is not None:
            x = self.pooling.clone(parent=self, name="pooled")(x, lengths=lengths)  # [B, H]
        x = drop(x, self.output_dropout_rate, deterministic, "dropout")
        logits: Float[Array, "B C"] = output_layer(self.num_logits, self.matmul_dtype)(x)
        return logits


class FastTextClassifier(TextClassifier):
    """The mean of the vectors of a text's words, and of its bigrams where its ids have some (Joulin et al. 2016)."""

    dropout_rate: float = 0.0
    """Share of the values of the vectors dropped."""
    output_dropout_rate: float = 0.0
    """Share of the mean's values dropped."""
    matmul_dtype: Any = None
    """Type to which the operands of the output layer's products are rounded."""

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
        x = self.embed(tokens, vectors, self.dropout_rate, deterministic)  # [B, T, E]
        x = MeanPooling(name="pooled")(x, lengths=lengths)  # [B, E]
        x = drop(x, self.output_dropout_rate, deterministic, "dropout")
        logits: Float[Array, "B C"] = output_layer(self.num_logits, self.matmul_dtype)(x)
        return logits


def drop(x: Array, rate: float, deterministic: bool, name: str) -> Array:
    """Ordinary dropout, as the child `name` of the module that asks for it; none at a rate of 0."""
    return jnp.asarray(nn.Dropout(rate, name=name)(x, deterministic=deterministic)) if rate else x
