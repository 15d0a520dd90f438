"""`rnnjax neurons`: what single units of a character model follow (Karpathy, Johnson and Fei-Fei 2015)."""

import itertools
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rnnjax.cli import colours, host, notices, runs
from rnnjax.cli.colours import Page, Piece, Section
from rnnjax.cli.convert import check_target
from rnnjax.cli.options import Parser, convert
from rnnjax.errors import InputError
from rnnjax.task import Count, OptionalCount

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float

    from rnnjax.data.properties import Property
    from rnnjax.interpret import Follower

MOST_SEARCHED, MOST_COLOURED = 100_000, 2_000
"""Characters read where --length does not say how many: to find units, and to colour by one."""
EXTRACT = 600
"""Characters coloured by the best unit of a property."""

log = logging.getLogger("rnnjax")


def make_parser() -> Parser:
    """The options of `rnnjax neurons`."""
    parser = Parser(
        prog="rnnjax neurons",
        description="Colour a text by what one unit of a character model holds after each character; without --unit, "
        "find the units that best follow properties of the text: quotes, brackets, the position in a line, ... They "
        "are chosen on the first half of the text, and scored on the second.",
    )
    parser.add_argument("run", metavar="RUN", help="Run folder of a character model.")
    parser.add_argument("--text", metavar="FILE", required=True, help="Plain text file, in UTF-8.")

    def add(name: str, kind: object, metavar: str, text: str, default: object = None) -> None:
        parser.add_argument(name, type=convert(name, kind), metavar=metavar, help=text, default=default)

    add("--layer", OptionalCount, "INT", "Recurrent layer; 0 is the lowest. (default: all; with --unit: 0)")
    add("--unit", OptionalCount, "INT", "Unit to colour by; the first is 0.")
    add("--state", Literal["h", "c"], "h|c", "Output h, or cell state c of an LSTM. (default: h)", "h")
    add(
        "--length",
        Count,
        "INT",
        "Characters to read, from the start of the text. "
        f"(default: at most {MOST_SEARCHED}; with --unit {MOST_COLOURED})",
    )
    add("--top", Count, "INT", "Units to name for each property. (default: 3)", 3)
    parser.add_argument("--html", metavar="FILE", help="Also write an HTML page of the coloured text.")
    parser.add_argument("--overwrite", action="store_true", help="Write over FILE where there is such a file.")
    return parser


def main(arguments: Sequence[str]) -> None:
    """Print a coloured text or a table of units; `rnnjax neurons --help` shows the options."""
    options = make_parser().parse_args(arguments)
    if options.html is not None:
        check_target(Path(options.html), options.overwrite)
    from rnnjax.data.files import read_text
    from rnnjax.data.vocabulary import CharacterVocabulary

    text = read_text(options.text)
    host.prepare()
    try:
        trained = runs.load_model(options.run, "language model", log.warning)
    except InputError as error:
        raise InputError(str(error).removeprefix("--workdir ")) from error
    if not isinstance(trained.vocabulary, CharacterVocabulary):
        raise InputError(f"{options.run}: expected a run of a character model; it holds one of words.")
    if getattr(trained.config, "lowercase", False):
        text = text.lower()
    layer = 0 if options.unit is not None and options.layer is None else options.layer
    check_unit(trained, layer, options.unit, options.state)
    length = options.length or (MOST_SEARCHED if options.unit is None else MOST_COLOURED)
    if length < len(text):
        log.info("reading the first %s of %s characters (--length)", length, len(text))
        text = text[:length]
    tokens = trained.vocabulary.encode(text, source=f"--text {options.text}")
    from rnnjax import atomic
    from rnnjax.interpret import activations

    layers = dict(enumerate(activations(trained.model, trained.params, tokens, options.state)))
    if layer is not None:
        layers = {layer: layers[layer]}
    notices.release()
    if options.unit is not None:
        shown, page = coloured_by(text, layers[layer][:, options.unit], layer, options.unit, options.state)
    else:
        shown, page = followers(text, layers, options.state, options.top)
    sys.stdout.buffer.write(shown.encode())
    sys.stdout.buffer.flush()
    if options.html is not None:
        atomic.write_text(options.html, colours.html(page))


def check_unit(trained: runs.TrainedModel, layer: int | None, unit: int | None, state: str) -> None:
    """Raise InputError where the model has no such layer, unit or part of a state."""
    states = trained.model.initial_state(1)  # type: ignore[operator]
    if layer is not None and layer >= len(states):
        raise InputError(f"--layer: expected a whole number at most {len(states) - 1}, the highest layer; got {layer}.")
    known = states[0]._fields
    if state not in known:
        raise InputError(f"--state: expected {' or '.join(known)}, which the cells of this run have; got {state}.")
    if unit is not None:
        width = getattr(states[layer or 0], state).shape[1]
        if unit >= width:
            raise InputError(f"--unit: expected a whole number at most {width - 1}, the last unit; got {unit}.")


