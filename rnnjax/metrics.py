"""Metrics as masked sums with their counts: made on the device, merged and divided on the host."""

import math
from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array, Float

Sums = dict[str, tuple[Array, Array]]
"""Name -> (sum over examples or steps, how many), scalars on the device."""

HostSums = dict[str, tuple[float, float]]


LARGEST_EXPONENT = 709.0
"""exp of more is beyond a float."""


def masked_sum(values: Float[Array, "..."], weight: Float[Array, "..."]) -> tuple[Array, Array]:
    """Sum of `values` where `weight` is 1, and how many these are; what stands elsewhere, NaN included, is left out."""
    return jnp.where(weight > 0, values, 0).sum(), weight.sum()


def merge(total: HostSums, sums: Mapping[str, tuple[Array, Array]]) -> HostSums:
    """Add device sums to host sums, in double precision."""
    merged = dict(total)
    for name, (value, count) in sums.items():
        before = merged.get(name, (0.0, 0.0))
        merged[name] = (before[0] + float(value), before[1] + float(count))
    return merged


def means(total: HostSums) -> dict[str, float]:
    """Divide each sum by its count, the loss first; a metric that nothing counted towards is left out."""
    names = sorted(total, key=lambda name: (name != "loss", name))
    return {name: total[name][0] / total[name][1] for name in names if total[name][1] > 0}


def per_token(means: Mapping[str, float]) -> dict[str, float]:
    """What is customary to say of a loss in nats a token (or character): bits a token, and perplexity."""
    loss = means["loss"]
    return {"bits": loss / math.log(2), "perplexity": math.exp(min(loss, LARGEST_EXPONENT))}
