"""PyTorch with the same weights gives the same outputs, final states and gradients.

Where PyTorch differs by design: padding is known to it only through packed sequences, which hold right padding, no
other masks and no length of 0; and it runs backwards only as one half of a bidirectional layer.
"""

from typing import Any

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
from frameworks import import_torch
from oracles import CASES

from rnnjax.interop import from_torch

torch = import_torch()

CELLS: dict[str, tuple[str, dict[str, Any]]] = {
    "simple": ("RNN", {}),
    "simple_relu": ("RNN", {"nonlinearity": "relu"}),
    "lstm": ("LSTM", {}),
    "gru": ("GRU", {}),
}
FORMS = [*((cell, "one") for cell in CELLS), ("lstm", "both"), ("gru", "both"), ("lstm", "two")]
GRID = [(cell, form, "padded") for cell, form in FORMS]
GRID += [(cell, "one", variation) for cell in CELLS for variation in ("plain", "reverse")]
LENGTHS = np.asarray([6, 2, 4, 1])


def real_steps(lengths: np.ndarray, num_steps: int) -> np.ndarray:
    return np.arange(num_steps)[None, :] < lengths[:, None]


def make_torch(cell: str, form: str, dtype: str, num_inputs: int = D, features: int = H) -> Any:
    name, own = CELLS[cell]
    options = {"bidirectional": form == "both", "num_layers": 2 if form == "two" else 1, **own}
    return getattr(torch.nn, name)(num_inputs, features, batch_first=True, dtype=getattr(torch, dtype), **options)


def run_torch(
    layer: Any, problem: Problem, lengths: np.ndarray | None, reverse: bool = False
) -> tuple[dict[str, np.ndarray], Results]:
    """Give a layer random weights; run it, `reverse` on each example's real steps the other way, and differentiate."""
    weights = {name: value.detach().numpy() for name, value in layer.state_dict().items()}
    weights = random_like(1, weights)
    layer.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    x = torch.tensor(problem.x, requires_grad=True)
    initial = [torch.tensor(state, requires_grad=True) for state in problem.initial or []]
    num_parts = 2 if isinstance(layer, torch.nn.LSTM) else 1  # h and c
    state = None
    if initial:
        stacked = [torch.stack(initial[part::num_parts]) for part in range(num_parts)]
        state = tuple(stacked) if num_parts == 2 else stacked[0]

    num_steps = x.shape[1]
    order = torch.arange(num_steps).expand(x.shape[0], -1)  # [B, T], which step to take when
    if reverse:
        last = torch.tensor(lengths)[:, None] - 1
        order = torch.where(order <= last, last - order, order)
    order = order[:, :, None]
    y = x.gather(1, order.expand_as(x))
    if lengths is not None:
        pack = torch.nn.utils.rnn.pack_padded_sequence
        y = pack(y, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
    y, final = layer(y, state)
    if lengths is not None:
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, batch_first=True, total_length=num_steps)
    y = y.gather(1, order.expand_as(y))
    final = final if num_parts == 2 else [final]
    states = [part[number] for number in range(final[0].shape[0]) for part in final]

    loss = (y * torch.tensor(problem.output_weights)).sum()
    loss = loss + sum((s * torch.tensor(w)).sum() for s, w in zip(states, problem.state_weights, strict=True))
    names = [name for name, _ in layer.named_parameters()]
    d_x, *rest = (g.numpy() for g in torch.autograd.grad(loss, [x, *layer.parameters(), *initial]))
    d_weights, d_initial = dict(zip(names, rest, strict=False)), rest[len(names) :]
    states = [state.detach().numpy() for state in states]
    return weights, Results(y.detach().numpy(), states, d_x, d_weights, d_initial or None)


