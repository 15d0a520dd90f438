"""Pre-trained word vectors from text files: GloVe's, and fastText's `.vec` (word2vec's format), plain or gzipped.

A line is a word and the D numbers of its vector, separated by single spaces; a first line of two whole numbers, as
fastText has it, is the number of words and D. A word may hold spaces itself (glove.840B), so a line is split from the
right. Files of gigabytes are read line by line, and only the vectors that are asked for are kept.

In a model of one's own and, to keep the table as it is, in a training loop of one's own:

    found = read_vectors("glove.6B.100d.txt", vocabulary.words)
    layer = rnnjax.Embedding(*found.table.shape, embedding_init=lambda *_: jnp.asarray(found.table), name="embedding")

    labels = jax.tree.map_with_path(lambda path, _: "frozen" if "embedding" in str(path) else "trained", params)
    optimizer = optax.partition({"trained": optax.adam(1e-3), "frozen": optax.set_to_zero()}, labels)
"""

import gzip
import hashlib
import logging
import os
import re
import stat
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from jaxtyping import Bool, Float, Int

from rnnjax.data.vocabulary import PAD, UNKNOWN
from rnnjax.errors import InputError

log = logging.getLogger("rnnjax")

INITIAL_RANGE = 0.05
"""Words that the file lacks start uniformly between minus and plus this, as our `Embedding`."""
LONGEST_LINE = 1 << 20
"""Bytes; a file that has longer lines is no file of word vectors, and is not to fill the memory."""

NUMBER = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
OF_NUMBERS = b"0123456789+-.eE "
FORMAT = "a word and the numbers of its vector, separated by single spaces, as in GloVe's and fastText's text files"


@dataclass(frozen=True)
class WordVectors:
    """A table of vectors for a vocabulary."""

    table: Float[np.ndarray, "V D"]
    """float32; the row of each id."""
    found: Bool[np.ndarray, " V"]
    """Whether a row comes from the file."""
    is_word: Bool[np.ndarray, " V"]
    """Whether an id was looked for: all but padding and unknown."""

    @property
    def share_of_words(self) -> float:
        """The share of the vocabulary's words that was found."""
        return float(self.found.sum() / max(self.is_word.sum(), 1))

    def share_of_tokens(self, counts: Int[np.ndarray, " V"]) -> float:
        """The share of running words that was found.

        Args:
            counts: how often each id occurs in the texts; 0 for padding. Unknown words count as not found.
        """
        return float(counts[self.found].sum() / max(counts.sum(), 1))


def read_vectors(
    path: str | os.PathLike[str], words: Sequence[str], seed: int = 0, *, ignore_case: bool = True
) -> WordVectors:
    """Make a table of vectors for a vocabulary.

    Words that the file lacks, and the unknown word, get values drawn by the seed, uniform between -0.05 and 0.05 as in
    our `Embedding`; padding gets zeros. A word that occurs twice has its first vector. Words that are not UTF-8, of
    which published files hold some, are left out. Notices of both go to the log.

    Args:
        path: the file; it is gzipped if it begins as such files do, whatever its name.
        words: the word of each id, as in `WordVocabulary.words`.
        seed: decides the vectors of words that the file lacks.
        ignore_case: a word that the file lacks takes the first vector of one that differs from it in case only:
            "london", from a vocabulary of lower-cased texts, that of "London". A word as it is written always comes
            before.

    Raises:
        InputError: the file is missing, cut short or otherwise broken, holds no vectors, or a line is malformed, which
            is named by its number: too few or too many values, or one that is no finite number. Of words that are not
            asked for it is not checked whether signs and points stand where numbers have them.
    """
    path = Path(path)
    gathered = _Gathered(words, seed, ignore_case)
    width = count = num_lines = 0
    has_header = False
    not_utf8: list[int] = []
    repeated: list[int] = []
    for number, line in _lines(path):
        where = f"{path}, line {number}"
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
            first = line.split(b" ")
            has_header = len(first) == 2 and first[0].isdigit() and first[1].isdigit()
            if has_header:
                count, width = _header(where, *first)
                continue
            width = line.count(b" ")
        if not line:
            continue
        num_lines += 1
        if has_header and num_lines > count:
            raise InputError(
                f"{where}: expected {count} words, as the first line says, got more; write their number there"
            )
        word, values = _split(where, line, width)
        is_wanted, is_repeated = gathered.wants(word)
        if is_wanted or num_lines == 1 or values.translate(None, OF_NUMBERS):
            vector = _vector(where, values)
            if is_wanted:
                gathered.take(word, vector)
        if is_repeated:
            repeated.append(number)
        if not word.isascii() and not _is_utf8(word):
            not_utf8.append(number)
    if num_lines < max(count, 1):
        expected = f"{count} words, as its first line says" if has_header else f"word vectors ({FORMAT})"
        raise InputError(
            f"{path}: expected {expected}, found {num_lines or 'none'}; fetch the file again if it was cut short"
        )
    _tell(path, repeated, "a word that stood there before, whose first vector is kept")
    _tell(path, not_utf8, "a word that is not in UTF-8, which is left out")
    return gathered.result(width)


