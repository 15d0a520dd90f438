"""Parameters named by their paths ("embedding/embedding"): those that start from given values, those that stay."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array


def start_from(params: Any, given: Mapping[str, Array]) -> Any:
    """`params` with the values that are given for some of them.

    Raises:
        ValueError: there is no parameter of a name, or it has another shape.
    """
    rest = dict(given)

    def choose(name: str, leaf: Array) -> Array:
        if name not in rest:
            return leaf
        value = jnp.asarray(rest.pop(name), leaf.dtype)
        if value.shape != leaf.shape:
            raise ValueError(f"Expected {name} of shape {leaf.shape}; got {value.shape}.")
        return value

    chosen = _map(choose, params)
    if rest:
        raise ValueError(f"Expected names of parameters; got {', '.join(rest)}.")
    return chosen


def keep(names: Collection[str], before: Any, after: Any) -> Any:
    """What training made of parameters, but for those of these names, which stay as they were, to the bit."""
    return _map(lambda name, old, new: old if name in names else new, before, after)


def train_all_but(names: Collection[str], optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """An optimizer that neither sees nor remembers anything of the parameters of these names."""
    if not names:
        return optimizer

    def labels(params: Any) -> Any:
        return _map(lambda name, _: "frozen" if name in names else "trained", params)

    return optax.partition({"trained": optimizer, "frozen": optax.set_to_zero()}, labels)


def _map(choose: Callable[..., Any], tree: Any, *others: Any) -> Any:
    return jax.tree.map_with_path(
        lambda path, *leaves: choose(jax.tree_util.keystr(path, simple=True, separator="/"), *leaves), tree, *others
    )
