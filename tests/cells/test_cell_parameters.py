"""Names, numbers and initial values of the cells' parameters; options that have no meaning."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import CASES

import rnnjax

D, H = 24, 16


def initial_params(cell, inputs: int = D, seed: int = 0) -> dict:
    state = cell.initial_state(1)
    return jax.jit(cell.init)(jax.random.key(seed), state, jnp.ones((1, inputs)))["params"]


@functools.cache
def default_params(name: str) -> dict:
    """Initial parameters with no option given."""
    return initial_params(CASES[name].make_cell(H))


def keras_count(name: str, inputs: int, features: int, use_bias: bool) -> int:
    """The formulae of the Keras documentation; its LSTM has no peepholes, which add one vector a gate."""
    one_gate = features * (inputs + features) + (features if use_bias else 0)
    return {
        "simple": one_gate,
        "simple_relu": one_gate,
        "lstm": 4 * one_gate,
        "lstm_peephole": 4 * one_gate + 3 * features,
        "gru": 3 * (one_gate + (features if use_bias else 0)),
        "gru_before": 3 * one_gate,
    }[name]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize(("inputs", "features"), [(5, 3), (3, 5)])
def test_parameters_are_as_many_as_in_keras(name, use_bias, inputs, features):
    case = CASES[name]
    params = jax.eval_shape(lambda: initial_params(case.make_cell(features, use_bias=use_bias), inputs))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == keras_count(name, inputs, features, use_bias)
    expected = case.random_params(0, inputs, features, use_bias=use_bias)
    assert {key: leaf.shape for key, leaf in params.items()} == {key: leaf.shape for key, leaf in expected.items()}


def test_numbers_that_keras_prints():
    """Of its own documentation and of the tutorial: LSTM(64) over 128, SimpleRNN(32) over 32, GRU(32) over 14."""
    for cell, inputs, expected in [
        (rnnjax.LSTMCell(64), 128, 49_408),
        (rnnjax.SimpleRNNCell(32), 32, 2_080),
        (rnnjax.GRUCell(32), 14, 4_608),
        (rnnjax.GRUCell(32, reset_after=False), 14, 4_512),
    ]:
        params = jax.eval_shape(lambda cell=cell, inputs=inputs: initial_params(cell, inputs))
        assert sum(leaf.size for leaf in jax.tree.leaves(params)) == expected


@pytest.mark.parametrize("name", CASES)
def test_kernels_start_glorot_uniform_over_the_whole_matrix(name):
    kernel = np.asarray(default_params(name)["kernel"])
    bound = np.sqrt(6 / sum(kernel.shape))
    assert np.abs(kernel).max() <= bound
    assert np.abs(kernel).max() > 0.95 * bound
    assert abs(kernel.mean()) < 0.15 * bound
    assert kernel.std() == pytest.approx(bound / np.sqrt(3), rel=0.1)


@pytest.mark.parametrize("name", CASES)
def test_recurrent_kernels_start_orthogonal(name):
    kernel = np.asarray(default_params(name)["recurrent_kernel"])
    np.testing.assert_allclose(kernel @ kernel.T, np.eye(H), atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_biases_start_at_zero_and_the_forget_gate_at_one(name):
    case = CASES[name]
    for gate, weights in case.weights(default_params(name)).items():
        np.testing.assert_array_equal(weights.b, np.full(H, 1.0 if gate == "forget" else 0.0))
        np.testing.assert_array_equal(weights.v, np.zeros(H))


def test_forget_bias_is_added_to_what_bias_init_gives():
    cell = rnnjax.LSTMCell(2, forget_bias=0.5, bias_init=jax.nn.initializers.constant(3.0))
    np.testing.assert_array_equal(initial_params(cell)["bias"], [3, 3, 3.5, 3.5, 3, 3, 3, 3])


def test_update_bias_keeps_the_past():
    cell = rnnjax.GRUCell(2, update_bias=1.0)
    params = initial_params(cell)
    np.testing.assert_array_equal(params["bias"], [1, 1, 0, 0, 0, 0])
    np.testing.assert_array_equal(params["recurrent_bias"], np.zeros(6))
    # With no weights but this bias, a step keeps sigmoid(1) of the state: the update gate is the first block.
    weightless = {"params": {**params, **{name: 0 * params[name] for name in ("kernel", "recurrent_kernel")}}}
    state, _ = cell.apply(weightless, rnnjax.GRUState(jnp.ones((1, 2))), jnp.ones((1, D)))
    np.testing.assert_allclose(state.h, 1 / (1 + np.exp(-1)), rtol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_initializers_and_param_dtype_are_fields(name):
    cell = CASES[name].make_cell(
        3,
        kernel_init=jax.nn.initializers.constant(2.0),
        recurrent_kernel_init=jax.nn.initializers.constant(3.0),
        param_dtype=jnp.bfloat16,
    )
    params = initial_params(cell)
    np.testing.assert_array_equal(params["kernel"].astype(jnp.float32), np.full(params["kernel"].shape, 2))
    recurrent = params["recurrent_kernel"]
    np.testing.assert_array_equal(recurrent.astype(jnp.float32), np.full(recurrent.shape, 3))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.parametrize("name", CASES)
def test_another_seed_gives_other_weights_and_the_same_seed_the_same(name):
    one, again, other = (initial_params(CASES[name].make_cell(H), seed=seed) for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, one, again)
    assert not np.allclose(one["kernel"], other["kernel"])
    assert not np.allclose(one["recurrent_kernel"], other["recurrent_kernel"])


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("make", ["make_cell", "make_layer"])
def test_options_without_meaning_are_errors_where_they_are_written(name, make):
    case = CASES[name]
    kind = case.layer + ("Cell" if make == "make_cell" else "")
    for features in (0, 64.0):
        with pytest.raises(ValueError, match=rf"^{kind} expects features, an integer >= 1; got {features}\.$"):
            getattr(case, make)(features)
    for rate in (-0.1, 1.0, 1.5):
        with pytest.raises(ValueError, match=rf"^{kind} expects 0 <= dropout_rate < 1; got {rate}\.$"):
            getattr(case, make)(3, dropout_rate=rate)
        with pytest.raises(ValueError, match=rf"^{kind} expects 0 <= recurrent_dropout_rate < 1; got {rate}\.$"):
            getattr(case, make)(3, recurrent_dropout_rate=rate)
