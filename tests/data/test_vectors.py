"""Word vectors from files: what is found, what starts at random, and what is refused."""

import gzip
import hashlib
import os
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rnnjax.data.vectors import WordVectors, fingerprint_vectors, read_vectors
from rnnjax.data.vocabulary import WordVocabulary
from rnnjax.errors import InputError

WORDS = ["[PAD]", "[UNK]", "the", "cat", "sat", "größe"]
GLOVE = "the 0.5 -1 2e-1\n. . . 7 8 9\ndog 3 3 3\ngröße +1.25 .5 1.\ncat 1 2 3\n[PAD] 4 4 4\n[UNK] 5 5 5\n"
FAST_TEXT = "7 3\n" + "".join(f"{line} \n" for line in GLOVE.splitlines())  # fastText ends lines with a space
EXPECTED = {2: [0.5, -1, 0.2], 5: [1.25, 0.5, 1], 3: [1, 2, 3]}


@pytest.fixture
def write(tmp_path):
    def make(content, name="vectors.txt"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return make


def message(path, words=WORDS):
    with pytest.raises(InputError) as refusal:
        read_vectors(path, words)
    text = str(refusal.value)
    assert str(path) in text
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    "content",
    [
        GLOVE,
        FAST_TEXT,
        GLOVE.replace("\n", "\r\n"),
        "\ufeff" + GLOVE,
        GLOVE.rstrip("\n"),
        GLOVE + "\n\n",
        gzip.compress(GLOVE.encode(), mtime=0),
        gzip.compress(FAST_TEXT[:40].encode(), mtime=0) + gzip.compress(FAST_TEXT[40:].encode(), mtime=0),
    ],
    ids=["glove", "fasttext", "crlf", "bom", "no end", "blank lines", "gzip", "gzip in two parts"],
)
def test_vectors_of_the_words_that_are_wanted(write, content):
    vectors = read_vectors(write(content), WORDS)
    assert vectors.table.dtype == np.float32
    assert vectors.table.shape == (6, 3)
    assert vectors.found.tolist() == [False, False, True, True, False, True]
    for i, values in EXPECTED.items():
        np.testing.assert_array_equal(vectors.table[i], np.array(values, np.float32))
    np.testing.assert_array_equal(vectors.table[0], 0)  # padding, whatever the file says of a word so called
    rest = vectors.table[[1, 4]]
    assert (np.abs(rest) <= 0.05).all()
    assert len(np.unique(rest)) == 6


def test_shares():
    vectors = WordVectors(
        table=np.zeros((6, 3), np.float32),
        found=np.array([0, 0, 1, 1, 0, 1], bool),
        is_word=np.array([0, 0, 1, 1, 1, 1], bool),
    )
    assert vectors.share_of_words == 3 / 4
    assert vectors.share_of_tokens(np.array([0, 4, 10, 3, 2, 1])) == 14 / 20
    assert vectors.share_of_tokens(np.zeros(6, int)) == 0


def test_words_that_are_not_found_start_as_our_embedding_does_and_by_the_seed(write):
    words = ["[PAD]", "[UNK]", *(f"w{i}" for i in range(2000))]
    path = write("w7 1 2 3 4 5\n")
    vectors, again, other = (read_vectors(path, words, seed) for seed in (0, 0, 1))
    missing = vectors.table[~vectors.found][1:]
    assert missing.shape == (2000, 5)
    assert -0.05 <= missing.min() < -0.0499
    assert 0.0499 < missing.max() <= 0.05
    assert abs(missing.mean()) < 1e-3
    assert missing.std() == pytest.approx(0.1 / np.sqrt(12), rel=0.02)
    np.testing.assert_array_equal(vectors.table, again.table)
    assert (other.table[~other.found][1:] != missing).mean() > 0.99
    more = read_vectors(write("w7 1 2 3 4 5\nw8 1 2 3 4 5\n"), words)
    np.testing.assert_array_equal(more.table[~more.found], vectors.table[~more.found])  # whatever else is found


def test_words_with_spaces_and_other_odd_ones(write):
    words = [". . .", "at name@domain.com", "\x85", "a\u00a0b", "b", "2"]
    path = write("b 1 2\n. . . 3 4\nat name@domain.com 5 6\n\x85 7 8\na\u00a0b 9 10\n 11 12\nat home 13 14\n2 15 16\n")
    vectors = read_vectors(path, words)
    assert vectors.found.all()
    np.testing.assert_array_equal(vectors.table, [[3, 4], [5, 6], [7, 8], [9, 10], [1, 2], [15, 16]])


