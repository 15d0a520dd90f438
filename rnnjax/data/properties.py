"""Properties of each character of a text that units of a character model may follow (Karpathy et al. 2015)."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

OPENING, CLOSING = "([{", ")]}"


class Property(NamedTuple):
    """A property at each character of a text, that character read."""

    name: str
    is_binary: bool
    values: Float[np.ndarray, " N"]
    """0 and 1 where it is binary."""


def text_properties(text: str) -> list[Property]:
    """Properties that follow from a text alone.

    A double quote or bracket that is not closed ends with its paragraph (an empty line).
    """
    quoted, depth = _enclosed(text)
    letter, newline = _where(text, str.isalpha), _where(text, "\n".__eq__)
    indent, starts = _where(text, " \t".__contains__), _where(text, lambda character: not character.isspace())
    before = np.concatenate([[True], newline])[: len(text)]  # newline before
    binary = {
        "inside quotes": quoted,
        "inside brackets": depth > 0,
        "upper case": _where(text, str.isupper),
        "letter": letter,
        "vowel": _where(text, lambda character: character.lower() in tuple("aeiou")),
        "digit": _where(text, str.isdigit),
        "white space": _where(text, str.isspace),
        "first letter of a word": letter & ~np.concatenate([[False], letter])[: len(text)],
    }
    numeric = {
        "position in the line": _since(newline),
        "position in the word": _since(~letter),
        "position in the paragraph": _since(newline & before),
        "indentation of the line": _indentation(newline, indent & ~starts),
        "depth of brackets": depth,
    }
    return [
        *(Property(name, True, values.astype(np.float64)) for name, values in binary.items()),
        *(Property(name, False, values.astype(np.float64)) for name, values in numeric.items()),
    ]


def _where(text: str, holds: Callable[[str], bool]) -> Bool[np.ndarray, " N"]:
    true = {character for character in set(text) if holds(character)}
    return np.fromiter((character in true for character in text), bool, len(text))


def _since(resets: Bool[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
    """Characters since the last reset, which itself has 0; the text begins after one."""
    places = np.arange(len(resets))
    return places - np.maximum.accumulate(np.where(resets, places, -1))


def _indentation(newline: Bool[np.ndarray, " N"], blank: Bool[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
    """Spaces and tabs at the start of the line, as far as it has been read; 0 at its end."""
    position = _since(newline)  # 1 at the first character of a line
    leads = _since(~blank) == position  # nothing but blanks so far
    lines = np.cumsum(newline)
    width = np.zeros(lines[-1] + 1 if len(lines) else 0, np.int64)
    np.maximum.at(width, lines, np.where(leads, position, 0))
    return np.where(newline, 0, np.minimum(width[lines], position))


def _enclosed(text: str) -> tuple[Bool[np.ndarray, " N"], Int[np.ndarray, " N"]]:
    """Whether each character is quoted, and how many brackets enclose it; a mark that opens is inside, the one that
    closes is not."""
    quoted, depth = np.zeros(len(text), bool), np.zeros(len(text), np.int64)
    in_quotes, brackets, before = False, 0, ""
    for place, character in enumerate(text):
        if character == '"':
            in_quotes = not in_quotes
        elif character in "\N{LEFT DOUBLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}":
            in_quotes = character == "\N{LEFT DOUBLE QUOTATION MARK}"
        elif character in OPENING:
            brackets += 1
        elif character in CLOSING:
            brackets = max(brackets - 1, 0)
        elif character == before == "\n":
            in_quotes, brackets = False, 0
        quoted[place], depth[place], before = in_quotes, brackets, character
    return quoted, depth
