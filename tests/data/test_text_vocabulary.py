"""The vocabulary of words and marks: a text comes back as it was, and in pieces as at once."""

import numpy as np
import pytest

from rnnjax.data.vocabulary import UNKNOWN, TextVocabulary, join_text, load_vocabulary, split_text
from rnnjax.errors import InputError

TEXT = (
    "PREFACE\n\nSUPPOSING that Truth is a woman--what then? \"Don't say (so),\" he said...\n'Tis _true_, a 3-day @ 5%!"
)


def test_a_text_comes_back():
    assert split_text("free--and, (so)") == ["free", "@--@", "and", "@, ", " (@", "so", "@) "]
    assert join_text(split_text(TEXT)) == TEXT
    assert join_text(split_text("a   b \t c \n  d")) == "a b c\nd"


def test_ids_by_falling_frequency_and_the_unknown(tmp_path):
    vocabulary = TextVocabulary.train(split_text("b a b, c, b d"), 4)
    assert vocabulary.tokens == [UNKNOWN, "b", "@, ", "a"]
    ids = vocabulary.encode("a b, zzz b")
    assert ids.tolist() == [3, 1, 2, 0, 1]
    assert vocabulary.decode(ids) == "a b, [UNK] b"
    vocabulary.save(tmp_path / "tokenizer.json")
    again = load_vocabulary(tmp_path / "tokenizer.json")
    assert isinstance(again, TextVocabulary)
    assert again.tokens == vocabulary.tokens
    with pytest.raises(InputError, match="--prompt: expected a word"):
        vocabulary.encode("  ", source="--prompt")


def test_in_pieces_as_at_once():
    vocabulary = TextVocabulary.train(split_text(TEXT), 1000)
    ids = vocabulary.encode(TEXT)
    for size in (1, 2, 5):
        pieces = np.split(ids, range(size, len(ids), size))
        text, before = "", ids[:0]
        for piece in pieces:
            text += vocabulary.decode_after(before, piece)
            before = piece
        assert text == TEXT