def test_case_is_ignored_where_a_word_is_not_there_as_it_is_written(write):
    path = write("London 1 1\nLONDON 2 2\nthe 3 3\nThe 4 4\nus 5 5\nPARIS 6 6\nparis 7 7\nÜber 8 8\n")
    words = ["london", "The", "US", "paris", "über", "absent"]
    vectors = read_vectors(path, words)
    np.testing.assert_array_equal(vectors.table[:5, 0], [1, 4, 5, 7, 8])
    assert vectors.found.tolist() == [True] * 5 + [False]
    exact = read_vectors(path, words, ignore_case=False)
    assert exact.found.tolist() == [False, True, False, True, False, False]
    np.testing.assert_array_equal(exact.table[[1, 3], 0], [4, 7])


def test_of_repeated_words_the_first_counts_and_it_is_said(write, caplog):
    vectors = read_vectors(write("cat 1 1\nx 2 2\ncat 3 3\nCat 4 4\nx 5 5\ncat 6 6\n"), WORDS)
    np.testing.assert_array_equal(vectors.table[3], 1)
    (notice,) = caplog.messages
    assert notice.endswith("a word that stood there before, whose first vector is kept, in line 3, 6")


def test_words_that_are_not_utf8_are_left_out_and_it_is_said(write, caplog):
    content = b"cat 1 1\n" + b"".join(b"gr\xf6\xdfe 2 2\n" for _ in range(7)) + "größe 3 3\n".encode()
    vectors = read_vectors(write(content), WORDS)
    np.testing.assert_array_equal(vectors.table[5], 3)
    (notice,) = caplog.messages
    assert notice.endswith("a word that is not in UTF-8, which is left out, in line 2, 3, 4, 5, 6 and 2 more")


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("", ["expected word vectors", "found none"]),
        ("\n\n", ["found none"]),
        ("7 3\n", ["expected 7 words", "found none"]),
        ("0 3\n", ["line 1", "1 or more", "'0 3'"]),
        ("3 0\n", ["line 1", "1 or more", "'3 0'"]),
        ("3 " + "9" * 5000, ["line 1", "1 or more"]),
        ("2 3\nthe 1 2 3\n", ["expected 2 words", "found 1"]),
        ("1 3\nthe 1 2 3\ncat 1 2 3\n", ["line 3", "expected 1 words", "got more"]),
        ("2 3\nthe 1 2\ncat 1 2\n", ["line 2", "3 numbers", "got 2 after 'the'"]),
        ("the\n", ["line 1", "the numbers of its vector", "got 0 after 'the'"]),
        ("text,label\nfine,good\n", ["line 1", "got 0 after 'text,label'"]),
        ("the\t1\t2\n", ["line 1", "single spaces"]),
        ("Once upon a time\n", ["line 1", "finite numbers", "'upon'"]),
        ("the 1 2 3\ncat 1 2\n", ["line 2", "3 numbers", "got 2 after 'cat'"]),
        ("the 1 2 3\ndog 1 2\n", ["line 2", "3 numbers", "got 2 after 'dog'"]),
        ("the 1 2 3\ndog 1 2 3 4\n", ["line 2", "3 numbers", "got 4"]),
        ("the 1 2 3\ncat 1 2 3 4\n", ["line 2", "3 numbers", "got 4"]),
        ("the 1 2 3\ncat 1  3\n", ["line 2", "''"]),
        ("the 1 2 3\ncat 1 x 3\n", ["line 2", "finite numbers", "'x'"]),
        ("the 1 2 3\ndog 1 x 3\n", ["line 2", "finite numbers", "'x'"]),
        ("the 1 2 3\ncat 1 1_0 3\n", ["line 2", "'1_0'"]),
        ("the 1 2 3\ncat 1 -- 3\n", ["line 2", "'--'"]),
        ("the 1 2 3\ncat 1 nan 3\n", ["line 2", "finite numbers", "'nan'"]),
        ("the 1 2 3\ndog 1 NaN 3\n", ["line 2", "finite numbers", "'NaN'"]),
        ("the 1 2 3\ndog 1 2 -inf\n", ["line 2", "finite numbers", "'-inf'"]),
        ("the 1 2 3\ncat 1 1e39 3\n", ["line 2", "finite numbers", "'1e39'"]),
        ("the 1 2 3\ncat 1 " + "1" * 5000 + " 3\n", ["line 2", "finite numbers"]),
        (b"the 1 2 3\ncat 1 \xff 3\n", ["line 2", r"\\xff"]),
        ("x " + "1 " * 600_000, ["line 1", "more than a megabyte"]),
        (b"PK\x03\x04...", ["ZIP", "unpack"]),
        (gzip.compress(GLOVE.encode(), mtime=0)[:-9], ["gzip", "cut short", "after line"]),
        (gzip.compress(GLOVE.encode(), mtime=0)[:-3], ["gzip", "cut short", "after line"]),
        (gzip.compress(GLOVE.encode(), mtime=0) + b"more", ["gzip", "broken", "after line 7"]),
        (b"\x1f\x8b\x08", ["gzip", "after line 0"]),
    ],
)
def test_refused_with_one_line_that_names_the_place(write, content, parts):
    text = message(write(content))
    for part in parts:
        assert part in text


