"""Flax's own cells, where their equations are ours: the same weights give the same outputs, states and gradients.

Flax's `LSTMCell` is ours without peepholes, its `GRUCell` ours with `reset_after` and only the candidate's recurrent
bias, and its `SimpleCell` ours. Where Flax differs by design: it runs on through padding, so that its outputs there are
not zeros, and its carry of an LSTM is (c, h).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from comparing import (
    TUTORIAL,
    TUTORIAL_UNITS,
    D,
    H,
    Problem,
    Results,
    T,
    assert_same,
    make_ours,
    make_problem,
    random_like,
    run_ours,
)
from flax import linen as nn
from oracles import CASES

from rnnjax.cells import gru, lstm

LENGTHS = np.asarray([6, 2, 4, 1])
MASK = np.arange(T)[None, :] < LENGTHS[:, None]
FORMS = [("simple", "one"), ("lstm", "one"), ("gru", "one"), ("lstm", "both"), ("gru", "both"), ("lstm", "two")]
GRID = [(cell, form, "padded") for cell, form in FORMS]
GRID += [(cell, "one", variation) for cell in ("simple", "lstm", "gru") for variation in ("plain", "reverse")]


def blocks(weights: Any, side: str, letters: str, name: str) -> Any:
    """The arrays of one side, "i" for inputs or "h" for the previous output, of the gates that have these letters."""
    return jnp.concatenate([weights[side + letter][name] for letter in letters], axis=-1)


def lstm_of(weights):
    letters = "".join({"input": "i", "forget": "f", "candidate": "g", "output": "o"}[gate] for gate in lstm.GATES)
    return {
        "kernel": blocks(weights, "i", letters, "kernel"),
        "recurrent_kernel": blocks(weights, "h", letters, "kernel"),
        "bias": blocks(weights, "h", letters, "bias"),
    }


def gru_of(weights):
    letters = "".join({"update": "z", "reset": "r", "candidate": "n"}[gate] for gate in gru.GATES)
    recurrent = {letter: weights["h" + letter].get("bias", jnp.zeros(H)) for letter in letters}
    return {
        "kernel": blocks(weights, "i", letters, "kernel"),
        "recurrent_kernel": blocks(weights, "h", letters, "kernel"),
        "bias": blocks(weights, "i", letters, "bias"),
        "recurrent_bias": jnp.concatenate([recurrent[letter] for letter in letters]),
    }


def simple_of(weights):
    return {
        "kernel": weights["i"]["kernel"],
        "recurrent_kernel": weights["h"]["kernel"],
        "bias": weights["i"]["bias"],
    }


CELLS = {"lstm": (nn.LSTMCell, lstm_of), "gru": (nn.GRUCell, gru_of), "simple": (nn.SimpleCell, simple_of)}


class Peer:
    """Flax's layers in one of the forms of `make_ours`. Weights are a list with a dict for each cell."""

    def __init__(self, cell: str, form: str, dtype: str, reverse: bool = False, features: int = H) -> None:
        make, self.convert_cell = CELLS[cell]
        options = {"reverse": reverse, "keep_order": True}
        rnns = [nn.RNN(make(features, param_dtype=jnp.dtype(dtype)), **options) for _ in range(2)]
        self.form, self.is_lstm = form, cell == "lstm"
        self.layers = {"one": rnns[:1], "two": rnns, "both": [nn.Bidirectional(*rnns)]}[form]

    def make_weights(self, dtype: str, num_inputs: int = D) -> list[Any]:
        weights, width = [], num_inputs
        for layer in self.layers:
            shapes = jax.eval_shape(layer.init, jax.random.key(0), jnp.zeros((1, 1, width), dtype))["params"]
            weights += [shapes[name]["cell"] for name in ("forward_rnn", "backward_rnn") if name in shapes]
            weights += [shapes["cell"]] if "cell" in shapes else []
            width = H
        return random_like(1, weights)

    def convert(self, layer: Any, weights: list[Any]) -> Any:
        cells = [{"recurrence": self.convert_cell(cell)} for cell in weights]
        names = {"one": None, "two": ("layer_0", "layer_1"), "both": ("forward", "backward")}[self.form]
        return dict(zip(names, cells, strict=True)) if names else cells[0]

    def run(self, weights: list[Any], problem: Problem, lengths: np.ndarray | None) -> Results:
        num_parts = 2 if self.is_lstm else 1

        def loss(x: Any, weights: Any, initial: Any) -> Any:
            carries = [initial[i : i + num_parts] for i in range(0, len(initial), num_parts)] if initial else []
            carries = [tuple(reversed(carry)) if self.is_lstm else carry[0] for carry in carries]
            options = {"seq_lengths": lengths, "return_carry": True}
            if self.form == "both":
                names = ("forward_rnn", "backward_rnn")
                params = {name: {"cell": cell} for name, cell in zip(names, weights, strict=True)}
                carry = tuple(carries) or None
                finals, y = self.layers[0].apply({"params": params}, x, initial_carry=carry, **options)
            else:
                finals, y = [], x
                for number, (layer, cell) in enumerate(zip(self.layers, weights, strict=True)):
                    carry = carries[number] if carries else None
                    final, y = layer.apply({"params": {"cell": cell}}, y, initial_carry=carry, **options)
                    finals.append(final)
            states = [part for final in finals for part in (reversed(final) if self.is_lstm else [final])]
            total = jnp.sum(y * problem.output_weights)
            total += sum(jnp.sum(s * w) for s, w in zip(states, problem.state_weights, strict=True))
            return total, (y, states)

        differentiate = jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))
        gradients, (y, states) = differentiate(problem.x, weights, problem.initial)
        return Results(y, states, *gradients)


