"""Properties of a text, character by character, against what a reader counts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnjax.data.properties import text_properties


def values(text):
    return {entry.name: entry.values for entry in text_properties(text)}


def marked(text, name):
    """The characters that have a property."""
    return "".join(c for c, has in zip(text, values(text)[name], strict=True) if has)


def test_marks_that_enclose():
    text = 'a "b" (c [d]) e\n "f (g\n\nh ) i \N{LEFT DOUBLE QUOTATION MARK}j\N{RIGHT DOUBLE QUOTATION MARK}k'
    assert marked(text, "inside quotes") == '"b"f (g\n\N{LEFT DOUBLE QUOTATION MARK}j'
    assert marked(text, "inside brackets") == "(c [d](g\n"
    np.testing.assert_array_equal(values("a(b[c])d")["depth of brackets"], [0, 1, 1, 2, 2, 1, 0, 0])


def test_kinds_of_characters():
    text = "The Ünit 42 is É!\n"
    assert marked(text, "upper case") == "TÜÉ"
    assert marked(text, "digit") == "42"
    assert marked(text, "letter") == "TheÜnitisÉ"
    assert marked(text, "vowel") == "eii"
    assert marked(text, "white space") == "    \n"
    assert marked(text, "first letter of a word") == "TÜiÉ"


def test_positions():
    found = values("ab c\n\tde\n\n  f")
    np.testing.assert_array_equal(found["position in the line"], [1, 2, 3, 4, 0, 1, 2, 3, 0, 0, 1, 2, 3])
    np.testing.assert_array_equal(found["position in the word"], [1, 2, 0, 1, 0, 0, 1, 2, 0, 0, 0, 0, 1])
    np.testing.assert_array_equal(found["position in the paragraph"], [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3])
    np.testing.assert_array_equal(found["indentation of the line"], [0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 1, 2, 2])


@given(text=st.text('ab "(\n\t)A1é', max_size=40))
def test_by_reading_again_from_the_start_of_the_line(text):
    """What depends on a line or a word alone, from its characters so far."""
    found = values(text)
    for place in range(len(text)):
        line = text[: place + 1].split("\n")[-1]
        assert found["position in the line"][place] == len(line)
        assert found["indentation of the line"][place] == len(line) - len(line.lstrip(" \t"))
        word = "".join(c if c.isalpha() else " " for c in text[: place + 1]).split(" ")[-1]
        assert found["position in the word"][place] == len(word)
        assert found["first letter of a word"][place] == (len(word) == 1)
    assert all(len(array) == len(text) and array.dtype == np.float64 for array in found.values())


@pytest.mark.parametrize("text", ["", "a", "\n"])
def test_short_texts(text):
    assert all(len(array) == len(text) for array in values(text).values())
