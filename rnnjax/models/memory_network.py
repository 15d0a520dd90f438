"""Models that answer a question about a story by a look at all of it: memory networks."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from rnnjax.kernels.sequence import zero_where_masked
from rnnjax.layers.embedding import Embedding
from rnnjax.models.output import output_layer

SPREAD = nn.initializers.normal(0.1)
"""How Sukhbaatar et al. start all tables."""


def position_weights(is_word: Bool[Array, "*B W"], features: int) -> Float[Array, "*B W D"]:
    """Weights of the words of a sentence, by which their weighted sum tells their order (Sukhbaatar et al. 2015, 4.1).

        l_jk = (1 - j / J) - (k / D) (1 - 2 j / J)        words j = 1..J, features k = 1..D

    Words stand first and padding, whose weight is 0, after them.
    """
    count = jnp.maximum(is_word.sum(axis=-1, keepdims=True), 1)  # [*B, 1]
    share = jnp.arange(1, is_word.shape[-1] + 1).reshape((1,) * (is_word.ndim - 1) + (-1,)) / count  # [*B, W], j / J
    share = share[..., None]
    feature = (jnp.arange(1, features + 1) / features).reshape((1,) * is_word.ndim + (-1,))
    return jnp.where(is_word[..., None], (1 - share) - feature * (1 - 2 * share), 0)


def sum_of_words(
    vectors: Float[Array, "*B W D"], is_word: Bool[Array, "*B W"], features: int | None = None
) -> Float[Array, "*B D"]:
    """Sentence vectors: words weighted by their positions and summed.

    With `features` F the last axis holds several tables' vectors of this width side by side, which are weighted alike.
    """
    features = features or vectors.shape[-1]
    weights = position_weights(is_word, features)  # [*B, W, F]
    split = vectors.reshape(*vectors.shape[:-1], -1, features)  # [*B, W, N, F]
    summed = (split * weights[..., None, :]).sum(axis=-3)  # [*B, N, F]
    return summed.reshape(*summed.shape[:-2], vectors.shape[-1])


class MemoryNetwork(nn.Module):
    """End-to-end memory network over sentences (Sukhbaatar et al. 2015), with tables tied from hop to hop ("adjacent").

    With tables E_0..E_K of word vectors, one more than there are hops, and T_0..T_K of vectors for how many sentences
    ago something was said; words x_ij of sentence i, weighted by l_j (`position_weights`):

        m_i^k = sum_j l_j * E_(k-1) x_ij + T_(k-1)(i)          c_i^k = sum_j l_j * E_k x_ij + T_k(i)
        u^1 = sum_j l_j * E_0 q_j                              p_i^k = softmax_i(u^k . m_i^k)
        u^(k+1) = u^k + sum_i p_i^k c_i^k                      logits = W u^(K+1)

    Answers are classes of their own, so W is no table. The weights p [B, K, S] are sown as "weights".
    """

    vocabulary_size: int
    num_classes: int
    features: int
    hops: int = 3
    dropout_rate: float = 0.0
    """Share dropped of the vector that the answer is read from."""
    deterministic: bool = True
    matmul_dtype: Any = None
    """Type to which the operands of the output layer's product are rounded; looks are taken in full precision."""

    @nn.compact
    def __call__(
        self, story: Int[Array, "B S W"], *, question: Int[Array, "B Q"], deterministic: bool | None = None
    ) -> Float[Array, "B C"]:
        """Logits of the answers.

        Args:
            story: sentences, the last one last, in each its words first; 0 is padding, and a sentence of nothing else
                is none.
            question: words, and padding after them.
            deterministic: no dropout; overrides the field.
        """
        deterministic = self.deterministic if deterministic is None else deterministic
        width, tables = self.features, self.hops + 1
        embedding = Embedding(self.vocabulary_size, tables * width, embedding_init=SPREAD, name="embedding")
        ago = self.param("ago", SPREAD, (story.shape[1], tables * width))  # [S, N D]
        said = sum_of_words(embedding(story), story != 0, width) + ago[None]  # [B, S, N D]
        said = said.reshape(*story.shape[:2], tables, width)  # [B, S, N, D]
        state = sum_of_words(embedding(question)[..., :width], question != 0)  # [B, D]
        is_sentence = (story != 0).any(axis=-1)  # [B, S]
        looks = []
        for hop in range(self.hops):
            scores = (said[:, :, hop] * state[:, None]).sum(axis=-1)  # [B, S]
            weights = jax.nn.softmax(jnp.where(is_sentence, scores, -jnp.inf))
            state = state + (weights[..., None] * said[:, :, hop + 1]).sum(axis=1)
            looks.append(weights)
        self.sow("intermediates", "weights", jnp.stack(looks, axis=1))
        state = nn.Dropout(self.dropout_rate)(state, deterministic=deterministic)
        logits: Float[Array, "B C"] = output_layer(self.num_classes, self.matmul_dtype)(state)
        return logits


class WordMatchNetwork(nn.Module):
    """The memory network of Keras's example babi_memnn, which holds each word of the story against the question's.

    With word vectors a_t (table A) of the story's T words, b_j (table B) of the question's Q, and vectors c_t with one
    number for each of the question's positions (table C):

        p_tj = softmax_j(a_t . b_j)      r_tj = p_tj + c_tj      y = last output of an RNN over j of [r_1j..r_Tj, b_j]

    Where the example fills up with words 0 that are read like others, padding here takes no part.
    """

    vocabulary_size: int
    num_classes: int
    features: int
    encoder: nn.Module
    """A layer that gives one vector a sequence."""
    dropout_rate: float = 0.0
    """Share dropped of all word vectors, and of what the answer is read from."""
    deterministic: bool = True
    matmul_dtype: Any = None
    """Type to which the operands of the output layer's product are rounded; matches are in full precision."""

    @nn.compact
    def __call__(
        self, story: Int[Array, "B S W"], *, question: Int[Array, "B Q"], deterministic: bool | None = None
    ) -> Float[Array, "B C"]:
        """Logits of the answers; arguments as those of `MemoryNetwork`."""
        deterministic = self.deterministic if deterministic is None else deterministic
        words = story.reshape(len(story), -1)  # [B, T]

        def table(ids: Int[Array, "B N"], features: int, name: str) -> Float[Array, "B N D"]:
            vectors = Embedding(self.vocabulary_size, features, name=name)(ids)
            return zero_where_masked(ids != 0, nn.Dropout(self.dropout_rate)(vectors, deterministic=deterministic))

        a = table(words, self.features, "match")
        b = table(question, self.features, "question")
        c = table(words, question.shape[1], "answer")  # [B, T, Q]
        is_asked = (question != 0)[:, None]  # [B, 1, Q]
        scores = (a[:, :, None] * b[:, None]).sum(axis=-1)  # [B, T, Q]
        matches = jax.nn.softmax(jnp.where(is_asked, scores, -jnp.inf))
        response = jnp.where((words != 0)[..., None], matches, 0) + c
        x = jnp.concatenate([jnp.swapaxes(response, 1, 2), b], axis=-1)  # [B, Q, T + D]
        encoder = self.encoder.clone(parent=self, name="recurrent", deterministic=deterministic)
        read = encoder(x, mask=question != 0)  # [B, H]
        read = nn.Dropout(self.dropout_rate)(read, deterministic=deterministic)
        logits: Float[Array, "B C"] = output_layer(self.num_classes, self.matmul_dtype)(read)
        return logits
