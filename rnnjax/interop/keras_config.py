"""A Keras 3 model's configuration, the JSON in a .keras file, from and to a `Sequential`.

Only names and numbers are read: no class that the file names is looked up, and no code in it runs. What is not known
here, or has an option that cannot be carried over, is refused.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from flax import linen as nn

from rnnjax.cells.gru import GRUCell
from rnnjax.cells.lstm import LSTMCell
from rnnjax.cells.simple import SimpleRNNCell
from rnnjax.interop.arrays import get, parts
from rnnjax.interop.layouts import keras_shapes
from rnnjax.interop.sequential import FUNCTIONS, Sequential
from rnnjax.layers.combinators import Bidirectional, Stack
from rnnjax.layers.dropout import VariationalDropout
from rnnjax.layers.embedding import Embedding
from rnnjax.layers.recurrent import GRU, LSTM, RecurrentLayer, SimpleRNN

GROUPS = {
    "Bidirectional": "bidirectional",
    "Dense": "dense",
    "Embedding": "embedding",
    "GRU": "gru",
    "LSTM": "lstm",
    "RNN": "rnn",
    "SimpleRNN": "simple_rnn",
    "TimeDistributed": "time_distributed",
}
"""Class -> group of its weights in the file, where a second layer of the class has `_1` after it, and so on."""
CELLS = {"SimpleRNN": SimpleRNN, "LSTM": LSTM, "GRU": GRU}
MERGES = {"concat": "concat", "sum": "sum", "mul": "mul", "ave": "average"}
CLASS_OF = {SimpleRNNCell: "SimpleRNN", LSTMCell: "LSTM", GRUCell: "GRU"}
DTYPES = ("float32", "float64")


class Placed(NamedTuple):
    """A layer that has weights, and where they are."""

    layer: Any
    """Ours: a recurrent layer, `Bidirectional`, `Embedding` or `nn.Dense`."""
    path: tuple[str, ...]
    """Of its parameters, in the tree of the `Sequential`."""
    group: str
    """Of its weights, in a Keras file."""

    @property
    def variables(self) -> list[str]:
        """The groups that hold the arrays of each of the layer's parts."""
        if isinstance(self.layer, Bidirectional):
            return [f"{self.group}/{side}_layer/cell/vars" for side in ("forward", "backward")]
        return [f"{self.group}/cell/vars" if isinstance(self.layer, RecurrentLayer) else f"{self.group}/vars"]


def model_from_config(config: Any) -> tuple[Sequential, list[Placed]]:
    """The model that a configuration describes, and the layers of it that have weights.

    Raises:
        ValueError: it is not a chain of layers, or has a layer or option that cannot be carried over.
    """
    named: list[tuple[str, Any]] = []
    placed = []
    mask_zero = False
    groups = _groups(config)
    for number, entry in enumerate(_chain(config)):
        kind, options = _class_of(entry), entry["config"]
        name = options["name"]
        layer, function = _layer(kind, options)
        if kind == "Embedding" and options.get("mask_zero"):
            if number:
                raise _refusal(options, "mask_zero, which only the first layer may have", True)
            mask_zero = True
        if layer is not None:
            named.append((name, layer))
        if kind in GROUPS:
            placed.append(Placed(layer, (name,), groups[name]))
        if function != "linear":
            named.append((name if layer is None else f"{name}_{function}", FUNCTIONS[function]))
    layers = dict(named)
    if len(layers) < len(named):
        raise ValueError(f"expected layers of different names; got {', '.join(name for name, _ in named)}.")
    return Sequential(layers, mask_zero=mask_zero), placed


