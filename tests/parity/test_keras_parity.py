"""Keras 3 with the same weights gives the same outputs, final states and gradients.

Where Keras differs by design: at masked steps it repeats its last output unless `zero_output_for_mask`, and with
`go_backwards` it gives the outputs in the order of its run, where ours stay aligned with the inputs.
"""

from typing import Any

import jax
import numpy as np
import pytest
from comparing import (
    TUTORIAL,
    TUTORIAL_UNITS,
    H,
    Problem,
    Results,
    assert_same,
    make_ours,
    make_problem,
    random_like,
    run_ours,
)
from frameworks import import_keras, import_torch
from oracles import CASES

from rnnjax.interop import from_keras

torch = import_torch()
keras = import_keras()

# Keras's own, upon PyTorch: its variables do not know of the `copy` that NumPy 2 asks for.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

CELLS: dict[str, tuple[str, dict[str, Any]]] = {
    "simple": ("SimpleRNN", {}),
    "simple_relu": ("SimpleRNN", {"activation": "relu"}),
    "lstm": ("LSTM", {}),
    "gru": ("GRU", {}),
    "gru_before": ("GRU", {"reset_after": False}),
}
FORMS = [*((cell, "one") for cell in CELLS), ("lstm", "both"), ("gru", "both"), ("lstm", "two")]
GRID = [(cell, form, "masked") for cell, form in FORMS]
GRID += [(cell, "one", variation) for cell in CELLS for variation in ("plain", "reverse")]
MASK = np.asarray([[1, 1, 1, 1, 1, 1], [0, 1, 1, 0, 1, 0], [0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]], bool)


@pytest.fixture(autouse=True)
def _no_rounding(monkeypatch):
    """Let Keras multiply float64 in float64: but for TensorFlow it takes float32 for the result of 64-bit types."""
    from keras.src.backend.common import dtypes

    monkeypatch.setitem(dtypes.BIT64_TO_BIT32_DTYPE, "float64", "float64")


def make_keras(cell: str, form: str, dtype: str, features: int = H, reverse: bool = False, **options: Any) -> list[Any]:
    """Layers one upon another."""
    name, own = CELLS[cell]
    settings = {"return_sequences": True, "return_state": True, "go_backwards": reverse, "dtype": dtype}
    settings |= {**own, **options}
    layers = [getattr(keras.layers, name)(features, **settings) for _ in range(2 if form == "two" else 1)]
    return [keras.layers.Bidirectional(layers[0], dtype=dtype)] if form == "both" else layers


def run_keras(layers: list[Any], problem: Problem, mask: np.ndarray | None) -> tuple[list[np.ndarray], Results]:
    """Give the layers random weights; run and differentiate them."""
    x = torch.tensor(problem.x, requires_grad=True)
    initial = [torch.tensor(state, requires_grad=True) for state in problem.initial or []]
    y, states, count = x, [], len(problem.state_weights) // len(layers)
    for number, layer in enumerate(layers):
        layer.build(tuple(y.shape))
        layer.set_weights(random_like(number, layer.get_weights()))
        own = initial[count * number : count * (number + 1)]
        y, *final = layer(y, mask=None if mask is None else torch.tensor(mask), initial_state=own or None)
        states += final
        if getattr(layer, "go_backwards", False):
            y = y.flip(1)
    loss = (y * torch.tensor(problem.output_weights)).sum()
    loss = loss + sum((s * torch.tensor(w)).sum() for s, w in zip(states, problem.state_weights, strict=True))
    variables = [variable.value for layer in layers for variable in layer.trainable_weights]
    d_x, *rest = (g.numpy() for g in torch.autograd.grad(loss, [x, *variables, *initial]))
    d_weights, d_initial = rest[: len(variables)], rest[len(variables) :]
    weights = [array for layer in layers for array in layer.get_weights()]
    states = [state.detach().numpy() for state in states]
    return weights, Results(y.detach().numpy(), states, d_x, d_weights, d_initial or None)


@pytest.mark.parametrize(("cell", "form", "variation"), GRID)
def test_float64(cell, form, variation, x64):
    mask = None if variation == "plain" else MASK
    options = {"reverse": variation == "reverse"}
    problem = make_problem(make_ours(cell, form), mask=mask, has_initial=variation != "plain")
    weights, theirs = run_keras(make_keras(cell, form, "float64", **options), problem, mask)
    for implementation in CASES[cell].implementations if variation == "masked" else ["auto"]:
        ours = make_ours(cell, form, implementation=implementation, **options)
        assert_same(run_ours(ours, from_keras, weights, problem, mask=mask), theirs, mask)


@pytest.mark.parametrize("cell", CELLS)
def test_float32(cell):
    ours = make_ours(cell, "one")
    problem = make_problem(ours, dtype="float32", mask=MASK, has_initial=True)
    weights, theirs = run_keras(make_keras(cell, "one", "float32"), problem, MASK)
    assert_same(run_ours(ours, from_keras, weights, problem, mask=MASK), theirs, MASK)


def test_float32_at_the_sizes_of_the_tutorial():
    """Compiled as users compile it: over 200 steps, how products are summed moves single outputs by as much as 1e-5.

    Keras's own are up to 1.4e-5 from those in float64, and so are ours.
    """
    jax.config.update("jax_disable_most_optimizations", False)  # the fixture that set it ends the same way
    lengths = np.random.default_rng(0).integers(0, TUTORIAL[1], TUTORIAL[0], endpoint=True)
    mask = np.arange(TUTORIAL[1])[None, :] < lengths[:, None]
    ours = make_ours("lstm", "one", TUTORIAL_UNITS)
    problem = make_problem(ours, TUTORIAL, dtype="float32", mask=mask)
    weights, theirs = run_keras(make_keras("lstm", "one", "float32", TUTORIAL_UNITS), problem, mask)
    assert_same(run_ours(ours, from_keras, weights, problem, lengths=lengths), theirs, mask)


@pytest.mark.parametrize("form", ["one", "both"])
def test_the_output_of_the_last_step(form):
    """Of each direction; Keras's run backwards ends at the first step, as ours."""
    ours = make_ours("gru", form, return_sequences=False)
    problem = make_problem(ours, dtype="float32", mask=MASK)
    (layer,) = make_keras("gru", form, "float32", return_sequences=False, return_state=False)
    layer.build(problem.x.shape)
    layer.set_weights(random_like(0, layer.get_weights()))
    want = layer(problem.x, mask=torch.tensor(MASK)).detach().numpy()
    got = ours.apply({"params": from_keras(ours, layer.get_weights())}, problem.x, mask=MASK)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)


def test_outputs_at_masked_steps():
    """Keras repeats its last output, zeros at first, or with `zero_output_for_mask` gives zeros. Ours are zeros."""
    ours = make_ours("lstm", "one")
    problem = make_problem(ours, dtype="float32", mask=MASK)
    outputs = []
    for zeros in (False, True):
        layers = make_keras("lstm", "one", "float32", zero_output_for_mask=zeros)
        weights, theirs = run_keras(layers, problem, MASK)
        outputs.append(theirs.outputs)
    repeated, zeroed = outputs
    got = run_ours(ours, from_keras, weights, problem, mask=MASK).outputs
    assert np.all(np.asarray(got)[~MASK] == 0)
    np.testing.assert_allclose(got, zeroed, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(repeated[1, [3, 5]], repeated[1, [2, 4]])
    assert np.all(repeated[1, 0] == 0)
    assert np.all(repeated[1, 3] != 0)
