"""Sentences of tokens as a model reads them: ids of words, characters and case, in batches of like length."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Int

from rnnjax.data.batching import Batch, Batches, filled
from rnnjax.data.vocabulary import UNKNOWN_ID

CASES = ("", "lower", "Capital", "UPPER", "mIxed", "d1git", "other")
"""What a word looks like; the first is that of padding."""
LONGEST_WORD = 14
"""Characters kept of a word: half of them its first ones, half its last."""


def plain(word: str) -> str:
    """A word as it is looked up: lower-cased, and digits as 0."""
    return "".join("0" if character.isdigit() else character for character in word.lower())


def case(word: str) -> int:
    """The number of a word's case among `CASES`."""
    if any(character.isdigit() for character in word):
        return CASES.index("d1git")
    if not any(character.isalpha() for character in word):
        return CASES.index("other")
    if word == word.lower():
        return CASES.index("lower")
    if word == word.upper():
        return CASES.index("UPPER" if len(word) > 1 else "Capital")
    return CASES.index("Capital" if word[1:] == word[1:].lower() else "mIxed")


def spelling(word: str, ids: Mapping[str, int]) -> Int[np.ndarray, " W"]:
    """Ids of a word's characters, of a long one's first and last, padded to `LONGEST_WORD`."""
    if len(word) > LONGEST_WORD:
        word = word[: LONGEST_WORD // 2] + word[-(LONGEST_WORD - LONGEST_WORD // 2) :]
    row = np.zeros(LONGEST_WORD, np.int32)
    row[: len(word)] = [ids.get(character, UNKNOWN_ID) for character in word]
    return row


class Sentences:
    """Sentences as batches of like length, none cut.

    Those of a batch are padded to one of a few widths, so that few programs are compiled and little is computed for
    padding. A batch holds `lengths` [B], `weight` [B] (0 of rows that only fill the last batch of a width),
    `characters` [B, T, W], and [B, T] of each other entry, 0 in padding.
    """

    def __init__(
        self,
        tokens: Mapping[str, Int[np.ndarray, " N"]],
        spellings: Int[np.ndarray, "V W"],
        lengths: Int[np.ndarray, " S"],
        widths: Sequence[int],
        rare: Bool[np.ndarray, " V"] | None = None,
        rare_rate: float = 0.0,
    ) -> None:
        """Take the tokens of all sentences, one after the other.

        Args:
            tokens: `inputs` and others by name, and `spellings`: the row of each token in the table beside it.
            spellings: the characters of each distinct word.
            lengths: tokens of each sentence.
            widths: to which sentences are padded; those that are longer than all, to their longest.
            rare: of each id of `inputs`, whether training may read it as unknown.
            rare_rate: share of these tokens that do, drawn anew in each epoch.
        """
        self.tokens, self.spellings, self.lengths = dict(tokens), spellings, lengths
        self.rare, self.rare_rate = rare, rare_rate
        self.starts = np.cumsum(lengths) - lengths  # [S]
        longest = int(lengths.max(initial=1))
        widths = sorted({*widths, *([-(-longest // 8) * 8] if longest > max(widths, default=0) else [])})
        places = np.searchsorted(widths, lengths)
        self.groups = [(width, np.flatnonzero(places == i)) for i, width in enumerate(widths) if (places == i).any()]

    def __len__(self) -> int:
        """Count the sentences."""
        return len(self.lengths)

    def training_epoch(self, seed: int, epoch: int, batch_size: int) -> Batches:
        """Every sentence once, in an order drawn from (seed, epoch); some rare words as unknown."""
        draw = np.random.default_rng([seed, epoch])
        plan = self._plan([(width, draw.permutation(rows)) for width, rows in self.groups], batch_size)
        order = draw.permutation(len(plan))

        def make(i: int) -> Batch:
            batch = self._batch(plan[order[i]], batch_size)
            if self.rare is not None:
                drawn = np.random.default_rng([seed, epoch, i]).random(batch["inputs"].shape) < self.rare_rate
                batch["inputs"] = np.where(drawn & self.rare[batch["inputs"]], UNKNOWN_ID, batch["inputs"])
            return batch

        return Batches(len(plan), make)

    def evaluation(self, batch_size: int) -> Batches:
        """Every sentence once, the shortest first."""
        plan = self._plan(self.groups, batch_size)
        return Batches(len(plan), lambda i: self._batch(plan[i], batch_size))

    @staticmethod
    def _plan(groups: Sequence[tuple[int, np.ndarray]], batch_size: int) -> list[tuple[int, np.ndarray]]:
        """The width and the rows of each batch."""
        return [
            (width, rows[start : start + batch_size])
            for width, rows in groups
            for start in range(0, len(rows), batch_size)
        ]

    def _batch(self, planned: tuple[int, Int[np.ndarray, " R"]], batch_size: int) -> Batch:
        width, rows = planned
        return filled(rows, batch_size, lambda rows: self.padded(rows, width))

    def padded(self, rows: Int[np.ndarray, " B"], width: int) -> Batch:
        """Some sentences, padded to a width."""
        columns = np.arange(width)
        is_real = columns < self.lengths[rows][:, None]  # [B, T]
        places = np.where(is_real, self.starts[rows][:, None] + columns, 0)
        batch = {name: np.where(is_real, values[places], 0) for name, values in self.tokens.items()}
        characters = np.where(is_real[..., None], self.spellings[batch.pop("spellings")], 0)  # [B, T, W]
        return {**batch, "characters": characters, "lengths": self.lengths[rows]}


def likely_widths(lengths: Int[np.ndarray, " S"]) -> list[int]:
    """Four widths, multiples of 8, between which the lengths of sentences are spread evenly."""
    quantiles = np.quantile(lengths, [0.3, 0.6, 0.85, 1.0])
    return sorted({int(-(-quantile // 8) * 8) for quantile in quantiles})
