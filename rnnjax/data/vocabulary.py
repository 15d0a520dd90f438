"""Text to integers and back: a vocabulary of words, one of characters, and one of words and marks that reads as text.

Each is saved as one JSON file.
"""

import dataclasses
import json
import math
import os
import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from rnnjax import atomic
from rnnjax.errors import InputError

PAD, UNKNOWN = "[PAD]", "[UNK]"
PAD_ID, UNKNOWN_ID = 0, 1

# A mark out of ten (7/10) is one word, and so are "!" and "?": each says something of a text, as other punctuation does
# not. Otherwise words are letters and digits; an apostrophe inside belongs to its word: don't, o'clock.
WORD = r"\d+/\d+|[^\W_]+(?:'[^\W_]+)*|[!?]"
BREAK = r"<br\s*/?>"
APOSTROPHE = "\N{RIGHT SINGLE QUOTATION MARK}"

SPLITTING: dict[str, Any] = {
    "normalizer": {
        "type": "Sequence",
        "normalizers": [
            {"type": "Lowercase"},
            {"type": "Replace", "pattern": {"Regex": BREAK}, "content": " "},
            {"type": "Replace", "pattern": {"String": APOSTROPHE}, "content": "'"},
        ],
    },
    "pre_tokenizer": {"type": "Split", "pattern": {"Regex": WORD}, "behavior": "Removed", "invert": True},
}
"""How a text is split, in the words of a file of HuggingFace's `tokenizers`."""


@dataclasses.dataclass(frozen=True)
class SplitTexts:
    """Texts split into words: what a vocabulary is counted from, and what it encodes.

    Attributes:
        words: the distinct words, in the order in which they first occur.
        numbers: int32 [sum of lengths], for each word of all texts its place in `words`.
        lengths: int32 [N], the words of each text.
    """

    words: list[str]
    numbers: Int[np.ndarray, " total"]
    lengths: Int[np.ndarray, " N"]

    @classmethod
    def of(cls, texts: "Iterable[str] | SplitTexts") -> "SplitTexts":
        """Split texts: lower-cased, `<br />` marks as spaces, punctuation other than "!" and "?" dropped.

        Raises:
            InputError: a text holds lone surrogates, as Python shows bytes of a command line that are not UTF-8.
        """
        if isinstance(texts, SplitTexts):
            return texts
        import regex

        find_words, breaks = regex.compile(WORD).findall, regex.compile(BREAK)
        index: defaultdict[str, int] = defaultdict()
        index.default_factory = index.__len__  # a new word gets the next number
        numbers, lengths = array("i"), array("i")
        for text in texts:
            if not text.isascii():
                try:
                    text.encode()
                except UnicodeEncodeError:
                    raise InputError("Expected texts in UTF-8, got bytes that are not; save them as UTF-8.") from None
            words = find_words(breaks.sub(" ", text.lower()).replace(APOSTROPHE, "'"))
            numbers.extend(map(index.__getitem__, words))
            lengths.append(len(words))
        return cls(list(index), np.array(numbers, np.int32), np.array(lengths, np.int32))


def word_spans(text: str) -> list[slice]:
    """Where in a text, as it is written, the words stand that `SplitTexts.of` finds, in their order."""
    import regex

    lower = text.lower()
    # Lower-casing may add characters (a capital I with a dot becomes two); a break may be any number of spaces.
    spaced = regex.sub(BREAK, lambda found: " " * len(found[0]), lower).replace(APOSTROPHE, "'")
    origin: Sequence[int] = range(len(text))
    if len(lower) != len(text):
        origin = [place for place, character in enumerate(text) for _ in character.lower()]
    return [slice(origin[found.start()], origin[found.end() - 1] + 1) for found in regex.finditer(WORD, spaced)]


