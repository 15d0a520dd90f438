"""Vectors for token ids."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from rnnjax.cells.base import Initializer, check_rate


def centred_uniform(key: Array, shape: tuple[int, ...], dtype: type) -> Array:
    """Uniform between -0.05 and 0.05, as Keras starts its embeddings."""
    return nn.initializers.uniform(scale=0.1)(key, shape, dtype) - 0.05


class Lookup(NamedTuple):
    """Rows of a table that nobody has taken yet: a recurrent layer may multiply the table instead of them."""

    table: Float[Array, "V D"]
    ids: Int[Array, "*B"]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the vectors, `(*B, D)`."""
        return *self.ids.shape, self.table.shape[1]

    @property
    def ndim(self) -> int:
        """Of the vectors."""
        return self.ids.ndim + 1

    @property
    def dtype(self) -> Any:
        """Of the vectors."""
        return self.table.dtype

    def vectors(self) -> Float[Array, "*B D"]:
        """Take the rows; NaN for ids that the table does not have."""
        return jnp.take(self.table, self.ids, axis=0)


class Embedding(nn.Embed):
    """A table `[num_embeddings, features]` of vectors; ids `[...]` give `[..., features]`.

    With `word_dropout_rate` p, each call draws from the "dropout" stream which ids are dropped: all places that hold a
    dropped id get zeros, whatever the example, and all others are scaled by 1 / (1 - p) (Gal and Ghahramani 2016;
    "embedding dropout" in Merity et al. 2018). `attend` drops nothing.

    `embedding.lookup(ids)` in the place of `embedding(ids)` leaves it to the recurrent layer that reads the vectors to
    multiply the whole table instead of them: as it does for twice as many ids as rows or more, without input dropout.
    """

    embedding_init: Initializer = centred_uniform
    word_dropout_rate: float = 0.0
    """Share of the ids, rows of the table, dropped in a call."""
    deterministic: bool = True
    """No dropout. A call's `deterministic=` overrides it."""

    def __post_init__(self) -> None:
        """Check the rate where it is written."""
        check_rate("Embedding", "word_dropout_rate", self.word_dropout_rate)
        super().__post_init__()

    def __call__(self, inputs: Int[Array, "*B"], *, deterministic: bool | None = None) -> Float[Array, "*B D"]:
        """Vectors of ids."""
        vectors = super().__call__(inputs)
        if not self._drops(deterministic):
            return vectors
        share_kept = 1 - self.word_dropout_rate
        kept = jax.random.bernoulli(self.make_rng("dropout"), share_kept, (self.num_embeddings,))  # [V]
        return jnp.where(kept[inputs][..., None], vectors / share_kept, 0)

    def lookup(self, inputs: Int[Array, "*B"], *, deterministic: bool | None = None) -> Lookup | Float[Array, "*B D"]:
        """What the layers of this package may read in place of the vectors of ids."""
        if self.num_embeddings == 1 or self._drops(deterministic):
            return self(inputs, deterministic=deterministic)
        (table,) = self.promote_dtype(self.embedding, dtype=self.dtype, inexact=False)
        assert table is not None
        return Lookup(table, inputs)

    @nn.nowrap
    def _drops(self, deterministic: bool | None) -> bool:
        deterministic = self.deterministic if deterministic is None else deterministic
        return not deterministic and self.word_dropout_rate > 0
