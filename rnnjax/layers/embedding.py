"""Vectors for token ids."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from rnnjax.cells.base import Initializer, check_rate


def centred_uniform(key: Array, shape: tuple[int, ...], dtype: type) -> Array:
    """Uniform between -0.05 and 0.05, as Keras starts its embeddings."""
    return nn.initializers.uniform(scale=0.1)(key, shape, dtype) - 0.05


class Embedding(nn.Embed):
    """A table `[num_embeddings, features]` of vectors; ids `[...]` give `[..., features]`.

    With `word_dropout_rate` p, each call draws from the "dropout" stream which ids are dropped: all places that hold a
    dropped id get zeros, whatever the example, and all others are scaled by 1 / (1 - p) (Gal and Ghahramani 2016;
    "embedding dropout" in Merity et al. 2018). `attend` drops nothing.
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
        deterministic = self.deterministic if deterministic is None else deterministic
        if deterministic or self.word_dropout_rate == 0:
            return vectors
        share_kept = 1 - self.word_dropout_rate
        kept = jax.random.bernoulli(self.make_rng("dropout"), share_kept, (self.num_embeddings,))  # [V]
        return jnp.where(kept[inputs][..., None], vectors / share_kept, 0)
