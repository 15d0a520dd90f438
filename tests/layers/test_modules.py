"""Layers as parts of Flax programs: where parameters land, `compact`, `setup`, `nn.jit`, `nn.remat`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from oracles import CASES

import rnnjax
from rnnjax.models.classifier import Classifier
from rnnjax.models.language_model import LanguageModel

B, T, D, H = 3, 5, 4, 6
LENGTHS = np.asarray([5, 0, 3])
X = np.random.default_rng(0).standard_normal((B, T, D)).astype(np.float32)
KEY = jax.random.key(0)


class InCompact(nn.Module):
    make: object

    @nn.compact
    def __call__(self, x, **keywords):
        return self.make()(x, **keywords)


class InSetup(nn.Module):
    make: object

    def setup(self):
        self.sub = self.make()

    def __call__(self, x, **keywords):
        return self.sub(x, **keywords)


class AsField(nn.Module):
    layer: nn.Module

    @nn.compact
    def __call__(self, x, **keywords):
        return self.layer(x, **keywords)


PLACES = {
    "top": lambda make: make(),
    "compact": InCompact,
    "setup": InSetup,
    "field": lambda make: AsField(make()),
    "sequential": lambda make: nn.Sequential([make()]),
}
"""Ways in which a layer can come to stand in a Flax program."""


def only_recurrence(tree):
    """The one subtree called "recurrence", and the path to it."""
    found = []

    def walk(tree, path):
        for name, child in tree.items():
            if name == "recurrence":
                found.append((path, child))
            elif isinstance(child, dict):
                walk(child, (*path, name))
            else:
                raise AssertionError(f"a parameter outside its layer: {(*path, name)}")

    walk(tree, ())
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("name", CASES)
def test_a_layer_has_the_parameters_and_initial_values_of_rnn_over_its_cell(name):
    case = CASES[name]
    ours = jax.jit(case.make_layer(H).init)(KEY, X)
    over_cell = jax.jit(rnnjax.RNN(case.make_cell(H)).init)(KEY, X)
    assert jax.tree.structure(ours) == jax.tree.structure(over_cell)
    jax.tree.map(np.testing.assert_array_equal, ours, over_cell)
    keywords = {"lengths": LENGTHS, "return_state": True}
    jax.tree.map(
        np.testing.assert_array_equal,
        case.make_layer(H).apply(ours, X, **keywords),
        rnnjax.RNN(case.make_cell(H)).apply(ours, X, **keywords),
    )


def test_every_option_of_a_layer_reaches_its_cell():
    case = CASES["lstm"]
    options = {
        "use_bias": False,
        "peephole": True,
        "kernel_init": nn.initializers.constant(0.5),
        "recurrent_kernel_init": nn.initializers.constant(0.25),
        "param_dtype": jnp.float16,
    }
    params = case.make_layer(H, **options).init(KEY, X)["params"]["recurrence"]
    assert sorted(params) == ["kernel", "peephole_kernel", "recurrent_kernel"]
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.float16)}
    np.testing.assert_array_equal(params["kernel"], np.full((D, 4 * H), 0.5))
    np.testing.assert_array_equal(params["recurrent_kernel"], np.full((H, 4 * H), 0.25))
    bias = rnnjax.LSTM(1, forget_bias=0.5, bias_init=nn.initializers.ones_init()).init(KEY, X)
    np.testing.assert_array_equal(bias["params"]["recurrence"]["bias"], [1, 1.5, 1, 1])
    assert "recurrent_bias" not in rnnjax.GRU(H, reset_after=False).init(KEY, X)["params"]["recurrence"]
    relu = rnnjax.SimpleRNN(H, activation_fn=jax.nn.relu)
    np.testing.assert_array_equal(relu.apply(relu.init(KEY, X), X) >= 0, np.ones((B, T, H)))


MAKERS = {
    "LSTM": lambda: rnnjax.LSTM(H),
    "RNN": lambda: rnnjax.RNN(rnnjax.LSTMCell(H, peephole=True)),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("maker", MAKERS)
def test_parameters_land_inside_the_layer_wherever_it_stands(place, maker):
    make = MAKERS[maker]
    model = PLACES[place](make)
    keywords = {} if place == "sequential" else {"lengths": LENGTHS}
    variables = jax.jit(model.init)(KEY, X, **keywords)
    path, params = only_recurrence(variables["params"])
    assert len(path) == (0 if place == "top" else 1)
    expected = make().apply({"params": {"recurrence": params}}, X, **keywords)
    np.testing.assert_array_equal(model.apply(variables, X, **keywords), expected)
    assert np.abs(np.asarray(expected)).max() > 0.01


def test_a_cell_made_in_another_modules_compact_or_setup_has_its_parameters_in_the_layer():
    class Compact(nn.Module):
        @nn.compact
        def __call__(self, x):
            return rnnjax.RNN(rnnjax.GRUCell(H))(x)

    class Setup(nn.Module):
        def setup(self):
            self.cell = rnnjax.GRUCell(H)
            self.first = rnnjax.RNN(self.cell)
            self.second = rnnjax.RNN(self.cell)

        def __call__(self, x):
            return self.first(x) + self.second(x)

    path, params = only_recurrence(Compact().init(KEY, X)["params"])
    assert path == ("RNN_0",)
    np.testing.assert_array_equal(
        Compact().apply({"params": {"RNN_0": {"recurrence": params}}}, X),
        rnnjax.GRU(H).apply({"params": {"recurrence": params}}, X),
    )
    shared_cell = Setup().init(KEY, X)["params"]
    assert sorted(shared_cell) == ["first", "second"]
    assert not np.allclose(*(shared_cell[name]["recurrence"]["kernel"] for name in ("first", "second")))


def test_one_layer_called_twice_shares_its_weights_as_in_any_flax_program():
    class Siamese(nn.Module):
        @nn.compact
        def __call__(self, a, b):
            layer = rnnjax.LSTM(H, return_sequences=False)
            return layer(a), layer(b)

    variables = Siamese().init(KEY, X, X)
    _, params = only_recurrence(variables["params"])
    a, b = Siamese().apply(variables, X, X[:, ::-1])
    alone = rnnjax.LSTM(H, return_sequences=False)
    np.testing.assert_array_equal(a, alone.apply({"params": {"recurrence": params}}, X))
    np.testing.assert_array_equal(b, alone.apply({"params": {"recurrence": params}}, X[:, ::-1]))
    assert np.abs(np.asarray(a) - np.asarray(b)).max() > 0.01


@pytest.mark.parametrize("transform", [nn.jit, nn.remat])
@pytest.mark.parametrize(("kind", "inside"), [("LSTM", False), ("GRU", True), ("SimpleRNN", True)])
def test_under_nn_jit_and_nn_remat_the_fields_serve(transform, kind, inside):
    rates = {"dropout_rate": 0.3, "recurrent_dropout_rate": 0.3}
    fields = {"return_state": True, "return_sequences": False, "reverse": True, **rates}
    plain, lifted = getattr(rnnjax, kind), transform(getattr(rnnjax, kind))
    rngs = {"dropout": jax.random.key(1)}

    def place(kind, **more):
        return InCompact(lambda: kind(H, **fields, **more, name="layer")) if inside else kind(H, **fields, **more)

    def run(model, variables):
        final, y = model.apply(variables, X, lengths=LENGTHS, rngs=rngs)
        return jnp.sum(jnp.sin(3 * y)) + sum(jnp.sum(part) for part in final), (final, y)

    def close(a, b):
        jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=1e-5, atol=1e-6), a, b)

    variables = place(plain).init(KEY, X)
    assert jax.tree.structure(place(lifted).init(KEY, X)) == jax.tree.structure(variables)
    results = {}
    for deterministic in (True, False):
        results[deterministic] = [
            jax.value_and_grad(run, argnums=1, has_aux=True)(place(kind, deterministic=deterministic), variables)
            for kind in (plain, lifted)
        ]
    want, got = results[True]
    assert got[0][1][1].shape == (B, H)
    close(got, want)
    want, got = results[False]
    if transform is nn.remat:
        close(got, want)
    else:  # Flax gives a jitted module other keys, so other masks: all that can be said is that some fell
        assert np.all(np.isfinite(got[0][1][1]))
    assert np.abs(got[0][1][1] - results[True][1][0][1][1]).max() > 1e-3


def holding_layers():
    """Layers that hold other modules as fields, made with and without a transform of the inner class."""
    return {
        "RNN": lambda lift: lift(rnnjax.RNN)(rnnjax.LSTMCell(H, peephole=True)),
        "Stack": lambda lift: rnnjax.Stack([lift(rnnjax.LSTM)(H), rnnjax.RNN(rnnjax.GRUCell(H))]),
        "lifted Stack": lambda lift: lift(rnnjax.Stack)([rnnjax.RNN(rnnjax.GRUCell(H)), rnnjax.SimpleRNN(H)]),
        "Bidirectional": lambda lift: rnnjax.Bidirectional(lift(rnnjax.GRU)(H)),
        "lifted Bidirectional": lambda lift: lift(rnnjax.Bidirectional)(rnnjax.RNN(rnnjax.LSTMCell(H))),
        "Classifier": lambda lift: Classifier(9, 2, 4, lift(rnnjax.LSTM)(H, return_sequences=False)),
        "LanguageModel": lambda lift: LanguageModel(9, 4, lift(rnnjax.Stack)([rnnjax.LSTM(H)])),
    }


@pytest.mark.parametrize("transform", [nn.jit, nn.remat])
@pytest.mark.parametrize("kind", holding_layers())
def test_layers_of_lifted_classes_can_be_held_by_others(transform, kind):
    make = holding_layers()[kind]
    plain, lifted = make(lambda kind: kind), make(transform)
    x = np.asarray([[3, 1, 4, 1, 5], [8, 0, 0, 0, 0], [2, 7, 1, 0, 0]]) if hasattr(plain, "embedding_size") else X
    variables = plain.init(KEY, x)
    assert jax.tree.structure(lifted.init(KEY, x)) == jax.tree.structure(variables)

    def run(model, variables):
        return jnp.sum(jnp.sin(3 * model.apply(variables, x, lengths=LENGTHS)))

    want, got = (jax.value_and_grad(run, argnums=1)(model, variables) for model in (plain, lifted))
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=1e-5, atol=1e-6), got, want)


def test_a_cells_own_fields_serve_in_a_layer():
    rates = {"dropout_rate": 0.5, "recurrent_dropout_rate": 0.5}
    layer = rnnjax.RNN(rnnjax.GRUCell(H, **rates, deterministic=False))
    rngs = {"dropout": jax.random.key(1)}
    variables = rnnjax.GRU(H).init(KEY, X)
    dropped = rnnjax.GRU(H, **rates).apply(variables, X, deterministic=False, rngs=rngs)
    np.testing.assert_array_equal(layer.apply(variables, X, rngs=rngs), dropped)
    whole = rnnjax.GRU(H).apply(variables, X)
    np.testing.assert_array_equal(layer.apply(variables, X, deterministic=True), whole)
    np.testing.assert_array_equal(layer.clone(deterministic=True).apply(variables, X), whole)
    assert np.abs(dropped - whole).max() > 0.01


def test_a_cell_of_ones_own_may_make_its_parameters_in_setup():
    class Leaky(rnnjax.Cell):
        num_blocks = 1

        def setup(self):
            self.decay = self.param("decay", nn.initializers.constant(0.5), (self.features,))

        def step(self, state, z, constants):
            h = self.decay[None, :] * state.h + z
            return rnnjax.SimpleRNNState(h), h

        @nn.nowrap
        def initial_state(self, batch_size, dtype=None):
            return rnnjax.SimpleRNNState(self.zeros(batch_size, dtype))

    layer = rnnjax.RNN(Leaky(H))
    variables = layer.init(KEY, X)
    params = variables["params"]["recurrence"]
    assert sorted(params) == ["bias", "decay", "kernel"]
    h, expected = np.zeros((B, H)), []
    for t in range(T):
        h = 0.5 * h + X[:, t] @ params["kernel"]
        expected.append(h)
    np.testing.assert_allclose(layer.apply(variables, X), np.stack(expected, axis=1), rtol=1e-5, atol=1e-5)


def test_a_layer_over_what_is_no_cell():
    for wrong, came in [(nn.LSTMCell(H), "LSTMCell"), (rnnjax.LSTM(H), "LSTM"), (rnnjax.LSTMCell, "LSTMCell")]:
        with pytest.raises(ValueError, match=rf"^RNN expects a cell of rnnjax, such as .*; got {came}\.$"):
            rnnjax.RNN(wrong)


@pytest.mark.parametrize("layer", [rnnjax.LSTM(H), rnnjax.Bidirectional(rnnjax.RNN(rnnjax.GRUCell(H)))])
def test_intermediates_can_be_captured_under_jit(layer):
    variables = layer.init(KEY, X)
    y, captured = jax.jit(lambda v: layer.apply(v, X, capture_intermediates=lambda *_: True))(variables)
    np.testing.assert_allclose(captured["intermediates"]["__call__"][0], layer.apply(variables, X), atol=1e-6)
    np.testing.assert_array_equal(captured["intermediates"]["__call__"][0], y)


def test_strict_promotion_of_types():
    layer = rnnjax.LSTM(H, dropout_rate=0.3, recurrent_dropout_rate=0.3, deterministic=False)
    with jax.numpy_dtype_promotion("strict"):
        variables = layer.init({"params": KEY, "dropout": KEY}, X)
        y = layer.apply(variables, X, lengths=LENGTHS, rngs={"dropout": KEY})
    np.testing.assert_array_equal(y, layer.apply(variables, X, lengths=LENGTHS, rngs={"dropout": KEY}))


def test_under_jit_vmap_and_scan_of_jax():
    layer = rnnjax.GRU(H)
    variables = layer.init(KEY, X)
    batches = np.stack([X, 2 * X])
    mapped = jax.jit(jax.vmap(lambda x: layer.apply(variables, x)))(batches)
    scanned = jax.lax.scan(lambda _, x: (None, layer.apply(variables, x)), None, batches)[1]
    for number, batch in enumerate(batches):
        expected = layer.apply(variables, batch)
        np.testing.assert_allclose(mapped[number], expected, atol=1e-6)
        np.testing.assert_allclose(scanned[number], expected, atol=1e-6)
