"""Arrays of a layer to another framework's and back, and what is refused.

That the order of the gates is right, the tests of parity show.
"""

import jax
import numpy as np
import pytest
from flax import linen as nn
from oracles import CASES

import rnnjax
from rnnjax.interop import Sequential, from_keras, from_torch, to_keras, to_torch

H, D = 3, 2
KERAS, TORCH = (to_keras, from_keras), (to_torch, from_torch)
CELLS = ["simple", "lstm", "gru"]


def random_params(layer, x):
    shapes = jax.eval_shape(layer.init, jax.random.key(0), x)["params"]
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape).astype(np.float32), shapes)


def assert_same_trees(got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    jax.tree.map(np.testing.assert_array_equal, got, want)


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize(
    ("name", "framework"), [*((name, way) for name in CELLS for way in (KERAS, TORCH)), ("gru_before", KERAS)]
)
def test_there_and_back(name, framework, use_bias):
    there, back = framework
    layer = rnnjax.Stack([rnnjax.Bidirectional(CASES[name].make_layer(H, use_bias=use_bias)) for _ in range(2)])
    params = random_params(layer, np.zeros((1, 1, D), np.float32))
    assert_same_trees(back(layer, there(layer, params)), params)


@pytest.mark.parametrize(("there", "back"), [KERAS, TORCH])
def test_a_whole_model_there_and_back(there, back):
    layers = {
        "embedding": rnnjax.Embedding(7, D),
        "below": rnnjax.Stack([rnnjax.LSTM(H), rnnjax.LSTM(H + 1)]),
        "above": rnnjax.RNN(rnnjax.GRUCell(H)),
        "dropout": nn.Dropout(0.5),
        "dense": nn.Dense(2, use_bias=False),
        "sigmoid": nn.sigmoid,
    }
    model = Sequential(layers)
    params = random_params(model, np.zeros((1, 1), np.int32))
    assert_same_trees(back(model, there(model, params)), params)


def test_names_of_a_state_dict():
    """Like layers are one PyTorch module, unlike ones a list of them."""
    alike = rnnjax.Stack([rnnjax.Bidirectional(rnnjax.LSTM(H, use_bias=False))] * 2)
    unlike = rnnjax.Stack([rnnjax.LSTM(H, use_bias=False), rnnjax.LSTM(H + 1, use_bias=False)])
    model = Sequential({"alike": alike, "unlike": unlike, "dense": nn.Dense(1)})
    arrays = to_torch(model, random_params(model, np.zeros((1, 1, D), np.float32)))
    assert {name: array.shape for name, array in arrays.items()} == {
        "alike.weight_ih_l0": (4 * H, D),
        "alike.weight_hh_l0": (4 * H, H),
        "alike.weight_ih_l0_reverse": (4 * H, D),
        "alike.weight_hh_l0_reverse": (4 * H, H),
        "alike.weight_ih_l1": (4 * H, 2 * H),
        "alike.weight_hh_l1": (4 * H, H),
        "alike.weight_ih_l1_reverse": (4 * H, 2 * H),
        "alike.weight_hh_l1_reverse": (4 * H, H),
        "unlike.0.weight_ih_l0": (4 * H, 2 * H),
        "unlike.0.weight_hh_l0": (4 * H, H),
        "unlike.1.weight_ih_l0": (4 * H + 4, H),
        "unlike.1.weight_hh_l0": (4 * H + 4, H + 1),
        "dense.weight": (1, H + 1),
        "dense.bias": (1,),
    }


def keras_weights():
    return to_keras(rnnjax.LSTM(H), random_params(rnnjax.LSTM(H), np.zeros((1, 1, D), np.float32)))


@pytest.mark.parametrize(
    ("layer", "change", "message"),
    [
        (
            rnnjax.LSTM(H),
            lambda w: w[:2],
            r"LSTMCell\(3\) expects Keras's kernel, .*; got 2 arrays",
        ),
        (rnnjax.LSTM(H), lambda w: [*w, w[0]], "expected 3 arrays for LSTM; got 4"),
        (rnnjax.LSTM(H + 1), lambda w: w, r"LSTMCell\(4\) expects kernel of shape \(D, 16\); got \(2, 12\)"),
        (rnnjax.GRU(H), lambda w: w, r"GRUCell\(3\) expects kernel of shape \(D, 9\); got \(2, 12\)"),
        (rnnjax.LSTM(H, use_bias=False), lambda w: w, "expected 2 arrays for LSTM; got 3"),
        (rnnjax.LSTM(H), lambda w: [w[0], w[1], w[2][None]], r"bias of shape \(12,\); got \(1, 12\)"),
        (rnnjax.RNN(rnnjax.LSTMCell(H, peephole=True)), lambda w: w, r"peephole=True\) has no counterpart in Keras"),
        (Sequential({"norm": nn.LayerNorm()}), lambda w: w, "got LayerNorm, which cannot be converted"),
    ],
)
def test_what_from_keras_refuses(layer, change, message):
    with pytest.raises(ValueError, match=message):
        from_keras(layer, change(keras_weights()))


@pytest.mark.parametrize(
    ("layer", "change", "message"),
    [
        (rnnjax.LSTM(H), {"bias_hh_l0": None}, "expected bias_hh_l0 in the state_dict; got weight_ih_l0, weight_hh_l0"),
        (rnnjax.LSTM(H), {"weight_hr_l0": np.zeros((2, H))}, "expected no more arrays for LSTM; got weight_hr_l0"),
        (rnnjax.LSTM(H), {"weight_hh_l0": np.zeros((12, 4))}, r"weight_hh of shape \(12, 3\); got \(12, 4\)"),
        (rnnjax.LSTM(H), {"bias_ih_l0": np.zeros(11)}, r"bias_ih of shape \(12,\); got \(11,\)"),
        (rnnjax.GRU(H, reset_after=False), {}, r"GRUCell\(3, reset_after=False\) has no counterpart in PyTorch"),
        (rnnjax.RNN(rnnjax.LSTMCell(H, peephole=True)), {}, r"peephole=True\) has no counterpart in PyTorch"),
    ],
)
def test_what_from_torch_refuses(layer, change, message):
    arrays = to_torch(rnnjax.LSTM(H), random_params(rnnjax.LSTM(H), np.zeros((1, 1, D), np.float32)))
    arrays = {name: array for name, array in {**arrays, **change}.items() if array is not None}
    with pytest.raises(ValueError, match=message):
        from_torch(layer, arrays)


def test_parameters_that_are_missing():
    with pytest.raises(ValueError, match="expected parameters of recurrence; got only forward"):
        to_keras(rnnjax.LSTM(H), {"forward": {}})


@pytest.mark.parametrize(
    ("layer", "option"),
    [
        (rnnjax.LSTM(H, proj_size=2), "proj_size=2"),
        (rnnjax.LSTM(H, coupled_gates=True), "coupled_gates=True"),
        (rnnjax.LSTM(H, cell_clip=1.0), "cell_clip=1.0"),
        (rnnjax.GRU(H, zoneout_rate=0.1), "zoneout_rate=0.1"),
        (rnnjax.SimpleRNN(H, layer_norm=True), "layer_norm=True"),
    ],
)
def test_equations_of_our_own(layer, option):
    """Weights of the same shapes would pass, and the outputs be others."""
    for framework, convert in (("Keras", to_keras), ("PyTorch", to_torch)):
        with pytest.raises(ValueError, match=f"{option}.* has no counterpart in {framework} that could be converted"):
            convert(layer, {"recurrence": {}})
