"""Files of Keras 3: .keras, a zip archive of JSON and HDF5, and .weights.h5, the HDF5 alone. Keras is not needed."""

import io
import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from flax import linen as nn

from rnnjax.interop.arrays import get, parts, put
from rnnjax.interop.contents import Arrays, Contents, Found, Settings, arrange, as_floats, checked, recurrent_layer
from rnnjax.interop.keras_config import GROUPS, Placed, config_from_model, model_from_config
from rnnjax.interop.layouts import part_from_keras, part_to_keras
from rnnjax.interop.sequential import Sequential
from rnnjax.layers.combinators import Bidirectional
from rnnjax.layers.embedding import Embedding

KERAS_VERSION = "3.15.1"
"""Whose files these are like."""
LARGEST_CONFIG = 1 << 26
"""Bytes of JSON that are read at most."""
WEIGHTS = "model.weights.h5"
"""Within a .keras file."""


def read_keras(path: Path) -> Contents:
    """The model in a .keras file; ValueError where there is none that can be converted."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()  # by the sums in the archive, which HDF5, seeking to and fro, would not check
        if damaged is not None:
            raise ValueError(f"expected a whole file; {damaged} in it is damaged.")
        with archive.open("config.json") as file:
            model, placed = model_from_config(json.loads(file.read(LARGEST_CONFIG)))
        with archive.open(WEIGHTS) as file, h5py.File(file, "r") as weights:
            params: dict[str, Any] = {}
            arrays = []
            for layer in placed:
                for part, group in zip(parts(layer.layer, layer.path), layer.variables, strict=True):
                    arrays.append(_read_group(weights, group))
                    put(params, part.path, part_from_keras(part.module, list(arrays[-1].values())))
    return checked(Contents(model, params, arrays))


def read_keras_weights(path: Path, settings: Settings) -> Contents:
    """A model from a .weights.h5 file, which does not hold the settings of the layers; ValueError as above.

    Activations of dense layers are not known, nor `mask_zero`; two directions are taken as concatenated.
    """
    found = []
    with h5py.File(path, "r") as weights:
        if not isinstance(weights.get("layers", getlink=True), h5py.HardLink):
            raise ValueError("expected weights that Keras 3 saved of a Sequential or Functional model; got no layers.")
        for name in weights["layers"]:
            named = re.fullmatch(r"(.+?)(_\d+)?", name)
            kind = next((kind for kind, group in GROUPS.items() if named and named[1] == group), None)
            if kind is not None:
                found.append(_find(name, kind, weights, settings))
            elif _holds_arrays(_descend(weights, f"layers/{name}")):
                raise ValueError(f"layer {name!r}: expected one of {', '.join(GROUPS)}; it cannot be converted.")
    return arrange(found, settings)


def _find(name: str, kind: str, weights: Any, settings: Settings) -> Found:
    """The layer that these weights belong to."""
    group = f"layers/{name}" + ("/layer" if kind == "TimeDistributed" else "")
    sides = [f"{group}/vars"]
    if kind == "Bidirectional":
        sides = [f"{group}/{side}_layer/cell/vars" for side in ("forward", "backward")]
    elif kind not in ("Dense", "Embedding", "TimeDistributed"):
        sides = [f"{group}/cell/vars"]
    arrays = [_read_group(weights, side) for side in sides]
    first = list(arrays[0].values())
    layer: Any
    if kind == "Embedding":
        layer = Embedding(*_shape(name, first, 0), parent=None)
    elif kind in ("Dense", "TimeDistributed"):
        layer = nn.Dense(_shape(name, first, 0)[1], use_bias=len(first) > 1, parent=None)
    else:
        features, columns = _shape(name, first, 1)
        layer = recurrent_layer(columns, features, settings, use_bias=len(first) > 2)
        if columns == 3 * features:
            if len(first) < 3:
                raise ValueError(f"layer {name!r}: expected a GRU with biases, which show its form; got none.")
            layer = layer.clone(reset_after=first[2].ndim == 2)
        layer = Bidirectional(layer) if kind == "Bidirectional" else layer
    params: dict[str, Any] = {}
    for part, one in zip(parts(layer), arrays, strict=True):
        put(params, part.path, part_from_keras(part.module, list(one.values())))
    return Found(name, layer, params, arrays)


def _shape(name: str, arrays: list[np.ndarray], number: int) -> tuple[int, int]:
    if len(arrays) <= number or arrays[number].ndim != 2:
        shapes = ", ".join(str(array.shape) for array in arrays) or "none"
        raise ValueError(f"layer {name!r}: expected its array {number} to have two axes; got {shapes}.")
    rows, columns = arrays[number].shape
    return rows, columns


def _read_group(file: Any, path: str) -> Arrays:
    """The arrays of one part in their order, by their paths in the file."""
    group = _descend(file, path)
    names = sorted(group, key=lambda name: (len(name), name))  # as numbers
    if names != [str(number) for number in range(len(names))]:
        raise ValueError(f"{path}: expected arrays named 0, 1, ...; got {', '.join(names)}.")
    arrays = {}
    for name in names:
        array = _descend(group, name)
        # What a file does not hold itself, or not in full, would be read from elsewhere or filled in without end.
        if not isinstance(array, h5py.Dataset) or array.is_virtual or array.external or not _is_stored(array):
            raise ValueError(f"{path}/{name}: expected an array that is stored in the file as it is.")
        arrays[f"{path}/{name}"] = array[()]
    return as_floats(arrays)


def _is_stored(array: Any) -> bool:
    stored: int = array.id.get_storage_size()
    return stored >= array.nbytes


def _descend(node: Any, path: str) -> Any:
    """What stands at a path, without following links to elsewhere."""
    for name in path.split("/"):
        is_there = isinstance(node, h5py.Group) and isinstance(node.get(name, getlink=True), h5py.HardLink)
        if not is_there:
            raise ValueError(f"expected weights at {path}; the file has none there.")
        node = node[name]
    return node


def _holds_arrays(group: Any) -> bool:
    found: list[str] = []
    if isinstance(group, h5py.Group):
        group.visititems(lambda name, node: found.append(name) if isinstance(node, h5py.Dataset) else None)
    return bool(found)


def keras_bytes(model: Sequential, params: Mapping[str, Any], *, weights_only: bool) -> tuple[bytes, list[Arrays]]:
    """A .keras file or, with `weights_only`, a .weights.h5 file, and the arrays in it.

    Raises:
        ValueError: a layer or option that Keras has not.
    """
    config, placed = config_from_model(model, params)
    arrays = [_part_arrays(layer, params) for layer in placed]
    named = [one for layer in arrays for one in layer]
    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        for one in named:
            for name, array in one.items():
                file[name] = array
    if weights_only:
        return weights.getvalue(), named
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": KERAS_VERSION}))
        archive.writestr("config.json", json.dumps(config))
        archive.writestr(WEIGHTS, weights.getvalue())
    return content.getvalue(), named


def _part_arrays(layer: Placed, params: Mapping[str, Any]) -> list[Arrays]:
    return [
        {f"{group}/{n}": a for n, a in enumerate(part_to_keras(part.module, get(params, part.path)))}
        for part, group in zip(parts(layer.layer, layer.path), layer.variables, strict=True)
    ]
