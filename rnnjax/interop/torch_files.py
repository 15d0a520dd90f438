"""Files of PyTorch: a state_dict as .safetensors, which needs no PyTorch, or as .pt, read by its safe loader only.

A state_dict holds weights and no settings, and no order of layers that could be relied on.
"""

import io
import re
import warnings
import zipfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flax import linen as nn

from rnnjax.interop.arrays import from_torch, parts
from rnnjax.interop.contents import Arrays, Contents, Found, Settings, arrange, as_floats, recurrent_layer
from rnnjax.interop.layouts import torch_shapes
from rnnjax.layers.combinators import Bidirectional, Stack
from rnnjax.layers.embedding import Embedding

RECURRENT_NAME = re.compile(r"(weight_ih|weight_hh|weight_hr|bias_ih|bias_hh)_l(\d+)(_reverse)?")
NESTED = ("state_dict", "model_state_dict")
"""Where checkpoints of training programs keep the weights."""


def read_safetensors(path: Path, settings: Settings) -> Contents:
    """A model from a .safetensors file; ValueError where there is none that can be converted."""
    from safetensors.numpy import load_file

    return model_from_state_dict(as_floats(load_file(path)), settings)


def read_pt(path: Path, settings: Settings) -> Contents:
    """A model from a .pt file; ValueError as above, also for a file that is a pickle of more than tensors."""
    import torch

    if not zipfile.is_zipfile(path):
        raise ValueError("expected a state_dict that PyTorch 1.6 or newer saved; this is no zip archive.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content = torch.load(path, map_location="cpu", weights_only=True)
    for name in NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if not isinstance(content, Mapping) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise ValueError(f"expected a state_dict, names and tensors; got {type(content).__name__} of something else.")
    tensors = {str(name): tensor.detach() for name, tensor in content.items()}
    short = (torch.float16, torch.bfloat16)
    arrays = {name: (t.float() if t.dtype in short else t).numpy() for name, t in tensors.items()}
    return model_from_state_dict(as_floats(arrays), settings)


def model_from_state_dict(state_dict: Arrays, settings: Settings) -> Contents:
    """A model with these weights.

    Raises:
        ValueError: weights of layers that cannot be converted, or whose order must be given.
    """
    groups: dict[str, Arrays] = defaultdict(dict)
    for name, array in state_dict.items():
        group, _, last = name.rpartition(".")
        groups[group][last] = array
    return arrange([_find(name, arrays, settings) for name, arrays in groups.items()], settings)


def _find(name: str, arrays: Arrays, settings: Settings) -> Found:
    """The layer that these weights belong to."""
    layer: Any
    if "weight_hh_l0" in arrays and all(RECURRENT_NAME.fullmatch(key) for key in arrays):
        if any(key.startswith("weight_hr") for key in arrays):
            raise ValueError(f"{name or 'LSTM'}: expected an LSTM without proj_size, which cannot be converted.")
        layer = _recurrent(arrays, settings)
    elif arrays.keys() <= {"weight", "bias"} and "weight" in arrays and arrays["weight"].ndim == 2:
        rows, columns = arrays["weight"].shape
        # A dense layer without bias looks the same.
        is_first = "emb" in name.lower() if settings.layers is None else name == settings.layers[0]
        if is_first and "bias" not in arrays:
            layer = Embedding(rows, columns, parent=None)
        else:
            layer = nn.Dense(rows, use_bias="bias" in arrays, parent=None)
    else:
        raise ValueError(
            f"{name or 'the state_dict'}: expected the weights of RNN, LSTM, GRU, Embedding or Linear; "
            f"got {', '.join(arrays)}."
        )
    params = from_torch(layer, arrays)
    prefix = f"{name}." if name else ""
    named = [
        {prefix + key + part.suffix: arrays[key + part.suffix] for key in torch_shapes(part.module)}
        for part in parts(layer)
    ]
    return Found(name or type(layer).__name__.lower(), layer, params, named)


def _recurrent(arrays: Arrays, settings: Settings) -> Any:
    """The layer or the stack of layers of one `nn.RNN`, `nn.LSTM` or `nn.GRU`."""
    if arrays["weight_hh_l0"].ndim != 2:
        raise ValueError(f"expected weight_hh_l0 with two axes; got {arrays['weight_hh_l0'].shape}.")
    columns, features = arrays["weight_hh_l0"].shape
    layer: Any = recurrent_layer(columns, features, settings, use_bias="bias_ih_l0" in arrays)
    if "weight_hh_l0_reverse" in arrays:
        layer = Bidirectional(layer)
    count = sum(re.fullmatch(r"weight_hh_l\d+", name) is not None for name in arrays)
    return layer if count == 1 else Stack([layer] * count)


def safetensors_bytes(state_dict: Arrays) -> bytes:
    """A .safetensors file."""
    from safetensors.numpy import save

    content: bytes = save(state_dict, metadata={"format": "pt"})
    return content


def pt_bytes(state_dict: Arrays) -> bytes:
    """A .pt file."""
    import torch

    content = io.BytesIO()
    torch.save({name: torch.from_numpy(array.copy()) for name, array in state_dict.items()}, content)
    return content.getvalue()
