"""Bigrams of the word vocabulary against counting by hand."""

import json
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from rnnjax.data.vocabulary import PAD_ID, UNKNOWN_ID, WordVocabulary
from rnnjax.errors import InputError

TEXTS = ["not good, not good", "good not bad", "rare", "", "very good"]
WORDS = ["[PAD]", "[UNK]", "good", "not"]


def test_the_most_frequent_pairs_of_known_words():
    vocabulary = WordVocabulary.train(TEXTS, 4, 9)
    assert vocabulary.words == [*WORDS, "good not", "not good"]  # twice each; those of "bad" and "very" are unknown
    assert (len(vocabulary), vocabulary.num_words) == (6, 4)
    assert WordVocabulary.train(TEXTS, 4, 1).words == [*WORDS, "good not"]
    without = WordVocabulary.train(TEXTS, 4)
    assert (without.words, without.num_words) == (WORDS, 4)
    assert WordVocabulary.train(["", "a"], 4, 9).words == ["[PAD]", "[UNK]", "a"]


def test_words_then_bigrams():
    vocabulary = WordVocabulary.train(TEXTS, 4, 9)
    ids, lengths = vocabulary.encode(["not good not", "bad", "", "good bad good not good"], 4)
    np.testing.assert_array_equal(
        ids, [[3, 2, 3, 5, 4, 0], [1, 0, 0, 0, 0, 0], [0] * 6, [1, 2, 3, 2, 4, 5]]
    )  # the last four words of the last text, and none of a pair that is cut
    np.testing.assert_array_equal(lengths, [5, 1, 0, 6])
    assert ids.dtype == lengths.dtype == np.int32
    assert vocabulary.decode(ids[3]) == "[UNK] good not good"
    ids, lengths = vocabulary.encode([], 4)
    assert (ids.shape, lengths.shape) == ((0, 1), (0,))


@given(
    texts=st.lists(st.lists(st.sampled_from("abcde"), max_size=6), min_size=1),
    size=st.integers(3, 7),
    num_bigrams=st.integers(1, 8),
    max_length=st.integers(1, 6),
)
def test_agrees_with_counting_by_hand(texts, size, num_bigrams, max_length):
    lines = [" ".join(words) for words in texts]
    plain = WordVocabulary.train(lines, size).words
    vocabulary = WordVocabulary.train(lines, size, num_bigrams)
    counts = Counter(pair for words in texts for pair in pairwise(words) if set(pair) <= set(plain))
    rank = {word: number for number, word in enumerate(plain)}
    ranked = sorted(counts, key=lambda pair: (-counts[pair], rank[pair[0]], rank[pair[1]]))
    assert vocabulary.words == [*plain, *(" ".join(pair) for pair in ranked[:num_bigrams])]
    numbers = {word: number for number, word in enumerate(vocabulary.words)}
    ids, lengths = vocabulary.encode(lines, max_length)
    for row, length, words in zip(ids, lengths, texts, strict=True):
        kept = words[-max_length:]
        expected = [numbers.get(word, UNKNOWN_ID) for word in kept]
        expected += [numbers[" ".join(pair)] for pair in pairwise(kept) if " ".join(pair) in numbers]
        assert row[:length].tolist() == expected
        assert (row[length:] == PAD_ID).all()


def test_each_word_gets_half_of_its_bigrams():
    vocabulary = WordVocabulary.train(TEXTS, 4, 9)
    ids, lengths = vocabulary.encode(["good bad good not good"])
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0])
    assert lengths == [7]
    words, shares = vocabulary.share_with_words(ids[0], values)
    assert words.tolist() == [2, 1, 2, 3, 2]
    assert shares.tolist() == [1, 2, 3 + 5, 4 + 5 + 10, 5 + 10]
    assert values.tolist() == [1, 2, 3, 4, 5, 10, 20], "not changed"
    words, shares = WordVocabulary(WORDS).share_with_words(np.array([2, 3]), np.array([1.0, 2.0]))
    assert (words.tolist(), shares.tolist()) == ([2, 3], [1, 2])


def test_saved_and_loaded(tmp_path):
    vocabulary = WordVocabulary.train(TEXTS, 4, 9)
    vocabulary.save(tmp_path / "tokenizer.json")
    loaded = WordVocabulary.load(tmp_path / "tokenizer.json")
    assert loaded.words == vocabulary.words
    np.testing.assert_array_equal(loaded.encode(TEXTS)[0], vocabulary.encode(TEXTS)[0])
    np.testing.assert_array_equal(
        WordVocabulary.from_json(vocabulary.to_json()).encode(TEXTS)[0], loaded.encode(TEXTS)[0]
    )
    # Others read the words of the same file.
    tokenizer = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert tokenizer.encode("not good bad").ids == [3, 2, 1]


@pytest.mark.parametrize("bigram", ["good bad", "good not good", "[UNK] good", "good  not", " good"])
def test_bigrams_of_unknown_words_are_refused(tmp_path, bigram):
    content = json.loads(WordVocabulary.train(TEXTS, 4, 9).to_json())
    content["model"]["vocab"] = {word: number for number, word in enumerate([*WORDS, bigram])}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="expected bigrams of two known words each"):
        WordVocabulary.load(tmp_path / "tokenizer.json")
