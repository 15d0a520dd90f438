"""A tag for each token: words, their characters and their case, a recurrent layer in both directions, perhaps a CRF."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from rnnjax.kernels.products import multiply
from rnnjax.kernels.sequence import mask_from_lengths
from rnnjax.layers.combinators import Bidirectional
from rnnjax.layers.embedding import Embedding
from rnnjax.layers.pooling import MaxPooling
from rnnjax.models.crf import TagScores, Transitions
from rnnjax.models.output import output_layer

CHARACTERS_JOINED = 3
"""Characters that a convolution looks at at once."""


class CharacterReader(nn.Module):
    """A vector for each word, of its characters: ids `[B, T, W]`, of which 0 is padding, give `[B, T, F]`."""

    num_characters: int
    embedding_size: int
    """Width of the vectors of characters."""


class CharacterLSTM(CharacterReader):
    """What a recurrent layer has read at a word's end, and its twin at the beginning (Lample et al. 2016).

    F is twice the layer's width.
    """

    layer: nn.Module | None = None
    """`LSTM(25)`, `GRU(25)`, ..."""

    @nn.compact
    def __call__(self, characters: Int[Array, "B T W"]) -> Float[Array, "B T F"]:
        """Vectors of words; zeros where a word has no character."""
        assert self.layer is not None
        x = Embedding(self.num_characters, self.embedding_size, name="embedding").lookup(characters)  # [B, T, W, E]
        both = Bidirectional(self.layer, return_sequences=False, name="recurrent")
        vectors: Float[Array, "B T F"] = both(x, lengths=(characters > 0).sum(axis=-1))
        return vectors


class CharacterCNN(CharacterReader):
    """The largest values of a convolution over three characters each (Ma and Hovy 2016); F is `features`."""

    features: int = 50
    matmul_dtype: Any = None
    """Type to which the operands of products are rounded."""

    @nn.compact
    def __call__(self, characters: Int[Array, "B T W"]) -> Float[Array, "B T F"]:
        """Vectors of words; zeros where a word has no character."""
        mask = characters > 0  # [B, T, W]
        x = Embedding(self.num_characters, self.embedding_size, name="embedding")(characters)
        x = jnp.where(mask[..., None], x, 0)
        around = CHARACTERS_JOINED // 2
        x = jnp.pad(x, ((0, 0), (0, 0), (around, around), (0, 0)))
        steps = characters.shape[-1]
        windows = jnp.concatenate([x[:, :, i : i + steps] for i in range(CHARACTERS_JOINED)], axis=-1)  # [B, T, W, 3 E]
        glorot = nn.initializers.glorot_uniform()
        kernel = self.param("kernel", glorot, (windows.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        y = jnp.tanh(multiply(windows, kernel, self.matmul_dtype) + bias.reshape(1, 1, 1, -1))  # [B, T, W, F]
        return MaxPooling(name="largest")(y, mask=mask)


class Tagger(nn.Module):
    """Score the tags of each token, by a recurrent layer that has read the sentence from both sides.

    A token is the vector of its word, beside those of its characters, of its case and of its part of speech, as far as
    there are such. With `crf` the tags of neighbours weigh in too (Huang et al. 2015).
    """

    vocabulary_size: int
    embedding_size: int
    num_tags: int
    encoder: nn.Module
    """`Bidirectional(LSTM(100))`, or another layer that gives sequences."""
    reader: CharacterReader | None = None
    """Of the words' characters."""
    num_cases: int = 0
    """Kinds of case, each with a vector of `small_size`; 0 without."""
    num_pos: int = 0
    """Parts of speech that are read, each with a vector of `small_size`; 0 without."""
    small_size: int = 16
    dropout_rate: float = 0.0
    """Share of what the recurrent layer reads and gives that is dropped, at each token anew."""
    crf: bool = False
    matmul_dtype: Any = None
    """Type to which the operands of the output layer's products are rounded; those of the layers are their own."""

    @nn.compact
    def __call__(
        self,
        words: Int[Array, "B T"],
        *,
        characters: Int[Array, "B T W"] | None = None,
        cases: Int[Array, "B T"] | None = None,
        pos: Int[Array, "B T"] | None = None,
        lengths: Int[Array, "B"] | None = None,
        deterministic: bool = True,
    ) -> TagScores:
        """Scores of the tags of each token."""
        vectors = [Embedding(self.vocabulary_size, self.embedding_size, name="embedding")(words)]
        if self.reader is not None:
            vectors.append(self.reader.clone(parent=self, name="characters")(characters))
        for name, count, ids in (("cases", self.num_cases, cases), ("pos", self.num_pos, pos)):
            if count and ids is not None:
                vectors.append(Embedding(count, self.small_size, name=name)(ids))
        x = jnp.concatenate(vectors, axis=-1)  # [B, T, D]
        x = nn.Dropout(self.dropout_rate, deterministic=deterministic)(x)
        x = self.encoder.clone(parent=self, name="recurrent", deterministic=deterministic)(x, lengths=lengths)
        x = nn.Dropout(self.dropout_rate, deterministic=deterministic)(x)  # [B, T, 2 H]
        emissions: Float[Array, "B T K"] = output_layer(self.num_tags, self.matmul_dtype)(x)
        return Transitions(name="transitions")(emissions) if self.crf else TagScores(emissions)


class ChunkCounts(NamedTuple):
    """How many chunks there are, in all sentences that count."""

    right: Float[Array, ""]
    """Found with the right first token, last token and kind."""
    predicted: Float[Array, ""]
    true: Float[Array, ""]


def count_chunks(
    predicted: Int[Array, "B T"], true: Int[Array, "B T"], lengths: Int[Array, "B"], weight: Float[Array, "B"]
) -> ChunkCounts:
    """Count chunks as the script `conlleval` of CoNLL-2000 does (Tjong Kim Sang and Buchholz 2000).

    Tags are numbered: 0 is O, 2 k + 1 is B- and 2 k + 2 is I- of the kind k. A chunk begins at B-X, and also at an I-X
    that does not continue a chunk of kind X; it ends before the next token that does not continue it.

    Args:
        predicted: tags that were given.
        true: the right ones.
        lengths: tokens of each sentence.
        weight: 1 for sentences that count, 0 for others.
    """
    mask = mask_from_lengths(lengths, true.shape[1]) & (weight > 0)[:, None]  # [B, T]
    predicted, true = jnp.where(mask, predicted, 0), jnp.where(mask, true, 0)
    begins, ends = _chunks(predicted)
    true_begins, true_ends = _chunks(true)
    is_same = begins & true_begins & (_kind(predicted) == _kind(true)) & (ends == true_ends)
    counts = (is_same.sum(), begins.sum(), true_begins.sum())
    return ChunkCounts(*(count.astype(jnp.float32) for count in counts))


def _kind(tags: Int[Array, "B T"]) -> Int[Array, "B T"]:
    """0 of O, otherwise 1 + k."""
    return (tags + 1) // 2


def _chunks(tags: Int[Array, "B T"]) -> tuple[Bool[Array, "B T"], Int[Array, "B T"]]:
    """Where chunks begin, and for each token where the chunk ends that it is in."""
    steps = tags.shape[1]
    before = jnp.pad(tags[:, :-1], ((0, 0), (1, 0)))
    continues = (tags > 0) & (tags % 2 == 0) & (_kind(tags) == _kind(before))  # [B, T]
    ends = jnp.pad(~continues[:, 1:], ((0, 0), (0, 1)), constant_values=True)
    places = jnp.where(ends, jnp.arange(steps)[None], steps)
    return (tags > 0) & ~continues, jax.lax.cummin(places, axis=1, reverse=True)
