import json
from collections import Counter

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from rnnjax.data import tfds
from rnnjax.data.vocabulary import (
    CharacterVocabulary,
    SplitTexts,
    WordVocabulary,
    load_vocabulary,
    percentile_length,
    word_spans,
)
from rnnjax.errors import InputError

TEXTS = [
    "The cat saw the dog.",
    "A dog, a CAT<br /><br />and the end!",
    "it\N{RIGHT SINGLE QUOTATION MARK}s 'a' don't_stop",
]
WORDS = ["[PAD]", "[UNK]", "a", "the", "cat", "dog", "!", "and", "don't", "end", "it's", "saw", "stop"]


def test_words_by_frequency_then_alphabet():
    assert WordVocabulary.train(TEXTS, 100).words == WORDS
    vocabulary = WordVocabulary.train(TEXTS, 6)
    assert vocabulary.words == WORDS[:6]
    assert len(vocabulary) == 6


def test_what_counts_as_a_word():
    words = WordVocabulary.train(["Well, it's (_) [UNK]! 7/10, 7 / 9... O'Clock? snake_case and/or"], 100).words
    expected = ["!", "7", "7/10", "9", "?", "and", "case", "it's", "o'clock", "or", "snake", "unk", "well"]
    assert words == ["[PAD]", "[UNK]", *expected]


def test_encode_keeps_the_last_words_and_pads_on_the_right():
    vocabulary = WordVocabulary.train(TEXTS, 6)
    ids, lengths = vocabulary.encode(["the cat saw a dog", "", "[PAD] dog"], 3)
    np.testing.assert_array_equal(ids, [[1, 2, 5], [0, 0, 0], [1, 5, 0]])
    np.testing.assert_array_equal(lengths, [3, 0, 2])
    assert ids.dtype == lengths.dtype == np.int32
    ids, lengths = vocabulary.encode([], 3)
    assert (ids.shape, lengths.shape) == ((0, 1), (0,))
    with pytest.raises(InputError, match="save them as UTF-8"):
        vocabulary.encode(["a", "caf\udce9"])
    with pytest.raises(ValueError, match="max_length"):
        vocabulary.encode(["a dog"], 0)
    with pytest.raises(ValueError, match="3 or more"):
        WordVocabulary.train(TEXTS, 2)


@given(texts=st.lists(st.lists(st.sampled_from(["a", "b", "c", "dd", "e'e", "é"]), max_size=5), min_size=1))
def test_agrees_with_counting_by_hand(texts):
    vocabulary = WordVocabulary.train([" ".join(words) for words in texts], 5)
    counts = Counter(word for words in texts for word in words)
    expected = sorted(counts, key=lambda word: (-counts[word], word))[:3]
    assert vocabulary.words == ["[PAD]", "[UNK]", *expected]
    ids, lengths = vocabulary.encode([" ".join(words) for words in texts], 3)
    for row, length, words in zip(ids, lengths, texts, strict=True):
        kept = words[-3:]
        assert length == len(kept)
        assert [vocabulary.words[i] for i in row[:length]] == [w if w in expected else "[UNK]" for w in kept]
        assert not row[length:].any()


def as_tokenizers_does(vocabulary: WordVocabulary, texts: list[str]) -> list[list[int]]:
    tokenizer = tokenizers.Tokenizer.from_str(vocabulary.to_json())
    return [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)]


def encoded(vocabulary: WordVocabulary, texts: list[str]) -> list[list[int]]:
    return [row[:length].tolist() for row, length in zip(*vocabulary.encode(texts), strict=True)]


PIECES = ["7/10", "<br />", "<br\n/>", "don't", "O\N{RIGHT SINGLE QUOTATION MARK}Clock", "''", "[UNK]"]
SCRIPTS = [
    "\u0928\u092e\u0938\u094d\u0924\u0947",
    "e\u0301t\u0301e",
    "\u4f60\u597d",
    "\u03bb\u03cc\u03b3\u03bf\u03c2",
    "x\u00b2",
    "\u00bd",
]
LATIN = st.text(st.characters(max_codepoint=0x24F))


