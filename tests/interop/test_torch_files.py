"""Files that PyTorch wrote give the same outputs here, and files written here give the same outputs in PyTorch."""

import jax
import numpy as np
import pytest
from frameworks import import_torch

import rnnjax
from rnnjax.interop import load, save
from rnnjax.models.classifier import Classifier

torch = import_torch()
pytest.importorskip("safetensors", reason="reads .safetensors, which needs safetensors")

TOKENS = np.asarray([[3, 1, 2, 4, 6], [2, 5, 0, 0, 0]])
ORDER = ["embedding", "encoder", "above", "hidden", "relu", "output"]


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.output = torch.nn.Linear(6, 2)  # not in the order of the calls
        self.embedding = torch.nn.Embedding(7, 4)
        self.encoder = torch.nn.LSTM(4, 3, num_layers=2, bidirectional=True, batch_first=True)
        self.above = torch.nn.GRU(6, 5, batch_first=True, bias=False)
        self.hidden = torch.nn.Linear(5, 6, bias=False)

    def forward(self, tokens, last=False):
        x, _ = self.encoder(self.embedding(tokens))
        x, _ = self.above(x)
        x = x[:, -1] if last else x
        return self.output(torch.relu(self.hidden(x)))


def write(path, state_dict):
    if path.suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(state_dict, path)
    else:
        torch.save(state_dict, path)


def read(path):
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, weights_only=True)


def outputs_of(network, *arguments):
    return network(*arguments).detach().numpy()


@pytest.mark.parametrize("end", ["pt", "pth", "safetensors"])
def test_there_and_back(end, tmp_path):
    torch.manual_seed(0)
    theirs = Network()
    path = tmp_path / f"model.{end}"
    write(path, theirs.state_dict())
    model, variables = load(path, layers=ORDER)
    want = outputs_of(theirs, torch.tensor(TOKENS))
    np.testing.assert_allclose(jax.jit(model.apply)(variables, TOKENS), want, rtol=0, atol=1e-6)
    last, variables = load(path, layers=ORDER, return_sequences=False)
    want_last = outputs_of(theirs, torch.tensor(TOKENS), True)
    np.testing.assert_allclose(jax.jit(last.apply)(variables, TOKENS), want_last, rtol=0, atol=1e-6)

    save(path, model, variables)
    again = Network()
    again.load_state_dict(read(path))
    np.testing.assert_allclose(outputs_of(again, torch.tensor(TOKENS)), want, rtol=0, atol=1e-6)


@pytest.mark.parametrize("make", [torch.nn.RNN, torch.nn.LSTM, torch.nn.GRU])
def test_a_layer_alone(make, tmp_path):
    """Its state_dict has no names before those of the weights, and neither has that of a layer written here."""
    torch.manual_seed(0)
    theirs = make(4, 3, num_layers=2, batch_first=True)
    x = np.random.default_rng(0).standard_normal((2, 5, 4)).astype(np.float32)
    want = theirs(torch.tensor(x))[0].detach().numpy()
    write(tmp_path / "layer.pt", theirs.state_dict())
    model, variables = load(tmp_path / "layer.pt")
    np.testing.assert_allclose(jax.jit(model.apply)(variables, x), want, rtol=0, atol=1e-6)

    (name,) = model.layers
    save(tmp_path / "again.safetensors", model.layers[name], {"params": variables["params"][name]})
    again = make(4, 3, num_layers=2, batch_first=True)
    again.load_state_dict(read(tmp_path / "again.safetensors"))
    np.testing.assert_allclose(again(torch.tensor(x))[0].detach().numpy(), want, rtol=0, atol=1e-6)


def test_the_order_that_needs_not_be_said(tmp_path):
    """An embedding, by its name, then numbered recurrent layers, then the dense layer; nonlinearity as asked for."""
    torch.manual_seed(0)
    modules = {
        "fc": torch.nn.Linear(3, 2),
        "rnn10": torch.nn.RNN(4, 3, nonlinearity="relu", batch_first=True),
        "rnn9": torch.nn.RNN(5, 4, nonlinearity="relu", batch_first=True),
        "word_embeddings": torch.nn.Embedding(7, 5),
    }
    theirs = torch.nn.ModuleDict(modules)
    write(tmp_path / "model.safetensors", theirs.state_dict())
    model, variables = load(tmp_path / "model.safetensors", nonlinearity="relu")
    assert list(model.layers) == ["word_embeddings", "rnn9", "rnn10", "fc"]
    x, _ = modules["rnn9"](modules["word_embeddings"](torch.tensor(TOKENS)))
    want = outputs_of(modules["fc"], modules["rnn10"](x)[0])
    np.testing.assert_allclose(jax.jit(model.apply)(variables, TOKENS), want, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["state_dict", "model_state_dict"])
