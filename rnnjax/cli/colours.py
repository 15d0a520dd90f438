"""Texts whose parts are coloured by a number: in a terminal, and on an HTML page of one file."""

import dataclasses
import os
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

RESET = "\x1b[0m"
# Numbers of the 256 colours, from pale to strong, all readable under black.
BLUES, REDS = (195, 159, 117, 75, 69), (224, 217, 210, 203, 197)


class Piece(NamedTuple):
    """A part of a text."""

    text: str
    value: float | None = None
    """None: not coloured."""
    note: str = ""
    """"unknown": in grey; "cut": dimmed."""


@dataclasses.dataclass(frozen=True)
class Section:
    """A text on a page, under a title and a line about it."""

    title: str
    about: str
    pieces: Sequence[Piece]


@dataclasses.dataclass(frozen=True)
class Page:
    """What an HTML page shows."""

    title: str
    about: Sequence[str]
    """Paragraphs."""
    above: str
    """What blue means."""
    below: str
    """What red means."""
    sections: Sequence[Section]
    notes: bool = False
    """Pieces have notes, which the legend explains."""
    table: Sequence[Sequence[str]] = ()
    """Rows, of which the first is the head."""


def scale_of(pieces: Sequence[Piece]) -> float:
    """The largest size of a value, which has the strongest colour."""
    return max((abs(piece.value) for piece in pieces if piece.value is not None), default=0.0)


def share(value: float | None, scale: float) -> float:
    """A value as a part of the scale, from -1 to 1."""
    return 0.0 if not value or not scale else max(-1.0, min(value / scale, 1.0))


def wants_colours() -> bool:
    """Whether standard output is a terminal whose user has not asked for plain text (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def clean(text: str) -> str:
    """A text without control characters, which may do anything to a terminal; tabs and ends of lines stay."""
    return "".join(
        character if character in "\n\t" or unicodedata.category(character) != "Cc" else "\N{REPLACEMENT CHARACTER}"
        for character in text
    )


def in_terminal(pieces: Sequence[Piece], scale: float) -> str:
    """The text with ANSI's codes: values above zero on blue, below on red; ends of lines that have a colour are shown.

    Args:
        pieces: parts of the text.
        scale: the value of the strongest colour.
    """
    parts = []
    for piece in pieces:
        part = share(piece.value, scale)
        level = round(len(BLUES) * abs(part))
        codes = []
        if level:
            colour = (BLUES if part > 0 else REDS)[level - 1]
            codes = [f"38;5;{239 if piece.note == 'unknown' else 16}", f"48;5;{colour}"]
        elif piece.note == "unknown":
            codes = ["38;5;244"]
        elif piece.note == "cut":
            codes = ["2"]
        text = clean(piece.text)
        if codes:
            start = f"\x1b[{';'.join(codes)}m"
            end = "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}" if level else ""
            text = start + text.replace("\n", f"{end}{RESET}\n{start}") + RESET
        parts.append(text)
    return "".join(parts)


def dimmed(text: str) -> str:
    """A line about a text, in a terminal."""
    return f"\x1b[2m{clean(text)}{RESET}"


def html(page: Page) -> str:
    """The page, all of it escaped, with nothing to load."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["clean"] = clean
    template = environment.from_string(Path(__file__).with_name("colours.html").read_text(encoding="utf-8"))
    scale = scale_of([piece for section in page.sections for piece in section.pieces])
    return template.render(page=page, scale=scale, share=share)