@given(texts=st.lists(st.lists(st.sampled_from(PIECES + SCRIPTS) | LATIN).map(" ".join), min_size=1))
def test_the_file_says_the_same_to_the_library_of_its_format(texts):
    vocabulary = WordVocabulary.train(texts, 20)
    assert encoded(vocabulary, texts) == as_tokenizers_does(vocabulary, texts)


def spans_agree(text: str) -> None:
    """The words that spans show, split again, are those that are encoded, and nothing else holds a word."""
    spans = word_spans(text)
    split = SplitTexts.of([text])
    words = [split.words[number] for number in split.numbers]
    assert [SplitTexts.of([text[span]]).words for span in spans] == [[word] for word in words]
    ends = [0, *(span.stop for span in spans)]
    starts = [*(span.start for span in spans), len(text)]
    between = [text[end:start] for end, start in zip(ends, starts, strict=True)]
    assert all(end <= start for end, start in zip(ends, starts, strict=True))
    assert "".join(f"{gap}{text[span]}" for gap, span in zip(between, spans, strict=False)) + between[-1] == text


ODD = ["\u0130stanbul", "DI\u0130", "\u0130", "\u0130'\u0130<BR />\u0130", "\u039f\u03a3", "\u1e9e", "\ufb03"]


@given(text=st.lists(st.sampled_from(PIECES + SCRIPTS + ODD) | LATIN, max_size=8).map(" ".join))
def test_spans_are_of_the_words_that_are_encoded(text):
    spans_agree(text)


def test_spans_by_hand():
    text = "\u0130yi<br />7/10! It\N{RIGHT SINGLE QUOTATION MARK}s <BR\n/>GREAT, \u0130\u0130x"
    words = ["\u0130yi", "7/10", "!", "It\N{RIGHT SINGLE QUOTATION MARK}s", "GREAT", "\u0130\u0130x"]
    assert [text[span] for span in word_spans(text)] == words
    assert word_spans("") == []


@pytest.mark.real_data("imdb_reviews")
def test_spans_of_reviews(tfds_dir):
    for text in tfds.read_imdb(tfds.prepare_imdb(tfds_dir))["train"][0][:300]:
        spans = word_spans(text)
        split = SplitTexts.of([text])
        assert [text[span].lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'") for span in spans] == [
            split.words[number] for number in split.numbers
        ]


@pytest.mark.real_data("imdb_reviews")
def test_reviews_are_encoded_as_the_library_does_it(tfds_dir):
    texts = tfds.read_imdb(tfds.prepare_imdb(tfds_dir))["train"][0]
    vocabulary = WordVocabulary.train(texts, 10_000)
    assert encoded(vocabulary, texts[:5000]) == as_tokenizers_does(vocabulary, texts[:5000])


