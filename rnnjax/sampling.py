"""Decoding from carried state: text is read once, and each new token costs one step."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int

PROMPT_CHUNK = 256
"""Prompts are read in pieces of this many tokens, the last one padded, so that no prompt length compiles anew."""

SUM_ACCURACY = 1e-6
"""What a sum of probabilities in float32 may be off by."""

MOST_NOISE = 2**24
"""Numbers that noise of a chunk may have to be drawn in one go."""


class Sampler:
    """Draws continuations from a language model.

    What is drawn at a position depends on (seed, sample, position) alone: not on the chunk size, nor on how many
    samples are drawn side by side.
    """

    def __init__(
        self,
        model: nn.Module,
        params: Any,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        never: Sequence[int] = (),
    ) -> None:
        """Fix how tokens are chosen.

        Args:
            model: a `LanguageModel`, or any module with its call and `initial_state`.
            params: its parameters.
            temperature: divides the logits; 0 takes the most probable token (greedy).
            top_k: choose among the k most probable tokens only.
            top_p: choose among the fewest most probable tokens that reach this probability together
                (Holtzman et al. 2020).
            never: tokens that are never chosen, such as that of unknown words.

        Raises:
            ValueError: temperature below 0, top_k below 1, or top_p outside (0, 1].
        """
        if not 0 <= temperature < float("inf"):
            raise ValueError(f"temperature must be 0 or more; got {temperature}.")
        if top_k is not None and top_k < 1:
            raise ValueError(f"top_k must be 1 or more; got {top_k}.")
        if top_p is not None and not 0 < top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1]; got {top_p}.")
        self.model: Any = model
        self.variables = {"params": params}
        self.never = np.asarray(never, np.int32)
        self.choose = functools.partial(choose, temperature=temperature, top_k=top_k, top_p=top_p)
        self._read = jax.jit(self._read_chunk)
        self._project = jax.jit(self._project_tokens)
        self._draw = jax.jit(self._draw_chunk, static_argnames="num_steps")

    def sample(
        self, prompt: Int[np.ndarray, " P"], length: int, *, seed: int = 0, num_samples: int = 1, chunk: int = 128
    ) -> Iterator[Int[np.ndarray, "S N"]]:
        """Continue `prompt` (one token or more) by `length` tokens; yields `[num_samples, <= chunk]` as drawn."""
        state, logits = self.read(prompt)
        state, logits = jax.tree.map(lambda leaf: jnp.repeat(leaf, num_samples, axis=0), (state, logits))
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(jax.random.key(seed), jnp.arange(num_samples))
        variables = self.variables
        if logits.shape[1] <= num_samples * chunk:
            variables = self._project(variables)
        drawn: Array | None = None
        for start in range(0, length, chunk):
            (state, logits), tokens = self._draw(variables, state, logits, keys, start, num_steps=chunk)
            if drawn is not None:  # while the next ones are being drawn
                yield np.asarray(drawn)
            drawn = tokens
        if drawn is not None:
            yield np.asarray(drawn)[:, : (length - 1) % chunk + 1]

    def read(self, prompt: Int[np.ndarray, " P"]) -> tuple[Any, Float[Array, "1 V"]]:
        """The state after `prompt`, and the logits of the token that follows."""
        if len(prompt) == 0:
            raise ValueError("prompt must hold one token or more; got none.")
        state, logits = self.model.initial_state(1), None
        for start in range(0, len(prompt), PROMPT_CHUNK):
            piece = prompt[start : start + PROMPT_CHUNK]
            padded = np.zeros((1, PROMPT_CHUNK), np.int32)
            padded[0, : len(piece)] = piece
            state, logits = self._read(self.variables, state, padded, np.asarray([len(piece)], np.int32))
        assert logits is not None
        return state, logits

    def _read_chunk(self, variables: Any, state: Any, tokens: Array, lengths: Array) -> tuple[Any, Array]:
        state, logits = self.model.apply(variables, tokens, lengths=lengths, initial_state=state, return_state=True)
        return state, self._without(logits[:, lengths[0] - 1])

    def _without(self, logits: Float[Array, "*S V"]) -> Float[Array, "*S V"]:
        """The logits, those of what is never chosen at minus infinity."""
        return logits.at[..., self.never].set(-jnp.inf) if len(self.never) else logits

    def _project_tokens(self, variables: Any) -> Any:
        """The variables, and what the first layer makes of each token, which no step need make again."""
        _, kept = self.model.apply(variables, jnp.zeros((1, 1), jnp.int32), mutable=["projected"])
        return {**variables, **kept}

    def _draw_chunk(
        self, variables: Any, state: Any, logits: Array, keys: Array, start: Array, num_steps: int
    ) -> tuple[tuple[Any, Array], Array]:
        def noise(position: Array) -> Float[Array, "S V"]:
            step_keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, position)
            return jax.vmap(lambda key: jax.random.gumbel(key, logits.shape[1:], logits.dtype))(step_keys)

        def step(carry: tuple[Any, Array], noise_or_position: Array) -> tuple[tuple[Any, Array], Array]:
            state, logits = carry
            tokens = self.choose(logits, noise_or_position if at_once else noise(noise_or_position))  # [S]
            state, logits = self.model.apply(variables, tokens[:, None], initial_state=state, return_state=True)
            return (state, self._without(logits[:, 0])), tokens

        positions = start + jnp.arange(num_steps)
        # In one go it is several times as fast. Without a temperature nothing reads it.
        at_once = num_steps * logits.size <= MOST_NOISE
        carry, tokens = jax.lax.scan(step, (state, logits), jax.vmap(noise)(positions) if at_once else positions)
        return carry, tokens.T


def choose(
    logits: Float[Array, "*S V"],
    noise: Float[Array, "*S V"],
    *,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
) -> Int[Array, "*S"]:
    """Draw tokens with noise from the standard Gumbel distribution; see `Sampler` for the options.

    The largest of logits / temperature + noise is a draw from their softmax (Gumbel 1954).
    """
    if temperature < jnp.finfo(logits.dtype).tiny:  # 0, or so little above that it is 0 in this type
        return argmax(logits)
    if top_k is not None and top_k < logits.shape[-1]:
        logits = jnp.where(ranks(logits) < top_k, logits, -jnp.inf)
    if top_p is not None and top_p < 1:
        order = ranks(logits)
        scaled = (logits - logits.max(axis=-1, keepdims=True)) / temperature
        ordered = jnp.put_along_axis(jnp.zeros_like(logits), order, jax.nn.softmax(scaled), axis=-1, inplace=False)
        # A token stays if those before it do not reach p, to the accuracy of a sum of floats; the first always stays.
        before = jnp.take_along_axis(jnp.cumsum(ordered, axis=-1) - ordered, order, axis=-1)
        logits = jnp.where((before < top_p - SUM_ACCURACY) | (order == 0), logits, -jnp.inf)
    if temperature > 1:  # neither form leaves the range of floats on its side
        return argmax(logits / temperature + noise)
    return argmax(logits + temperature * noise)


def argmax(scores: Float[Array, "*S V"]) -> Int[Array, "*S"]:
    """The first of the largest, and the last token where a score is NaN; XLA's own takes several times as long."""
    last = scores.shape[-1] - 1
    places = jax.lax.broadcasted_iota(jnp.int32, scores.shape, scores.ndim - 1)
    return jnp.where(scores == scores.max(axis=-1, keepdims=True), places, last).min(axis=-1)


def ranks(logits: Float[Array, "*S V"]) -> Int[Array, "*S V"]:
    """Place of each token by falling probability, ties in the order of ids."""
    return jnp.argsort(jnp.argsort(-logits, axis=-1, stable=True), axis=-1)
