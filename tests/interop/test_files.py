"""Files by the ends of their names: what is written is read again, and what is broken or foreign is refused."""

import io
import json
import pickle
import sys
import zipfile

import jax
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given
from hypothesis import strategies as st

import rnnjax
from rnnjax.interop import Sequential, load, save

h5py = pytest.importorskip("h5py", reason="reads files of Keras, which needs h5py")
safetensors = pytest.importorskip("safetensors.numpy", reason="reads .safetensors, which needs safetensors")

TOKENS = np.asarray([[3, 1, 2, 4], [2, 5, 0, 0]])


def random_variables(model, x):
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape).astype(np.float32), shapes)


def make_model():
    layers = {
        "embedding": rnnjax.Embedding(7, 3),
        "dropout": nn.Dropout(0.25),
        "both": rnnjax.Bidirectional(rnnjax.GRU(2, reset_after=False, dropout_rate=0.5), merge="average"),
        "spatial": rnnjax.VariationalDropout(0.5),
        "simple": rnnjax.SimpleRNN(3, activation_fn=nn.relu, use_bias=False, recurrent_dropout_rate=0.5),
        "last": rnnjax.LSTM(4, reverse=True, return_sequences=False),
        "hidden": nn.Dense(3, use_bias=False),
        "relu": nn.relu,
        "output": nn.Dense(2),
        "softmax": nn.softmax,
    }
    return Sequential(layers, mask_zero=True)


@pytest.fixture
def keras_file(tmp_path):
    model = make_model()
    save(tmp_path / "model.keras", model, random_variables(model, TOKENS))
    return tmp_path / "model.keras"


def test_a_keras_file_holds_everything(keras_file):
    model, variables = load(keras_file)
    assert model == make_model()
    want = random_variables(model, TOKENS)
    assert jax.tree.structure(variables) == jax.tree.structure(want)
    jax.tree.map(np.testing.assert_array_equal, variables, want)


def test_the_same_model_gives_the_same_bytes(keras_file):
    before = {name: zipfile.ZipFile(keras_file).read(name) for name in zipfile.ZipFile(keras_file).namelist()}
    model, variables = load(keras_file)
    save(keras_file, model, variables)
    assert before == {name: zipfile.ZipFile(keras_file).read(name) for name in before}


@pytest.mark.parametrize("end", ["weights.h5", "safetensors"])
def test_a_file_of_weights_alone(end, tmp_path):
    """It says which layers there are and whether they have biases; order and settings are the caller's to say."""
    layers = {
        "embedding": rnnjax.Embedding(7, 3),
        "lstm": rnnjax.LSTM(4, use_bias=False),
        "lstm_1": rnnjax.Bidirectional(rnnjax.LSTM(5)),
        "dense": nn.Dense(2),
    }
    order = list(layers)
    if end == "weights.h5":  # whose names are those of Keras's classes
        order[1:3] = ["lstm", "bidirectional"]
    model = Sequential(dict(zip(order, layers.values(), strict=True)))
    variables = random_variables(model, TOKENS)
    path = tmp_path / f"model.{end}"
    save(path, model, variables)
    again, read = load(path, layers=order)
    assert again == model
    jax.tree.map(np.testing.assert_array_equal, read, variables)
    last, _ = load(path, layers=[*order, "sigmoid"], return_sequences=False)
    assert list(last.layers) == [*order, "sigmoid"]
    assert last.layers[order[2]].return_sequences is False


def test_layers_are_told_by_their_shapes(tmp_path):
    """The kind of the cells inside Bidirectional, and the form of a GRU."""
    for layer in (rnnjax.SimpleRNN(3), rnnjax.LSTM(3), rnnjax.GRU(3), rnnjax.GRU(3, reset_after=False)):
        model = Sequential({"bidirectional": rnnjax.Bidirectional(layer)})
        variables = random_variables(model, np.zeros((1, 1, 2), np.float32))
        save(tmp_path / "model.weights.h5", model, variables)
        again, _ = load(tmp_path / "model.weights.h5")
        assert again == model


def test_shorter_types_are_written_as_float32(tmp_path):
    model = rnnjax.LSTM(3)
    variables = random_variables(model, np.zeros((1, 1, 2), np.float32))
    variables = jax.tree.map(lambda leaf: leaf.astype(jax.numpy.bfloat16), variables)
    save(tmp_path / "model.safetensors", model, variables)
    arrays = safetensors.load_file(tmp_path / "model.safetensors")
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}


