"""Passages by several authors: from a user's folder, or composed; and their characters as ids.

A passage is a run of words of one author, joined by single spaces. The passages of an author do not overlap, and stand
in the order of the text: the first eight in ten are to train on, the next tenth to validate, the last tenth to test.
"""

import hashlib
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from rnnjax.data.batching import Batch, Batches, filled
from rnnjax.data.files import read_text
from rnnjax.data.vocabulary import CharacterVocabulary
from rnnjax.errors import InputError

LEAST_PASSAGES = 10
LEAST_CHARACTERS = 5
"""A character that is rarer in the passages to train on is unknown, so that none decides alone."""
UNKNOWN = "\0"
LAYOUT = "a folder with one sub-folder of .txt files an author, or one .txt file an author"


class Passages(NamedTuple):
    """Passages of one split."""

    texts: list[str]
    labels: list[int]


def author_files(folder: Path) -> dict[str, list[Path]]:
    """The text files of each author, authors and files in sorted order.

    Raises:
        InputError: the folder is missing or laid out otherwise, or has fewer than two authors.
    """
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise InputError(
            f"--dataset {folder}: expected {LAYOUT}; got none ({error.strerror}). Mend the path."
        ) from None
    found: dict[str, list[Path]] = {}
    for entry in entries:
        files = sorted(entry.rglob("*.txt")) if entry.is_dir() else [entry] if entry.suffix == ".txt" else []
        if files:
            found.setdefault(entry.name if entry.is_dir() else entry.stem, []).extend(files)
    if len(found) < 2:
        raise InputError(f"--dataset {folder}: expected {LAYOUT}, two or more; got {len(found)}. Add an author.")
    for name in found:
        if not name.isprintable() or any(0xD800 <= ord(letter) < 0xE000 for letter in name):
            raise InputError(f"--dataset {folder}: expected authors' names in readable UTF-8; got {name!a}. Rename it.")
    return found


def read_authors(folder: Path) -> dict[str, str]:
    """The text of each author, files one after another.

    Raises:
        InputError: as `author_files`, or a file is empty or not UTF-8.
    """
    return {name: "\n".join(map(read_text, files)) for name, files in author_files(folder).items()}


def fingerprint(texts: Mapping[str, str]) -> str:
    """SHA-256 (hex) of the authors' names and texts."""
    digest = hashlib.sha256()
    for part in (part for item in texts.items() for part in item):
        digest.update(b"%d " % len(part.encode()) + part.encode())
    return digest.hexdigest()


def cut(text: str, length: int) -> list[str]:
    """Passages of at most `length` characters, cut between words; a longer word is cut itself."""
    passages: list[str] = []
    row: list[str] = []
    size = 0
    for whole in text.split():
        for word in (whole[start : start + length] for start in range(0, len(whole), length)):
            if row and size + 1 + len(word) > length:
                passages.append(" ".join(row))
                row, size = [], 0
            size += len(word) + bool(row)
            row.append(word)
    return [*passages, " ".join(row)] if row else passages


def divide(texts: Mapping[str, str], length: int) -> dict[str, Passages]:
    """Cut each author's text into passages, of which the first 8 tenths, the next and the last are the three splits.

    Raises:
        InputError: an author has fewer than 10 passages.
    """
    parts = {split: Passages([], []) for split in ("train", "validation", "test")}
    for label, (name, text) in enumerate(texts.items()):
        passages = cut(text, length)
        if len(passages) < LEAST_PASSAGES:
            raise InputError(
                f"--dataset: expected {LEAST_PASSAGES} or more passages of {length} characters of each author; "
                f"got {len(passages)} of {name}. Add text, or lower --passage."
            )
        tenth = round(len(passages) / 10)
        bounds = (0, len(passages) - 2 * tenth, len(passages) - tenth, len(passages))
        for part, start, end in zip(parts.values(), bounds[:-1], bounds[1:], strict=True):
            part.texts.extend(passages[start:end])
            part.labels.extend([label] * (end - start))
    return parts


def known_characters(texts: Sequence[str]) -> CharacterVocabulary:
    """The characters that occur `LEAST_CHARACTERS` times or more in texts, the space, and `UNKNOWN`, whose id is 0."""
    counts = Counter(character for text in texts for character in text)
    known = {character for character, count in counts.items() if count >= LEAST_CHARACTERS}
    return CharacterVocabulary("".join(sorted(known | {UNKNOWN, " "})))


def encode(texts: Sequence[str], vocabulary: CharacterVocabulary, length: int) -> dict[str, np.ndarray]:
    """Passages as ids of their characters, with a space before each, after each, and between words.

    Args:
        texts: B passages.
        vocabulary: as `known_characters` gives it; all characters that it lacks have id 0.
        length: the most characters of a passage; what is longer is cut off.

    Returns:
        inputs int32 [B, length + 2], padded with 0; lengths int32 [B].
    """
    inputs, lengths = np.zeros((len(texts), length + 2), np.int32), np.zeros(len(texts), np.int32)
    known = set(vocabulary.characters)
    for number, text in enumerate(texts):
        spaced = " ".join(["", *text.split(), ""])[: length + 2]
        ids = vocabulary.encode("".join(character if character in known else UNKNOWN for character in spaced))
        inputs[number, : len(ids)], lengths[number] = ids, len(ids)
    return {"inputs": inputs, "lengths": lengths}


