"""Losses that several tasks share, as sums with their counts."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from rnnjax.metrics import Sums, masked_sum


def classification(logits: Float[Array, "B C"], batch: Mapping[str, Any]) -> Sums:
    """Cross-entropy in nats and accuracy, of the numbers in `batch["labels"]` where `batch["weight"]` is 1.

    Logits are `[B, C]`, one a class, or `[B, 1]`, that of the second of two classes.
    """
    if logits.shape[1] > 1:
        return cross_entropy(logits, batch)
    labels, weight = jnp.asarray(batch["labels"]), jnp.asarray(batch["weight"])
    losses = optax.sigmoid_binary_cross_entropy(logits[:, 0], labels)
    correct = (logits[:, 0] > 0) == (labels > 0)
    return {"loss": masked_sum(losses, weight), "accuracy": masked_sum(correct.astype(losses.dtype), weight)}


def cross_entropy(logits: Float[Array, "B C"], batch: Mapping[str, Any]) -> Sums:
    """As `classification`, of logits `[B, C]` that are one a class, however few there are."""
    labels, weight = jnp.asarray(batch["labels"]), jnp.asarray(batch["weight"])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    correct = logits.argmax(axis=1) == labels
    return {"loss": masked_sum(losses, weight), "accuracy": masked_sum(correct.astype(losses.dtype), weight)}