def change_config(path, change):
    """Write a .keras file again with another configuration."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    change(config["config"]["layers"])
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (members | {"config.json": json.dumps(config)}).items():
            archive.writestr(name, content)


def one_more(layers):
    layers.append({**layers[9], "config": {**layers[9]["config"], "name": "more"}})


def drop_class(layers):
    del layers[3]["class_name"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda layers: layers[3].update(class_name="Lambda"),
            "expected one of .*; got Lambda, which cannot be converted",
        ),
        (
            lambda layers: layers[3].update(module="os"),
            "layer 'both': expected one of Keras's own; got Bidirectional of os",
        ),
        (
            lambda layers: layers[9]["config"].update(units=3),
            r"Dense\(3\) expects kernel of shape \(D, 3\); got \(3, 2\)",
        ),
        (lambda layers: layers[9]["config"].update(activation={"class_name": "f"}), "expected activation linear"),
        (lambda layers: layers.pop(5), "expected layers that fit each other"),
        (lambda layers: layers[6]["config"].update(units=-1), r"LSTM expects features, an integer >= 1; got -1"),
        (drop_class, r"expected a model that Keras 3 saved; it cannot be read \(KeyError: 'class_name'\)"),
        (lambda layers: layers.clear(), "expected layers with weights; got none"),
        (lambda layers: layers.append(layers[9]), "expected layers of different names"),
        (one_more, "expected weights at layers/dense_2/vars; the file has none there"),
    ],
)
def test_a_configuration_that_cannot_be_used(change, message, keras_file):
    change_config(keras_file, change)
    with pytest.raises(ValueError, match=message):
        load(keras_file)


def change_weights(path, change):
    """Write a .weights.h5 file as `change` makes it of the weights of one LSTM."""
    model = Sequential({"lstm": rnnjax.LSTM(3)})
    save(path, model, random_variables(model, np.zeros((1, 1, 2), np.float32)))
    with h5py.File(path, "a") as file:
        change(file["layers/lstm/cell/vars"])


def replace(group, value):
    del group["2"]
    group["2"] = value


def soft_link(group):
    replace(group, h5py.SoftLink("/layers/lstm/cell/vars/1"))


def external_link(group):
    replace(group, h5py.ExternalLink("elsewhere.h5", "/weights"))


def external_array(group):
    del group["2"]
    group.create_dataset("2", (12,), "f4", external=[("elsewhere.bin", 0, 48)])


def virtual_array(group):
    layout = h5py.VirtualLayout((12,), "f4")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "weights", (12,))
    del group["2"]
    group.create_virtual_dataset("2", layout)


def endless_array(group):
    del group["2"]
    group.create_dataset("2", (10**15,), "f4", chunks=(1024,))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (soft_link, "expected weights at 2; the file has none there"),
        (external_link, "expected weights at 2; the file has none there"),
        (external_array, "expected an array that is stored in the file as it is"),
        (virtual_array, "expected an array that is stored in the file as it is"),
        (endless_array, "expected an array that is stored in the file as it is"),
        (lambda group: replace(group, np.zeros(12, np.int32)), "expected floating-point weights; .* is of int32"),
        (lambda group: replace(group, np.zeros(11, np.float32)), r"bias of shape \(12,\); got \(11,\)"),
        (lambda group: group.create_dataset("4", data=np.zeros(1)), "expected arrays named 0, 1, ...; got 0, 1, 2, 4"),
        (
            lambda group: group.file.create_dataset("layers/norm/vars/0", data=np.zeros(1)),
            "layer 'norm': expected one of",
        ),
        (lambda group: group.file.move("layers", "other"), "expected weights that Keras 3 saved of"),
    ],
)
def test_weights_that_cannot_be_used(change, message, tmp_path):
    change_weights(tmp_path / "model.weights.h5", change)
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "model.weights.h5")


class Trap:
    """What would touch a file if it were unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("end", ["keras", "weights.h5", "safetensors"])
def test_foreign_files(end, tmp_path):
    trap = tmp_path / "sprung"
    archive = io.BytesIO()
    np.savez(archive, weights=np.asarray([Trap(str(trap))], object))
    contents = [
        b"",
        b"PK\x03\x04",
        b"\x89HDF\r\n\x1a\n",
        pickle.dumps(Trap(str(trap))),
        archive.getvalue(),
        b"{}" * 100,
    ]
    path = tmp_path / f"model.{end}"
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"expected .*; it cannot be read") as caught:
            load(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)
    assert not trap.exists()


