"""Text classifiers that read windows or bags of words: convolutions and fastText, alone or with a recurrent layer.

Each is called as `Classifier` is, and has its word vectors in the same place, so that `interpret` explains it too.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from rnnjax.kernels.sequence import mask_from_lengths
from rnnjax.layers.convolution import Convolution, largest_of_blocks, num_blocks, num_windows
from rnnjax.layers.embedding import Embedding, centred_uniform
from rnnjax.layers.pooling import MaxPooling, MeanPooling, Pooling
from rnnjax.models.output import dense, output_layer

FIRST_WEIGHT = 0.4
"""Of naive Bayes weights, before training."""


@dataclasses.dataclass(kw_only=True)
class TextOptions:
    """Options of all these classifiers."""

    dropout_rate: float = 0.0
    """Share of the values of the word vectors dropped, each by itself."""
    word_dropout_rate: float = 0.0
    """Share of the vocabulary dropped in a call, as in `Embedding`."""
    output_dropout_rate: float = 0.0
    """Share of what the output layer reads dropped."""
    matmul_dtype: Any = None
    """Type to which the operands of products are rounded; those of an encoder are its own."""


class TextClassifier(TextOptions, nn.Module):
    """What these classifiers share: word vectors, the call, and the output layer; `read` is a subclass's own.

    Two classes have one logit (of the second class), as with a sigmoid output; more have a logit each.
    """

    vocabulary_size: int
    num_classes: int
    embedding_size: int

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
        if vectors is None:
            table = Embedding(
                self.vocabulary_size,
                self.embedding_size + self.num_weights,
                embedding_init=self.start,
                word_dropout_rate=self.word_dropout_rate,
                deterministic=deterministic,
                name="embedding",
            )
            vectors = table(tokens)
        x, weights = jnp.split(vectors, [self.embedding_size], axis=-1)  # [B, T, E], [B, T, W]
        x = drop(x, self.dropout_rate, deterministic, "embedding_dropout")
        x = drop(self.read(x, tokens, lengths, deterministic), self.output_dropout_rate, deterministic, "dropout")
        logits: Float[Array, "B C"] = output_layer(self.num_logits, self.matmul_dtype)(x)
        return self.add(logits, weights, tokens, lengths)

    @nn.nowrap
    def read(
        self,
        x: Float[Array, "B T E"],
        tokens: Int[Array, "B T"],
        lengths: Int[Array, "B"] | None,
        deterministic: bool,
    ) -> Float[Array, "B H"]:
        """One vector of a text, from the vectors of its tokens."""
        raise NotImplementedError

    @property
    def num_weights(self) -> int:
        """W, values of a word's vector behind the E that are read, which `add` gets."""
        return 0

    @nn.nowrap
    def start(self, key: Array, shape: tuple[int, ...], dtype: Any) -> Float[Array, "V E"]:
        """The table of word vectors before training."""
        return centred_uniform(key, shape, dtype)

    @nn.nowrap
    def add(
        self,
        logits: Float[Array, "B C"],
        weights: Float[Array, "B T W"],
        tokens: Int[Array, "B T"],
        lengths: Int[Array, "B"] | None,
    ) -> Float[Array, "B C"]:
        """The logits, and what a subclass adds to them."""
        return logits


class ConvolutionalClassifier(TextClassifier):
    """The largest value that each filter takes anywhere in a text, and two dense layers (Kim 2014; Collobert 2011).

    The sizes of Keras's example imdb_cnn are 250 filters of 3 words and 250 hidden units.
    """

    filters: int = 250
    kernel_size: int = 3
    hidden_size: int = 250

    @nn.nowrap
    def read(
        self,
        x: Float[Array, "B T E"],
        tokens: Int[Array, "B T"],
        lengths: Int[Array, "B"] | None,
        deterministic: bool,
    ) -> Float[Array, "B H"]:
        """The hidden layer's outputs."""
        convolution = Convolution(self.filters, self.kernel_size, matmul_dtype=self.matmul_dtype, name="convolution")
        x = convolution(x, lengths=lengths)  # [B, K, F]
        x = MaxPooling(name="pooled")(x, lengths=num_windows(lengths, self.kernel_size))  # [B, F]
        return nn.relu(dense(self.hidden_size, "hidden", self.matmul_dtype)(x))


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

    @nn.nowrap
    def read(
        self,
        x: Float[Array, "B T E"],
        tokens: Int[Array, "B T"],
        lengths: Int[Array, "B"] | None,
        deterministic: bool,
    ) -> Float[Array, "B H"]:
        """The encoder's last output, or what is pooled."""
        convolution = Convolution(self.filters, self.kernel_size, matmul_dtype=self.matmul_dtype, name="convolution")
        x = convolution(x, lengths=lengths)  # [B, K, F]
        lengths = num_windows(lengths, self.kernel_size)
        x = largest_of_blocks(x, self.pool_size, lengths)  # [B, K', F]
        lengths = num_blocks(lengths, self.pool_size)
        encoder = self.encoder.clone(parent=self, name="recurrent", deterministic=deterministic)
        x = encoder(x, lengths=lengths)  # [B, H], or [B, K', H] to be pooled
        if self.pooling is not None:
            x = self.pooling.clone(parent=self, name="pooled")(x, lengths=lengths)  # [B, H]
        return x


