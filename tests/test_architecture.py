"""Which way knowledge flows: every module's imports are read and held against a table.

kernels -> cells -> layers -> models -> tasks -.
                                  training ----+-> cli
"""

import ast
from pathlib import Path

import pytest

import rnnjax

ROOT = Path(rnnjax.__file__).parent

LIBRARY = "kernels cells layers models"

# A part (a folder or a file of the package) and what it may import. Each may import itself, but a task no other task.
MAY_IMPORT = {
    "kernels": "",
    "cells": "kernels",
    "layers": "kernels cells",
    "models": "kernels cells layers",
    "regularizers": "kernels layers",
    "sampling": LIBRARY,
    "interpret": LIBRARY,
    "interop": LIBRARY,
    "data": "",
    "losses": "metrics",
    "metrics": "",
    "task": "data losses metrics",
    "tasks": f"{LIBRARY} sampling data losses metrics task",
    "training": "kernels.sequence models.summary models.diagnosis losses metrics task",
    "cli": f"{LIBRARY} sampling interpret interop data losses metrics task tasks training",
    "errors": "",
    "atomic": "",
    "__init__": f"{LIBRARY} regularizers data",
}
KNOWN_TO_ALL = ("errors", "atomic")

# Packages that a part must do without.
MUST_NOT_IMPORT = {
    "kernels": ("flax", "optax", "orbax"),
    "cells": ("optax", "orbax"),
    "layers": ("optax", "orbax"),
    "models": ("optax", "orbax"),
    "data": ("jax", "flax", "optax", "orbax", "tensorflow"),
    "task": ("orbax",),
    "tasks": ("orbax", "tensorflow", "torch", "keras"),
    "training": ("tensorflow", "torch", "keras"),
    "errors": ("jax", "flax", "numpy"),
    "atomic": ("jax", "flax"),
}


def imports_of(source: str, module: str, is_package: bool = False) -> set[str]:
    """Dotted names of all that a module imports, wherever in it, relative imports and `rnnjax.NAME` resolved."""
    found: set[str] = set()
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            home = node.module or ""
            if node.level:
                base = package.split(".")[: len(package.split(".")) - node.level + 1]
                home = ".".join([*base, *([home] if home else [])])
            # What is taken from the package, or from a part, may itself be a part or a module of it.
            found.update(f"{home}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "rnnjax":
            found.add(f"rnnjax.{node.attr}")
    return {_home(name) for name in found}


def _home(name: str) -> str:
    """Where a public name lives: `rnnjax.LSTM` is `rnnjax.layers.recurrent.LSTM`."""
    first, _, rest = name.partition(".")
    home = rnnjax._HOME_OF.get(rest) if first == "rnnjax" else None
    return f"{home}.{rest}" if home else name


def violations(module: str, source: str, is_package: bool = False) -> list[str]:
    """What a module imports against the table, as sentences."""
    part, _, _ = module.removeprefix("rnnjax").lstrip(".").partition(".")
    part = part or "__init__"
    if part not in MAY_IMPORT:
        return [f"{module} is in no part that the table names"]
    allowed = [*MAY_IMPORT[part].split(), *KNOWN_TO_ALL]
    if part != "tasks":
        allowed.append(part)
    wrong = []
    for name in sorted(imports_of(source, module, is_package)):
        package, _, target = name.partition(".")
        if package != "rnnjax":
            if package in MUST_NOT_IMPORT.get(part, ()):
                wrong.append(f"{module} imports {name}: {part} does without {package}")
            continue
        if not target or target.startswith("__"):
            continue  # the package itself, for its version
        if not any(target == known or target.startswith(known + ".") for known in allowed):
            wrong.append(f"{module} imports {name}: {part} knows {', '.join(allowed)}")
    return wrong


def modules() -> list[tuple[str, Path]]:
    """Every module of the package."""
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        found.append((".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return found


@pytest.mark.parametrize(("module", "path"), modules(), ids=lambda value: value if isinstance(value, str) else "")
def test_knowledge_flows_one_way(module, path):
    assert violations(module, path.read_text("utf-8"), path.name == "__init__.py") == []


def test_the_parts_are_those_of_the_table():
    """A part that is added or renamed must be written into the table."""
    there = {module.split(".")[1] if "." in module else "__init__" for module, _ in modules()}
    assert there <= set(MAY_IMPORT)
    assert {"kernels", "cells", "layers", "models", "data", "errors", "atomic"} <= there


def test_the_table_has_no_circles():
    """Going up arrow by arrow never comes back: the table is an order."""
    above = {part: {name.split(".")[0] for name in names.split()} for part, names in MAY_IMPORT.items()}
    while above:
        lowest = {part for part, below in above.items() if not below & set(above)}
        assert lowest, f"these know each other in a circle: {sorted(above)}"
        above = {part: below for part, below in above.items() if part not in lowest}


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("rnnjax.kernels.scan", "from rnnjax.cells.base import Cell"),
        ("rnnjax.kernels.scan", "from flax import linen as nn"),
        ("rnnjax.kernels.scan", "from ..layers import recurrent"),
        ("rnnjax.cells.lstm", "import rnnjax.layers.recurrent"),
        ("rnnjax.cells.lstm", "def late():\n    from rnnjax import layers"),
        ("rnnjax.layers.recurrent", "import rnnjax\nsummary = rnnjax.summary"),
        ("rnnjax.layers.recurrent", "from rnnjax import summary"),
        ("rnnjax.models.classifier", "from rnnjax.tasks.imdb import Config"),
        ("rnnjax.models.classifier", "if True:\n    import rnnjax.training.step"),
        ("rnnjax.data.files", "import jax.numpy as jnp"),
        ("rnnjax.data.files", "from rnnjax import LSTM"),
        ("rnnjax.training.loop", "from rnnjax.tasks import TASKS"),
        ("rnnjax.training.loop", "from rnnjax import tasks"),
        ("rnnjax.training.loop", "from rnnjax.models.classifier import Classifier"),
        ("rnnjax.training.loop", "from ..cli import train"),
        ("rnnjax.tasks.char", "from rnnjax.tasks.imdb import Config"),
        ("rnnjax.tasks.char", "from . import imdb"),
        ("rnnjax.tasks.char", "from .imdb import Config"),
        ("rnnjax.tasks.char", "from rnnjax.training import loop"),
        ("rnnjax.sampling", "from rnnjax.tasks.char import TASK"),
        ("rnnjax.task", "from rnnjax.tasks import TASKS"),
        ("rnnjax.errors", "from rnnjax.task import Task"),
        ("rnnjax", "from rnnjax.tasks import TASKS"),
        ("rnnjax.plugins.new", ""),
    ],
)
def test_a_wrong_arrow_is_found(module, source):
    assert len(violations(module, source, module == "rnnjax")) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("rnnjax.kernels.fused", "import jax\nfrom rnnjax.kernels.sequence import select\nfrom . import sequence"),
        ("rnnjax.cells.lstm", "from flax import linen as nn\nfrom ..kernels.sequence import sigmoid"),
        ("rnnjax.data.cache", "import numpy as np\nfrom rnnjax import __version__, atomic\nfrom jaxtyping import Int"),
        (
            "rnnjax.tasks.imdb",
            "from rnnjax.task import Task\nfrom rnnjax import LSTM\nfrom rnnjax.errors import InputError",
        ),
        ("rnnjax.training.loop", "from rnnjax.models.summary import summary\nfrom . import step"),
        ("rnnjax.cli.train", "from rnnjax.tasks import TASKS\nfrom rnnjax.training.loop import Run"),
    ],
)
def test_a_right_arrow_passes(module, source):
    assert violations(module, source) == []
