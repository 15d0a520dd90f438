"""How a classifier did on a split, class by class, and what it got wrong."""

import json
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from rnnjax import atomic
from rnnjax.task import Batch, Splits
from rnnjax.training.folder import RunFolder
from rnnjax.training.step import Predicted

MOST_MISTAKES = 20
MOST_NUMBERED = 60
"""With more classes a cell of the picture is too small for a number."""
MOST_DRAWN = 400
"""With more classes there is no picture: a cell would be a few dots wide."""
LONGEST_NAME = 24
"""Characters of a class's name in the picture."""

log = logging.getLogger("rnnjax")


class Examination:
    """Every example of a split once, what it is, and what a classifier says of it.

    Attributes:
        labels: int [N], the class of each example.
        predicted: int [N], the class that the model holds for the most probable.
        probability: float [N], how probable.
    """

    labels: Int[np.ndarray, " N"]
    predicted: Int[np.ndarray, " N"]
    probability: Float[np.ndarray, " N"]

    def __init__(self, splits: Splits, batches: Sequence[Batch], predictions: Sequence[Predicted | None]) -> None:
        """Take the batches of the split and the predictions for each, on the host.

        Rows of weight 0, and those that were added for a number of devices, are left out.
        """
        self.classes: Sequence[str] = splits.info["classes"]
        self.vocabulary, self.batches = splits.vocabulary, batches
        kept, self.places = [], []
        for number, (batch, given) in enumerate(zip(batches, predictions, strict=True)):
            assert given is not None
            rows = np.flatnonzero(batch["weight"] > 0)
            kept.append([np.asarray(array)[rows] for array in (batch["labels"], given.label, given.probability)])
            self.places += [(number, row) for row in rows]
        self.labels, self.predicted, self.probability = map(np.concatenate, zip(*kept, strict=True))

    def macro_means(self) -> dict[str, float]:
        """Means of precision, recall and F1 over the classes that occur, as label or as prediction (scikit-learn's)."""
        table = [figures for figures in self.table().values() if figures["f1"] is not None]
        return {
            f"macro_{name}": float(np.mean([figures[name] for figures in table]))
            for name in ("precision", "recall", "f1")
        }

    def table(self) -> dict[str, dict[str, Any]]:
        """For each class precision, recall, F1 and how many examples it has (support).

        A share of nothing is 0; all three are None for a class that occurs neither as label nor as prediction.
        """

        def count(numbers: Int[np.ndarray, " K"]) -> list[int]:
            found: list[int] = np.bincount(numbers, minlength=len(self.classes)).tolist()
            return found

        right = count(self.labels[self.labels == self.predicted])
        rows = zip(self.classes, right, count(self.predicted), count(self.labels), strict=True)
        return {
            name: {
                "precision": hits / max(chosen, 1) if chosen + support else None,
                "recall": hits / max(support, 1) if chosen + support else None,
                "f1": 2 * hits / (chosen + support) if chosen + support else None,
                "support": support,
            }
            for name, hits, chosen, support in rows
        }

    def confusion(self) -> Int[np.ndarray, "C C"]:
        """How many examples of each class (row) were taken for each class (column)."""
        matrix = np.zeros((len(self.classes), len(self.classes)), np.int64)
        np.add.at(matrix, (self.labels, self.predicted), 1)
        return matrix

    def mistakes(self) -> list[dict[str, Any]]:
        """The wrong predictions of the highest probability, up to `MOST_MISTAKES`, with what the model read.

        Each has `label`, `predicted`, `probability` (of what was predicted) and `text`.
        """
        wrong = np.flatnonzero(self.labels != self.predicted)
        order = wrong[np.argsort(-self.probability[wrong], kind="stable")]
        return [self._describe(example) for example in order[:MOST_MISTAKES]]

    def _describe(self, example: int) -> dict[str, Any]:
        number, row = self.places[example]
        batch = self.batches[number]
        if self.vocabulary is None:  # what is no text
            text = f"example {example} of the test split"
        else:
            text = self.vocabulary.decode(batch["inputs"][row][: batch["lengths"][row]])
        return {
            "label": self.classes[self.labels[example]],
            "predicted": self.classes[self.predicted[example]],
            "probability": float(self.probability[example]),
            "text": text,
        }

    def write(self, folder: RunFolder, title: str) -> None:
        """Draw the confusion matrix, and write the mistakes, one JSON object a line, in readable characters."""
        if len(self.classes) <= MOST_DRAWN:
            plot_confusion(folder.confusion, title, self.confusion(), self.classes)
        else:
            log.info("no %s: %s classes are too many to draw", folder.confusion.name, len(self.classes))
        lines = "".join(json.dumps(mistake, ensure_ascii=False) + "\n" for mistake in self.mistakes())
        # A label from a JSON file may be half of a pair of surrogates: \udc80, as there.
        atomic.write_bytes(folder.mistakes, lines.encode("utf-8", "backslashreplace"))


def plot_confusion(path: Path, title: str, matrix: Int[np.ndarray, "C C"], classes: Sequence[str]) -> None:
    """Draw a confusion matrix: numbers of examples, coloured by the share of the true class."""
    from matplotlib.figure import Figure

    count = len(classes)
    side = min(max(0.34 * count, 1.6), 22)  # inches
    figure = Figure(figsize=(side + 3, side + 2.4), layout="constrained")
    axes = figure.add_subplot()
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    step = -(-count // MOST_NUMBERED)  # where there are many classes, not each has its name
    names = [_shown(name, LONGEST_NAME) for name in classes[::step]]
    text: dict[str, Any] = {"fontsize": 10 if count <= 12 else 7, "parse_math": False}
    axes.set_xticks(range(0, count, step), names, rotation=0 if max(map(len, names)) * count <= 24 else 90, **text)
    axes.set_yticks(range(0, count, step), names, **text)
    axes.set(xlabel="predicted", ylabel="true")
    for (row, column), number in np.ndenumerate(matrix):
        if number and count <= MOST_NUMBERED:
            colour = "white" if shares[row, column] > 0.5 else "black"
            size = 10 if count <= 4 else min(7, 24 / len(str(number)))
            axes.text(column, row, str(number), ha="center", va="center", color=colour, fontsize=size)
    figure.colorbar(image, label="share of the true class", shrink=0.8)
    figure.suptitle(_shown(title, 200), parse_math=False)
    temporary = path.with_name(f".{path.name}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(temporary, dpi=120, format="png")
    temporary.replace(path)


def _shown(name: str, longest: int) -> str:
    """A name on one line, cut to a length, without bytes that are not text."""
    line = " ".join(name.encode("utf-8", "replace").decode().split())
    return line if len(line) <= longest else line[: longest - 1] + "…"
