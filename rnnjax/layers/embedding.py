"""Vectors for token ids."""

from flax import linen as nn
from jaxtyping import Array

from rnnjax.cells.base import Initializer


def centred_uniform(key: Array, shape: tuple[int, ...], dtype: type) -> Array:
    """Uniform between -0.05 and 0.05, as Keras starts its embeddings."""
    return nn.initializers.uniform(scale=0.1)(key, shape, dtype) - 0.05


class Embedding(nn.Embed):
    """A table `[num_embeddings, features]` of vectors; ids `[...]` give `[..., features]`."""

    embedding_init: Initializer = centred_uniform
