"""`rnnjax predict --explain`: what each word of a text adds to the class that is predicted."""

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from rnnjax.cli import colours, runs
from rnnjax.cli.colours import Piece

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float, Int

WIDEST_GAP = 0.02
"""What the sum of contributions may be off by without a notice, beside a change of 1."""

log = logging.getLogger("rnnjax")


class Explanation(NamedTuple):
    """A text, its predicted label, and what its words add to the label's logit."""

    label: str
    probability: float
    pieces: list[Piece]
    """All of the text; words have values, and what is between them has none."""
    score: float
    """Logit of the label."""
    baseline: float
    """Logit where all word vectors are zero."""

    @property
    def sum(self) -> str:
        """How the logit comes about, in words."""
        change = self.score - self.baseline
        return f"logit of {self.label}: {self.score:.3f} = {self.baseline:.3f} without words {change:+.3f} by its words"


def explain(
    trained: runs.TrainedModel, texts: Sequence[str], predictions: Sequence[tuple[str, float]]
) -> Iterator[Explanation]:
    """Explain each text's predicted label.

    Args:
        trained: a classifier.
        texts: texts in UTF-8.
        predictions: label and probability of each.
    """
    import numpy as np

    from rnnjax.interpret import integrated_gradients

    inputs, lengths = trained.vocabulary.encode(texts, trained.info["max_length"])
    classes = np.array([trained.info["classes"].index(label) for label, _ in predictions], np.int32)
    found = integrated_gradients(trained.model, trained.params, inputs, lengths, classes=classes)
    for row, (text, (label, probability)) in enumerate(zip(texts, predictions, strict=True)):
        values, change = found.contributions[row, : lengths[row]], found.score[row] - found.baseline[row]
        if abs(values.sum() - change) > WIDEST_GAP * abs(change) + WIDEST_GAP:
            log.warning("text %s: contributions sum to %.3f, not to %.3f", row + 1, values.sum(), change)
        words, values = trained.vocabulary.share_with_words(inputs[row, : lengths[row]], values)
        pieces = cut_into_pieces(text, words, values)
        yield Explanation(label, probability, pieces, float(found.score[row]), float(found.baseline[row]))


def cut_into_pieces(text: str, ids: "Int[np.ndarray, ' L']", values: "Float[np.ndarray, ' L']") -> list[Piece]:
    """The text as written, its last words with their values; the words before them were cut off."""
    from rnnjax.data.vocabulary import UNKNOWN_ID, word_spans

    spans = word_spans(text)
    num_cut = len(spans) - len(ids)
    pieces, end = [], 0
    for number, span in enumerate(spans):
        if span.start > end:
            pieces.append(Piece(text[end : span.start], note="cut" if number < num_cut else ""))
        if number < num_cut:
            pieces.append(Piece(text[span], 0.0, "cut"))
        else:
            note = "unknown" if ids[number - num_cut] == UNKNOWN_ID else ""
            pieces.append(Piece(text[span], float(values[number - num_cut]), note))
        end = span.stop
    return [*pieces, Piece(text[end:])] if end < len(text) else pieces


def plain(explanation: Explanation) -> str:
    """A line `word<TAB>contribution` for each word, with a third column where there is a note."""
    rows = [piece for piece in explanation.pieces if piece.value is not None]
    return "".join(f"{piece.text}\t{piece.value:+.4f}{chr(9) + piece.note if piece.note else ''}\n" for piece in rows)


def coloured(explanation: Explanation) -> str:
    """The text in colours for a terminal, with a line that says what they are."""
    scale = colours.scale_of(explanation.pieces)
    line = f"{explanation.sum}; strongest colour {scale:.3f}, blue for it and red against it"
    return f"{colours.in_terminal(explanation.pieces, scale)}\n{colours.dimmed(line)}\n"


def page(explanations: Sequence[Explanation]) -> str:
    """All texts on one HTML page, with one scale."""
    return colours.html(
        colours.Page(
            title="What the words say" if len(explanations) != 1 else f"Why {explanations[0].label}",
            about=[
                "Each word is coloured by what it adds to the logit of the predicted class: integrated gradients "
                "(Sundararajan, Taly and Yan 2017), on the way from zero word vectors to the text. The numbers sum to "
                "the change of the logit. Point at a word for its number."
            ],
            above="for the class",
            below="against it",
            sections=[
                colours.Section(f"{found.label} {found.probability:.4f}", found.sum, found.pieces)
                for found in explanations
            ],
            notes=True,
        )
    )
