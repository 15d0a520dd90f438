"""Why a model says what it says: what each word adds to a class, and what single units follow."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from rnnjax.kernels.sequence import mask_from_lengths
from rnnjax.models.classifier import probabilities

CHUNK = 1024
"""Tokens that `activations` reads in one call."""
FIRST_PARTS, PARTS_AT_ONCE, NARROWEST = 8, 16, 2.0**-20
"""Of the path of integrated gradients: parts to begin with, those of one call, and the width that is not halved."""
LOBATTO_NODES = np.array([0, 0.5 - (3 / 28) ** 0.5, 0.5, 0.5 + (3 / 28) ** 0.5, 1])
LOBATTO_WEIGHTS = np.array([9, 49, 64, 49, 9]) / 180


class Attribution(NamedTuple):
    """How the score of a class comes about: `baseline` + the sum of an example's `contributions` = `score`."""

    contributions: Float[np.ndarray, "B T"]
    """Of each step; zero in padding."""
    score: Float[np.ndarray, " B"]
    """Logit of the class."""
    baseline: Float[np.ndarray, " B"]
    """The same where all word vectors are zero."""


def integrated_gradients(
    model: nn.Module,
    params: Any,
    tokens: Int[np.ndarray, "B T"],
    lengths: Int[np.ndarray, " B"] | None = None,
    *,
    classes: Int[np.ndarray, " B"] | None = None,
    tolerance: float = 1e-3,
) -> Attribution:
    """What each token contributes to the logit of a class (Sundararajan, Taly and Yan 2017, equation 1).

        contribution_t = x_t . integral from 0 to 1 of d score(a x) / d x_t  da

    where x are the word vectors; so the path goes from zero vectors, of the same lengths, to the text. Two classes
    share one logit, that of the second; the first has its negative.

    A saturated recurrence may change its mind within a thousandth of the path, which equal steps miss. So the path is
    halved where the contributions of a part (Gauss-Lobatto, five nodes) do not sum to the change of the score over it.

    Args:
        model: a `Classifier`, or any module with its call and its embedding.
        params: its parameters.
        tokens: ids `[B, T]`.
        lengths: `[B]`, the number of real steps; the rest is right padding.
        classes: `[B]`, whose logits are explained; by default the most probable class of each example.
        tolerance: what the sum of contributions may be off by, for each unit by which the score changes on the way
            (up or down), and for the whole way.

    Raises:
        ValueError: `tolerance` is not above 0.
    """
    if not tolerance > 0:
        raise ValueError(f"tolerance must be above 0; got {tolerance}.")
    tokens = np.asarray(tokens)
    num_examples, num_steps = tokens.shape
    lengths = np.full(num_examples, num_steps, np.int32) if lengths is None else np.asarray(lengths)
    module: Any = model

    @jax.jit
    def logits(params: Any, tokens: Array, lengths: Array) -> Any:
        return module.apply({"params": params}, tokens, lengths=lengths)

    @jax.jit
    def explain(params: Any, places: Array, tokens: Array, lengths: Array, classes: Array) -> tuple[Array, Array]:
        """Score of each row at its place on the path, and what each step's vector adds to it there."""
        vectors = jnp.take(params["embedding"]["embedding"], tokens, axis=0)  # [R, T, E]

        def score(x: Float[Array, "R T E"]) -> tuple[Array, Array]:
            logits = module.apply({"params": params}, tokens, lengths=lengths, vectors=x)
            scores = class_scores(logits, classes)
            return scores.sum(), scores

        at = places.astype(vectors.dtype)[:, None, None] * vectors
        slope, scores = jax.grad(score, has_aux=True)(at)
        added = (slope * vectors).sum(axis=-1)  # [R, T]
        return scores, jnp.where(mask_from_lengths(lengths, num_steps), added, 0)

    if classes is None:
        classes = np.asarray(probabilities(logits(params, tokens, lengths)).argmax(axis=1))
    contributions, score, baseline = np.zeros((num_examples, num_steps)), np.zeros(num_examples), np.zeros(num_examples)
    rows = np.repeat(np.arange(num_examples), FIRST_PARTS)
    low = np.tile(np.arange(FIRST_PARTS) / FIRST_PARTS, num_examples)
    high = low + 1 / FIRST_PARTS
    while len(rows):
        some = np.resize(np.arange(min(len(rows), PARTS_AT_ONCE)), PARTS_AT_ONCE)  # of one shape: [P]
        places = low[some, None] + (high - low)[some, None] * LOBATTO_NODES  # [P, 5]
        who = np.repeat(rows[some], len(LOBATTO_NODES))
        found = explain(params, places.ravel(), tokens[who], lengths[who], np.asarray(classes)[who])
        scores = np.asarray(found[0], np.float64).reshape(places.shape)
        added = np.asarray(found[1], np.float64).reshape(*places.shape, num_steps)
        accuracy = 32 * np.finfo(found[0].dtype).eps * (1 + np.abs(scores).max(axis=1))
        keep = np.zeros(len(rows), bool)  # parts that are to be halved
        for part in range(min(len(rows), PARTS_AT_ONCE)):
            row, width = rows[part], high[part] - low[part]
            values = width * (LOBATTO_WEIGHTS @ added[part])  # [T]
            change = scores[part, -1] - scores[part, 0]
            allowed = tolerance * (width + abs(change)) + accuracy[part]
            if abs(values.sum() - change) > allowed and width > NARROWEST:
                keep[part] = True
                continue
            contributions[row] += values
            if low[part] == 0:
                baseline[row] = scores[part, 0]
            if high[part] == 1:
                score[row] = scores[part, -1]
        rest, middle = slice(PARTS_AT_ONCE, None), (low[keep] + high[keep]) / 2
        rows = np.concatenate([rows[keep], rows[keep], rows[rest]])
        low, high = (
            np.concatenate([low[keep], middle, low[rest]]),
            np.concatenate([middle, high[keep], high[rest]]),
        )
    return Attribution(contributions, score, baseline)


