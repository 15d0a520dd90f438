"""Names, numbers and initial values of the cells' parameters; options that have no meaning."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import CASES, EVERY_CASE, sigmoid

import rnnjax
from rnnjax.cells.base import Cell

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
    columns = len(case.blocks) * features
    expected = {"kernel": (inputs, columns), "recurrent_kernel": (features, columns)}
    if use_bias:
        expected["bias"] = (columns,)
    if use_bias and name == "gru":
        expected["recurrent_bias"] = (columns,)
    if name == "lstm_peephole":
        expected["peephole_kernel"] = (3, features)
    assert {key: leaf.shape for key, leaf in params.items()} == expected


SHAPES = {
    "simple_layer_norm": {"norm_scale": (3,), "recurrent_norm_scale": (3,)},
    "irnn": {},
    "indrnn": {"recurrent_kernel": (3,)},
    "lstm_no_input_gate": {"peephole_kernel": (2, 3)},
    "lstm_coupled_gates": {"peephole_kernel": (2, 3)},
    "lstm_full_gate_recurrence": {"peephole_kernel": (3, 3), "gate_recurrent_kernel": (9, 9)},
    "lstm_projected": {"recurrent_kernel": (2, 12), "projection_kernel": (3, 2)},
    "lstm_layer_norm": {
        "norm_scale": (12,),
        "recurrent_norm_scale": (12,),
        "cell_norm_scale": (3,),
        "cell_norm_bias": (3,),
    },
    "gru_layer_norm": {"recurrent_bias": (9,), "norm_scale": (9,), "recurrent_norm_scale": (9,)},
    "mgu": {},
    "min_gru": {"recurrent_kernel": None},
    "min_lstm": {"recurrent_kernel": None},
    "rg_lru": {"kernel": (3, 6), "recurrent_kernel": None, "decay_logit": (3,)},
}
"""Of 3 features over 5 inputs, where they differ from a kernel, a recurrent kernel and a bias for each block."""


@pytest.mark.parametrize("name", SHAPES)
def test_parameters_are_those_that_the_docstrings_say(name):
    case = EVERY_CASE[name]
    columns = 3 * len(case.blocks)
    plain = {"kernel": (5, columns), "recurrent_kernel": (3, columns), "bias": (columns,)}
    expected = {key: shape for key, shape in {**plain, **SHAPES[name]}.items() if shape is not None}
    params = jax.eval_shape(lambda: initial_params(case.make_cell(3), case.input_width(5, 3)))
    assert {key: leaf.shape for key, leaf in params.items()} == expected


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


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"input_gate": False}, [1, 1, 0, 0, 0, 0]),
        ({"output_gate": False}, [0, 0, 1, 1, 0, 0]),
        ({"forget_gate": False}, [0] * 6),
        ({"coupled_gates": True}, [0] * 6),
        ({"input_gate": False, "forget_gate": False, "output_gate": False}, [0, 0]),
    ],
)
def test_forget_bias_finds_its_gate_among_those_there_are(options, expected):
    np.testing.assert_array_equal(initial_params(rnnjax.LSTMCell(2, **options))["bias"], expected)


def test_forget_bias_of_other_cells():
    np.testing.assert_array_equal(initial_params(rnnjax.MGUCell(2, forget_bias=-1.0))["bias"], [-1, -1, 0, 0])
    cell = rnnjax.ConvLSTMCell(1, kernel_size=(2,), forget_bias=2.0)
    bias = cell.init(jax.random.key(0), cell.initial_state((1, 3)), jnp.ones((1, 3, 1)))["params"]["bias"]
    np.testing.assert_array_equal(bias, [0, 2, 0, 0])


def test_irnn_starts_as_the_identity():
    np.testing.assert_array_equal(initial_params(rnnjax.IRNNCell(3))["recurrent_kernel"], np.eye(3))
    smaller = rnnjax.IRNNCell(3, recurrent_kernel_init=rnnjax.identity_init(0.01))
    np.testing.assert_allclose(initial_params(smaller)["recurrent_kernel"], 0.01 * np.eye(3), rtol=1e-6)


def test_indrnn_starts_between_0_and_1():
    kernel = np.asarray(initial_params(rnnjax.IndRNNCell(1000))["recurrent_kernel"])
    assert kernel.min() >= 0
    assert kernel.max() < 1
    assert kernel.mean() == pytest.approx(0.5, abs=0.03)
    assert kernel.std() == pytest.approx(1 / np.sqrt(12), rel=0.05)


def test_the_decay_of_an_rg_lru_starts_between_0_9_and_0_999():
    logit = np.asarray(initial_params(rnnjax.RGLRUCell(1000), 1000)["decay_logit"], np.float64)
    decay = sigmoid(logit) ** 8  # with the recurrence gate open
    assert decay.min() == pytest.approx(0.9, abs=1e-3)
    assert decay.max() == pytest.approx(0.999, abs=1e-3)
    assert decay.mean() == pytest.approx(0.9495, abs=3e-3)


@pytest.mark.parametrize("name", ["simple_layer_norm", "lstm_layer_norm", "gru_before_layer_norm", "mgu_layer_norm"])
def test_scales_of_norms_start_at_one(name):
    params = initial_params(EVERY_CASE[name].make_cell(3))
    scales = {key: value for key, value in params.items() if key.endswith("norm_scale")}
    assert len(scales) == (3 if name == "lstm_layer_norm" else 2)
    for scale in scales.values():
        np.testing.assert_array_equal(scale, np.ones(scale.shape))
    np.testing.assert_array_equal(params.get("cell_norm_bias", 0), 0)


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


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("LSTM", {"coupled_gates": True, "forget_gate": False}, "both input and forget gate with coupled_gates; one"),
        ("LSTM", {"coupled_gates": True, "input_gate": False}, "both input and forget gate with coupled_gates; one"),
        (
            "LSTM",
            {"full_gate_recurrence": True, "input_gate": False, "forget_gate": False, "output_gate": False},
            "a gate with full_gate_recurrence; all are absent.",
        ),
        ("LSTM", {"proj_size": 2.5}, "proj_size, an integer >= 1 or None; got 2.5."),
        ("LSTM", {"proj_size": 0}, "proj_size, an integer >= 1 or None; got 0."),
        ("LSTM", {"cell_clip": -1}, "cell_clip > 0 or None; got -1."),
        ("LSTM", {"cell_clip": 0.0}, "cell_clip > 0 or None; got 0.0."),
        ("LSTM", {"cell_zoneout_rate": 1.0}, "0 <= cell_zoneout_rate < 1; got 1.0."),
        ("GRU", {"zoneout_rate": 1.5}, "0 <= zoneout_rate < 1; got 1.5."),
        ("SimpleRNN", {"weight_drop_rate": -0.1}, "0 <= weight_drop_rate < 1; got -0.1."),
        ("IndRNN", {"weight_drop_rate": 1}, "0 <= weight_drop_rate < 1; got 1."),
    ],
)
def test_rates_and_sizes_out_of_range(name, options, message):
    for kind in (name, name + "Cell"):
        with pytest.raises(ValueError, match=f"^{kind} expects {re.escape(message)}") as error:
            getattr(rnnjax, kind)(3, **options)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["MinGRU", "MinLSTM", "RGLRU"])
@pytest.mark.parametrize("option", ["recurrent_dropout_rate", "weight_drop_rate", "layer_norm"])
def test_linear_cells_refuse_what_acts_on_a_recurrent_product(name, option):
    for kind in (name, name + "Cell"):
        message = f"^{kind} has no recurrent product, so {option} has no meaning; leave it out\\.$"
        with pytest.raises(ValueError, match=message):
            getattr(rnnjax, kind)(3, **{option: True if option == "layer_norm" else 0.1})


def test_a_cell_of_ones_own_without_recurrent_kernel_refuses_weight_drop():
    class Held(Cell):
        num_blocks = 1

    with pytest.raises(ValueError, match=r"^Held has no recurrent kernel, so weight_drop_rate must be 0\.$"):
        Held(3, weight_drop_rate=0.5)
