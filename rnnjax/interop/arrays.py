"""Weights as arrays, between our parameters and what layers and models of Keras 3 and PyTorch hold.

A layer here is a recurrent layer or cell, `Bidirectional`, `Stack`, `Sequential`, `Embedding` or `nn.Dense`. Reading
takes JAX arrays as well, traced ones too, so that gradients may be taken with respect to another framework's weights.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from flax import linen as nn

from rnnjax.cells.base import Cell
from rnnjax.interop.layouts import (
    keras_shapes,
    part_from_keras,
    part_from_torch,
    part_to_keras,
    part_to_torch,
    torch_shapes,
)
from rnnjax.interop.sequential import Sequential
from rnnjax.layers.combinators import Bidirectional, Stack
from rnnjax.layers.dropout import VariationalDropout
from rnnjax.layers.recurrent import RecurrentLayer


class Part(NamedTuple):
    """What has weights of its own."""

    module: Any
    """A cell, an `Embedding` or an `nn.Dense`."""
    path: tuple[str, ...]
    """Where its parameters stand in our tree."""
    prefix: str
    """What the names of its arrays begin with in a PyTorch state_dict."""
    suffix: str
    """What they end with."""


def parts(layer: Any, path: tuple[str, ...] = (), prefix: str = "", suffix: str = "_l0") -> Iterator[Part]:
    """All that has weights in a layer, in the order in which Keras lists them.

    A `Stack` of like layers is one PyTorch module with `num_layers`; one of unlike layers, an `nn.ModuleList`.

    Raises:
        ValueError: there is a layer that cannot be converted.
    """
    if isinstance(layer, Sequential):
        for name, inner in layer.layers.items():
            yield from parts(inner, (*path, name), f"{prefix}{name}.")
    elif isinstance(layer, Stack):
        is_one_module = _are_alike(layer.layers)
        for number, inner in enumerate(layer.layers):
            names = (prefix, f"_l{number}") if is_one_module else (f"{prefix}{number}.", "_l0")
            yield from parts(inner, (*path, f"layer_{number}"), *names)
    elif isinstance(layer, Bidirectional):
        yield from parts(layer.layer, (*path, "forward"), prefix, suffix)
        yield from parts(layer.layer, (*path, "backward"), prefix, suffix + "_reverse")
    elif isinstance(layer, RecurrentLayer):
        yield Part(layer.make_cell(parent=None), (*path, "recurrence"), prefix, suffix)
    elif isinstance(layer, Cell | nn.Embed | nn.Dense):
        yield Part(layer, path, prefix, "")
    elif isinstance(layer, nn.Module) and not isinstance(layer, nn.Dropout | VariationalDropout):
        raise ValueError(
            "expected recurrent layers, Embedding, nn.Dense, dropout and functions; "
            f"got {type(layer).__name__}, which cannot be converted."
        )


def _are_alike(layers: Sequence[Any]) -> bool:
    """Whether these can be the layers of one PyTorch module."""

    def kind(layer: Any) -> tuple[Any, ...] | None:
        if isinstance(layer, Bidirectional):
            inner = kind(layer.layer)
            return ("both ways", *inner) if inner and layer.merge == "concat" else None
        if not isinstance(layer, RecurrentLayer):
            return None
        cell = layer.make_cell(parent=None)
        return type(cell), cell.features, cell.use_bias, getattr(cell, "activation_fn", None)

    kinds = {kind(layer) for layer in layers}
    return len(kinds) == 1 and None not in kinds


def from_keras(layer: Any, weights: Sequence[Any]) -> dict[str, Any]:
    """Parameters for `layer` from what a Keras layer or model gives with `get_weights()`.

    Raises:
        ValueError: another number of arrays, other shapes, or a layer that Keras has not.
    """
    params: dict[str, Any] = {}
    remaining = list(weights)
    for part in parts(layer):
        count = len(keras_shapes(part.module))
        taken, remaining = remaining[:count], remaining[count:]
        put(params, part.path, part_from_keras(part.module, taken))
    if remaining:
        expected = len(weights) - len(remaining)
        raise ValueError(f"expected {expected} arrays for {type(layer).__name__}; got {len(weights)}.")
    return params


def to_keras(layer: Any, params: Mapping[str, Any]) -> list[np.ndarray]:
    """What the same layer or model of Keras takes in `set_weights()`.

    Raises:
        ValueError: Keras has no such layer.
    """
    return [array for part in parts(layer) for array in part_to_keras(part.module, get(params, part.path))]


def from_torch(layer: Any, state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters for `layer` from a PyTorch `state_dict` of arrays.

    For a recurrent layer that is the state_dict of `nn.RNN`, `nn.LSTM` or `nn.GRU`; for a `Stack` of like layers, that
    of one with `num_layers`; for a `Sequential`, one whose names begin with the names of the layers.

    Raises:
        ValueError: other names or shapes, or a layer that PyTorch has not.
    """
    params: dict[str, Any] = {}
    remaining = dict(state_dict)
    for part in parts(layer):
        names = {name: part.prefix + name + part.suffix for name in torch_shapes(part.module)}
        arrays = {name: remaining.pop(full) for name, full in names.items() if full in remaining}
        if len(arrays) < len(names):
            missing = next(full for name, full in names.items() if name not in arrays)
            raise ValueError(f"expected {missing} in the state_dict; got {', '.join(state_dict) or 'nothing'}.")
        put(params, part.path, part_from_torch(part.module, arrays))
    if remaining:
        raise ValueError(f"expected no more arrays for {type(layer).__name__}; got {', '.join(remaining)} besides.")
    return params


def to_torch(layer: Any, params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The `state_dict` of the same layer of PyTorch, as arrays; names as for `from_torch`.

    Raises:
        ValueError: PyTorch has no such layer.
    """
    return {name: array for part in arrays_of_parts(layer, params) for name, array in part.items()}


def arrays_of_parts(layer: Any, params: Mapping[str, Any]) -> list[dict[str, np.ndarray]]:
    """What `to_torch` gives, for each part by itself."""
    return [
        {
            part.prefix + name + part.suffix: np.ascontiguousarray(array)
            for name, array in part_to_torch(part.module, get(params, part.path)).items()
        }
        for part in parts(layer)
    ]


def get(params: Any, path: tuple[str, ...]) -> Any:
    """What stands at a path of a tree.

    Raises:
        ValueError: nothing does.
    """
    for number, name in enumerate(path):
        if name not in params:
            raise ValueError(f"expected parameters of {'/'.join(path[: number + 1])}; got only {', '.join(params)}.")
        params = params[name]
    return params


def put(params: dict[str, Any], path: tuple[str, ...], value: Mapping[str, Any]) -> None:
    """Set the parameters that stand at a path of a tree."""
    for name in path:
        params = params.setdefault(name, {})
    params.update(value)