class WordVocabulary:
    """Words by falling frequency, ties in alphabetical order. Id 0 is padding, id 1 any word not in the vocabulary.

    Texts are split as `SplitTexts.of` does it. Saved as a word-level tokeniser that HuggingFace's `tokenizers` reads.

    After the words there may be bigrams, each two words of the vocabulary with a space between them ("not good"), by
    falling frequency. Where there are some, a text's ids are those of its words and then those of its bigrams.
    """

    def __init__(self, words: Iterable[str]):
        """Take the word of each id, padding and unknown first, bigrams last; use `train` or `load` to get them."""
        self.words = list(words)
        self._ids = {word: number for number, word in enumerate(self.words)}

    @classmethod
    def train(cls, texts: Iterable[str] | SplitTexts, size: int, num_bigrams: int = 0) -> "WordVocabulary":
        """Take the `size` most frequent words of `texts`, padding and unknown included in the count, and bigrams.

        Args:
            texts: what is counted.
            size: the most words.
            num_bigrams: the most bigrams, pairs of neighbours of which the vocabulary has both; of equally frequent
                ones those of more frequent words come first.

        Raises:
            InputError: as `SplitTexts.of`.
            ValueError: `size` leaves no room for a word.
        """
        if size < 3:
            raise ValueError(f"A vocabulary needs a size of 3 or more (padding, unknown, one word); got {size}.")
        split = SplitTexts.of(texts)
        counts = np.bincount(split.numbers, minlength=len(split.words)).tolist()
        ranked = sorted(zip(split.words, counts, strict=True), key=lambda entry: (-entry[1], entry[0]))
        vocabulary = cls([PAD, UNKNOWN, *(word for word, _ in ranked[: size - 2])])
        if not num_bigrams:
            return vocabulary
        words = vocabulary.words
        ids = vocabulary._ids_of(split)  # [total]
        is_last = np.zeros(len(ids), bool)
        is_last[np.cumsum(split.lengths)[split.lengths > 0] - 1] = True  # of its text: what follows is no neighbour
        is_pair = ~is_last[:-1] & (ids[:-1] > UNKNOWN_ID) & (ids[1:] > UNKNOWN_ID)
        keys, frequencies = np.unique(_pair_keys(ids[:-1][is_pair], ids[1:][is_pair], len(words)), return_counts=True)
        kept = keys[np.argsort(-frequencies, kind="stable")[:num_bigrams]]
        return cls([*words, *(f"{words[key // len(words)]} {words[key % len(words)]}" for key in kept.tolist())])

    def __len__(self) -> int:
        """Count the ids, padding, unknown and bigrams included."""
        return len(self.words)

    @cached_property
    def num_words(self) -> int:
        """Count the ids without bigrams; these have the ids from here on."""
        return next((number for number, word in enumerate(self.words) if " " in word), len(self.words))

    def encode(
        self, texts: Iterable[str] | SplitTexts, max_length: int | None = None
    ) -> tuple[Int[np.ndarray, "N L"], Int[np.ndarray, " N"]]:
        """Encode texts, each cut to its last `max_length` words (None: not cut) and padded with 0 on the right.

        Where the vocabulary has bigrams, the words that are kept are followed by the ids of those of their bigrams that
        it has, in the order of the text; others have no id.

        Args:
            texts: N texts.
            max_length: the most words kept of a text: the last ones, as a review's verdict tends to stand at its end.

        Returns:
            ids int32 [N, L], where L is the length of the longest text after cutting, and at least 1, and lengths
            int32 [N]; both with bigrams.

        Raises:
            InputError: as `SplitTexts.of`.
            ValueError: `max_length` is below 1.
        """
        if max_length is not None and max_length < 1:
            raise ValueError(f"max_length must be 1 or more; got {max_length}.")
        split = SplitTexts.of(texts)
        lengths = np.minimum(split.lengths, np.int32(max_length)) if max_length is not None else split.lengths  # [N]
        words = self._ids_of(split)  # [total]
        columns = np.arange(lengths.max(initial=1))  # [L]
        ids = np.full((len(lengths), len(columns)), PAD_ID, np.int32)  # [N, L]
        is_kept = columns < lengths[:, None]  # [N, L]
        starts = np.cumsum(split.lengths) - lengths  # [N], where the kept words of each text start
        ids[is_kept] = words[(starts[:, None] + columns)[is_kept]]
        return (ids, lengths) if self.num_words == len(self) else self._with_bigrams(ids, lengths)

    def _ids_of(self, split: SplitTexts) -> Int[np.ndarray, " total"]:
        """Ids of all words of all texts, one after another."""
        id_of = np.array([self._ids.get(word, UNKNOWN_ID) for word in split.words], np.int32)
        return id_of[split.numbers]

    def _with_bigrams(
        self, ids: Int[np.ndarray, "N L"], lengths: Int[np.ndarray, " N"]
    ) -> tuple[Int[np.ndarray, "N K"], Int[np.ndarray, " N"]]:
        """Rows of words, each followed by its bigrams."""
        bigrams = self.bigrams_of(ids)  # [N, L - 1]
        is_known = bigrams != PAD_ID
        totals = lengths + is_known.sum(axis=1, dtype=np.int32)  # [N]
        columns = np.arange(totals.max(initial=1))  # [K]
        both = np.full((len(ids), len(columns)), PAD_ID, np.int32)  # [N, K]
        both[columns < lengths[:, None]] = ids[np.arange(ids.shape[1]) < lengths[:, None]]
        both[(columns >= lengths[:, None]) & (columns < totals[:, None])] = bigrams[is_known]
        return both, totals

    def bigrams_of(self, ids: Int[np.ndarray, "*N L"]) -> Int[np.ndarray, "*N K"]:
        """The bigram of each word and the next, K = L - 1 of them; 0 where the vocabulary has none."""
        keys, numbers = self._bigrams
        wanted = _pair_keys(ids[..., :-1], ids[..., 1:], self.num_words)
        if len(keys) == 0:
            return np.full(wanted.shape, PAD_ID, np.int32)
        places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where(keys[places] == wanted, numbers[places], np.int32(PAD_ID))

    @cached_property
    def _bigrams(self) -> tuple[Int[np.ndarray, " M"], Int[np.ndarray, " M"]]:
        """Keys of the bigrams in rising order, and the id of each."""
        pairs = [[self._ids[word] for word in bigram.split(" ")] for bigram in self.words[self.num_words :]]
        first, second = np.array(pairs, np.int64).reshape(-1, 2).T
        keys = _pair_keys(first, second, self.num_words)
        order = np.argsort(keys)
        return keys[order], (self.num_words + order).astype(np.int32)

    def share_with_words(
        self, ids: Int[np.ndarray, " L"], values: Float[np.ndarray, " L"]
    ) -> tuple[Int[np.ndarray, " K"], Float[np.ndarray, " K"]]:
        """The words of one text's ids and a value of each, to which half that of each of its bigrams is added."""
        is_word = ids < self.num_words
        words, shares = ids[is_word], values[is_word]
        places = np.nonzero(self.bigrams_of(words))[0]  # of the bigrams' first words, in the order of the bigrams
        halves = values[~is_word] / 2
        shares[places] += halves
        shares[places + 1] += halves
        return words, shares

    def decode(self, ids: Int[np.ndarray, " L"] | Sequence[int]) -> str:
        """The words of ids as a model sees them: [UNK] for those it does not know; padding and bigrams are left out."""
        return " ".join(self.words[number] for number in ids if PAD_ID != number < self.num_words)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the vocabulary to one JSON file, in one step."""
        atomic.write_text(path, self.to_json())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "WordVocabulary":
        """Read what `save` wrote.

        Raises:
            InputError: the file is missing or broken, or holds something else.
        """
        return cls._from_json(_read_json(path), path)

    def to_json(self) -> str:
        """The vocabulary as text, for `from_json`."""
        content = {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [],
            **SPLITTING,
            "post_processor": None,
            "decoder": None,
            "model": {"type": "WordLevel", "vocab": self._ids, "unk_token": UNKNOWN},
        }
        return json.dumps(content, indent=2, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "WordVocabulary":
        """The vocabulary that `to_json` gave."""
        return cls(json.loads(text)["model"]["vocab"])

    @classmethod
    def _from_json(cls, content: dict[str, Any], path: str | os.PathLike[str]) -> "WordVocabulary":
        model = content.get("model")
        ids = model.get("vocab") if isinstance(model, dict) and model.get("type") == "WordLevel" else None
        if (
            not isinstance(ids, dict)
            or list(ids.values()) != list(range(len(ids)))
            or list(ids)[:2] != [PAD, UNKNOWN]
            or {name: content.get(name) for name in SPLITTING} != SPLITTING
        ):
            raise InputError(f"{path}: expected a word vocabulary written by rnnjax, got something else; {_MEND}")
        vocabulary = cls(ids)
        for bigram in vocabulary.words[vocabulary.num_words :]:
            words = bigram.split(" ")
            if len(words) != 2 or any(ids.get(word, PAD_ID) <= UNKNOWN_ID for word in words):
                raise InputError(f"{path}: expected bigrams of two known words each, got {bigram!r}; {_MEND}")
        return vocabulary


class CharacterVocabulary:
    """The distinct characters of a text in the order of their code points; a character's id is its place."""

    unsayable = ()
    """Ids that stand for no text: none."""

    def __init__(self, characters: str):
        """Take a string of distinct characters in rising order."""
        self.characters = characters
        self._codes = _codes(characters)

    @classmethod
    def from_text(cls, text: str) -> "CharacterVocabulary":
        """Collect the characters of `text`."""
        return cls("".join(sorted(set(text))))

    def __len__(self) -> int:
        """Count the characters."""
        return len(self.characters)

    def encode(self, text: str, *, source: str = "the text") -> Int[np.ndarray, " N"]:
        """Encode `text` as int32 [N].

        Raises:
            InputError: `text`, which the message calls `source`, holds characters that are not in the vocabulary.
        """
        codes = _codes(text)  # [N]
        ids = np.minimum(np.searchsorted(self._codes, codes), max(len(self) - 1, 0))  # [N]
        unseen = codes if len(self) == 0 else codes[self._codes[ids] != codes]
        if len(unseen):
            shown = ", ".join(repr(chr(code)) for code in np.unique(unseen)[:10])
            more = "" if len(np.unique(unseen)) <= 10 else ", ..."
            known = repr(self.characters[:100]) + ("" if len(self) <= 100 else "...")
            raise InputError(
                f"{source}: expected characters that the model knows, {known}; got {shown}{more}; leave them out"
            )
        return ids.astype(np.int32)

    def decode(self, ids: Int[np.ndarray, " N"] | Sequence[int]) -> str:
        """Turn ids back into text."""
        return self._codes[np.asarray(ids, np.int64)].tobytes().decode("utf-32-le", "surrogatepass")

    def decode_after(
        self, before: Int[np.ndarray, " M"] | Sequence[int], ids: Int[np.ndarray, " N"] | Sequence[int]
    ) -> str:
        """The text of `ids` where it goes on after that of `before`: as anywhere."""
        return self.decode(ids)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the vocabulary to one JSON file, in one step."""
        atomic.write_text(
            path, json.dumps({"model": {"type": "Characters", "characters": self.characters}}, indent=2) + "\n"
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "CharacterVocabulary":
        """Read what `save` wrote.

        Raises:
            InputError: the file is missing or broken, or holds something else.
        """
        return cls._from_json(_read_json(path), path)

    @classmethod
    def _from_json(cls, content: dict[str, Any], path: str | os.PathLike[str]) -> "CharacterVocabulary":
        model = content.get("model")
        characters = model.get("characters") if isinstance(model, dict) and model.get("type") == "Characters" else None
        if not isinstance(characters, str) or not characters or "".join(sorted(set(characters))) != characters:
            raise InputError(f"{path}: expected a character vocabulary written by rnnjax, got something else; {_MEND}")
        return cls(characters)


class TokenVocabulary:
    """Words of texts that are split already, and the characters of these words. Ids 0 and 1 are padding and unknown."""

    def __init__(self, words: Iterable[str], characters: Iterable[str]):
        """Take the word of each id and the character of each, from 2 on."""
        self.words, self.characters = [PAD, UNKNOWN, *words], [PAD, UNKNOWN, *characters]
        self.word_ids = {word: number for number, word in enumerate(self.words)}
        self.character_ids = {character: number for number, character in enumerate(self.characters)}

    def __len__(self) -> int:
        """Count the ids of words, padding and unknown included."""
        return len(self.words)

    def decode(self, ids: Int[np.ndarray, " L"] | Sequence[int]) -> str:
        """The words of ids as a model sees them: [UNK] for those it does not know; padding is left out."""
        return " ".join(self.words[number] for number in ids if number != PAD_ID)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the vocabulary to one JSON file, in one step."""
        model = {"type": "Tokens", "words": self.words[2:], "characters": self.characters[2:]}
        atomic.write_text(path, json.dumps({"model": model}, indent=0, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "TokenVocabulary":
        """Read what `save` wrote.

        Raises:
            InputError: the file is missing or broken, or holds something else.
        """
        return cls._from_json(_read_json(path), path)

    @classmethod
    def _from_json(cls, content: dict[str, Any], path: str | os.PathLike[str]) -> "TokenVocabulary":
        model = content.get("model")
        found: list[list[str]] = []
        for name in ("words", "characters"):
            part = model.get(name) if isinstance(model, dict) and model.get("type") == "Tokens" else None
            if isinstance(part, list) and all(isinstance(entry, str) for entry in part) and len(set(part)) == len(part):
                found.append(part)
        if len(found) < 2:
            raise InputError(f"{path}: expected a vocabulary of tokens written by rnnjax, got something else; {_MEND}")
        return cls(*found)


TOKEN = re.compile(r"[^\W_]+(?:['\N{RIGHT SINGLE QUOTATION MARK}][^\W_]+)*|\n|([^\w\s]|_)\1*")
"""A word, the end of a line, or a mark, which may be repeated: -- and ... are one each."""
JOINED, APART = "@", " "
"""How a mark stands to what is beside it."""
TEXT_UNKNOWN_ID = 0


def split_text(text: str) -> list[str]:
    """Words, marks and ends of lines of a text, from which `join_text` makes it again, but for repeated spaces.

    A mark is written between two signs of how it stood in the text: "@" where it was joined to what was before it, or
    to a word after it, and " " where it was not. So "free--and" gives "free", "@--@", "and".
    """
    tokens = []
    for found in TOKEN.finditer(text):
        token = found[0]
        if token != "\n" and not token[0].isalnum():
            start, end = found.span()
            before = JOINED if start and not text[start - 1].isspace() else APART
            after = JOINED if end < len(text) and text[end].isalnum() else APART
            token = f"{before}{token}{after}"
        tokens.append(token)
    return tokens


def join_text(tokens: Iterable[str]) -> str:
    """The text that `split_text` splits so, with single spaces. What it gives for some first tokens begins the rest."""
    pieces, joined = [], True
    for token in tokens:
        is_mark = token[0] in (JOINED, APART)
        if token != "\n" and not joined and token[0] != JOINED:
            pieces.append(" ")
        pieces.append(token[1:-1] if is_mark else token)
        joined = token == "\n" or (is_mark and token[-1] == JOINED)
    return "".join(pieces)


class TextVocabulary:
    """Words and marks of a text by falling frequency, ties in alphabetical order; id 0 is any that is not among them.

    A text is split by `split_text`, with its capitals and ends of lines, so that `decode` gives text to read.
    """

    unsayable = (TEXT_UNKNOWN_ID,)
    """Ids that stand for no text."""

    def __init__(self, tokens: Iterable[str]):
        """Take the token of each id, the unknown first; use `train` or `load` to get them."""
        self.tokens = list(tokens)
        self._ids = {token: number for number, token in enumerate(self.tokens)}

    @classmethod
    def train(cls, tokens: Iterable[str], size: int) -> "TextVocabulary":
        """Take the `size` most frequent of what `split_text` gave, the unknown included in the count.

        Raises:
            ValueError: `size` leaves no room for a word.
        """
        if size < 2:
            raise ValueError(f"A vocabulary needs a size of 2 or more (unknown, one word); got {size}.")
        ranked = sorted(Counter(tokens).items(), key=lambda entry: (-entry[1], entry[0]))
        return cls([UNKNOWN, *(token for token, _ in ranked[: size - 1])])

    def __len__(self) -> int:
        """Count the ids, the unknown included."""
        return len(self.tokens)

    def encode(self, text: str, *, source: str = "the text") -> Int[np.ndarray, " N"]:
        """Encode `text` as int32 [N]; 0 for what is not in the vocabulary.

        Raises:
            InputError: `text`, which the message calls `source`, holds no word or mark, or bytes that are not UTF-8.
        """
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InputError(f"{source}: expected text in UTF-8, got bytes that are not; save it as UTF-8") from None
        ids = self.ids(split_text(text))
        if not len(ids):
            raise InputError(f"{source}: expected a word or more; got {text[:40]!r}; add one")
        return ids

    def ids(self, tokens: Iterable[str]) -> Int[np.ndarray, " N"]:
        """The ids, int32 [N], of what `split_text` gave."""
        return np.array([self._ids.get(token, TEXT_UNKNOWN_ID) for token in tokens], np.int32)

    def decode(self, ids: Int[np.ndarray, " N"] | Sequence[int]) -> str:
        """Turn ids back into text, with [UNK] for id 0."""
        return join_text(self.tokens[number] for number in ids)

    def decode_after(
        self, before: Int[np.ndarray, " M"] | Sequence[int], ids: Int[np.ndarray, " N"] | Sequence[int]
    ) -> str:
        """The text of `ids` where it goes on after that of `before`."""
        last = [int(number) for number in before[-1:]]
        return self.decode([*last, *ids])[len(self.decode(last)) :]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the vocabulary to one JSON file, in one step."""
        content = {"model": {"type": "Text", "tokens": self.tokens}}
        atomic.write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    @classmethod
    def _from_json(cls, content: dict[str, Any], path: str | os.PathLike[str]) -> "TextVocabulary":
        model = content.get("model")
        tokens = model.get("tokens") if isinstance(model, dict) and model.get("type") == "Text" else None
        if (
            not isinstance(tokens, list)
            or not all(isinstance(token, str) and token for token in tokens)
            or tokens[:1] != [UNKNOWN]
            or len(set(tokens)) < len(tokens)
        ):
            raise InputError(
                f"{path}: expected a vocabulary of words and marks written by rnnjax, got something else; {_MEND}"
            )
        return cls(tokens)


def load_vocabulary(
    path: str | os.PathLike[str],
) -> "WordVocabulary | CharacterVocabulary | TokenVocabulary | TextVocabulary":
    """Read a vocabulary of any kind.

    Raises:
        InputError: the file is missing or broken, or holds none.
    """
    content = _read_json(path)
    model = content.get("model")
    if isinstance(model, dict) and model.get("type") == "Tokens":
        return TokenVocabulary._from_json(content, path)
    if isinstance(model, dict) and model.get("type") == "Characters":
        return CharacterVocabulary._from_json(content, path)
    if isinstance(model, dict) and model.get("type") == "Text":
        return TextVocabulary._from_json(content, path)
    return WordVocabulary._from_json(content, path)


def percentile_length(lengths: Int[np.ndarray, " N"], percent: float = 90) -> int:
    """Return the smallest length, 1 or more, at which at least `percent` percent of the texts are whole.

    Raises:
        ValueError: there are no lengths, or `percent` lies outside (0, 100].
    """
    if len(lengths) == 0 or not 0 < percent <= 100:
        raise ValueError(f"Expected one length or more and a percentage in (0, 100]; got {len(lengths)} and {percent}.")
    rank = math.ceil(len(lengths) * percent / 100)
    return max(1, int(np.sort(lengths)[rank - 1]))


def _pair_keys(first: Int[np.ndarray, "*N"], second: Int[np.ndarray, "*N"], num_words: int) -> Int[np.ndarray, "*N"]:
    """One number for each pair of ids."""
    return first.astype(np.int64) * num_words + second


_MEND = "name the tokenizer.json of a run folder, or train again"


def _codes(text: str) -> np.ndarray:
    # A command line may hold lone surrogates (bytes that are not UTF-8); let them through to be refused by name.
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def _read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    try:
        content = json.loads(Path(path).read_bytes().decode("utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: expected a vocabulary, but there is no such file; {_MEND}") from None
    except OSError as error:
        raise InputError(f"{path}: the vocabulary cannot be read ({error.strerror}); check the permissions") from None
    except (ValueError, RecursionError):  # not JSON, or not UTF-8
        raise InputError(
            f"{path}: expected a vocabulary as JSON, but the file is broken or cut short; {_MEND}"
        ) from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a vocabulary as a JSON object, got something else; {_MEND}")
    return content
