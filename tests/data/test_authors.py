"""Passages are cut from one author's text each, no two overlap, and their characters have ids."""

import itertools
from collections import Counter

import numpy as np
import pytest

from rnnjax.data import authors
from rnnjax.errors import InputError

TEXTS = {name: " ".join(f"{name}{number}" for number in range(400)) for name in ("a", "b", "c")}


def test_passages_keep_every_word_once_and_in_order():
    passages = authors.cut("one two three four " + "x" * 25 + " five", 10)
    assert passages == ["one two", "three four", "x" * 10, "x" * 10, "xxxxx five"]
    assert max(map(len, passages)) <= 10


def test_splits_are_parts_of_each_author_that_follow_one_another():
    parts = authors.divide(TEXTS, 50)
    for label, text in enumerate(TEXTS.values()):
        own = [
            [passage for passage, owner in zip(part.texts, part.labels, strict=True) if owner == label]
            for part in (parts["train"], parts["validation"], parts["test"])
        ]
        assert " ".join(itertools.chain(*own)) == text  # nothing twice, nothing lost
        tenth = round(sum(map(len, own)) / 10)
        assert [len(part) for part in own[1:]] == [tenth, tenth]


def test_too_little_text_is_refused():
    with pytest.raises(InputError, match="expected 10 or more passages of 50 characters of each author; got 1 of b"):
        authors.divide({"a": TEXTS["a"], "b": "little"}, 50)


def test_characters_have_ids():
    vocabulary = authors.known_characters(["abéz", "é😀a" * 4, "b" * 4, "\0" * 9])
    assert vocabulary.characters == "\0 abé"  # z and the smiling face are rare
    found = authors.encode(["ab", "zé \ud800 a", "a😀bbbbb", "", " "], vocabulary, 5)
    expected = [[1, 2, 3, 1, 0, 0, 0], [1, 0, 4, 1, 0, 1, 2], [1, 2, 0, 3, 3, 3, 3], [1, 0, 0, 0, 0, 0, 0]]
    np.testing.assert_array_equal(found["inputs"], [*expected, expected[-1]])
    assert found["lengths"].tolist() == [4, 7, 7, 1, 1]
    assert {array.dtype.name for array in found.values()} == {"int32"}


def test_training_passages_are_cut_anew_and_stay_within_their_author():
    parts = authors.divide(TEXTS, 50)
    source = authors.PassageSource(parts["train"], authors.known_characters(parts["train"].texts), 50)
    first, again, other = ([batch["inputs"] for batch in source.training_epoch(0, epoch, 16)] for epoch in (1, 1, 2))
    np.testing.assert_array_equal(np.concatenate(first), np.concatenate(again))
    assert np.any(np.concatenate(first) != np.concatenate(other))
    weights = sum(batch["weight"].sum() for batch in source.training_epoch(0, 1, 16))
    assert weights == len(source) == len(parts["train"].texts)


def test_composed_authors_use_the_same_words():
    texts = authors.compose(2000, seed=0)
    assert authors.compose(2000, seed=0) == texts
    counts = [
        Counter(text.lower().replace(";", "").replace(",", "").replace(".", "").split()) for text in texts.values()
    ]
    for word in set().union(*counts):
        shares = [count[word] / sum(count.values()) for count in counts]
        assert max(shares) < 1.25 * min(shares), word


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "expected a folder with one sub-folder"),
        ({"only.txt": "text"}, "two or more; got 1"),
        ({"a.txt": "", "b.txt": "text"}, "a.txt"),
        ({"a.txt": b"\xff\xfe\xff", "b.txt": "text"}, "a.txt"),
    ],
)
def test_folders_that_cannot_be_used(tmp_path, files, says):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=says):
        authors.read_authors(tmp_path)


def test_a_folder_an_author_and_a_file_an_author(tmp_path):
    (tmp_path / "Ada").mkdir()
    (tmp_path / "Ada" / "2.txt").write_text("second")
    (tmp_path / "Ada" / "1.txt").write_text("first")
    (tmp_path / "Ben.txt").write_text("other")
    assert authors.read_authors(tmp_path) == {"Ada": "first\nsecond", "Ben": "other"}