@pytest.mark.parametrize("end", ["keras", "weights.h5", "safetensors"])
def test_damaged_files(end, tmp_path_factory):
    """Cut short or changed anywhere, a file is read or refused, and nothing else."""
    folder = tmp_path_factory.mktemp("damaged")
    model = Sequential({"lstm": rnnjax.LSTM(1), "dense": nn.Dense(1)})
    path = folder / f"model.{end}"
    save(path, model, random_variables(model, np.zeros((1, 1, 1), np.float32)))
    whole = path.read_bytes()

    @given(st.integers(0, len(whole) - 1), st.integers(1, 255), st.booleans())
    def damage(place, change, cut):
        path.write_bytes(whole[:place] if cut else whole[:place] + bytes([whole[place] ^ change]) + whole[place + 1 :])
        try:
            load(path)
        except ValueError as error:
            assert str(error).startswith(f"{path}: ")  # noqa: PT017

    damage()


def test_a_flipped_bit_of_a_weight_in_a_keras_file(keras_file):
    whole = bytearray(keras_file.read_bytes())
    weight = random_variables(make_model(), TOKENS)["params"]["output"]["kernel"].tobytes()
    whole[whole.index(weight)] ^= 1
    keras_file.write_bytes(whole)
    with pytest.raises(ValueError, match=r"expected a whole file; model\.weights\.h5 in it is damaged"):
        load(keras_file)


def test_what_keras_has_not(tmp_path):
    both = rnnjax.Bidirectional(rnnjax.LSTM(2, reverse=True))
    refused = {
        "LSTMCell.*peephole=True.* has no counterpart in Keras": rnnjax.RNN(rnnjax.LSTMCell(2, peephole=True)),
        "reverse=True to return the last output only": rnnjax.GRU(2, reverse=True),
        "expected Bidirectional over a layer that runs forwards": both,
        "got tan, which Keras has not": rnnjax.SimpleRNN(2, activation_fn=jax.numpy.tan),
    }
    for message, layer in refused.items():
        variables = random_variables(layer, np.zeros((1, 1, 2), np.float32))
        with pytest.raises(ValueError, match=message):
            save(tmp_path / "model.keras", layer, variables)
    conv = rnnjax.ConvLSTM(2, kernel_size=(3,))
    with pytest.raises(ValueError, match="ConvLSTMCell cannot be written to a file of Keras"):
        save(tmp_path / "model.keras", conv, random_variables(conv, np.zeros((1, 1, 5, 2), np.float32)))
    assert not list(tmp_path.iterdir())


def test_names_and_arguments(tmp_path, keras_file):
    model, variables = load(keras_file)
    with pytest.raises(ValueError, match=r"model\.h5: expected a name that ends in \.keras, .*; got 'model\.h5'"):
        save(tmp_path / "model.h5", model, variables)
    with pytest.raises(ValueError, match="expected no layers, return_sequences or nonlinearity"):
        load(keras_file, layers=["lstm"])
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nothing.keras")
    simple = rnnjax.SimpleRNN(2)
    save(tmp_path / "a.safetensors", simple, random_variables(simple, np.zeros((1, 1, 2), np.float32)))
    with pytest.raises(ValueError, match=r"expected nonlinearity one of relu, .*; got 'gelu'"):
        load(tmp_path / "a.safetensors", nonlinearity="gelu")


@pytest.mark.parametrize(
    ("end", "package", "mend"),
    [
        ("keras", "h5py", r"rnnjax\[interop\]"),
        ("weights.h5", "h5py", r"rnnjax\[interop\]"),
        ("safetensors", "safetensors", r"rnnjax\[interop\]"),
        ("pt", "torch", "torch"),
    ],
)
def test_a_package_that_is_missing(end, package, mend, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    message = rf"\.{end} files need {package}, which is not installed: pip install '{mend}'"
    with pytest.raises(ImportError, match=message):
        load(tmp_path / f"model.{end}")
    with pytest.raises(ImportError, match=message):
        save(tmp_path / f"model.{end}", rnnjax.LSTM(2), {"params": {}})