def test_weights_within_a_checkpoint(name, tmp_path):
    theirs = torch.nn.LSTM(4, 3)
    torch.save({"epoch": 3, name: theirs.state_dict()}, tmp_path / "checkpoint.pt")
    _, variables = load(tmp_path / "checkpoint.pt")
    got = variables["params"]["lstm"]["recurrence"]["kernel"]
    assert np.asarray(got).shape == (4, 12)
    np.testing.assert_array_equal(np.asarray(got)[:, :3], theirs.weight_ih_l0.detach().numpy()[:3].T)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions(dtype, tmp_path):
    """The short ones become float32, which changes no value."""
    theirs = torch.nn.GRU(4, 3, dtype=dtype)
    for end in ("pt", "safetensors"):
        write(tmp_path / f"model.{end}", theirs.state_dict())
        _, variables = load(tmp_path / f"model.{end}")
        got = variables["params"]["gru"]["recurrence"]["bias"]
        assert got.dtype == (np.float64 if dtype == torch.float64 else np.float32)
        np.testing.assert_array_equal(got[6:], theirs.bias_ih_l0.detach()[6:].double().numpy())


def test_a_classifier_of_ours_in_pytorch(tmp_path):
    encoder = rnnjax.Stack([rnnjax.LSTM(5), rnnjax.LSTM(5, return_sequences=False)])
    model = Classifier(vocabulary_size=7, num_classes=3, embedding_size=4, encoder=encoder)
    variables = jax.jit(model.init)(jax.random.key(0), TOKENS)
    save(tmp_path / "model.pt", model, variables)

    class Peer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = torch.nn.Embedding(7, 4)
            self.recurrent = torch.nn.LSTM(4, 5, num_layers=2, batch_first=True)
            self.output = torch.nn.Linear(5, 3)

        def forward(self, tokens):
            return self.output(self.recurrent(self.embedding(tokens))[0][:, -1])

    theirs = Peer()
    theirs.load_state_dict(read(tmp_path / "model.pt"))
    want = jax.jit(model.apply)(variables, TOKENS)
    np.testing.assert_allclose(outputs_of(theirs, torch.tensor(TOKENS)), want, rtol=0, atol=1e-6)


class Anything:
    pass


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (Anything(), r"expected a state_dict that PyTorch saved; it cannot be read \(UnpicklingError: Weights only"),
        (torch.nn.LSTM(4, 3), r"cannot be read \(UnpicklingError"),
        ([torch.zeros(2)], "expected a state_dict, names and tensors; got list"),
        ({"epoch": 3}, "expected a state_dict, names and tensors"),
        ({}, "expected layers with weights; got none"),
        (torch.nn.LSTM(4, 3, proj_size=2).state_dict(), "expected an LSTM without proj_size"),
        (torch.nn.BatchNorm1d(3).state_dict(), "expected floating-point weights; num_batches_tracked is of int64"),
        (torch.nn.LayerNorm(3).state_dict(), "expected the weights of RNN, LSTM, GRU, Embedding or Linear"),
        (torch.nn.LSTMCell(4, 3).state_dict(), "expected the weights of RNN, LSTM, GRU, Embedding or Linear"),
        ({"weight_hh_l0": torch.zeros(6, 3)}, "expected a recurrent kernel of 1, 3 or 4 blocks; got 3 times 6"),
        ({"weight_hh_l0": torch.zeros(12, 3)}, "expected weight_ih_l0 in the state_dict; got weight_hh_l0"),
        ({"a.weight": torch.zeros(3, 4), "b.weight": torch.zeros(4, 5)}, "several layers .*expected their order"),
    ],
)
def test_what_a_pt_file_must_not_hold(content, message, tmp_path):
    path = tmp_path / "model.pt"
    torch.save(content, path)
    with pytest.raises(ValueError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_layers_that_do_not_fit(tmp_path):
    path = tmp_path / "model.pt"
    torch.save(Network().state_dict(), path)
    with pytest.raises(ValueError, match="expected layers that fit each other in the order embedding, above, encoder"):
        load(path, layers=["embedding", "above", "encoder", "hidden", "relu", "output"])
    for wrong in (ORDER[1:], [*ORDER, "encoder"], [*ORDER, "gelu"]):
        with pytest.raises(ValueError, match=r"expected layers to name each of .* once"):
            load(path, layers=wrong)