class FastTextClassifier(TextClassifier):
    """The mean of the vectors of a text's words, and of its bigrams where its ids have some (Joulin et al. 2016)."""

    @nn.nowrap
    def read(
        self,
        x: Float[Array, "B T E"],
        tokens: Int[Array, "B T"],
        lengths: Int[Array, "B"] | None,
        deterministic: bool,
    ) -> Float[Array, "B H"]:
        """The mean vector."""
        return MeanPooling(name="pooled")(x, lengths=lengths)


class RecurrentBagClassifier(TextClassifier):
    """Recurrent layers over a text's words, and beside them bags of its words and bigrams.

    The output layer reads what the recurrent layers say of the order of the whole text, and the mean of all vectors.
    To its logits is added what each id v that occurs says of a class c, r_vc w_vc / 10: r are the log-count ratios of
    the training texts (`log_count_ratios`), a parameter that starts at zero, to be set from the data and left as it is;
    w the last columns of the word vectors, one a logit, which nothing else reads, and which start at 0.4. So it adds
    0.04 times the log-likelihood ratio of naive Bayes at first, and learns what to trust (Wang and Manning 2012); the
    tenth keeps the steps of w small, beside those of an optimizer that scales them.
    """

    encoder: nn.Module
    """A layer that gives one vector a sequence, as that of a `Classifier`."""
    pooling: Pooling | None
    """Makes one vector of the outputs of all words, which then the encoder has to give."""
    num_words: int
    """Ids from here on are bigrams, which stand after the words (`WordVocabulary.encode`)."""
    max_length: int
    """The most words of a text."""

    @property
    def num_weights(self) -> int:
        """One a logit."""
        return self.num_logits

    @nn.nowrap
    def start(self, key: Array, shape: tuple[int, ...], dtype: Any) -> Float[Array, "V E"]:
        """Word vectors as they are elsewhere, and the weights in their last columns."""
        return centred_uniform(key, shape, dtype).at[:, self.embedding_size :].set(FIRST_WEIGHT)

    @nn.nowrap
    def add(
        self,
        logits: Float[Array, "B C"],
        weights: Float[Array, "B T W"],
        tokens: Int[Array, "B T"],
        lengths: Int[Array, "B"] | None,
    ) -> Float[Array, "B C"]:
        """The logits, and what each id says that occurs."""
        ratios = self.param("ratios", nn.initializers.zeros, (self.vocabulary_size, self.num_logits))
        first = is_first(tokens, lengths)[..., None]  # [B, T, 1]
        return logits + jnp.where(first, weights * ratios[tokens], 0).sum(axis=1) / 10

    @nn.nowrap
    def read(
        self,
        x: Float[Array, "B T E"],
        tokens: Int[Array, "B T"],
        lengths: Int[Array, "B"] | None,
        deterministic: bool,
    ) -> Float[Array, "B H"]:
        """What the recurrent layers say, and the mean vector."""
        is_word = tokens < self.num_words  # [B, T]
        if lengths is not None:
            is_word = is_word & mask_from_lengths(lengths, tokens.shape[1])
        encoder = self.encoder.clone(parent=self, name="recurrent", deterministic=deterministic)
        num_words = is_word.sum(axis=1)  # [B]
        read = encoder(x[:, : self.max_length], lengths=num_words)  # [B, H], or [B, L, H] to be pooled
        if self.pooling is not None:
            read = self.pooling.clone(parent=self, name="pooled")(read, lengths=num_words)  # [B, H]
        bag = MeanPooling(name="bag")(x, lengths=lengths)  # [B, E]
        return jnp.concatenate([read, bag], axis=1)


def is_first(tokens: Int[Array, "B T"], lengths: Int[Array, "B"] | None) -> Bool[Array, "B T"]:
    """Whether each real token is the first of its id in its text."""
    if lengths is not None:
        tokens = jnp.where(mask_from_lengths(lengths, tokens.shape[1]), tokens, -1)
    order = jnp.argsort(tokens, axis=1)  # stable
    ranked = jnp.take_along_axis(tokens, order, axis=1)
    is_new = jnp.diff(ranked, axis=1, prepend=-1) > 0
    return jnp.put_along_axis(jnp.zeros_like(is_new), order, is_new, axis=1, inplace=False)


def drop(x: Array, rate: float, deterministic: bool, name: str) -> Array:
    """Ordinary dropout, as the child `name` of the module that asks for it; none at a rate of 0."""
    return jnp.asarray(nn.Dropout(rate, name=name)(x, deterministic=deterministic)) if rate else x
