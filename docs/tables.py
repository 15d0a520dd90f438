"""Write what the code says of itself into docs/reference.md: equations, options, shapes of parameters.

    python docs/tables.py            # write
    python docs/tables.py --check    # exit status 1 if the page is not up to date

Each table stands between two comments, `<!-- KIND NAME: begin -->` and `<!-- KIND NAME: end -->`.
"""

import argparse
import dataclasses
import inspect
import re
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from docstring_parser import parse_from_object
from flax import linen as nn

import rnnjax
from rnnjax.cells import base, linear, simple
from rnnjax.layers.embedding import centred_uniform
from rnnjax.layers.recurrent import LayerOptions
from rnnjax.models.summary import count_parameters

PAGE = Path(__file__).resolve().parent / "reference.md"
MARKED = re.compile(r"(<!-- (\w+) (\w+): begin -->\n).*?(<!-- \2 \3: end -->)", re.DOTALL)

FORMS: Mapping[str, tuple[str, ...]] = {
    "SimpleRNNCell": ("", "use_bias=False", "layer_norm=True"),
    "IRNNCell": ("", "use_bias=False", "layer_norm=True"),
    "IndRNNCell": ("", "use_bias=False", "layer_norm=True"),
    "LSTMCell": (
        "",
        "use_bias=False",
        "peephole=True",
        "input_gate=False, peephole=True",
        "forget_gate=False, peephole=True",
        "output_gate=False, peephole=True",
        "coupled_gates=True, peephole=True",
        "full_gate_recurrence=True, peephole=True",
        "proj_size=P",
        "layer_norm=True",
    ),
    "GRUCell": ("", "reset_after=False", "use_bias=False", "layer_norm=True"),
    "MGUCell": ("", "use_bias=False", "layer_norm=True"),
    "ConvLSTMCell": (
        "kernel_size=(K,)",
        "kernel_size=(K, L)",
        "kernel_size=(K, L, M)",
        "kernel_size=(K, L), use_bias=False",
    ),
    "MinGRUCell": ("", "use_bias=False"),
    "MinLSTMCell": ("", "use_bias=False"),
    "RGLRUCell": ("", "use_bias=False"),
}
"""Options that decide which parameters a cell has, and of which shape."""

SIZES = {"H": 11, "D": 13, "P": 17, "K": 19, "L": 23, "M": 29}
"""Of each letter, for finding which letters a shape is made of: primes above any number of blocks."""
COUNTED = {"H": 64, "D": 16, "P": 32, "K": 3, "L": 3, "M": 3}
"""For counting parameters."""

NAMES: Mapping[int, str] = {
    id(base.GLOROT): "glorot_uniform()",
    id(base.ORTHOGONAL): "orthogonal()",
    id(nn.initializers.zeros): "zeros",
    id(simple.IDENTITY): "identity_init()",
    id(simple.UNIFORM): "uniform(1.0)",
    id(linear.LONG_DECAY): "decay_between(0.9, 0.999)",
    id(centred_uniform): "uniform between -0.05 and 0.05",
    id(rnnjax.AttentionPooling.query_init): "normal(0.05)",
}
"""Of defaults that do not know their name."""