def _chain(config: Any) -> list[dict[str, Any]]:
    """The layers' entries in the order of their calls, without those of the inputs."""
    kind, entries = config["class_name"], config["config"]["layers"]
    if kind == "Sequential":
        return [entry for entry in entries if entry["class_name"] != "InputLayer"]
    chain = []
    # NotEqual is what Keras writes for the mask of an Embedding with mask_zero.
    before = [entry["name"] for entry in entries if entry["class_name"] == "InputLayer"]
    if len(before) != 1:
        raise ValueError(f"expected a model of one input; got {', '.join(before) or 'none'}.")
    masks = [entry["name"] for entry in entries if entry["class_name"] == "NotEqual"]
    for entry in entries:
        if entry["class_name"] in ("InputLayer", "NotEqual"):
            continue
        nodes = entry["inbound_nodes"]
        tensors = list(_tensors([node["args"] for node in nodes]))
        others = list(_tensors([node["kwargs"] for node in nodes]))
        if len(nodes) != 1 or tensors != before or any(name not in masks for name in others):
            came = ", ".join(tensors + others) or "none"
            raise ValueError(f"layer {entry['name']!r}: expected one input, the layer before it; got {came}.")
        chain.append(entry)
        before = [entry["name"]]
    outputs = list(_names(config["config"]["output_layers"]))
    if outputs != before:
        raise ValueError(f"expected one output, of the last layer; got those of {', '.join(outputs)}.")
    return chain


def _tensors(value: Any) -> Iterator[str]:
    """The layers whose outputs are among a node's arguments."""
    if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
        yield value["config"]["keras_history"][0]
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _tensors(inner)


def _names(value: Any) -> Iterator[str]:
    """The layers in `output_layers`, which is `[name, 0, 0]` or a list of such."""
    if isinstance(value, list) and value and isinstance(value[0], str):
        yield value[0]
    else:
        for inner in value:
            yield from _names(inner)


def _groups(config: Any) -> dict[str, str]:
    """For each layer that may have weights, where they are: classes counted in the order of the configuration."""
    groups, seen = {}, Counter[str]()
    for entry in config["config"]["layers"]:
        group = GROUPS.get(entry["class_name"])
        if group is not None:
            number = seen[group]
            seen[group] += 1
            inner = "/layer" if group == "time_distributed" else ""
            groups[entry["config"]["name"]] = f"layers/{group}{f'_{number}' if number else ''}{inner}"
    return groups


def _class_of(entry: Any) -> str:
    """The class of a layer; ValueError where it is none of Keras's own."""
    kind, home = entry["class_name"], entry.get("module")
    if home is None or home.split(".")[0] != "keras":
        raise ValueError(f"layer {entry['config'].get('name')!r}: expected one of Keras's own; got {kind} of {home}.")
    return str(kind)