def test_texts_are_split_once_for_all():
    split = SplitTexts.of(TEXTS)
    assert split.words[:6] == ["the", "cat", "saw", "dog", "a", "and"]
    np.testing.assert_array_equal(split.numbers[:5], [0, 1, 2, 0, 3])
    np.testing.assert_array_equal(split.lengths, [5, 8, 4])
    vocabulary = WordVocabulary.train(split, 8)
    assert vocabulary.words == WordVocabulary.train(TEXTS, 8).words
    for a, b in zip(vocabulary.encode(split, 4), vocabulary.encode(TEXTS, 4), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_a_model_reads_of_a_text():
    vocabulary = WordVocabulary.train(["good film", "good"], 4)
    ids, lengths = vocabulary.encode(["A GOOD, good<br />film", ""])
    assert vocabulary.decode(ids[0]) == "[UNK] good good film"
    assert vocabulary.decode(ids[1]) == ""
    assert vocabulary.decode(ids[0, : lengths[0]].tolist()) == "[UNK] good good film"


def test_word_vocabulary_saved_and_loaded(tmp_path):
    path = tmp_path / "tokenizer.json"
    vocabulary = WordVocabulary.train(TEXTS, 8)
    vocabulary.save(path)
    for loaded in (WordVocabulary.load(path), load_vocabulary(path)):
        assert isinstance(loaded, WordVocabulary)
        assert loaded.words == vocabulary.words
        np.testing.assert_array_equal(loaded.encode(TEXTS)[0], vocabulary.encode(TEXTS)[0])
    assert [file.name for file in tmp_path.iterdir()] == ["tokenizer.json"]


def test_characters(tmp_path):
    vocabulary = CharacterVocabulary.from_text("hello\n\N{PILE OF POO}é")
    assert vocabulary.characters == "\nehloé\N{PILE OF POO}"
    np.testing.assert_array_equal(vocabulary.encode("\N{PILE OF POO}eé\n"), [6, 1, 5, 0])
    assert vocabulary.encode("h").dtype == np.int32
    assert vocabulary.encode("").shape == (0,)
    assert vocabulary.decode([6, 1, 5, 0]) == "\N{PILE OF POO}eé\n"
    vocabulary.save(tmp_path / "tokenizer.json")
    for loaded in (CharacterVocabulary.load(tmp_path / "tokenizer.json"), load_vocabulary(tmp_path / "tokenizer.json")):
        assert isinstance(loaded, CharacterVocabulary)
        assert loaded.characters == vocabulary.characters


@given(text=st.text(min_size=1))
def test_characters_there_and_back(text):
    vocabulary = CharacterVocabulary.from_text(text)
    assert len(vocabulary) == len(set(text))
    assert vocabulary.decode(vocabulary.encode(text)) == text


def test_unseen_characters_are_named():
    with pytest.raises(InputError) as refusal:
        CharacterVocabulary.from_text("ab\n").encode("b\tcü\udcff", source="--prompt")
    assert str(refusal.value) == (
        r"--prompt: expected characters that the model knows, '\nab'; got '\t', 'c', 'ü', '\udcff'; leave them out"
    )


CHARACTERS = {"model": {"type": "Characters", "characters": "ab"}}


@pytest.mark.parametrize("load", [WordVocabulary.load, CharacterVocabulary.load, load_vocabulary])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"model": ',
        b"\xff",
        b"[1]",
        b"{}",
        b'{"model": "x"}',
        b'{"model": {"type": "Characters", "characters": "ba"}}',
        b'{"model": {"type": "Characters", "characters": ""}}',
        b'{"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}',
        WordVocabulary(["[PAD]", "[UNK]", "a"]).to_json().replace("Lowercase", "NFC").encode(),  # split otherwise
        WordVocabulary(["[PAD]", "[UNK]", "a"]).to_json().replace('"a": 2', '"a": 3').encode(),
    ],
)
def test_broken_files_are_refused(tmp_path, load, content):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"tokenizer\.json: expected [^\n]*run folder[^\n]*$"):
        load(path)
    with pytest.raises(InputError, match="no such file"):
        load(tmp_path / "none")


def test_each_kind_refuses_the_other(tmp_path):
    WordVocabulary.train(TEXTS, 8).save(tmp_path / "words")
    (tmp_path / "characters").write_text(json.dumps(CHARACTERS))
    with pytest.raises(InputError, match="character vocabulary"):
        CharacterVocabulary.load(tmp_path / "words")
    with pytest.raises(InputError, match="word vocabulary"):
        WordVocabulary.load(tmp_path / "characters")


def test_percentile_length():
    assert percentile_length(np.arange(1, 11), 90) == 9
    assert percentile_length(np.array([5, 1, 1]), 50) == 1
    assert percentile_length(np.array([5, 1, 1]), 67) == 5
    assert percentile_length(np.zeros(4, np.int32), 90) == 1
    assert percentile_length(np.array([3]), 100) == 3
    for lengths, percent in (([], 90), ([1], 0), ([1], 101)):
        with pytest.raises(ValueError, match="percentage"):
            percentile_length(np.array(lengths), percent)
