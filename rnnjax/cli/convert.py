"""`rnnjax convert`."""

import logging
import os
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rnnjax.cli import notices, runs
from rnnjax.cli.options import Parser
from rnnjax.errors import InputError
from rnnjax.tasks import TASKS

if TYPE_CHECKING:
    from rnnjax.interop.contents import Arrays, Contents

WEIGHTS_ALONE = (".weights.h5", ".safetensors", ".pt", ".pth")
"""Ends of the names of files that hold no settings."""

log = logging.getLogger("rnnjax")


def make_parser() -> Parser:
    """The options of `rnnjax convert`."""
    parser = Parser(
        prog="rnnjax convert",
        description="Convert a model between Keras 3, PyTorch and rnnjax. The ends of the names say the formats: "
        ".keras (a Keras model), .weights.h5 (the weights of one), .safetensors and .pt (a PyTorch state_dict).",
    )
    parser.add_argument("source", metavar="SOURCE", help="The file, or a run folder of rnnjax.")
    parser.add_argument("target", metavar="TARGET", help="The file to write.")
    parser.add_argument(
        "--layers",
        metavar="NAME,NAME,...",
        help="For a file of weights alone, its layers in the order of their calls, with relu, sigmoid, softmax and "
        "tanh where they are called. (default: an embedding, numbered recurrent layers, a dense layer)",
    )
    parser.add_argument(
        "--last-output",
        action="store_true",
        help="For a file of weights alone: what follows the last recurrent layer sees its last output only.",
    )
    parser.add_argument(
        "--nonlinearity",
        metavar="NAME",
        default="tanh",
        help="For a file of weights alone, that of simple recurrent layers. (default: tanh)",
    )
    parser.add_argument("--overwrite", action="store_true", help="Write over TARGET where there is such a file.")
    return parser


def main(arguments: Sequence[str]) -> None:
    """Convert a file and print what became what; `rnnjax convert --help` shows the options."""
    options = make_parser().parse_args(arguments)
    source, target = Path(options.source), Path(options.target)
    check_target(target, options.overwrite)
    from rnnjax import atomic
    from rnnjax.interop.contents import Settings
    from rnnjax.interop.files import encode, read

    layers = options.layers.split(",") if options.layers is not None else None
    settings = Settings(layers, not options.last_output, options.nonlinearity)
    if settings != Settings() and not source.name.endswith(WEIGHTS_ALONE):
        raise InputError(
            "--layers, --last-output, --nonlinearity: expected only with a file of weights alone "
            f"({', '.join(WEIGHTS_ALONE)}); {source} says all itself. Leave them out."
        )
    try:
        contents = read_run(source) if source.is_dir() else read(source, settings)
        content, arrays = encode(target, contents.model, contents.params)
    except (ValueError, ImportError) as error:
        raise InputError(str(error)) from error
    except OSError as error:
        raise InputError(f"{source}: expected a file that can be read; {error.strerror or error}.") from error
    atomic.write_bytes(target, content)
    notices.release()
    names = ", ".join(contents.model.layers)
    if source.name.endswith(WEIGHTS_ALONE):
        how = "last output" if options.last_output else "outputs of all steps"
        log.info("%s holds weights alone; taken as %s, with the %s. See --layers, --last-output.", source, names, how)
    if target.name.endswith(WEIGHTS_ALONE):
        log.info("%s holds weights alone; the settings of its layers are not in it: %s", target, names)
    print(table(source.name, target.name, contents, arrays))


def check_target(target: Path, overwrite: bool) -> None:
    """Raise InputError where the file must not or cannot be written."""
    folder = target.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{target}: expected a file in a folder that can be written; {folder} is none. Name another.")
    if target.is_dir():
        raise InputError(f"{target}: expected the name of a file; it is a folder. Name another.")
    if target.exists() and not overwrite:
        raise InputError(f"{target}: expected a new file; there is one. Name another, or add --overwrite.")


def read_run(path: Path) -> "Contents":
    """The best model of a run folder.

    Raises:
        InputError: there is none.
        ValueError: a model that cannot be converted.
    """
    from rnnjax.data.vocabulary import WordVocabulary
    from rnnjax.interop.arrays import get, parts
    from rnnjax.interop.contents import Contents
    from rnnjax.interop.sequential import as_sequential
    from rnnjax.training.folder import RunFolder

    try:
        task = runs.get_task(RunFolder(path).read_config()["task"])
        if TASKS[task.name].kind not in ("classifier", "language model"):
            raise InputError(f"{path}: expected a classifier or language model; it holds a run of {task.name}.")
        trained = runs.load_model(str(path), TASKS[task.name].kind, log.warning)
    except InputError as error:
        raise InputError(str(error).removeprefix("--workdir ")) from error
    model, params = as_sequential(trained.model, trained.params)
    if isinstance(trained.vocabulary, WordVocabulary):
        model = model.clone(mask_zero=True)  # id 0 is padding
    arrays = [
        {"/".join((*part.path, name)): array for name, array in get(params, part.path).items()} for part in parts(model)
    ]
    return Contents(model, params, arrays)


def table(source: str, target: str, contents: "Contents", written: "list[Arrays]") -> str:
    """For each part of the model, its arrays in both files with their shapes."""
    from rnnjax.interop.arrays import parts

    rows = [("layer", source, target)]
    for part, before, after in zip(parts(contents.model), contents.arrays, written, strict=True):
        name = "/".join(name for name in part.path if name != "recurrence")
        for number, (left, right) in enumerate(zip_longest(before.items(), after.items())):
            rows.append(("" if number else name, shown(left), shown(right)))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


def shown(array: "tuple[str, Any] | None") -> str:
    """Name and shape."""
    return "" if array is None else f"{array[0]} {tuple(array[1].shape)}"