def coloured_by(text: str, values: "Float[np.ndarray, ' N']", layer: int, unit: int, state: str) -> tuple[str, "Page"]:
    """The text by one unit: for standard output, and as a page."""
    pieces = characters(text, values)
    scale = colours.scale_of(pieces)
    if colours.wants_colours():
        line = f"layer {layer}, unit {unit}, {state} from -{scale:.3f} (red) to +{scale:.3f} (blue)"
        shown = f"{colours.in_terminal(pieces, scale)}\n{colours.dimmed(line)}\n"
    else:
        shown = "".join(
            f"{json.dumps(character, ensure_ascii=False)}\t{value:+.4f}\n"
            for character, value in zip(text, values, strict=True)
        )
    title = f"Layer {layer}, unit {unit}"
    about = f"{state} after each of the first {len(text)} characters"
    return shown, make_page(title, state, [Section(title, about, pieces)])


def characters(text: str, values: "Float[np.ndarray, ' N']") -> list[Piece]:
    """A text by a value of each character; neighbours whose values look the same are one piece."""
    scale = float(abs(values).max(initial=0)) or 1.0
    rounded = [round(float(value) / scale, 2) * scale for value in values]
    runs_of_one = itertools.groupby(zip(text, rounded, strict=True), key=lambda pair: pair[1])
    return [Piece("".join(character for character, _ in run), value) for value, run in runs_of_one]


def followers(text: str, layers: "dict[int, Float[np.ndarray, 'N H']]", state: str, count: int) -> tuple[str, "Page"]:
    """The units that follow properties of the text: a table for standard output, and a page with extracts."""
    import numpy as np

    from rnnjax.data.properties import text_properties
    from rnnjax.interpret import find_followers

    properties = text_properties(text)
    numbers = list(layers)
    found = find_followers(
        list(layers.values()),
        np.stack([entry.values for entry in properties]),
        np.array([entry.is_binary for entry in properties]),
        count,
    )
    rows = [("property", "measure", "layer", "unit", "sign", "first half", "second half")]
    sections = []
    for entry, units in zip(properties, found, strict=True):
        if not units:
            rows.append((entry.name, "does not vary in one of the halves", "", "", "", "", ""))
            continue
        measure = "AUC" if entry.is_binary else "correlation"
        for unit in units:
            sign = "+" if unit.sign > 0 else "-"
            scores = f"{unit.chosen:.3f}", f"{unit.held_out:.3f}"
            rows.append((entry.name, measure, str(numbers[unit.layer]), str(unit.unit), sign, *scores))
        best = units[0]
        values = layers[numbers[best.layer]][:, best.unit]
        sections.append(extract(text, entry, best, numbers[best.layer], values))
    widths = [max(len(row[column]) for row in rows[:1] + [row for row in rows if row[2]]) for column in range(7)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    page = make_page("Units that follow the text", state, sections, rows)
    return "\n".join(lines) + "\n", page


def extract(text: str, entry: "Property", best: "Follower", layer: int, values: "Float[np.ndarray, ' N']") -> Section:
    """A part of the text's second half where the property varies most, coloured by the unit that follows it best."""
    import numpy as np

    half = len(text) // 2
    length = min(EXTRACT, len(text) - half)
    late = entry.values[half:]
    sums, squares = (np.concatenate([[0], np.cumsum(part)]) for part in (late, late**2))
    variances = (squares[length:] - squares[:-length]) / length - ((sums[length:] - sums[:-length]) / length) ** 2
    part = slice(half + int(variances.argmax()), half + int(variances.argmax()) + length)
    measure = "AUC" if entry.is_binary else "correlation"
    about = f"layer {layer}, unit {best.unit}, sign {'+' if best.sign > 0 else '-'}; {measure} {best.held_out:.3f}"
    return Section(entry.name, about, characters(text[part], values[part]))


def make_page(title: str, state: str, sections: list[Section], table: Sequence[Sequence[str]] = ()) -> "Page":
    """A page of texts coloured by units."""
    about = [f"Each character is coloured by {state} of a unit after the model has read it."]
    if table:
        about.append(
            "Units were chosen on the first half of the text and scored on the second. AUC: the probability that the "
            "unit is higher (sign -: lower) where the text has the property than where it has not; 0.5 is chance. "
            "Correlation is Pearson's, times the sign. The extracts are of the second half."
        )
    return Page(title, about, "above zero", "below zero", sections, table=table)
