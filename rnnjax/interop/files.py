"""Models from and to files of Keras 3 and PyTorch, by the ends of their names."""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from rnnjax import atomic
from rnnjax.errors import first_line
from rnnjax.interop import torch_files
from rnnjax.interop.arrays import arrays_of_parts
from rnnjax.interop.contents import Arrays, Contents, Settings, as_floats
from rnnjax.interop.sequential import RECURRENT, Sequential, as_sequential

FORMATS = {
    ".keras": ("h5py", "a model that Keras 3 saved"),
    ".weights.h5": ("h5py", "weights that Keras 3 saved"),
    ".safetensors": ("safetensors", "a state_dict in safetensors"),
    ".pt": ("torch", "a state_dict that PyTorch saved"),
    ".pth": ("torch", "a state_dict that PyTorch saved"),
}
"""End of a file's name -> the package that reads it, and what it should hold."""


def load(
    path: str | os.PathLike[str],
    *,
    layers: Sequence[str] | None = None,
    return_sequences: bool = True,
    nonlinearity: str = "tanh",
) -> tuple[Sequential, dict[str, Any]]:
    """Read a model of Keras 3 or PyTorch: `model, variables = load("model.keras")`.

    The model gives the outputs that it gives there, at real steps where there is a mask. No code in a file is run, and
    nothing is unpickled but by PyTorch's safe loader. A .keras file holds all settings. The others hold weights alone,
    for which there are the arguments; without them an embedding comes first (in PyTorch, weights without bias that have
    "emb" in their name), then recurrent layers that are numbered, then one dense layer, without activation.

    Args:
        path: a .keras, .weights.h5, .safetensors, .pt or .pth file.
        layers: names of the layers in the order of their calls, with functions (relu, sigmoid, softmax, tanh) where
            they are called: `["embedding", "lstm", "hidden", "relu", "output"]`.
        return_sequences: whether the last recurrent layer gives the outputs of all steps.
        nonlinearity: of simple recurrent layers.

    Returns:
        A `Sequential` and its variables.

    Raises:
        ValueError: the file is broken, foreign, or holds what cannot be carried over.
        ImportError: h5py, safetensors or (for .pt) PyTorch is missing.
        OSError: there is no such file, or it cannot be read.
    """
    contents = read(Path(path), Settings(layers, return_sequences, nonlinearity))
    return contents.model, {"params": contents.params}


def save(path: str | os.PathLike[str], model: nn.Module, variables: Mapping[str, Any]) -> None:
    """Write a model for Keras 3 or PyTorch; a file of this name is written over.

    A .keras file is a Keras model, for `keras.saving.load_model`. A .weights.h5 file is for `load_weights` of a Keras
    model with the same layers. A .safetensors, .pt or .pth file holds the state_dict of a PyTorch module whose
    attributes have the names of the layers or, of one recurrent layer or a `Stack` of like ones, of the layer itself.

    Args:
        path: where to; the end of its name says the format.
        model: a `Sequential`, `Classifier`, `LanguageModel`, `Stack` or recurrent layer of rnnjax.
        variables: its variables, as `init` gives them.

    Raises:
        ValueError: a layer or option that the other framework has not, or another end of the name.
        ImportError: h5py, safetensors or (for .pt) PyTorch is missing.
        OSError: the file cannot be written.
    """
    content, _ = encode(Path(path), model, variables["params"])
    atomic.write_bytes(path, content)


def read(path: Path, settings: Settings) -> Contents:
    """What `load` reads, with the arrays as they are in the file; errors as for `load`."""
    end = _check_format(path)
    if end == ".keras" and settings != Settings():
        raise ValueError(f"{path}: expected no layers, return_sequences or nonlinearity; a .keras file holds them.")
    with _explained(path, FORMATS[end][1]):
        if end == ".safetensors":
            return torch_files.read_safetensors(path, settings)
        if end in (".pt", ".pth"):
            return torch_files.read_pt(path, settings)
        from rnnjax.interop import keras_files

        return keras_files.read_keras(path) if end == ".keras" else keras_files.read_keras_weights(path, settings)


def encode(path: Path, model: nn.Module, params: Mapping[str, Any]) -> tuple[bytes, list[Arrays]]:
    """The file that `save` writes, and the arrays in it, of each part of the model; errors as for `save`."""
    end = _check_format(path)
    params = jax.tree.map(lambda array: as_floats({"a weight": np.asarray(array)})["a weight"], params)
    if end in (".keras", ".weights.h5"):
        from rnnjax.interop import keras_files

        return keras_files.keras_bytes(*as_sequential(model, params), weights_only=end == ".weights.h5")
    if not isinstance(model, RECURRENT):
        model, params = as_sequential(model, params)
    arrays = arrays_of_parts(model, params)
    state_dict = {name: array for part in arrays for name, array in part.items()}
    if end == ".safetensors":
        return torch_files.safetensors_bytes(state_dict), arrays
    return torch_files.pt_bytes(state_dict), arrays


def _check_format(path: Path) -> str:
    """The end of a name that says the format.

    Raises:
        ValueError: it is none of those known.
        ImportError: the package for it is missing.
    """
    end = next((end for end in FORMATS if path.name.endswith(end)), None)
    if end is None:
        raise ValueError(f"{path}: expected a name that ends in {', '.join(FORMATS)}; got {path.name!r}.")
    package = FORMATS[end][0]
    try:
        import_module(package)
    except ImportError as error:
        wanted = "torch" if package == "torch" else "rnnjax[interop]"
        raise ImportError(f"{end} files need {package}, which is not installed: pip install '{wanted}'.") from error
    return end


@contextlib.contextmanager
def _explained(path: Path, expected: str) -> Iterator[None]:
    """Turn whatever a broken or foreign file leads to within into a ValueError that names it."""
    path.open("rb").close()  # raises OSError where there is no file
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        if type(error) is ValueError:  # and no subclass, which comes from a decoder
            raise ValueError(f"{path}: {first_line(error)}") from error
        raise ValueError(
            f"{path}: expected {expected}; it cannot be read ({type(error).__name__}: {first_line(error)})."
        ) from error
