"""A table of a model's layers, with real output shapes and numbers of parameters."""

import math
from typing import Any

import jax
from flax import linen as nn


def count_parameters(params: Any) -> int:
    """How many numbers a tree of parameters holds."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def summary(model: nn.Module, *inputs: Any, **keywords: Any) -> str:
    """Describe the direct children of `model` as a table.

    Args:
        model: a Flax module, with or without parameters yet.
        inputs: arguments of its call, as arrays or `jax.ShapeDtypeStruct`; nothing is computed.
        keywords: keyword arguments of its call, of which arrays may be `jax.ShapeDtypeStruct` too.

    Returns:
        Lines of layer, output shape and number of parameters, and the total.
    """

    called: list[str] = []  # children in the order of their calls, which a tree of results does not keep

    def is_child_call(module: nn.Module, method: str) -> bool:
        is_call = method == "__call__" and len(module.path) == 1
        if is_call:
            called.append(module.path[0])
        return is_call

    def run(inputs: Any, arrays: dict[str, Any]) -> tuple[Any, Any]:
        key = jax.random.key(0)
        options = {**keywords, **arrays, "capture_intermediates": is_child_call, "mutable": True}
        return model.init_with_output({"params": key, "dropout": key}, *inputs, **options)

    arrays = {name: value for name, value in keywords.items() if hasattr(value, "shape")}
    output, variables = jax.eval_shape(run, inputs, arrays)
    calls = variables.get("intermediates", {})
    counts = {name: count_parameters(tree) for name, tree in variables.get("params", {}).items()}
    rows = [
        (name, _shape(calls[name]["__call__"][0]) if name in called else "", f"{counts.get(name, 0):,}")
        for name in dict.fromkeys([*called, *counts])
    ]
    rows = [("layer", "output shape", "parameters"), *rows]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}" for a, b, c in rows]
    rule = "-" * len(lines[0])
    return "\n".join(
        [
            f"{type(model).__name__} -> {_shape(output)}",
            rule,
            lines[0],
            rule,
            *lines[1:],
            rule,
            f"{sum(counts.values()):,} parameters",
        ]
    )


def _shape(value: Any) -> str:
    """Shapes of a value's arrays: `(32, 200, 64)`, or several, or nothing."""
    return ", ".join(str(leaf.shape) for leaf in jax.tree.leaves(value))