def _layer(kind: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    """Our layer and the activation after it: None for the first or "linear" for the second where there is none."""
    _check_dtype(options)
    if kind in CELLS or kind == "RNN":
        layer = _recurrent(kind, options)
        if layer.reverse and layer.return_sequences:
            raise _refusal(options, "go_backwards without return_sequences", "both, which reverse the outputs")
        return layer, "linear"
    if kind == "Bidirectional":
        return _bidirectional(options), "linear"
    if kind == "Embedding":
        _expect(options, lora_rank=None, quantization_config=None)
        return Embedding(options["input_dim"], options["output_dim"], parent=None), "linear"
    if kind == "TimeDistributed":  # a dense layer is applied to every step anyhow
        inner = options["layer"]
        if _class_of(inner) != "Dense":
            raise _refusal(options, "Dense inside TimeDistributed", inner["class_name"])
        return _layer("Dense", inner["config"])
    if kind == "Dense":
        _expect(options, lora_rank=None, quantization_config=None)
        dense = nn.Dense(options["units"], use_bias=options.get("use_bias", True), parent=None)
        return dense, _activation(options, "linear", ["linear", *FUNCTIONS])
    if kind == "Dropout":
        _expect(options, noise_shape=None)
        return nn.Dropout(options["rate"], parent=None), "linear"
    if kind == "SpatialDropout1D":
        return VariationalDropout(options["rate"], parent=None), "linear"
    if kind == "Activation":
        return None, _activation(options, "linear", ["linear", *FUNCTIONS])
    known = ", ".join([*GROUPS, "Dropout", "SpatialDropout1D", "Activation"])
    raise ValueError(f"layer {options.get('name')!r}: expected one of {known}; got {kind}, which cannot be converted.")


def _recurrent(kind: str, options: Mapping[str, Any]) -> Any:
    if kind == "RNN":
        cell = options["cell"]
        kind = _class_of(cell).removesuffix("Cell")
        if kind not in CELLS:
            raise _refusal(options, f"a cell of {', '.join(CELLS)}", cell["class_name"])
        options = {**cell["config"], **options}
        _check_dtype(cell["config"])
    _expect(options, return_state=False)
    reverse, sequences = options.get("go_backwards", False), options.get("return_sequences", False)
    fields: dict[str, Any] = {
        "use_bias": options.get("use_bias", True),
        "dropout_rate": options.get("dropout", 0.0),
        "recurrent_dropout_rate": options.get("recurrent_dropout", 0.0),
        "return_sequences": sequences,
        "reverse": reverse,
    }
    if kind == "SimpleRNN":
        fields["activation_fn"] = FUNCTIONS[_activation(options, "tanh", FUNCTIONS)]
    else:
        _activation(options, "tanh", ["tanh"])
        _expect(options, recurrent_activation="sigmoid")
    if kind == "GRU":
        fields["reset_after"] = options.get("reset_after", True)
    return CELLS[kind](options["units"], **fields)


def _bidirectional(options: Mapping[str, Any]) -> Any:
    forward, backward = (
        _recurrent(_class_of(entry), entry["config"]) for entry in (options["layer"], options["backward_layer"])
    )
    if forward.reverse or forward.clone(reverse=True) != backward:
        raise _refusal(options, "a layer and its like that runs backwards", "two that differ in more")
    merge = options.get("merge_mode")
    if merge not in MERGES:
        raise _refusal(options, f"merge_mode one of {', '.join(MERGES)}", merge)
    return Bidirectional(forward, merge=MERGES[merge])


def _check_dtype(options: Mapping[str, Any]) -> None:
    policy = options.get("dtype", "float32")
    policy = policy["config"]["name"] if isinstance(policy, dict) else policy
    if policy not in (None, *DTYPES):
        raise _refusal(options, f"dtype {' or '.join(DTYPES)}", policy)


def _activation(options: Mapping[str, Any], default: str, known: Collection[str]) -> str:
    activation = options.get("activation", default)
    if activation not in known:
        raise _refusal(options, f"activation {' or '.join(known)}", activation)
    return str(activation)


def _expect(options: Mapping[str, Any], **values: Any) -> None:
    for option, value in values.items():
        if options.get(option, value) != value:
            raise _refusal(options, f"{option}={value!r}", options[option])


def _refusal(options: Mapping[str, Any], expected: str, came: Any) -> ValueError:
    return ValueError(
        f"layer {options.get('name')!r}: expected {expected}, all that can be carried over; got {came!r}."
    )


def config_from_model(model: Sequential, params: Mapping[str, Any]) -> tuple[dict[str, Any], list[Placed]]:
    """The configuration of a Keras `Sequential` with the same outputs, and the layers of it that have weights.

    Raises:
        ValueError: a layer or option that Keras has not.
    """
    entries, placed = [], []
    seen = Counter[str]()
    for name, layer, path in _flat(model):
        kind, options = _class_and_options(layer)
        if kind == "Embedding":
            options["mask_zero"] = model.mask_zero
        entries.append(_described(kind, name, options))
        if kind in GROUPS:
            group = GROUPS[kind]
            placed.append(Placed(layer, path, f"layers/{group}{f'_{seen[group]}' if seen[group] else ''}"))
            seen[group] += 1
    if not placed:
        raise ValueError("expected a model with weights; got none.")
    first = next(parts(placed[0].layer, placed[0].path))
    inputs: dict[str, Any] = {"batch_shape": [None, None], "dtype": "int32"}
    if not isinstance(first.module, nn.Embed):
        inputs = {"batch_shape": [None, None, get(params, first.path)["kernel"].shape[0]], "dtype": "float32"}
    entries.insert(0, _described("InputLayer", "inputs", inputs))
    return {**_described("Sequential", "sequential", {"layers": entries}), "module": "keras"}, placed


def _described(kind: str, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """A layer's entry in a configuration."""
    config = {"name": name, **options}
    return {"module": "keras.layers", "class_name": kind, "config": config, "registered_name": None}


def _flat(model: Sequential) -> Iterator[tuple[str, Any, tuple[str, ...]]]:
    """Name, layer and path, with the layers of each `Stack` one by one and told what the stack tells them."""
    for name, layer in model.layers.items():
        yield from _unstacked(name, layer, (name,))


def _unstacked(name: str, layer: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any, tuple[str, ...]]]:
    if not isinstance(layer, Stack):
        yield name, layer, path
        return
    for number, inner in enumerate(layer.layers):
        is_last = number == len(layer.layers) - 1
        sequences = layer.return_sequences if is_last else True
        if sequences is not None:
            inner = inner.clone(return_sequences=sequences)
        yield from _unstacked(f"{name}_{number}", inner, (*path, f"layer_{number}"))


def _class_and_options(layer: Any) -> tuple[str, dict[str, Any]]:
    """Of one Keras layer; ValueError where Keras has none."""
    if isinstance(layer, Bidirectional):
        forward: Any = layer.layer
        if forward.reverse:
            raise ValueError("expected Bidirectional over a layer that runs forwards, as Keras has; got reverse=True.")
        if layer.return_sequences is not None:
            forward = forward.clone(return_sequences=layer.return_sequences)
        kind, options = _recurrent_class_and_options(forward)
        backward = {**options, "go_backwards": True}
        merge = next(theirs for theirs, ours in MERGES.items() if ours == layer.merge)
        return "Bidirectional", {
            "merge_mode": merge,
            "layer": _described(kind, "forward", options),
            "backward_layer": _described(kind, "backward", backward),
        }
    if isinstance(layer, RecurrentLayer):
        if layer.reverse and layer.return_sequences:
            raise ValueError(
                f"expected {type(layer).__name__} with reverse=True to return the last output only, since Keras gives "
                "the others in reverse; got return_sequences=True."
            )
        return _recurrent_class_and_options(layer)
    if isinstance(layer, nn.Embed):
        return "Embedding", {"input_dim": layer.num_embeddings, "output_dim": layer.features}
    if isinstance(layer, nn.Dense):
        return "Dense", {"units": layer.features, "use_bias": layer.use_bias}
    if isinstance(layer, nn.Dropout) and not layer.broadcast_dims:
        return "Dropout", {"rate": layer.rate}
    if isinstance(layer, VariationalDropout):
        return "SpatialDropout1D", {"rate": layer.rate}
    for name, function in FUNCTIONS.items():
        if layer is function:
            return "Activation", {"activation": name}
    came = type(layer).__name__ if isinstance(layer, nn.Module) else getattr(layer, "__name__", layer)
    raise ValueError(
        f"expected recurrent layers, Embedding, nn.Dense, nn.Dropout, {', '.join(FUNCTIONS)}; "
        f"got {came}, which Keras has not or rnnjax cannot convert."
    )


def _recurrent_class_and_options(layer: RecurrentLayer) -> tuple[str, dict[str, Any]]:
    cell: Any = layer.make_cell(parent=None)
    keras_shapes(cell)  # raises where Keras has no such cell
    if type(cell) not in CLASS_OF:
        raise ValueError(f"{type(cell).__name__} cannot be written to a file of Keras; to_keras gives its arrays.")
    options = {
        "units": cell.features,
        "use_bias": cell.use_bias,
        "dropout": cell.dropout_rate,
        "recurrent_dropout": cell.recurrent_dropout_rate,
        "return_sequences": layer.return_sequences,
        "go_backwards": layer.reverse,
        "zero_output_for_mask": layer.return_sequences,
    }
    if isinstance(cell, GRUCell):
        options["reset_after"] = cell.reset_after
    if isinstance(cell, SimpleRNNCell):
        options["activation"] = _class_and_options(cell.activation_fn)[1]["activation"]
    return CLASS_OF[type(cell)], options
