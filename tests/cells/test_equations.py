"""Every cell against the papers' equations in float64, in values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import CASES, EVERY_CASE, GRU_BLOCKS, LSTM_BLOCKS, central_differences

import rnnjax
from rnnjax.cells import gru, lstm
from rnnjax.cells.base import Constants

B, D, H = 3, 4, 5


def inputs(seed: int, dtype=np.float64, width: int = D) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((B, width)).astype(dtype)


def oracle_step(case, params, state, x):
    """One step of a batch: states, each [B, H]."""
    weights = case.weights(params)
    rows = [case.step(weights, tuple(part[b] for part in state), x[b]) for b in range(len(x))]
    return tuple(np.stack(parts) for parts in zip(*rows, strict=True))


@pytest.mark.parametrize(
    ("name", "use_bias"), [*((name, True) for name in EVERY_CASE), *((name, False) for name in CASES)]
)
def test_step_equals_the_equations(name, use_bias, x64):
    case = EVERY_CASE[name]
    width = case.input_width(D, H)
    params = case.random_params(1, width, H, use_bias=use_bias)
    cell = case.make_cell(H, use_bias=use_bias)
    state = case.random_state(2, B, H)
    for t in range(3):
        expected = oracle_step(case, params, state, inputs(t, width=width))
        state, output = cell.apply({"params": params}, state, inputs(t, width=width))
        assert type(state) is type(case.state(*state))
        np.testing.assert_allclose(output, expected[0], rtol=0, atol=1e-12)
        for got, want in zip(state, expected, strict=True):
            np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", EVERY_CASE)
def test_every_block_of_weights_matters_and_no_two_may_change_places(name, x64):
    """The oracle's own test: with two blocks exchanged it no longer agrees, so a wrong gate order cannot pass above."""
    case = EVERY_CASE[name]
    width = case.input_width(D, H)
    params = case.random_params(1, width, H)
    state, x = case.random_state(2, B, H), inputs(3, width=width)
    _, output = case.make_cell(H).apply({"params": params}, state, x)
    for first in range(len(case.blocks)):
        for second in range(first):
            order = list(case.blocks)
            order[first], order[second] = order[second], order[first]
            swapped = oracle_step(case._replace(blocks=tuple(order)), params, state, x)
            assert np.abs(np.asarray(output) - swapped[0]).max() > 1e-3


def test_gate_order_is_what_the_docstrings_say():
    assert lstm.GATES == LSTM_BLOCKS
    assert gru.GATES == GRU_BLOCKS


@pytest.mark.parametrize("name", EVERY_CASE)
def test_float32_agrees(name):
    case = EVERY_CASE[name]
    width = case.input_width(D, H)
    params = case.random_params(1, width, H, np.float32)
    state, x = case.random_state(2, B, H, np.float32), inputs(3, np.float32, width)
    new_state, output = case.make_cell(H).apply({"params": params}, state, x)
    assert output.dtype == jnp.float32
    for got, want in zip((*new_state, output), (*(e := oracle_step(case, params, state, x)), e[0]), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", CASES)
def test_dtype_is_that_of_the_computation(name):
    case = CASES[name]
    params = case.random_params(1, D, H, np.float32)
    cell = case.make_cell(H, dtype=jnp.bfloat16)
    state = case.random_state(2, B, H, np.float32)
    lowered = jax.tree.map(lambda part: jnp.asarray(part, jnp.bfloat16), state)
    new_state, output = cell.apply({"params": params}, lowered, inputs(3, np.float32))
    assert {leaf.dtype for leaf in jax.tree.leaves((new_state, output))} == {jnp.dtype(jnp.bfloat16)}
    expected = oracle_step(case, params, state, inputs(3, np.float32))
    np.testing.assert_allclose(np.asarray(output, np.float32), expected[0], rtol=0.05, atol=0.05)
    variables = cell.init(jax.random.key(0), lowered, inputs(3, np.float32))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize("name", EVERY_CASE)
def test_gradients_equal_finite_differences_of_the_equations(name, x64):
    """Of every weight, input and state, against the oracle and not against the cell itself."""
    case = EVERY_CASE[name]
    width = case.input_width(D, 3)
    state = case.random_state(5, 2, 3)
    arguments = (case.random_params(4, width, 3), state, inputs(6, width=width)[:2])
    rng = np.random.default_rng(7)
    weights = [rng.standard_normal(part.shape) for part in (*state, state[0])]
    cell = case.make_cell(3)

    def ours(arguments):
        params, state, x = arguments
        new_state, output = cell.apply({"params": params}, state, x)
        return sum(jnp.sum(w * part) for w, part in zip(weights, (*new_state, output), strict=True))

    def theirs(arguments):
        new_state = oracle_step(case, *arguments)
        return float(sum(np.sum(w * part) for w, part in zip(weights, (*new_state, new_state[0]), strict=True)))

    got = jax.jit(jax.grad(ours))(arguments)
    want = central_differences(theirs, arguments)
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=1e-7, atol=1e-8), got, want)
    some_rest = name in ("simple_relu", "irnn", "indrnn", "lstm_hard_sigmoid", "lstm_clipped")
    for leaf in jax.tree.leaves(got):  # a unit at rest gives no gradient
        assert np.any(leaf != 0) if some_rest else np.all(leaf != 0)