def main() -> None:
    """Fill the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    page = PAGE.read_text(encoding="utf-8")
    filled = fill(page)
    if check:
        sys.exit(page != filled)
    PAGE.write_text(filled, encoding="utf-8")


def fill(page: str) -> str:
    """The page, with all that this script writes written anew."""

    def write(match: re.Match[str]) -> str:
        begin, kind, name, end = match.groups()
        return f"{begin}{KINDS[kind](name)}\n{end}" if kind in KINDS else match[0]

    return MARKED.sub(write, page)


def text(name: str) -> str:
    """The docstring of a public name, equations indented and so shown as they are."""
    return inspect.getdoc(getattr(rnnjax, name)) or ""


def options(name: str) -> str:
    """A table of the options that a class adds to those of its bases, or whose default it changes."""
    cls = OPTIONS[name]
    described = {entry.arg_name: entry.description or "" for entry in parse_from_object(cls).params}
    lines = ["| option | default | meaning |", "|---|---|---|"]
    for field in dataclasses.fields(cls):
        if field.name not in inspect.get_annotations(cls) or field.name in ("parent", "name"):
            continue
        default = "required" if field.default is dataclasses.MISSING else f"`{show(field.default)}`"
        meaning = described.get(field.name) or PLAIN[field.name]
        lines.append(f"| `{field.name}` | {default} | {' '.join(meaning.split()).replace('|', chr(92) + '|')} |")
    return "\n".join(lines)


def show(value: Any) -> str:
    """A default, as a user would write it."""
    if id(value) in NAMES:
        return NAMES[id(value)]
    if value is jnp.float32:
        return "jnp.float32"
    return f'"{value}"' if isinstance(value, str) else getattr(value, "__name__", repr(value))


def parameters(name: str) -> str:
    """A table of the parameters of a cell in each of its forms, as `cell.init` makes them."""
    lines = [
        f"| `{name}(H)` with | parameters | numbers at {sizes_of(name, COUNTED)} |",
        "|---|---|---|",
    ]
    for form in FORMS[name]:
        made = ", ".join(f"`{key} [{letters(leaf.shape)}]`" for key, leaf in init(name, form, SIZES).items())
        lines.append(
            f"| {f'`{form}`' if form else 'defaults'} | {made} | {count_parameters(init(name, form, COUNTED)):,} |"
        )
    return "\n".join(lines)


def init(name: str, form: str, sizes: Mapping[str, int]) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of a cell's parameters; letters in `form` are looked up in `sizes`."""
    cell = eval(f"cell({sizes['H']}, {form})", {"cell": getattr(rnnjax, name)}, dict(sizes))
    width = sizes["H"] if name == "RGLRUCell" else sizes["D"]
    x = jax.ShapeDtypeStruct((1, *(4,) * (cell.input_rank - 1), width), jnp.float32)
    state = jax.eval_shape(partial(cell.initial_state, (1, *(4,) * (cell.input_rank - 1))))
    made = jax.eval_shape(cell.init, jax.random.key(0), state, x)["params"]
    first = [key for key in ("kernel", "recurrent_kernel", "bias") if key in made]
    return {key: made[key] for key in dict.fromkeys([*first, *made])}


def letters(shape: tuple[int, ...]) -> str:
    """`(13, 44)` as `D, 4H`."""
    found = []
    for size in shape:
        letter = next((key for key, value in SIZES.items() if size % value == 0), "")
        times = size // SIZES.get(letter, 1)
        found.append(f"{times}{letter}" if times > 1 else letter)
    return ", ".join(found)


def sizes_of(name: str, sizes: Mapping[str, int]) -> str:
    """The letters that the forms of a cell have."""
    used = {"H", *("D" if name != "RGLRUCell" else "")} | set(re.findall(r"\b[A-Z]\b", " ".join(FORMS[name])))
    return ", ".join(f"{letter} = {size}" for letter, size in sizes.items() if letter in used)


OPTIONS: Mapping[str, type] = {
    cls.__name__: cls
    for cls in (
        base.CellOptions,
        LayerOptions,
        *(getattr(rnnjax, name).cell_options for name in ("LSTM", "GRU", "MGU", "ConvLSTM", "SimpleRNN")),
        *(getattr(rnnjax, name).cell_options for name in ("IRNN", "IndRNN", "MinGRU", "RGLRU")),
        rnnjax.Bidirectional,
        rnnjax.Stack,
        rnnjax.Embedding,
        rnnjax.VariationalDropout,
        rnnjax.AttentionPooling,
    )
}
"""Classes with options of their own."""
PLAIN = {
    "use_bias": "Whether there is a bias.",
    "kernel_init": "Initializer of `kernel`.",
    "recurrent_kernel_init": "Initializer of `recurrent_kernel`.",
    "bias_init": "Initializer of biases.",
    "query_init": "Initializer of `query`.",
    "embedding_init": "Initializer of the table.",
    "param_dtype": "Type of the parameters.",
    "layers": "The layers, the lowest first.",
    "activation_fn": "As of a simple RNN.",
}
"""Meanings of options that say enough by their name to have no docstring."""
KINDS = {"text": text, "options": options, "parameters": parameters}


if __name__ == "__main__":
    main()