class PassageSource:
    """Passages as batches, encoded when they are asked for.

    To train, the passages of an author are cut anew in each epoch: the text of the split is turned round by a number
    of words drawn from (seed, epoch). They stay within the author's part of the split.
    """

    def __init__(self, passages: Passages, vocabulary: CharacterVocabulary, length: int) -> None:
        """Take the passages of a split, of at most `length` characters, and the characters that are known."""
        self.passages, self.vocabulary, self.length = passages, vocabulary, length

    def __len__(self) -> int:
        """Count the passages."""
        return len(self.passages.texts)

    def training_epoch(self, seed: int, epoch: int, batch_size: int) -> Batches:
        """As many passages of each author as the split has, cut and ordered anew."""
        rng = np.random.default_rng([seed, epoch])
        texts: list[str] = []
        labels = np.array(self.passages.labels)
        for label in np.unique(labels):
            own = [
                text for text, owner in zip(self.passages.texts, self.passages.labels, strict=True) if owner == label
            ]
            words = " ".join(own).split()
            turn = int(rng.integers(len(words)))
            turned = cut(" ".join([*words[turn:], *words[:turn]]), self.length)
            texts += [*turned, *turned][: len(own)]
        return self._batches(Passages(texts, sorted(self.passages.labels)), rng.permutation(len(texts)), batch_size)

    def evaluation(self, batch_size: int) -> Batches:
        """Every passage once, in order."""
        return self._batches(self.passages, np.arange(len(self)), batch_size)

    def _batches(self, passages: Passages, order: Int[np.ndarray, " N"], batch_size: int) -> Batches:
        labels = np.array(passages.labels, np.int32)

        def take(rows: Int[np.ndarray, " B"]) -> Batch:
            texts = [passages.texts[row] for row in rows]
            return {**encode(texts, self.vocabulary, self.length), "labels": labels[rows]}

        def make(i: int) -> Batch:
            return filled(order[i * batch_size : (i + 1) * batch_size], batch_size, take)

        return Batches(-(-len(order) // batch_size), make)


class Habits(NamedTuple):
    """What tells a composed author: places of adverbs and connectives, how clauses are joined, and spelling."""

    adverb_first: bool
    connective_first: bool
    joins: bool
    keeps_spelling: bool


AUTHORS = {
    "Ash": Habits(adverb_first=True, connective_first=True, joins=True, keeps_spelling=True),
    "Birch": Habits(adverb_first=False, connective_first=True, joins=False, keeps_spelling=False),
    "Cedar": Habits(adverb_first=True, connective_first=False, joins=False, keeps_spelling=False),
    "Dogwood": Habits(adverb_first=False, connective_first=False, joins=True, keeps_spelling=True),
}
HABIT_STRENGTH = 0.85
"""How often an author does as he is used to."""
SUBJECTS = [
    "the captain",
    "my neighbour",
    "the old gardener",
    "a stranger",
    "the teacher",
    "her brother",
    "the miller",
    "our guide",
]
VERBS = [
    "waited",
    "answered",
    "walked home",
    "looked up",
    "smiled",
    "left the room",
    "wrote a letter",
    "closed the door",
]
ADVERBS = ["slowly", "quietly", "suddenly", "gladly", "carefully", "calmly"]
CONNECTIVES = ["however", "indeed", "of course", "meanwhile", "perhaps", "after all"]
SPELLINGS = (("in grey colours", "in gray colors"), ("by the harbour theatre", "by the harbor theater"))


def compose(num_sentences: int, seed: int) -> dict[str, str]:
    """Texts by four authors, of as many sentences each.

    All draw the same words equally often; only their order, their punctuation, the length of sentences and whether
    two spellings go together tell one from another.
    """
    draw = random.Random(seed)
    return {
        name: "\n".join(_sentence(draw, habits) for _ in range(num_sentences)) + "\n"
        for name, habits in AUTHORS.items()
    }


def _sentence(draw: random.Random, habits: Habits) -> str:
    def holds(habit: bool) -> bool:
        return habit == (draw.random() < HABIT_STRENGTH)

    spelling = draw.randrange(2)
    clauses = []
    for place in range(2):
        verb, adverb = draw.choice(VERBS), draw.choice(ADVERBS)
        action = f"{adverb} {verb}" if holds(habits.adverb_first) else f"{verb} {adverb}"
        subject, connective = draw.choice(SUBJECTS), draw.choice(CONNECTIVES)
        if place and not holds(habits.keeps_spelling):
            spelling = 1 - spelling
        setting = SPELLINGS[place][spelling]
        if holds(habits.connective_first):
            clauses.append(f"{connective}, {subject} {action} {setting}")
        else:
            clauses.append(f"{subject}, {connective}, {action} {setting}")
    if holds(habits.joins):
        return f"{clauses[0].capitalize()}; {clauses[1]}."
    return ". ".join(clause.capitalize() for clause in clauses) + "."