@pytest.mark.parametrize(("cell", "form", "variation"), GRID)
def test_float64(cell, form, variation, x64):
    """Where padding stands all outputs are zeros in both, so that no mask is needed to compare them."""
    lengths = None if variation == "plain" else LENGTHS
    reverse = variation == "reverse"
    mask = None if lengths is None else real_steps(lengths, T)
    problem = make_problem(make_ours(cell, form), mask=mask, has_initial=variation != "plain")
    weights, theirs = run_torch(make_torch(cell, form, "float64"), problem, lengths, reverse)
    for implementation in CASES[cell].implementations if variation == "padded" else ["auto"]:
        ours = make_ours(cell, form, implementation=implementation, reverse=reverse)
        assert_same(run_ours(ours, from_torch, weights, problem, lengths=lengths), theirs)


@pytest.mark.parametrize("cell", CELLS)
def test_float32(cell):
    ours = make_ours(cell, "one")
    problem = make_problem(ours, dtype="float32", mask=real_steps(LENGTHS, T), has_initial=True)
    weights, theirs = run_torch(make_torch(cell, "one", "float32"), problem, LENGTHS)
    assert_same(run_ours(ours, from_torch, weights, problem, lengths=LENGTHS), theirs)


def test_float32_at_the_sizes_of_the_tutorial():
    lengths = np.random.default_rng(0).integers(1, TUTORIAL[1], TUTORIAL[0], endpoint=True)
    ours = make_ours("lstm", "one", TUTORIAL_UNITS)
    problem = make_problem(ours, TUTORIAL, dtype="float32", mask=real_steps(lengths, TUTORIAL[1]))
    layer = make_torch("lstm", "one", "float32", TUTORIAL[2], TUTORIAL_UNITS)
    weights, theirs = run_torch(layer, problem, lengths)
    assert_same(run_ours(ours, from_torch, weights, problem, lengths=lengths), theirs)


def test_a_length_of_zero_is_ours_alone():
    """PyTorch refuses it; ours gives the initial state and zeros, and leaves the others as they are."""
    layer, ours = make_torch("gru", "one", "float32"), make_ours("gru", "one")
    problem = make_problem(ours, dtype="float32", has_initial=True)
    lengths = np.asarray([6, 2, 0, 1])
    with pytest.raises(RuntimeError, match="greater than 0"):
        run_torch(layer, problem, lengths)
    weights, theirs = run_torch(layer, problem, LENGTHS)
    got = run_ours(ours, from_torch, weights, problem, lengths=lengths)
    assert np.all(np.asarray(got.outputs[2]) == 0)
    np.testing.assert_array_equal(got.states[0][2], problem.initial[0][2])
    others = np.asarray([0, 1, 3])
    np.testing.assert_allclose(got.outputs[others], theirs.outputs[others], rtol=0, atol=1e-5)


def test_a_gap_in_a_sequence_is_ours_alone():
    """A packed sequence has none; ours gives there what PyTorch gives on the sequence without the masked steps."""
    ours, layer = make_ours("lstm", "one"), make_torch("lstm", "one", "float32")
    mask = np.asarray([[1, 0, 1, 1, 0, 1], [0, 0, 1, 0, 1, 1], [1, 1, 1, 1, 1, 1], [0, 1, 0, 0, 0, 0]], bool)
    lengths = mask.sum(axis=1)
    problem = make_problem(ours, dtype="float32", mask=mask)
    front = np.argsort(~mask, axis=1, kind="stable")[..., None]  # the real steps first, in their order
    moved = [np.take_along_axis(array, front, axis=1) for array in (problem.x, problem.output_weights)]
    weights, theirs = run_torch(layer, problem._replace(x=moved[0], output_weights=moved[1]), lengths)
    back = np.argsort(front, axis=1)
    theirs = theirs._replace(
        outputs=np.take_along_axis(theirs.outputs, back, axis=1), d_x=np.take_along_axis(theirs.d_x, back, axis=1)
    )
    assert_same(run_ours(ours, from_torch, weights, problem, mask=mask), theirs)
