"""`rnnjax convert`: what it writes gives the same outputs, its table, and one line for what it refuses."""

import shlex
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import linen as nn

import rnnjax
from rnnjax.cli import runs
from rnnjax.interop import Sequential, load, save

pytest.importorskip("h5py", reason="reads files of Keras, which needs h5py")
pytest.importorskip("safetensors", reason="reads .safetensors, which needs safetensors")

TOKENS = np.asarray([[3, 1, 2, 4], [2, 5, 0, 0]])


@pytest.fixture
def model(cwd):
    """A small model and its file model.keras."""
    layers = {
        "embedding": rnnjax.Embedding(7, 3),
        "lstm": rnnjax.LSTM(4, return_sequences=False),
        "dense": nn.Dense(2),
        "sigmoid": nn.sigmoid,
    }
    model = Sequential(layers, mask_zero=True)
    variables = jax.jit(model.init)(jax.random.key(0), TOKENS)
    save(cwd / "model.keras", model, variables)
    return model, variables


def outputs(model, variables):
    return np.asarray(jax.jit(model.apply)(variables, TOKENS))


def test_to_another_framework_and_back(model, cwd, invoke):
    ended = invoke("convert", "model.keras", "model.safetensors")
    assert ended.status == 0
    assert ended.out.splitlines() == [
        "layer      model.keras                      model.safetensors",
        "embedding  layers/embedding/vars/0 (7, 3)   embedding.weight (7, 3)",
        "lstm       layers/lstm/cell/vars/0 (3, 16)  lstm.weight_ih_l0 (16, 3)",
        "           layers/lstm/cell/vars/1 (4, 16)  lstm.weight_hh_l0 (16, 4)",
        "           layers/lstm/cell/vars/2 (16,)    lstm.bias_ih_l0 (16,)",
        "                                            lstm.bias_hh_l0 (16,)",
        "dense      layers/dense/vars/0 (4, 2)       dense.weight (2, 4)",
        "           layers/dense/vars/1 (2,)         dense.bias (2,)",
    ]
    assert "model.safetensors holds weights alone; the settings of its layers are not in it" in ended.err

    ended = invoke(
        "convert", "model.safetensors", "again.keras", "--layers=embedding,lstm,dense,sigmoid", "--last-output"
    )
    assert ended.status == 0
    assert "taken as embedding, lstm, dense, sigmoid, with the last output" in ended.err
    again, variables = load(cwd / "again.keras")
    np.testing.assert_array_equal(outputs(again.clone(mask_zero=True), variables), outputs(*model))


@pytest.mark.parametrize("name", ["imdb_run", "char_run"])
def test_a_run_folder(name, request, cwd, invoke):
    """Its best model; the zeros that pad a review are masked, as its lengths mask them here."""
    run = request.getfixturevalue(name)
    assert invoke("convert", run, "model.keras").status == 0
    model, variables = load(cwd / "model.keras")
    trained = runs.load_model(str(run), "classifier" if name == "imdb_run" else "language model", print)
    lengths = {"lengths": np.asarray([4, 2])} if name == "imdb_run" else {}
    want = jax.jit(trained.model.apply)({"params": trained.params}, TOKENS, **lengths)
    np.testing.assert_allclose(outputs(model, variables), want, rtol=0, atol=1e-6)


def test_commands_of_the_readme(imdb_run, model, cwd, invoke):
    readme = Path(__file__).resolve().parents[2] / "README.md"
    commands = [
        shlex.split(line) for line in readme.read_text("utf-8").splitlines() if line.startswith("rnnjax convert ")
    ]
    assert len(commands) == 3
    shutil.copytree(imdb_run, commands[0][2])
    shutil.copy("model.keras", "my_model.keras")
    for command in commands:
        assert invoke(*command[1:]).status == 0
    copy, variables = load("my_copy.keras")
    np.testing.assert_array_equal(outputs(copy.clone(mask_zero=True), variables), outputs(*model))


def test_nothing_is_written_over_unasked(model, cwd, invoke):
    (cwd / "other.keras").write_bytes(b"precious")
    ended = invoke("convert", "model.keras", "other.keras")
    assert ended.status == 2
    assert ended.err == "rnnjax: other.keras: expected a new file; there is one. Name another, or add --overwrite.\n"
    assert (cwd / "other.keras").read_bytes() == b"precious"
    assert invoke("convert", "model.keras", "other.keras", "--overwrite").status == 0
    np.testing.assert_array_equal(outputs(*load(cwd / "other.keras")), outputs(*model))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.keras", "a.keras"], "nothing.keras: expected a file that can be read; No such file or directory"),
        (["model.keras", "a.onnx"], "a.onnx: expected a name that ends in .keras"),
        (["model.onnx", "a.keras"], "model.onnx: expected a name that ends in .keras"),
        (["model.keras", "nowhere/a.keras"], "nowhere/a.keras: expected a file in a folder that can be written"),
        (["model.keras", "folder.keras"], "folder.keras: expected the name of a file; it is a folder"),
        (["folder", "a.keras"], "folder: expected a run folder; it holds no config.json"),
        (["cut.keras", "a.safetensors"], "cut.keras: expected a model that Keras 3 saved; it cannot be read"),
        (["cut.safetensors", "a.keras"], "cut.safetensors: expected a state_dict in safetensors; it cannot be read"),
        (["model.keras", "a.keras", "--last-output"], "--layers, --last-output, --nonlinearity: expected only with"),
        (["both.safetensors", "a.keras", "--layers", "x"], "both.safetensors: expected layers to name each of"),
        (["model.keras"], "the following arguments are required: TARGET"),
    ],
)
def test_what_is_refused(arguments, message, model, cwd, invoke, snapshot):
    whole = (cwd / "model.keras").read_bytes()
    (cwd / "cut.keras").write_bytes(whole[: len(whole) // 2])
    save(cwd / "both.safetensors", *model)
    (cwd / "cut.safetensors").write_bytes((cwd / "both.safetensors").read_bytes()[:-4])
    (cwd / "folder.keras").mkdir()
    (cwd / "folder").mkdir()
    before = snapshot(cwd)
    ended = invoke("convert", *arguments)
    assert ended.status == 2
    assert ended.out == ""
    assert message in ended.err
    assert ended.err.count("\n") == 1
    assert snapshot(cwd) == before


def test_gru_before_has_no_torch_file(cwd, invoke):
    layer = rnnjax.GRU(3, reset_after=False)
    save(cwd / "model.keras", layer, layer.init(jax.random.key(0), np.zeros((1, 1, 2), np.float32)))
    ended = invoke("convert", "model.keras", "model.safetensors")
    assert ended.status == 2
    assert "has no counterpart in PyTorch, whose GRU has the reset gate after the product" in ended.err
    assert not (cwd / "model.safetensors").exists()