def check_width(embedding: int | str, width: int, path: str) -> None:
    """Hold `--embedding` against the width of the vectors of a file.

    Raises:
        InputError: it is neither auto nor that width.
    """
    if embedding not in ("auto", width):
        raise InputError(
            f"--embedding: expected {width}, the width of the vectors in {path}; got {embedding}. Leave it out."
        )


def fingerprint_vectors(path: str | os.PathLike[str]) -> str:
    """SHA-256 (hex) over the bytes of a file of vectors.

    Raises:
        InputError: it is missing, cannot be read, or is no file.
    """
    path = Path(path)
    try:
        _check_file(path)
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError) as error:  # a name of NUL characters is no name
        _refuse(path, error)


class _Gathered:
    """Vectors of the words that are wanted, as they come."""

    def __init__(self, words: Sequence[str], seed: int, ignore_case: bool) -> None:
        self.words, self.seed = words, seed
        self.is_word = np.array([word not in (PAD, UNKNOWN) for word in words], bool)
        self.exact = {
            word.encode("utf-8", "surrogatepass"): i for i, word in enumerate(words) if word not in (PAD, UNKNOWN)
        }
        self.similar: dict[str, list[int]] = {}
        if ignore_case:
            for word, i in self.exact.items():
                self.similar.setdefault(_folded(word), []).append(i)
        self.vectors: dict[int, np.ndarray] = {}
        self.is_exact = np.zeros(len(words), bool)

    def wants(self, word: bytes) -> tuple[bool, bool]:
        """Whether the vector of this word is to be taken, and whether it is there already."""
        place = self.exact.get(word)
        is_repeated = place is not None and bool(self.is_exact[place])
        return (place is not None and not is_repeated) or bool(self._similar(word)), is_repeated

    def take(self, word: bytes, vector: np.ndarray) -> None:
        """Keep a vector for all that want it."""
        for i in self._similar(word):
            self.vectors[i] = vector
        place = self.exact.get(word)
        if place is not None and not self.is_exact[place]:
            self.vectors[place] = vector
            self.is_exact[place] = True

    def _similar(self, word: bytes) -> list[int]:
        """Ids of words without a vector that differ from this one in case at most."""
        candidates = self.similar.get(_folded(word), ()) if self.similar else ()
        return [i for i in candidates if i not in self.vectors]

    def result(self, width: int) -> WordVectors:
        """The table."""
        table = np.random.default_rng(self.seed).random((len(self.words), width), np.float32)  # [V, D]
        table = (table - np.float32(0.5)) * np.float32(2 * INITIAL_RANGE)
        for i, word in enumerate(self.words):
            if word == PAD:
                table[i] = 0
        found = np.zeros(len(self.words), bool)
        for i, vector in self.vectors.items():
            table[i], found[i] = vector, True
        return WordVectors(table, found, self.is_word)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Each line, without spaces at its end, which fastText writes, and its number."""
    number = 0
    try:
        _check_file(path)
        with path.open("rb") as raw:
            start = raw.peek(4)[:4]
            if start == b"PK\x03\x04":
                raise InputError(
                    f"{path}: expected text, plain or gzipped, got a ZIP archive; unpack it and name a file"
                )
            file = gzip.GzipFile(fileobj=raw) if start[:2] == b"\x1f\x8b" else raw
            while line := file.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    raise InputError(f"{path}, line {number}: expected {FORMAT}, got a line of more than a megabyte")
                yield number, line.rstrip(b" \r\n")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            f"{path}, after line {number}: the gzip file is cut short or broken ({error}); fetch it again"
        ) from None
    except OSError as error:
        _refuse(path, error)


def _header(where: str, count: bytes, width: bytes) -> tuple[int, int]:
    """Number of words and width, from the digits of a first line."""
    if len(count) > 12 or len(width) > 12 or int(count) == 0 or int(width) == 0:
        shown = _shown(count + b" " + width)
        raise InputError(f"{where}: expected a number of words and a width, each 1 or more; got {shown}")
    return int(count), int(width)


def _split(where: str, line: bytes, width: int) -> tuple[bytes, bytes]:
    """The word of a line, and the rest."""
    spaces = line.count(b" ")
    if width == 0 or spaces < width:
        expected = f"a word and {width} numbers, as in the lines before" if width else FORMAT
        raise InputError(
            f"{where}: expected {expected}; got {spaces} after {_shown(line.split(b' ')[0])}. Mend the line."
        )
    if spaces == width:
        word, _, values = line.partition(b" ")
        return word, values
    word = line.rsplit(b" ", width)[0]
    last = word.rpartition(b" ")[2]
    if NUMBER.fullmatch(last):
        raise InputError(
            f"{where}: expected a word and {width} numbers, as in the lines before; got {spaces}. Mend the line."
        )
    return word, line[len(word) + 1 :]


def _vector(where: str, values: bytes) -> Float[np.ndarray, " D"]:
    fields = values.split(b" ")
    wrong = next((field for field in fields if not NUMBER.fullmatch(field)), None)
    if wrong is None:
        with np.errstate(over="ignore"):
            vector = np.array([float(field) for field in fields]).astype(np.float32)
        if np.isfinite(vector).all():
            return vector
        wrong = fields[int(np.argmin(np.isfinite(vector)))]
    raise InputError(f"{where}: expected finite numbers after the word; got {_shown(wrong)}. Mend the line.")


def _folded(word: bytes) -> str:
    return word.decode("utf-8", "surrogateescape").lower()


def _is_utf8(word: bytes) -> bool:
    try:
        word.decode()
    except UnicodeDecodeError:
        return False
    return True


def _tell(path: Path, numbers: list[int], what: str) -> None:
    if numbers:
        more = f" and {len(numbers) - 5} more" if len(numbers) > 5 else ""
        log.warning("%s: %s, in line %s%s", path, what, ", ".join(map(str, numbers[:5])), more)


def _check_file(path: Path) -> None:
    if not stat.S_ISREG(path.stat().st_mode):
        raise InputError(f"{path}: expected a file of word vectors, got a folder or a pipe; name a file")


def _refuse(path: Path, error: OSError | ValueError) -> NoReturn:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        raise InputError(f"{path}: expected a file of word vectors; there is no such file. Check the name.") from None
    raise InputError(
        f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}); check its permissions"
    ) from None


def _shown(value: bytes) -> str:
    text = value.decode("utf-8", "backslashreplace")
    return repr(text if len(text) <= 60 else text[:57] + "...")
