"""Tagged sentences: what is read of files, what a model sees of words, and that batches hold each token once."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from rnnjax.data.grammar import tagged_sentences
from rnnjax.data.sentences import CASES, LONGEST_WORD, Sentences, case, likely_widths, plain, spelling
from rnnjax.data.tagged import read_tagged
from rnnjax.errors import InputError

COLUMNS = "He PRP B-NP\nreckons VBZ B-VP\n\n-DOCSTART- -X- O\n\n\n10\u00a0000 CD B-NP\n. . O"
CONLLU = """# text = I don't.
1\tI\tI\tPRON\t_\t_\t2\tnsubj\t_\t_
2-3\tdon't\t_\t_\t_\t_\t_\t_\t_\t_
2\tdo\tdo\tAUX\t_\t_\t0\troot\t_\t_
3\tn't\tnot\tPART\t_\t_\t2\tadvmod\t_\t_
3.1\tgo\tgo\tVERB\t_\t_\t_\t_\t_\t_
4\t.\t.\tPUNCT\t_\t_\t2\tpunct\t_\t_

"""


def test_columns(tmp_path):
    (tmp_path / "a.conll").write_text(COLUMNS.replace("\u00a0", "_"))
    expected = [[("He", "PRP", "B-NP"), ("reckons", "VBZ", "B-VP")], [("10_000", "CD", "B-NP"), (".", ".", "O")]]
    assert read_tagged(tmp_path / "a.conll") == {"all": expected}
    (tmp_path / "tabs.tsv").write_bytes(b"10 000\tNUM\r\nmen\tNOUN\r\n")
    assert read_tagged(tmp_path / "tabs.tsv") == {"all": [[("10 000", "NUM"), ("men", "NOUN")]]}


def test_conllu_and_folders(tmp_path):
    for name in ("en-ud-train.conllu", "en-ud-dev.conllu", "en-ud-test.conllu", "README"):
        (tmp_path / name).write_text(CONLLU)
    sentence = [("I", "PRON"), ("do", "AUX"), ("n't", "PART"), (".", "PUNCT")]
    assert read_tagged(tmp_path) == {part: [sentence] for part in ("train", "validation", "test")}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "He\nreckons\n", r"a\.txt, line 1: expected a word and its tag"),
        ("a.txt", "He PRP B-NP\nreckons VBZ\n", r"a\.txt, line 2: .* as many columns as in the lines before"),
        ("a.txt", "He PRP B-NP\n\nreckons VBZ\n", r"a\.txt, line 3: .* as many columns"),
        ("a.txt", "He\t\n", r"line 1: expected a word and its tag"),
        ("a.txt", "\n\n", r"expected sentences, found none"),
        ("a.txt", "a b\n" * 1001, r"at most 1000 tokens; got one of 1001"),
        ("a.conllu", "1\tI\tPRON\n", r"line 1: expected ten columns that tabs part, as in CoNLL-U; got 3"),
        ("b/dev.txt", "a b\n", r"expected a file whose name holds `train`"),
    ],
)
def test_refused(tmp_path, name, content, message):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_tagged(path if path.parent == tmp_path else path.parent)


def test_two_files_of_one_part_and_other_columns(tmp_path):
    for name in ("train.txt", "train_2.txt"):
        (tmp_path / name).write_text("a b\n")
    with pytest.raises(InputError, match=r"expected one file to train; got train\.txt and train_2\.txt"):
        read_tagged(tmp_path)
    (tmp_path / "train_2.txt").rename(tmp_path / "test.txt").write_text("a b c\n")
    with pytest.raises(InputError, match="as many columns in all files"):
        read_tagged(tmp_path)


def test_what_a_model_sees_of_a_word():
    words = {"the": "lower", "The": "Capital", "I": "Capital", "USA": "UPPER", "iPod": "mIxed", "1,200": "d1git"}
    words |= {"--": "other", "U.S.": "UPPER", "Q4": "d1git", "McCoy": "mIxed", "n't": "lower"}
    assert {word: CASES[case(word)] for word in words} == words
    assert plain("Q4-1992") == "q0-0000"
    ids = {character: number for number, character in enumerate("abcdefghijklmnopqrstuvwxyz", start=2)}
    assert spelling("cab1", ids).tolist() == [4, 2, 3, 1] + [0] * (LONGEST_WORD - 4)
    half = LONGEST_WORD // 2
    long = "abcdefghijklmnopqrstuvwxyz"
    assert spelling(long, ids).tolist() == [ids[c] for c in long[:half] + long[-half:]]


def sentences(lengths, **options):
    total = int(np.sum(lengths))
    tokens = {"inputs": np.arange(2, total + 2), "spellings": np.arange(total) % 5}
    spellings = np.arange(1, 16).reshape(5, 3)
    return Sentences(tokens, spellings, np.array(lengths), [8, 16], **options)


@pytest.mark.parametrize("lengths", [[3, 9, 20, 8, 16, 1, 30], [5], [17, 17]])
def test_each_token_is_in_one_batch(lengths):
    source = sentences(lengths)
    text = np.split(np.arange(2, sum(lengths) + 2), np.cumsum(lengths)[:-1])
    for batches in (source.evaluation(2), source.training_epoch(0, 1, 2), source.training_epoch(0, 2, 2)):
        found = []
        for i in range(len(batches)):
            batch = batches[i]
            assert batch["weight"].shape == (2,)
            width = batch["inputs"].shape[1]
            assert width in (8, 16, 24, 32)
            for ids, characters, length, weight in zip(
                *(batch[name] for name in ("inputs", "characters", "lengths", "weight")), strict=True
            ):
                assert length <= width
                assert not ids[length:].any()
                assert not characters[length:].any()
                np.testing.assert_array_equal(characters[:length, 0], 1 + 3 * ((ids[:length] - 2) % 5))
                if weight:
                    found.append(ids[:length].tolist())
        assert sorted(found) == sorted(part.tolist() for part in text)


def test_orders_differ_by_epoch_alone():
    source = sentences([1 + i % 7 for i in range(40)])
    first, again, second = (source.training_epoch(3, epoch, 4) for epoch in (1, 1, 2))
    np.testing.assert_array_equal(first[2]["inputs"], again[2]["inputs"])
    assert any(not np.array_equal(first[i]["inputs"], second[i]["inputs"]) for i in range(len(first)))


def test_rare_words_are_unknown_at_times():
    rare = np.zeros(2002, bool)
    rare[2:1001] = True
    source = sentences([10] * 200, rare=rare, rare_rate=0.3)
    batches = source.training_epoch(0, 1, 200)
    ids = np.sort(batches[0]["inputs"][batches[0]["inputs"] > 0])
    assert np.sum(ids > 1000) >= 1001  # frequent words stay
    np.testing.assert_allclose(np.sum(ids == 1), 0.3 * 999, atol=60)
    assert not np.any(source.evaluation(200)[0]["inputs"] == 1)
    other = source.training_epoch(0, 2, 200)[0]["inputs"]
    assert len(set(other[other > 0]) ^ set(ids)) > 100


def test_likely_widths():
    assert likely_widths(np.arange(1, 101)) == [32, 64, 88, 104]
    assert likely_widths(np.array([3, 4])) == [8]


def test_the_grammar_keeps_its_rules():
    made = tagged_sentences(2000, seed=0)
    assert made == tagged_sentences(2000, seed=0)
    assert made != tagged_sentences(2000, seed=1)
    words: dict[str, set[str]] = {}
    for sentence in made:
        before = "O"
        for word, pos, chunk in sentence:
            assert chunk == "O" or chunk[0] == "B" or before[1:] == chunk[1:], sentence
            before = chunk
            words.setdefault(word.lower(), set()).add(pos)
        assert sentence[-1] == (".", ".", "O")
        assert sentence[0][0][0].isupper() or sentence[0][0][0].isdigit()
    assert len(words["plans"]) == 2  # NNS and VBZ
    assert words["that"] == {"DT", "IN"}
    once = Counter(word for sentence in made for word, _, _ in sentence)
    assert sum(count == 1 for count in once.values()) > 1000  # there are words to be unknown


def real(name):
    """A folder of real data, or a skip."""
    root = os.environ.get("TFDS_DATA_DIR")
    for folder in [Path(root, name), Path(root).parent / name, Path(root).parent / "tagging" / name] if root else []:
        if folder.is_dir():
            return folder
    pytest.skip(f"no {name} beside TFDS_DATA_DIR")


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("conll2000", {"train": (8_936, 211_727), "test": (2_012, 47_377)}),
        ("ud_english_lines", {"train": (3_457, 64_684), "validation": (1_118, 21_637), "test": (1_121, 19_984)}),
        ("ud_english_partut", {"train": (1_781, 43_504), "validation": (156, 2_722), "test": (153, 3_408)}),
    ],
)
def test_published_sizes(name, sizes):
    parts = read_tagged(real(name))
    assert {part: (len(found), sum(map(len, found))) for part, found in parts.items()} == sizes
    if name == "conll2000":  # as conlleval counts the phrases of the test split; there all begin with B-
        assert sum(row[-1].startswith("B-") for sentence in parts["test"] for row in sentence) == 23_852
