"""Where Keras 3 and PyTorch put weights: the order of the gates, and the biases. Written down here once.

                  ours                     Keras                    PyTorch
    cell          kernel [D, G*H]          kernel [D, G*H]          weight_ih [G*H, D]
                  recurrent_kernel         recurrent_kernel         weight_hh [G*H, H]
                  [H, G*H]                 [H, G*H]
                  bias [G*H]               bias [G*H]               bias_ih [G*H], bias_hh [G*H], of which only the sum
                                                                    counts, but in a GRU
    GRU with      bias [3*H],              bias [2, 3*H]            bias_ih [3*H], bias_hh [3*H]
    reset_after   recurrent_bias [3*H]
    ConvLSTM      kernel [*K, C, 4*H],     the same                 none
                  recurrent_kernel
                  [*K, H, 4*H]
    dense         kernel [D, F], bias [F]  kernel [D, F], bias [F]  weight [F, D], bias [F]
    embedding     embedding [V, F]         embeddings [V, F]        weight [V, F]

Sources: the `call` methods of `SimpleRNNCell`, `LSTMCell` and `GRUCell` in Keras 3; the documentation of `nn.RNN`,
`nn.LSTM` and `nn.GRU` in PyTorch. A *part* is a cell, an `nn.Dense` or an `Embedding`: what has weights of its own.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flax import linen as nn

from rnnjax.cells import gru, lstm
from rnnjax.cells.base import Cell
from rnnjax.cells.conv_lstm import ConvLSTMCell
from rnnjax.cells.gru import GRUCell
from rnnjax.cells.lstm import LSTMCell
from rnnjax.cells.simple import SimpleRNNCell

Gates = tuple[str, ...]
Shapes = dict[str, tuple[int | str, ...]]
"""Of each array; a letter stands for any width."""

OURS: Mapping[type[Cell], Gates] = {
    SimpleRNNCell: ("candidate",),
    LSTMCell: lstm.GATES,
    GRUCell: gru.GATES,
    ConvLSTMCell: lstm.GATES,
}
KERAS: Mapping[type[Cell], Gates] = {
    SimpleRNNCell: ("candidate",),
    LSTMCell: ("input", "forget", "candidate", "output"),
    GRUCell: ("update", "reset", "candidate"),
    ConvLSTMCell: ("input", "forget", "candidate", "output"),
}
TORCH: Mapping[type[Cell], Gates] = {
    SimpleRNNCell: ("candidate",),
    LSTMCell: ("input", "forget", "candidate", "output"),
    GRUCell: ("reset", "update", "candidate"),
}

KNOWN_OPTIONS = {
    "features", "use_bias", "reset_after", "dropout_rate", "recurrent_dropout_rate",
    "kernel_init", "recurrent_kernel_init", "bias_init", "forget_bias", "update_bias",
    "kernel_size", "strides", "padding", "kernel_dilation", "weight_drop_rate",
    "dtype", "param_dtype", "matmul_dtype", "deterministic", "parent", "name",
}  # fmt: skip
"""Options of a cell that others have too, or that change nothing but rounding in what it computes from its weights."""


def reorder(array: Any, source: Gates, target: Gates) -> Any:
    """Bring the blocks of the last axis, one a gate, from one order into another."""
    width = array.shape[-1] // len(source)
    starts = [source.index(gate) * width for gate in target]
    return array[..., np.concatenate([np.arange(start, start + width) for start in starts])]


def part_from_keras(part: Any, weights: Sequence[Any]) -> dict[str, Any]:
    """Our parameters from the arrays of a Keras cell or layer, in the order of its `get_weights()`.

    Raises:
        ValueError: another number of arrays, or other shapes.
    """
    shapes = keras_shapes(part)
    if len(weights) != len(shapes):
        raise ValueError(f"{describe(part)} expects Keras's {', '.join(shapes)}; got {len(weights)} arrays.")
    arrays = dict(zip(shapes, weights, strict=True))
    _check(part, arrays, shapes)
    if not isinstance(part, Cell):
        return arrays
    if _has_two_biases(part):
        arrays["bias"], arrays["recurrent_bias"] = arrays["bias"]
    return {name: reorder(array, KERAS[type(part)], OURS[type(part)]) for name, array in arrays.items()}


def part_to_keras(part: Any, params: Mapping[str, Any]) -> list[np.ndarray]:
    """What `set_weights()` of a Keras cell or layer takes."""
    arrays = {name: np.asarray(array) for name, array in params.items()}
    shapes = keras_shapes(part)
    if isinstance(part, Cell):
        arrays = {name: reorder(array, OURS[type(part)], KERAS[type(part)]) for name, array in arrays.items()}
        if _has_two_biases(part):
            arrays["bias"] = np.stack([arrays["bias"], arrays["recurrent_bias"]])
    return [arrays[name] for name in shapes]


def part_from_torch(part: Any, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Our parameters from arrays with the names that PyTorch gives to those of one layer in one direction.

    Raises:
        ValueError: other names or shapes.
    """
    shapes = torch_shapes(part)
    if arrays.keys() != shapes.keys():
        came = ", ".join(arrays) or "none of them"
        raise ValueError(f"{describe(part)} expects PyTorch's {', '.join(shapes)}; got {came}.")
    _check(part, arrays, shapes)
    if isinstance(part, nn.Embed):
        return {"embedding": arrays["weight"]}
    if isinstance(part, nn.Dense):
        return {"kernel": arrays["weight"].T} | ({"bias": arrays["bias"]} if part.use_bias else {})
    params = {"kernel": arrays["weight_ih"].T, "recurrent_kernel": arrays["weight_hh"].T}
    if _has_two_biases(part):
        params |= {"bias": arrays["bias_ih"], "recurrent_bias": arrays["bias_hh"]}
    elif part.use_bias:
        params["bias"] = arrays["bias_ih"] + arrays["bias_hh"]
    return {name: reorder(array, TORCH[type(part)], OURS[type(part)]) for name, array in params.items()}


