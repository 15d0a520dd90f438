"""Linear-chain conditional random field: sums and maxima over all sequences of tags (Lafferty et al. 2001).

A sequence of tags y_1 ... y_n has the score

    s(y) = start[y_1] + sum_t emissions[t, y_t] + sum_t between[y_t, y_t+1] + end[y_n]

and the probability exp(s(y)) / Z, where Z sums exp(s) over all K^n sequences. `log_partition` finds log Z by the
forward algorithm and `best_path` the largest score by that of Viterbi (1967), both in n K^2 steps. Without transitions
(`between` is None) tags are independent of each other: a softmax at each token.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from rnnjax.kernels.sequence import mask_from_lengths, zero_where_masked


class TagScores(NamedTuple):
    """What decides the probability of a sequence of tags; each example has a copy of the transitions."""

    emissions: Float[Array, "B T K"]
    """Of each tag at each token."""
    between: Float[Array, "B K K"] | None = None
    """Of each tag (rows) followed by each (columns); None without a CRF, and so the two below."""
    start: Float[Array, "B K"] | None = None
    """Of each tag at the first token."""
    end: Float[Array, "B K"] | None = None
    """Of each tag at the last token."""


class Transitions(nn.Module):
    """The parameters of a CRF beside emissions: `between` [K, K], `start` [K] and `end` [K], all zero at first."""

    @nn.compact
    def __call__(self, emissions: Float[Array, "B T K"]) -> TagScores:
        """Emissions together with the transitions."""
        batch, _, count = emissions.shape
        shapes = {"between": (count, count), "start": (count,), "end": (count,)}
        # Outputs of a model are divided over devices by their first axis: examples.
        copies = {
            name: jnp.broadcast_to(self.param(name, nn.initializers.zeros, shape), (batch, *shape))
            for name, shape in shapes.items()
        }
        return TagScores(emissions, **copies)


def log_likelihood(scores: TagScores, tags: Int[Array, "B T"], lengths: Int[Array, "B"]) -> Float[Array, "B"]:
    """Logarithm of the probability of each sequence of tags; 0 where the length is 0.

    What stands in padding, NaN included, reaches neither the result nor a gradient.
    """
    return path_score(scores, tags, lengths) - log_partition(scores, lengths)


def path_score(scores: TagScores, tags: Int[Array, "B T"], lengths: Int[Array, "B"]) -> Float[Array, "B"]:
    """Score s(y) of each sequence of tags."""
    mask, emissions = _real(scores, lengths)
    # As products with one-hot vectors: gradients are then no scattered additions, which are slow.
    chosen = jax.nn.one_hot(tags, emissions.shape[-1], dtype=emissions.dtype) * mask[..., None]  # [B, T, K]
    total = (chosen * emissions).sum(axis=(1, 2))
    if scores.between is None or scores.start is None or scores.end is None:
        return total
    followed = jnp.einsum("bti,btj->bij", chosen[:, :-1], chosen[:, 1:])  # [B, K, K], how often i came before j
    is_last = mask & (jnp.arange(mask.shape[1])[None] == lengths[:, None] - 1)  # [B, T]
    total += (followed * scores.between).sum(axis=(1, 2))
    total += (chosen[:, 0] * scores.start).sum(axis=1)
    return total + ((chosen * is_last[..., None]).sum(axis=1) * scores.end).sum(axis=1)


def log_partition(scores: TagScores, lengths: Int[Array, "B"]) -> Float[Array, "B"]:
    """Log Z: the logarithm of the sum of exp(s(y)) over all sequences of tags; 0 where the length is 0."""
    mask, emissions = _real(scores, lengths)
    if scores.between is None or scores.start is None or scores.end is None:
        return jnp.where(mask, jax.nn.logsumexp(emissions, axis=-1), 0).sum(axis=1)
    between = scores.between

    def step(before: Float[Array, "B K"], inputs: tuple[Array, Array]) -> tuple[Float[Array, "B K"], None]:
        emission, is_real = inputs
        after = jax.nn.logsumexp(before[:, :, None] + between, axis=1) + emission
        return jnp.where(is_real[:, None], after, before), None

    first = scores.start + emissions[:, 0]
    last, _ = jax.lax.scan(step, first, _time_first(emissions[:, 1:], mask[:, 1:]))
    return jnp.where(lengths > 0, jax.nn.logsumexp(last + scores.end, axis=1), 0)


def best_path(scores: TagScores, lengths: Int[Array, "B"]) -> Int[Array, "B T"]:
    """The sequence of tags with the largest score; 0 in padding. Of equal ones, that with the first tags."""
    mask, emissions = _real(scores, lengths)
    if scores.between is None or scores.start is None or scores.end is None:
        return jnp.where(mask, emissions.argmax(axis=-1).astype(jnp.int32), 0)
    between = scores.between

    def forward(before: Float[Array, "B K"], inputs: tuple[Array, Array]) -> tuple[Any, Int[Array, "B K"]]:
        emission, is_real = inputs
        candidates = before[:, :, None] + between  # [B, K, K]
        best = candidates.argmax(axis=1).astype(jnp.int32)  # [B, K], the tag that came before each
        after = candidates.max(axis=1) + emission
        itself = jnp.arange(best.shape[1], dtype=jnp.int32)[None]
        return jnp.where(is_real[:, None], after, before), jnp.where(is_real[:, None], best, itself)

    def backward(tag: Int[Array, "B"], came_from: Int[Array, "B K"]) -> tuple[Any, Int[Array, "B"]]:
        return jnp.take_along_axis(came_from, tag[:, None], axis=1)[:, 0], tag

    first = scores.start + emissions[:, 0]
    last, came_from = jax.lax.scan(forward, first, _time_first(emissions[:, 1:], mask[:, 1:]))
    tag = (last + scores.end).argmax(axis=1).astype(jnp.int32)  # [B]
    tag, rest = jax.lax.scan(backward, tag, came_from, reverse=True)
    path = jnp.concatenate([tag[:, None], jnp.swapaxes(rest, 0, 1)], axis=1)  # [B, T]
    return jnp.where(mask, path, 0)


def _real(scores: TagScores, lengths: Int[Array, "B"]) -> tuple[Bool[Array, "B T"], Float[Array, "B T K"]]:
    """Which tokens are real, and the emissions with zeros at the others."""
    mask = mask_from_lengths(lengths, scores.emissions.shape[1])
    return mask, zero_where_masked(mask, scores.emissions)


def _time_first(emissions: Array, mask: Array) -> tuple[Float[Array, "T B K"], Bool[Array, "T B"]]:
    return jnp.swapaxes(emissions, 0, 1), jnp.swapaxes(mask, 0, 1)
