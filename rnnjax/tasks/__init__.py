"""The experiments, one file each. This table is literal, so that listing them imports nothing heavy."""

from typing import NamedTuple


class Entry(NamedTuple):
    """A task as `--list` shows it."""

    description: str
    expected: str
    """What a run with the default settings reaches (benchmarks/scores.json)."""
    kind: str
    """"classifier" (predict.py), "language model" (generate.py), or "regressor" (neither)."""


TASKS = {
    "imdb": Entry("sentiment of film reviews, or any labelled texts", "test accuracy 0.868", "classifier"),
    "char": Entry("character language model of a text", "val_loss 1.465 nats a character", "language model"),
    "adding": Entry("add two marked numbers of a long sequence", "unmeasured", "regressor"),
}
"""Task name -> entry; the module of a task has its name."""