def part_to_torch(part: Any, params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """PyTorch's arrays. Of two biases of which only the sum counts, the second is zero."""
    arrays = {name: np.asarray(array) for name, array in params.items()}
    shapes = torch_shapes(part)
    if isinstance(part, nn.Embed):
        ordered = [arrays["embedding"]]
    elif isinstance(part, nn.Dense):
        ordered = [arrays["kernel"].T, *([arrays["bias"]] if part.use_bias else [])]
    else:
        arrays = {name: reorder(array, OURS[type(part)], TORCH[type(part)]) for name, array in arrays.items()}
        ordered = [arrays["kernel"].T, arrays["recurrent_kernel"].T]
        if part.use_bias:
            ordered += [arrays["bias"], arrays.get("recurrent_bias", np.zeros_like(arrays["bias"]))]
    return dict(zip(shapes, ordered, strict=True))


def keras_shapes(part: Any) -> Shapes:
    """Names and shapes of a part's arrays in Keras, in its order.

    Raises:
        ValueError: Keras has no such cell.
    """
    if not isinstance(part, Cell):
        return _plain_shapes(part)
    _check_counterpart("Keras", KERAS, part)
    columns = part.num_blocks * part.features
    window = tuple(part.kernel_size) if isinstance(part, ConvLSTMCell) else ()
    shapes: Shapes = {"kernel": (*window, "D", columns), "recurrent_kernel": (*window, part.features, columns)}
    if part.use_bias:
        shapes["bias"] = (2, columns) if _has_two_biases(part) else (columns,)
    return shapes


def torch_shapes(part: Any) -> Shapes:
    """Names and shapes of a part's arrays in PyTorch, in its order.

    Raises:
        ValueError: PyTorch has no such cell.
    """
    if not isinstance(part, Cell):
        ours = _plain_shapes(part)
        shapes: Shapes = {"weight": next(iter(ours.values()))[:: 1 if isinstance(part, nn.Embed) else -1]}
        return shapes | {name: shape for name, shape in ours.items() if name == "bias"}
    _check_counterpart("PyTorch", TORCH, part)
    if isinstance(part, GRUCell) and not part.reset_after:
        raise ValueError(
            f"{describe(part)} has no counterpart in PyTorch, whose GRU has the reset gate after the product."
        )
    columns = part.num_blocks * part.features
    shapes = {"weight_ih": (columns, "D"), "weight_hh": (columns, part.features)}
    return shapes | ({"bias_ih": (columns,), "bias_hh": (columns,)} if part.use_bias else {})


def _plain_shapes(part: Any) -> Shapes:
    """Our own, of what has no gates."""
    if isinstance(part, nn.Embed):
        return {"embedding": (part.num_embeddings, part.features)}
    shapes: Shapes = {"kernel": ("D", part.features)}
    return shapes | ({"bias": (part.features,)} if part.use_bias else {})


def _has_two_biases(part: Any) -> bool:
    """Whether the recurrent product has a bias of its own, which cannot be added to that of the inputs."""
    return isinstance(part, GRUCell) and part.use_bias and part.reset_after


def _check_counterpart(framework: str, layout: Mapping[type[Cell], Gates], cell: Cell) -> None:
    """Raise ValueError where a framework has no such cell, or not with these options."""
    if type(cell) not in layout or _options_of_its_own(cell):
        raise ValueError(
            f"{describe(cell)} has no counterpart in {framework} that could be converted: "
            "expected a simple RNN, LSTM or GRU cell without such options."
        )


def _options_of_its_own(cell: Cell) -> list[str]:
    """Options that change a cell's equations and are known to us alone; also those that are yet to come."""
    known = KNOWN_OPTIONS | ({"activation_fn"} if isinstance(cell, SimpleRNNCell) else set())
    fields = [field for field in dataclasses.fields(cell) if field.name not in known]
    return [field.name for field in fields if getattr(cell, field.name) != field.default]


def _check(part: Any, arrays: Mapping[str, Any], shapes: Shapes) -> None:
    """Raise ValueError where an array has another shape."""
    for name, shape in shapes.items():
        came = arrays[name].shape
        if len(came) != len(shape) or any(isinstance(n, int) and n != m for n, m in zip(shape, came, strict=True)):
            expected = "(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"
            raise ValueError(f"{describe(part)} expects {name} of shape {expected}; got {came}.")


def describe(part: Any) -> str:
    """A part in a message: `LSTMCell(64)`, with the options that decide whether and how it is converted."""
    names = [name for name in ("use_bias", "reset_after") if not getattr(part, name, True)]
    names += _options_of_its_own(part) if isinstance(part, Cell) else []
    options = [f"{name}={getattr(part, name)!r}" for name in names]
    return f"{type(part).__name__}({', '.join([str(part.features), *options])})"
