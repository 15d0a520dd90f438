"""Files that Keras wrote give the same outputs here, and files written here give the same outputs in Keras."""

import jax
import numpy as np
import pytest
from flax import linen as nn
from frameworks import import_keras

import rnnjax
from rnnjax.interop import Sequential, load, save

keras = import_keras()
layers = keras.layers

# Keras's own, upon PyTorch: its variables do not know of the `copy` that NumPy 2 asks for.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

TOKENS = np.asarray([[3, 1, 2, 4, 6], [2, 5, 0, 0, 0], [0, 1, 0, 3, 0]], np.int32)
VECTORS = np.random.default_rng(0).standard_normal((3, 5, 4)).astype(np.float32)


def randomize(model):
    rng = np.random.default_rng(1)
    shapes = [tuple(weight.shape) for weight in model.weights]
    model.set_weights([(0.7 * rng.standard_normal(shape) + 0.1).astype(np.float32) for shape in shapes])
    return model


def outputs_of(model, x):
    return model(x).detach().cpu().numpy()


def classifier():
    return [
        keras.Input((None,), dtype="int32"),
        layers.Embedding(7, 4, mask_zero=True),
        layers.SpatialDropout1D(0.2),
        layers.Bidirectional(layers.LSTM(3, return_sequences=True, dropout=0.1, recurrent_dropout=0.1)),
        layers.GRU(4, name="mine"),
        layers.Dropout(0.3),
        layers.Dense(5, activation="relu"),
        layers.Dense(2, activation="softmax"),
    ]


def every_option():
    return [
        keras.Input((None, 4)),
        layers.SimpleRNN(3, activation="relu", return_sequences=True),
        layers.RNN(layers.GRUCell(3, reset_after=False), return_sequences=True),
        layers.Bidirectional(layers.GRU(2, return_sequences=True, use_bias=False), merge_mode="ave"),
        layers.TimeDistributed(layers.Dense(3, use_bias=False)),
        layers.Activation("tanh"),
        layers.Bidirectional(layers.SimpleRNN(3, return_sequences=True), merge_mode="mul"),
        layers.LSTM(3, go_backwards=True, stateful=False),
    ]


MODELS = {"classifier": (classifier, TOKENS), "every option": (every_option, VECTORS)}


def functional(make):
    """The same layers as a functional model, whose configuration has another form."""
    inputs, *others = make()
    x = inputs
    for layer in others:
        x = layer(x)
    return keras.Model(inputs, x)


@pytest.mark.parametrize("build", [lambda make: keras.Sequential(make()), functional], ids=["sequential", "functional"])
@pytest.mark.parametrize("name", MODELS)
def test_keras_file_there_and_back(name, build, tmp_path):
    make, x = MODELS[name]
    theirs = randomize(build(make))
    want = outputs_of(theirs, x)
    theirs.save(tmp_path / "theirs.keras")

    model, variables = load(tmp_path / "theirs.keras")
    np.testing.assert_allclose(jax.jit(model.apply)(variables, x), want, rtol=0, atol=1e-5)
    assert model.mask_zero == (name == "classifier")

    save(tmp_path / "ours.keras", model, variables)
    again = keras.saving.load_model(tmp_path / "ours.keras")
    np.testing.assert_allclose(outputs_of(again, x), want, rtol=0, atol=1e-6)


def test_weights_file_there_and_back(tmp_path):
    theirs = randomize(keras.Sequential(classifier()))
    want = outputs_of(theirs, TOKENS)
    theirs.save_weights(tmp_path / "theirs.weights.h5")

    order = ["embedding", "bidirectional", "gru", "dense", "relu", "dense_1", "softmax"]
    model, variables = load(tmp_path / "theirs.weights.h5", layers=order, return_sequences=False)
    got = jax.jit(model.clone(mask_zero=True).apply)(variables, TOKENS)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)

    save(tmp_path / "ours.weights.h5", model, variables)
    again = keras.Sequential(classifier())
    again.load_weights(tmp_path / "ours.weights.h5")
    np.testing.assert_allclose(outputs_of(again, TOKENS), want, rtol=0, atol=1e-6)