@pytest.mark.parametrize(("cell", "form", "variation"), GRID)
def test_float64(cell, form, variation, x64):
    lengths, mask = (None, None) if variation == "plain" else (LENGTHS, MASK)
    reverse = variation == "reverse"
    peer = Peer(cell, form, "float64", reverse)
    weights = peer.make_weights("float64")
    problem = make_problem(make_ours(cell, form), mask=mask, has_initial=variation != "plain")
    theirs = peer.run(weights, problem, lengths)
    for implementation in CASES[cell].implementations if variation == "padded" else ["auto"]:
        ours = make_ours(cell, form, implementation=implementation, reverse=reverse)
        assert_same(run_ours(ours, peer.convert, weights, problem, lengths=lengths), theirs, mask)


@pytest.mark.parametrize("cell", ["simple", "lstm", "gru"])
def test_float32(cell):
    peer = Peer(cell, "one", "float32")
    weights = peer.make_weights("float32")
    ours = make_ours(cell, "one")
    problem = make_problem(ours, dtype="float32", mask=MASK, has_initial=True)
    theirs = peer.run(weights, problem, LENGTHS)
    assert_same(run_ours(ours, peer.convert, weights, problem, lengths=LENGTHS), theirs, MASK)
    padding = np.asarray(theirs.outputs)[~MASK]
    assert np.all(padding != 0)  # which is why only the real steps were compared


def test_float32_at_the_sizes_of_the_tutorial():
    lengths = np.random.default_rng(0).integers(1, TUTORIAL[1], TUTORIAL[0], endpoint=True)
    mask = np.arange(TUTORIAL[1])[None, :] < lengths[:, None]
    peer = Peer("lstm", "one", "float32", features=TUTORIAL_UNITS)
    weights = peer.make_weights("float32", TUTORIAL[2])
    ours = make_ours("lstm", "one", TUTORIAL_UNITS)
    problem = make_problem(ours, TUTORIAL, dtype="float32", mask=mask)
    theirs = peer.run(weights, problem, lengths)
    assert_same(run_ours(ours, peer.convert, weights, problem, lengths=lengths), theirs, mask)
