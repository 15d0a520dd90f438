"""Text to integers and back: a vocabulary of words, and one of characters. Each is saved as one JSON file."""

import json
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from rnnjax import atomic
from rnnjax.errors import InputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PAD, UNKNOWN = "[PAD]", "[UNK]"
PAD_ID, UNKNOWN_ID = 0, 1

# A mark out of ten (7/10) is one word, and so are "!" and "?": each says something of a text, as other punctuation does
# not. Otherwise words are letters and digits; an apostrophe inside belongs to its word: don't, o'clock.
WORD = r"\d+/\d+|[^\W_]+(?:'[^\W_]+)*|[!?]"

# Texts encoded in one call of the tokeniser. Its results hold far more than the ids: gigabytes for all of IMDB at once.
CHUNK = 1000


class WordVocabulary:
    """Words by falling frequency, ties in alphabetical order. Id 0 is padding, id 1 any word not in the vocabulary.

    Texts are lower-cased, `<br />` marks count as spaces, and punctuation other than "!" and "?" is dropped. Kept and
    saved as a HuggingFace tokeniser.
    """

    def __init__(self, tokenizer: "Tokenizer"):
        """Wrap a word-level tokeniser; use `train` or `load` to get one."""
        self._tokenizer = tokenizer
        ids = tokenizer.get_vocab()
        self.words: list[str] = sorted(ids, key=ids.__getitem__)  # the word of each id

    @classmethod
    def train(cls, texts: Iterable[str], size: int) -> "WordVocabulary":
        """Take the `size` most frequent words of `texts`, padding and unknown included in the count.

        Raises:
            ValueError: `size` leaves no room for a word.
        """
        if size < 3:
            raise ValueError(f"A vocabulary needs a size of 3 or more (padding, unknown, one word); got {size}.")
        from tokenizers import models, trainers

        counter = _word_tokenizer(models.WordLevel({PAD: PAD_ID, UNKNOWN: UNKNOWN_ID}, UNKNOWN))
        trainer = trainers.WordLevelTrainer(vocab_size=size, special_tokens=[PAD, UNKNOWN], show_progress=False)
        counter.train_from_iterator(texts, trainer)
        # Training registers padding and unknown as marks to look for; a text that says "[PAD]" must not become padding.
        vocabulary = counter.get_vocab()
        return cls(_word_tokenizer(models.WordLevel(vocabulary, UNKNOWN)))

    def __len__(self) -> int:
        """Count the ids, padding and unknown included."""
        return len(self.words)

    def encode(
        self, texts: Sequence[str], max_length: int | None = None, *, width: int | None = None
    ) -> tuple[Int[np.ndarray, "N L"], Int[np.ndarray, " N"]]:
        """Encode texts, each cut to its last `max_length` words (None: not cut) and padded with 0 on the right.

        Args:
            texts: N texts.
            max_length: the most words kept of a text: the last ones, as a review's verdict tends to stand at its end.
            width: L; by default the length of the longest text after cutting, and at least 1.

        Returns:
            ids int32 [N, L] and lengths int32 [N].

        Raises:
            InputError: a text holds lone surrogates, as Python shows bytes of a command line that are not UTF-8.
            ValueError: `max_length` is below 1, or `width` is smaller than the longest text after cutting.
        """
        if max_length is not None and max_length < 1:
            raise ValueError(f"max_length must be 1 or more; got {max_length}.")
        rows: list[np.ndarray] = []
        for start in range(0, len(texts), CHUNK):
            try:
                encodings = self._tokenizer.encode_batch_fast(list(texts[start : start + CHUNK]))
            except TypeError:
                raise InputError("Expected texts in UTF-8, got bytes that are not; save them as UTF-8.") from None
            for encoding in encodings:
                kept = encoding.ids if max_length is None else encoding.ids[-max_length:]
                rows.append(np.array(kept, np.int32))
        lengths = np.array([len(row) for row in rows], np.int32)
        longest = int(lengths.max(initial=1))
        width = longest if width is None else width
        if width < longest:
            raise ValueError(
                f"width must hold the longest text, {longest} words; got {width}. Pass max_length as well."
            )
        ids = np.full((len(rows), width), PAD_ID, np.int32)  # [N, L]
        for padded, row in zip(ids, rows, strict=True):
            padded[: len(row)] = row
        return ids, lengths

    def lengths(self, texts: Sequence[str]) -> Int[np.ndarray, " N"]:
        """Count the words of each text, known or not: int32 [N]."""
        return self.encode(texts)[1]

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
        text: str = self._tokenizer.to_str(pretty=True)
        return text

    @classmethod
    def from_json(cls, text: str) -> "WordVocabulary":
        """The vocabulary that `to_json` gave."""
        from tokenizers import Tokenizer

        return cls(Tokenizer.from_str(text))

    @classmethod
    def _from_json(cls, content: dict[str, Any], path: str | os.PathLike[str]) -> "WordVocabulary":
        from tokenizers import Tokenizer

        try:
            vocabulary = cls(Tokenizer.from_str(json.dumps(content)))
            is_ours = content["model"]["type"] == "WordLevel" and vocabulary.words[:2] == [PAD, UNKNOWN]
        except Exception:  # the library raises plain Exception for what it cannot read
            is_ours = False
        if not is_ours:
            raise InputError(f"{path}: expected a word vocabulary written by rnnjax, got something else; {_MEND}")
        return vocabulary


class CharacterVocabulary:
    """The distinct characters of a text in the order of their code points; a character's id is its place."""

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


def load_vocabulary(path: str | os.PathLike[str]) -> WordVocabulary | CharacterVocabulary:
    """Read a vocabulary of either kind.

    Raises:
        InputError: the file is missing or broken, or holds neither.
    """
    content = _read_json(path)
    model = content.get("model")
    if isinstance(model, dict) and model.get("type") == "Characters":
        return CharacterVocabulary._from_json(content, path)
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


_MEND = "name the tokenizer.json of a run folder, or train again"


def _word_tokenizer(model: Any) -> "Tokenizer":
    from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers

    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"<br\s*/?>"), " "),
            normalizers.Replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"),
        ]
    )
    # Inverted: what matches is a piece, and what lies between is removed.
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(WORD), "removed", invert=True)
    return tokenizer


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
    except ValueError:  # not JSON, or not UTF-8
        raise InputError(
            f"{path}: expected a vocabulary as JSON, but the file is broken or cut short; {_MEND}"
        ) from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a vocabulary as a JSON object, got something else; {_MEND}")
    return content
