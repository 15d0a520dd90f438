"""Sequence to sequence: an encoder, and a decoder of as many steps as an answer has."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from rnnjax.kernels.sequence import mask_from_lengths
from rnnjax.models.output import output_layer


class Seq2Seq(nn.Module):
    """Read a sequence of tokens and answer with `answer_length` tokens, all at once.

    The decoder starts from the encoder's final state, and reads the encoder's last output at every step (Cho et al.
    2014). With attention its outputs y_t then look at all of the encoder's outputs e_s (Luong et al. 2015, "general"):

        a_ts = softmax_s(y_t W e_s)        c_t = sum_s a_ts e_s        logits of tanh([c_t, y_t] V)

    The weights a [B, A, T], zero at masked steps, are sown as "weights".
    """

    vocabulary_size: int
    answer_length: int
    """Tokens A of an answer."""
    encoder: nn.Module
    """A recurrent layer, which reads tokens one-hot."""
    decoder: nn.Module
    """A recurrent layer with states as the encoder's."""
    attention: bool = False
    matmul_dtype: Any = None
    """Type to which the operands of products are rounded here; those of the layers are their own."""

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "B T"],
        *,
        lengths: Int[Array, "B"] | None = None,
        deterministic: bool = True,
    ) -> Float[Array, "B A V"]:
        """Logits of each token of the answer."""
        x = jax.nn.one_hot(tokens, self.vocabulary_size)  # [B, T, V]
        options = {"deterministic": deterministic, "return_sequences": True}
        encoder = self.encoder.clone(parent=self, name="encoding", return_state=True, **options)
        state, encoded = encoder(x, lengths=lengths)  # [B, T, H]
        last = jax.tree.leaves(state)[0]  # [B, H], h of the last real step
        repeated = jnp.broadcast_to(last[:, None], (len(last), self.answer_length, last.shape[1]))  # [B, A, H]
        decoder = self.decoder.clone(parent=self, name="decoding", **options)
        y = decoder(repeated, initial_state=state)  # [B, A, H]
        if self.attention:
            y = self.attend(y, encoded, lengths)
        logits: Float[Array, "B A V"] = output_layer(self.vocabulary_size, self.matmul_dtype)(y)
        return logits

    def attend(
        self, y: Float[Array, "B A H"], encoded: Float[Array, "B T H"], lengths: Int[Array, "B"] | None
    ) -> Float[Array, "B A H"]:
        """The decoder's outputs after a look at the encoder's."""
        width = y.shape[-1]
        glorot = nn.initializers.glorot_uniform()
        queries = nn.Dense(encoded.shape[-1], use_bias=False, kernel_init=glorot, name="attention")(y)  # [B, A, H]
        scores = jnp.einsum("bah,bth->bat", queries, encoded)
        if lengths is not None:
            mask = mask_from_lengths(lengths, encoded.shape[1])  # [B, T]
            scores = jnp.where(mask[:, None], scores, -jnp.inf)
        weights = jax.nn.softmax(scores)  # [B, A, T]
        self.sow("intermediates", "weights", weights)
        seen = jnp.einsum("bat,bth->bah", weights, encoded)
        both = jnp.concatenate([seen, y], axis=-1)  # [B, A, 2 H]
        return nn.tanh(nn.Dense(width, use_bias=False, kernel_init=glorot, name="combination")(both))
