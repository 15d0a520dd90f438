"""The reference page: equations, options and shapes are the code's, its snippets run, and no public name is missing."""

import dataclasses
import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from docstring_parser import parse_from_object

import rnnjax

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
SECTIONS = re.findall(r"^<!-- parameters (\w+): begin -->\n(.*?)^<!-- parameters", PAGE, re.MULTILINE | re.DOTALL)
CELLS = [
    name
    for name in rnnjax.__all__
    if name.endswith("Cell") and name not in ("Cell", "LinearCell")  # those two have no equations of their own
]


def script(path: str) -> ModuleType:
    """A Python file that is in no package."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_as_the_script_writes_it():
    assert script("docs/tables.py").fill(PAGE) == PAGE, "run: python docs/tables.py"


def test_every_cell_has_its_parameters_on_the_page():
    assert sorted(name for name, _ in SECTIONS) == sorted(CELLS)


@pytest.mark.parametrize(("name", "table"), SECTIONS, ids=[name for name, _ in SECTIONS])
def test_shapes_are_those_of_init(name, table):
    """Each row, read back with other sizes than the script's, against the shapes that `init` gives."""
    sizes = {"H": 6, "D": 6 if name == "RGLRUCell" else 5, "P": 4, "K": 3, "L": 2, "M": 1}
    rows = re.findall(r"^\| (?:`(.*)`|defaults) \| (`.*`) \| [\d,]+ \|$", table, re.MULTILINE)
    assert len(rows) == len(table.splitlines()) - 2
    for form, shown in rows:
        cell = eval(f"cell({sizes['H']}, {form})", {"cell": getattr(rnnjax, name)}, sizes)
        batch = (2, *(4,) * (cell.input_rank - 1))
        state = cell.initial_state(batch)
        made = jax.eval_shape(cell.init, jax.random.key(0), state, jnp.zeros((*batch, sizes["D"])))["params"]
        told = {}
        for entry in re.findall(r"`(.*?)`", shown):
            key, shape = entry.rstrip("]").split(" [")
            told[key] = tuple(
                int(times or 1) * sizes.get(letter, 1)
                for times, letter in re.findall(r"(\d*)([A-Z]?)(?:, |$)", shape)
                if times or letter
            )
        assert told == {key: leaf.shape for key, leaf in made.items()}, (name, form)


def test_every_option_is_on_the_page_with_its_meaning():
    layers = [getattr(rnnjax, name) for name in rnnjax.__all__ if dataclasses.is_dataclass(getattr(rnnjax, name))]
    classes = {base for layer in layers for base in layer.__mro__ if base.__module__.startswith("rnnjax.")}
    found = 0
    for cls in filter(dataclasses.is_dataclass, classes):
        for entry in parse_from_object(cls).params:
            if entry.description is None or entry.arg_name not in {field.name for field in dataclasses.fields(cls)}:
                continue
            if entry.arg_name == "deterministic" and cls is rnnjax.Cell:  # told once, of layers
                continue
            found += 1
            meaning = " ".join(entry.description.split()).replace("|", "\\|")
            assert re.search(rf"^\| `{entry.arg_name}` \| .* \| {re.escape(meaning)} \|$", PAGE, re.MULTILINE), entry
    assert found > 40


@pytest.mark.parametrize("name", rnnjax.__all__)
def test_every_public_name_is_on_the_page(name):
    assert re.search(rf"\b{name}\b", PAGE)


def test_links_lead_somewhere():
    titles = re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
    links = re.findall(r"\]\(#(.*?)\)", PAGE)
    assert links
    assert set(links) <= anchors


def test_snippets_run():
    names: dict = {}
    snippets = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert len(snippets) >= 8
    for snippet in snippets:
        exec(snippet, names)
    state, lengths, whole = names["whole_state"], names["lengths"], names["whole"]
    np.testing.assert_array_equal(state.h, whole[:, -1])
    squares = [np.square(whole[row, :length]) for row, length in enumerate(lengths) if length]
    changes = [np.square(np.diff(whole[row, :length], axis=0)) for row, length in enumerate(lengths) if length]
    kernel = names["variables"]["params"]["recurrence"]["kernel"]
    expected = 2 * np.concatenate(squares).mean() + np.concatenate(changes).mean() + 1e-5 * np.square(kernel).sum()
    np.testing.assert_allclose(names["penalty"], expected, rtol=1e-5)
    np.testing.assert_allclose(
        names["bounded"](jnp.array([-3.0, 0.5, 2.0])), [-(2 ** (1 / 7)), 0.5, 2 ** (1 / 7)], rtol=1e-6
    )


def test_the_measured_table_is_that_of_greff_json():
    greff = script("benchmarks/greff.py")
    measured = json.loads(greff.RESULTS.read_text(encoding="utf-8"))
    shown = PAGE.split("<!-- greff: begin -->\n")[1].split("<!-- greff: end -->")[0]
    assert shown == greff.table(measured)
    for result in measured.values():
        assert result["mean"] == pytest.approx(np.mean(result["values"]))
        assert result["deviation"] == pytest.approx(np.std(result["values"], ddof=1))
        assert result["settings"]["seeds"] == list(greff.Settings().seeds)