@pytest.mark.parametrize("name", CASES)
def test_the_three_functions_make_a_call_and_project_takes_a_whole_sequence(name, x64):
    case = CASES[name]
    variables = {"params": case.random_params(1, D, H)}
    cell, state = case.make_cell(H), case.random_state(2, B, H)
    x = np.stack([inputs(t) for t in range(4)])  # [T, B, D]
    constants = cell.apply(variables, (B, D), method="constants")
    assert constants == Constants()
    z = cell.apply(variables, x, constants, method="project")
    for t in range(4):
        taken, output = cell.apply(variables, state, z[t], constants, method="step")
        state, expected = cell.apply(variables, state, x[t])
        np.testing.assert_allclose(output, expected, rtol=0, atol=1e-13)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-13), taken, state)


@pytest.mark.parametrize("name", CASES)
def test_initial_state_is_zeros_of_its_type(name):
    case = CASES[name]
    state = case.make_cell(H).initial_state(B)
    assert type(state).__name__ == case.layer + "State"
    assert len(state) == case.num_states
    for part in state:
        np.testing.assert_array_equal(part, np.zeros((B, H)))
    assert case.make_cell(H).initial_state(B, jnp.bfloat16)[0].dtype == jnp.bfloat16


@pytest.mark.parametrize("name", CASES)
def test_a_step_computes_in_the_cells_type(name):
    cell = CASES[name].make_cell(H, dtype=jnp.bfloat16)
    x = jnp.ones((B, D), jnp.float32)
    state = cell.initial_state(B)
    assert state[0].dtype == jnp.bfloat16
    variables = cell.init(jax.random.key(0), state, x)
    after, output = cell.apply(variables, jax.tree.map(lambda part: part.astype(jnp.float32), state), x)
    assert [part.dtype for part in (*after, output)] == [jnp.bfloat16] * (len(after) + 1)
    exact = CASES[name].make_cell(H).apply(variables, state, x)[1]
    np.testing.assert_allclose(output.astype(jnp.float32), exact, rtol=0.02, atol=0.01)


@pytest.mark.parametrize("name", CASES)
def test_wrong_arguments_of_a_step(name):
    cell = CASES[name].make_cell(H)
    kind, state = type(cell).__name__, cell.initial_state(B)
    variables = cell.init(jax.random.key(0), state, jnp.ones((B, D)))
    for x, came, mend in [
        (jnp.ones(D), rf"\({D},\)", r"For one example, pass x\[None\]\."),
        (jnp.ones((B, 5, D)), rf"\({B}, 5, {D}\)", rf"For whole sequences use RNN\({kind}\(\.\.\.\)\)\."),
    ]:
        expected = rf"^{kind} expects the inputs of one step \[B, D\]; got {came}\. {mend}"
        with pytest.raises(ValueError, match=expected):
            cell.apply(variables, state, x)
    with pytest.raises(ValueError, match=rf"^{kind} expects a state of type {type(state).__name__}; got tuple\."):
        cell.apply(variables, tuple(state), jnp.ones((B, D)))


def test_the_update_gate_of_a_gru_keeps_the_past():
    for reset_after in (True, False):
        cell = rnnjax.GRUCell(2, reset_after=reset_after)
        state = cell.initial_state(1)._replace(h=jnp.asarray([[0.25, -0.5]]))
        variables = jax.tree.map(jnp.zeros_like, cell.init(jax.random.key(0), state, jnp.ones((1, 1))))
        variables["params"]["bias"] = jnp.asarray([100.0, 100, 0, 0, 1, 1])
        kept, _ = cell.apply(variables, state, jnp.ones((1, 1)))
        np.testing.assert_array_equal(kept.h, state.h)
        variables["params"]["bias"] = jnp.asarray([-100.0, -100, 0, 0, 1, 1])
        replaced, _ = cell.apply(variables, state, jnp.ones((1, 1)))
        np.testing.assert_allclose(replaced.h, np.tanh([[1, 1]]), rtol=1e-6)
