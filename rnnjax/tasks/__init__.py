"""The experiments, one file each. This table is literal, so that listing them imports nothing heavy."""

from typing import NamedTuple


class Entry(NamedTuple):
    """A task as `--list` shows it."""

    description: str
    expected: str
    """What a run with the default settings reaches (benchmarks/scores.json)."""
    kind: str
    """"classifier" (of texts), "language model" (generate.py) or what it is otherwise."""


PREDICTORS = ("classifier", "image classifier", "sequence to sequence", "question answering", "tagger")
"""Kinds that predict.py asks."""

TASKS = {
    "imdb": Entry("sentiment of film reviews, or any labelled texts", "test accuracy 0.879", "classifier"),
    "char": Entry("character language model of a text", "val_loss 1.465 nats a character", "language model"),
    "addition": Entry('sums of numbers as text: "535+61" -> "596"', "exact match 0.998", "sequence to sequence"),
    "mnist": Entry("handwritten digits, or any small grey images", "test accuracy 0.982", "image classifier"),
    "adding": Entry("add two marked numbers of a long sequence", "test loss 0.0007", "regressor"),
}
"""Task name -> entry; the module of a task has its name."""