def test_a_model_of_ours_in_keras(tmp_path):
    """At masked steps Keras gives what we do: the outputs are zeros there."""
    stack = rnnjax.Stack([rnnjax.Bidirectional(rnnjax.LSTM(3), merge="sum"), rnnjax.GRU(4)])
    model = Sequential({"embedding": rnnjax.Embedding(7, 4), "stack": stack, "relu": nn.relu}, mask_zero=True)
    variables = jax.jit(model.init)(jax.random.key(0), TOKENS)
    save(tmp_path / "ours.keras", model, variables)
    theirs = keras.saving.load_model(tmp_path / "ours.keras")
    np.testing.assert_allclose(outputs_of(theirs, TOKENS), jax.jit(model.apply)(variables, TOKENS), rtol=0, atol=1e-6)
    assert [layer.name for layer in theirs.layers] == ["embedding", "stack_0", "stack_1", "relu"]


def two_inputs():
    a, b = keras.Input((None, 4)), keras.Input((None, 4))
    return keras.Model([a, b], layers.Dense(2)(layers.Concatenate()([layers.LSTM(3)(a), layers.LSTM(3)(b)])))


def with_state():
    inputs = keras.Input((None, 4))
    y, state = layers.GRU(3, return_sequences=True, return_state=True)(inputs)
    return keras.Model(inputs, layers.GRU(3)(y, initial_state=state))


def residual():
    inputs = keras.Input((None, 4))
    return keras.Model(inputs, layers.Add()([inputs, layers.GRU(4, return_sequences=True)(inputs)]))


@keras.saving.register_keras_serializable()
class Doubled(layers.Layer):
    def call(self, x):
        return 2 * x


OTHER = layers.LSTM(3, use_bias=False, go_backwards=True)


def chain(*others):
    return lambda: keras.Sequential([keras.Input((None, 4)), *others])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (chain(layers.Lambda(lambda x: x)), "expected one of .*; got Lambda, which cannot be converted"),
        (chain(Doubled(name="doubled")), "layer 'doubled': expected one of Keras's own; got Doubled"),
        (chain(layers.LSTM(3, activation="relu")), "expected activation tanh, .*; got 'relu'"),
        (chain(layers.GRU(3, recurrent_activation="hard_sigmoid")), "expected recurrent_activation='sigmoid', .*"),
        (chain(layers.LSTM(3, go_backwards=True, return_sequences=True)), "go_backwards without return_sequences"),
        (chain(layers.RNN([layers.LSTMCell(3), layers.LSTMCell(3)])), "expected a cell of .*; got 'StackedRNNCells'"),
        (
            chain(layers.Bidirectional(layers.LSTM(3), merge_mode=None)),
            "expected merge_mode one of concat, .*; got None",
        ),
        (
            chain(
                layers.Bidirectional(layers.LSTM(3), backward_layer=layers.LSTM(3, use_bias=False, go_backwards=True))
            ),
            "two that differ in more",
        ),
        (chain(layers.LSTM(3, dtype="mixed_bfloat16")), "expected dtype float32 or float64, .*; got 'mixed_bfloat16'"),
        (chain(layers.Masking(), layers.LSTM(3)), "got Masking, which cannot be converted"),
        (two_inputs, "expected a model of one input; got input_layer"),
        (with_state, "expected (one input, the layer before it|return_state=False)"),
        (residual, "expected one input, the layer before it; got"),
    ],
)
def test_what_cannot_be_carried_over(make, message, tmp_path):
    make().save(tmp_path / "theirs.keras")
    with pytest.raises(ValueError, match=message) as caught:
        load(tmp_path / "theirs.keras")
    assert str(caught.value).startswith(f"{tmp_path / 'theirs.keras'}: ")
    assert "\n" not in str(caught.value)
