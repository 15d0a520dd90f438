"""What a file of another framework holds, and how one that holds weights alone becomes a model."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.errors import FlaxError

from rnnjax.errors import first_line
from rnnjax.interop.arrays import get, parts
from rnnjax.interop.sequential import FUNCTIONS, RECURRENT, Sequential
from rnnjax.layers.recurrent import GRU, LSTM, RecurrentLayer, SimpleRNN

Arrays = dict[str, np.ndarray]
"""Arrays by the names that they have in a file."""


class Contents(NamedTuple):
    """A model from a file."""

    model: Sequential
    params: dict[str, Any]
    arrays: list[Arrays]
    """What the file has for each part of the model, in the order of `parts`."""


class Settings(NamedTuple):
    """What a file of weights alone does not say."""

    layers: Sequence[str] | None = None
    """Names of the layers in the order of their calls, and of the functions between and after them."""
    return_sequences: bool = True
    """Of the last recurrent layer."""
    nonlinearity: str = "tanh"
    """Of simple recurrent layers."""


class Found(NamedTuple):
    """One layer in a file of weights alone."""

    name: str
    layer: Any
    params: dict[str, Any]
    arrays: list[Arrays]


def recurrent_layer(columns: int, features: int, settings: Settings, **options: Any) -> RecurrentLayer:
    """The layer whose recurrent kernel has this shape.

    Raises:
        ValueError: none has.
    """
    if columns == features:
        if settings.nonlinearity not in FUNCTIONS:
            raise ValueError(f"expected nonlinearity one of {', '.join(FUNCTIONS)}; got {settings.nonlinearity!r}.")
        return SimpleRNN(features, activation_fn=FUNCTIONS[settings.nonlinearity], **options)
    if columns == 3 * features:
        return GRU(features, **options)
    if columns == 4 * features:
        return LSTM(features, **options)
    raise ValueError(f"expected a recurrent kernel of 1, 3 or 4 blocks; got {features} times {columns}.")


def arrange(found: Sequence[Found], settings: Settings) -> Contents:
    """Put layers into their order: as `settings.layers` says, or else an embedding, recurrent layers, a dense layer.

    Raises:
        ValueError: the order or the functions between the layers must be given, or do not fit the layers.
    """
    by_name = {one.name: one for one in found}
    order = _default_order(found) if settings.layers is None else list(settings.layers)
    functions = [name for name in order if name not in by_name]
    if sorted(name for name in order if name in by_name) != sorted(by_name) or not set(functions) <= FUNCTIONS.keys():
        raise ValueError(
            f"expected layers to name each of {', '.join(by_name)} once, and functions of {', '.join(FUNCTIONS)}; "
            f"got {', '.join(order)}."
        )
    last = [name for name in order if name in by_name and isinstance(by_name[name].layer, RECURRENT)][-1:]
    layers: dict[str, Any] = {}
    for number, name in enumerate(order):
        if name in functions:
            layers[name if functions.count(name) == 1 else f"{name}_at_{number}"] = FUNCTIONS[name]
        elif name in last and not settings.return_sequences:
            layers[name] = by_name[name].layer.clone(return_sequences=False)
        else:
            layers[name] = by_name[name].layer
    if len(layers) < len(order):
        raise ValueError(f"expected layers of different names; got {', '.join(order)}.")
    ordered = [by_name[name] for name in order if name in by_name]
    params = {one.name: one.params for one in ordered}
    return checked(Contents(Sequential(layers), params, [arrays for one in ordered for arrays in one.arrays]))


def _default_order(found: Sequence[Found]) -> list[str]:
    embeddings = [one.name for one in found if isinstance(one.layer, nn.Embed)]
    recurrent = [one.name for one in found if isinstance(one.layer, RECURRENT)]
    dense = [one.name for one in found if isinstance(one.layer, nn.Dense)]
    is_series = len({re.sub(r"[._]?\d+$", "", name) for name in recurrent}) <= 1
    if len(embeddings) > 1 or len(dense) > 1 or not is_series:
        several = [*(embeddings * (len(embeddings) > 1)), *(recurrent * (not is_series)), *(dense * (len(dense) > 1))]
        raise ValueError(
            f"several layers ({', '.join(several)}): expected their order, and the functions between them, which are "
            "not in a file of weights. Name them all in layers=, or --layers."
        )

    def number(name: str) -> int:
        digits = re.search(r"\d+$", name)
        return int(digits[0]) if digits else -1

    return [*embeddings, *sorted(recurrent, key=number), *dense]


def checked(contents: Contents) -> Contents:
    """`contents`, when its layers fit each other.

    Raises:
        ValueError: they do not.
    """
    model, params, _ = contents
    first = next(iter(parts(model)), None)
    if first is None:
        raise ValueError("expected layers with weights; got none.")
    x = jax.ShapeDtypeStruct((1, 1), jnp.int32)
    if not isinstance(first.module, nn.Embed):
        x = jax.ShapeDtypeStruct((1, 1, get(params, first.path)["kernel"].shape[0]), jnp.float32)
    try:
        jax.eval_shape(model.apply, {"params": params}, x)
    except (FlaxError, TypeError, ValueError) as error:
        order = ", ".join(model.layers)
        raise ValueError(f"expected layers that fit each other in the order {order}; {first_line(error)}") from error
    return contents


def as_floats(arrays: Mapping[str, np.ndarray]) -> Arrays:
    """The arrays, in float32 where they are of a shorter type, which changes no value.

    Raises:
        ValueError: some are no floating-point numbers.
    """
    for name, array in arrays.items():
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise ValueError(f"expected floating-point weights; {name} is of {array.dtype}.")
    return {name: a if a.dtype in (np.float32, np.float64) else a.astype(np.float32) for name, a in arrays.items()}