def class_scores(logits: Float[Array, "B C"], classes: Int[Array, " B"]) -> Float[Array, " B"]:
    """The logit of one class of each example, from the logits of a `Classifier`."""
    if logits.shape[1] == 1:
        return jnp.where(classes == 1, logits[:, 0], -logits[:, 0])
    return jnp.take_along_axis(logits, classes[:, None], axis=1)[:, 0]


def activations(
    model: nn.Module, params: Any, tokens: Int[np.ndarray, " N"], part: str = "h"
) -> list[Float[np.ndarray, "N H"]]:
    """What the units of a language model hold after each token of a text, which is read once with carried state.

    Args:
        model: a `LanguageModel`, or any module with its call and `initial_state`.
        params: its parameters.
        tokens: the text.
        part: of the state: "h", or "c" of an LSTM.

    Returns:
        An array `[N, H]` for each recurrent layer, the lowest first.

    Raises:
        ValueError: a layer's state has no such part.
    """
    module: Any = model
    state = module.initial_state(1)
    for layer in state:
        if part not in layer._fields:
            raise ValueError(f"part must be one of {', '.join(layer._fields)}; got {part!r}.")

    @jax.jit
    def read(params: Any, state: Any, tokens: Array) -> tuple[Any, list[Array]]:
        def step(state: Any, token: Array) -> tuple[Any, list[Array]]:
            state, _ = module.apply({"params": params}, token[None, None], initial_state=state, return_state=True)
            return state, [getattr(layer, part)[0] for layer in state]

        return jax.lax.scan(step, state, tokens)

    pieces = []
    for start in range(0, len(tokens), CHUNK):
        piece = np.asarray(tokens[start : start + CHUNK], np.int32)
        # Of one shape, so that it is compiled once; what follows the text is read after it.
        state, held = read(params, state, np.pad(piece, (0, CHUNK - len(piece))))
        pieces.append([np.asarray(layer)[: len(piece)] for layer in held])
    if not pieces:
        return [np.zeros((0, *getattr(layer, part).shape[1:]), np.float32) for layer in state]
    return [np.concatenate(layer) for layer in zip(*pieces, strict=True)]


class Follower(NamedTuple):
    """A unit that follows a property of a text."""

    layer: int
    unit: int
    sign: int
    """-1 where the unit is low when the property is high."""
    chosen: float
    """Its score on the first half of the text, by which it was chosen among all units."""
    held_out: float
    """Its score, in the same direction, on the second half."""


def unit_scores(
    activations: Float[np.ndarray, "N H"], values: Float[np.ndarray, "P N"], is_binary: Bool[np.ndarray, " P"]
) -> Float[np.ndarray, "P H"]:
    """How well each unit follows each property.

    Args:
        activations: of H units at N places.
        values: of P properties at these places; 0 and 1 where they are binary.
        is_binary: of each property.

    Returns:
        For a binary property the AUC, the probability that the unit is higher at a place that has the property than at
        one that has not (ties count half); otherwise Pearson's correlation. NaN for a property that does not vary; a
        unit that does not has 0.5 or 0.
    """
    from scipy.stats import rankdata

    scores = np.full((len(values), activations.shape[1]), np.nan)
    varies = values.min(axis=1, initial=np.inf) < values.max(axis=1, initial=-np.inf)
    binary, numeric = is_binary & varies, ~is_binary & varies
    if binary.any():
        has = values[binary].astype(np.float64)  # [P, N]
        count = has.sum(axis=1, keepdims=True)
        above = has @ rankdata(activations, axis=0) - count * (count + 1) / 2  # pairs (with, without) in this order
        scores[binary] = above / (count * (has.shape[1] - count))
    if numeric.any():
        x, y = (part - part.mean(axis=0) for part in (activations.astype(np.float64), values[numeric].T))
        norms = np.linalg.norm(y, axis=0)[:, None] * np.linalg.norm(x, axis=0)[None, :]
        scores[numeric] = np.divide(y.T @ x, norms, out=np.zeros_like(norms), where=norms > 0)
    return scores


def find_followers(
    layers: list[Float[np.ndarray, "N H"]],
    values: Float[np.ndarray, "P N"],
    is_binary: Bool[np.ndarray, " P"],
    count: int = 3,
) -> list[list[Follower]]:
    """The units that follow each property best, chosen on the first half of a text and scored on both.

    Args:
        layers: activations of each layer.
        values: of P properties, see `unit_scores`.
        is_binary: of each property.
        count: units of a property.

    Returns:
        For each property its units, the best first; none where it does not vary in one of the halves.
    """
    half = values.shape[1] // 2
    first, second = (
        np.concatenate([unit_scores(layer[part], values[:, part], is_binary) for layer in layers], axis=1)
        for part in (slice(half), slice(half, None))
    )  # [P, all units]
    places = [(number, unit) for number, layer in enumerate(layers) for unit in range(layer.shape[1])]
    found = []
    for early, late, binary in zip(first, second, is_binary, strict=True):
        middle = 0.5 if binary else 0.0
        best = np.argsort(-np.abs(early - middle), kind="stable")[:count]
        if np.isnan(early).any() or np.isnan(late).any():
            best = best[:0]
        units = []
        for column in best:
            layer, unit = places[column]
            sign = -1 if early[column] < middle else 1
            chosen, held_out = (float(middle + sign * (scores[column] - middle)) for scores in (early, late))
            units.append(Follower(layer, unit, sign, chosen, held_out))
        found.append(units)
    return found
