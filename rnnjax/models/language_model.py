"""Recurrent language model: the next token at every position, from a state that is carried."""

from typing import Any

import jax
from flax import linen as nn
from jaxtyping import Array, Float, Int

from rnnjax.cells.base import State
from rnnjax.layers.combinators import Stack
from rnnjax.layers.embedding import Embedding
from rnnjax.models.output import output_layer


class LanguageModel(nn.Module):
    """Predict each next token: embedding, recurrent layers, dropout, one dense layer."""

    vocabulary_size: int
    embedding_size: int
    """Width of the token vectors; 0 feeds the tokens one-hot, which suits few of them."""
    stack: Stack
    """Layers that return sequences."""
    dropout_rate: float = 0.0
    """Share of the last layer's outputs dropped before the dense layer."""
    matmul_dtype: Any = None
    """Type to which the operands of the dense layer's products are rounded; those of the stack are its layers' own."""

    def initial_state(self, batch_size: int) -> tuple[State, ...]:
        """The state before any text."""
        return self.stack.initial_state(batch_size)

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "B T"],
        *,
        lengths: Int[Array, "B"] | None = None,
        initial_state: tuple[State, ...] | None = None,
        return_state: bool = False,
        deterministic: bool = True,
    ) -> Any:
        """Logits `[B, T, V]` of the token after each position; with `return_state`, the final state and they."""
        if self.embedding_size:
            x = Embedding(self.vocabulary_size, self.embedding_size, name="embedding").lookup(tokens)  # [B, T, E]
        else:
            x = jax.nn.one_hot(tokens, self.vocabulary_size)  # [B, T, V]
        options = {"deterministic": deterministic, "return_state": return_state}
        x = self.stack.clone(parent=self, name="recurrent", **options)(x, lengths=lengths, initial_state=initial_state)
        if return_state:
            state, x = x  # [B, T, H]
        x = nn.Dropout(self.dropout_rate, deterministic=deterministic)(x)
        logits: Float[Array, "B T V"] = output_layer(self.vocabulary_size, self.matmul_dtype)(x)
        return (state, logits) if return_state else logits