def test_what_is_no_file_is_refused(tmp_path):
    assert "no such file" in message(tmp_path / "absent.txt")
    assert "got a folder or a pipe" in message(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "got a folder or a pipe" in message(tmp_path / "pipe")
    for path, words in [(tmp_path / "absent.txt", "no such file"), (tmp_path, "got a folder")]:
        with pytest.raises(InputError, match=words):
            fingerprint_vectors(path)


def test_fingerprint_is_of_the_bytes(write):
    assert fingerprint_vectors(write(GLOVE)) == hashlib.sha256(GLOVE.encode()).hexdigest()


def test_only_the_wanted_words_are_kept(write):
    """Not a table of all words first: the vectors that are held are those that the vocabulary asks for."""
    path = write("".join(f"w{i} {'0.25 ' * 50}\n" for i in range(20_000)))
    words = [f"w{i}" for i in range(0, 20_000, 200)]
    read_vectors(write("w0 1\n", "warm"), words)
    tracemalloc.start()
    vectors = read_vectors(path, words)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert vectors.found.all()
    assert (vectors.table == 0.25).all()
    assert path.stat().st_size > 5_000_000
    assert most < 500_000


def test_with_a_vocabulary_of_texts(write):
    texts = ["The cat sat; a CAT sat.", "The größe 7/10!"]
    vocabulary = WordVocabulary.train(texts, 20)
    ids, lengths = vocabulary.encode(texts)
    vectors = read_vectors(write(GLOVE), vocabulary.words)
    by_word = dict(zip(vocabulary.words, vectors.found.tolist(), strict=True))
    assert {word for word, found in by_word.items() if found} == {"the", "cat", "größe"}
    counts = np.bincount(ids[ids != 0], minlength=len(vocabulary))
    assert counts.sum() == lengths.sum()
    # the x2, cat x2, größe x1 of: the cat sat a cat sat, the größe 7/10 !
    assert vectors.share_of_tokens(counts) == 5 / 10
    assert vectors.share_of_words == 3 / 7


PIECES = st.sampled_from(
    [b"the", b"cat", b"2", b"3", b"1 2 3", b"0.5", b"-1e-3", b"1e400", b"nan", b" ", b"  ", b"\n", b"\r\n", b"\t", b"_",
     b"\xff", b"\x85", "größe".encode(), b"\0", b"\x1f\x8b", b"PK\x03\x04"]
)  # fmt: skip


def read_or_refuse(path):
    """Read a file: what comes of it is either a table that can be used or the clear error."""
    try:
        vectors = read_vectors(path, WORDS)
    except InputError:
        message(path)
        return
    assert vectors.table.shape[0] == len(WORDS)
    assert vectors.table.shape[1] >= 1
    assert np.isfinite(vectors.table).all()
    assert not vectors.found[:2].any()


@given(content=st.one_of(st.binary(max_size=60), st.lists(PIECES, max_size=25).map(b"".join)))
@example(content=b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xff\xff\xff")
def test_any_bytes_are_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("fuzz") / "vectors.txt"
    path.write_bytes(content)
    read_or_refuse(path)


@given(data=st.data(), compressed=st.booleans(), header=st.booleans())
def test_any_damage_to_a_file_is_read_or_refused(tmp_path_factory, data, compressed, header):
    content = (FAST_TEXT if header else GLOVE).encode()
    content = gzip.compress(content, mtime=0) if compressed else content
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(damaged[: data.draw(st.integers(1, len(damaged)))])
    path = tmp_path_factory.mktemp("fuzz") / "vectors.txt"
    path.write_bytes(damaged)
    read_or_refuse(path)


@given(cut=st.integers(1, len(gzip.compress(GLOVE.encode(), mtime=0)) - 1))
def test_a_gzip_file_that_is_cut_anywhere_is_refused(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("fuzz") / "vectors.txt.gz"
    path.write_bytes(gzip.compress(GLOVE.encode(), mtime=0)[:cut])
    assert "after line" in message(path) or cut < 2
