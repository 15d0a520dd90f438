"""Add two numbers that are written as text: "535+61" -> "596" (after Sutskever et al. 2014).

Run:    python train.py --task addition
        python train.py --task addition --preset 5-digits --attention
        echo 535+61 | python predict.py
Expect: exact match 0.998 at 3 digits, 2 minutes on two cores (benchmarks/scores.json)
"""

import dataclasses
import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import jax.numpy as jnp
import numpy as np
import optax
import scipy.special
from flax import linen as nn
from jaxtyping import Array, Float

from rnnjax.data.batching import Examples
from rnnjax.data.vocabulary import CharacterVocabulary
from rnnjax.errors import InputError
from rnnjax.layers.recurrent import BY_CELL
from rnnjax.metrics import Sums, masked_sum
from rnnjax.models.seq2seq import Seq2Seq
from rnnjax.task import (
    Batch,
    Bounds,
    Count,
    NotNegative,
    OptionalCount,
    Positive,
    Prediction,
    Schedule,
    Size,
    Splits,
    Task,
    TrainConfig,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger("rnnjax")

CHARACTERS = " +0123456789"
"""In the order of their code points; the space fills questions and answers up."""
EXAMPLES = {1: 50, 2: 5_000, 3: 50_000, 4: 400_000}
"""Questions of so many digits, as in Keras's example; 550,000 of more."""
HELD_OUT = 0.05
"""Share of the questions for validation, and as many for the test."""
DRAWN = 4
"""Questions for which the attention is drawn."""
SHOWN = 5
"""Questions whose answers are shown after each epoch."""


@dataclasses.dataclass(frozen=True)
class Config(TrainConfig):
    """Settings of the addition example, with a schedule of our own."""

    epochs: Count | Literal["auto"] = 20
    patience: OptionalCount | Literal["auto"] = 0
    learning_rate: Positive = 6e-3
    schedule: Schedule = "cosine"
    clip_norm: NotNegative = 1.0
    digits: Annotated[int, Bounds(1, 9)] = 3
    """Most digits of each number."""
    examples: Count | Literal["auto"] = "auto"
    """Questions, no two the same; auto: 5,000 of 2 digits, 50,000 of 3, 400,000 of 4, 550,000 of more."""
    reverse: bool = True
    """Write questions from their end, so that the digits that decide first stand nearer to the answer."""
    cell: Literal["lstm", "gru", "simple", "irnn", "indrnn", "mgu", "mingru", "minlstm"] = "lstm"
    """Cell of the encoder and of the decoder."""
    units: Size = 128
    """Width of both."""
    attention: bool = False
    """Let the decoder look at all of the question (Luong et al. 2015)."""


def load(config: Config) -> Splits:
    """Make up the questions.

    Raises:
        InputError: another data set is asked for, or more questions than there are.
    """
    if config.dataset not in ("auto", "builtin"):
        raise InputError(f"--dataset: expected auto or builtin, as additions are made up; got {config.dataset!r}.")
    count = EXAMPLES.get(config.digits, 550_000) if config.examples == "auto" else config.examples
    pairs = draw_pairs(count, config.digits, config.seed)
    vocabulary = CharacterVocabulary(CHARACTERS)
    width = 2 * config.digits + 1
    questions = [written(f"{a}+{b}", config) for a, b in pairs]
    answers = [str(a + b).ljust(config.digits + 1) for a, b in pairs]
    arrays = {
        "inputs": vocabulary.encode("".join(questions)).reshape(count, width),
        "answers": vocabulary.encode("".join(answers)).reshape(count, config.digits + 1),
    }
    fingerprint = hashlib.sha256(b"".join(array.tobytes() for array in arrays.values())).hexdigest()
    held_out = max(1, round(HELD_OUT * count))
    cuts = {"train": slice(2 * held_out, None), "validation": slice(held_out), "test": slice(held_out, 2 * held_out)}
    train, validation, test = (Examples({name: array[cut] for name, array in arrays.items()}) for cut in cuts.values())
    log.info("%s additions of up to %s digits; %s to train on", count, config.digits, len(train))
    info = {"answer_length": config.digits + 1}
    return Splits("builtin", fingerprint, train, validation, test, info, vocabulary)


def written(question: str, config: Config) -> str:
    """A question as the model reads it: filled up and, with `--reverse`, from its end."""
    return question.ljust(2 * config.digits + 1)[:: -1 if config.reverse else 1]


def draw_pairs(count: int, digits: int, seed: int) -> list[tuple[int, int]]:
    """Pairs of numbers, of which no two have the same numbers, in either order.

    Each number first draws how many digits it has, and then these, so that short ones are as frequent as long ones.

    Raises:
        InputError: there are not so many.
    """
    numbers = 10**digits
    possible = numbers * (numbers + 1) // 2
    if not 3 <= count <= possible:
        raise InputError(
            f"--examples: expected 3 to {possible}, as many as there are of --digits {digits}; got {count}."
        )
    random = np.random.default_rng(seed)
    pairs: dict[tuple[int, int], tuple[int, int]] = {}
    while len(pairs) < count:
        # Where nearly all pairs are asked for, drawing would take for ever.
        if count > possible // 2:
            drawn = random.permutation([(a, b) for a in range(numbers) for b in range(a, numbers)])
            swapped = random.random(possible) < 0.5
            drawn[swapped] = drawn[swapped, ::-1]
        else:
            lengths = random.integers(1, digits + 1, size=(count, 2))
            drawn = random.integers(0, 10**lengths)
        for a, b in drawn.tolist():
            pairs.setdefault((min(a, b), max(a, b)), (a, b))
            if len(pairs) == count:
                break
    drawn_pairs = list(pairs.values())
    # Of short numbers there are few: all of their pairs are drawn early.
    return [drawn_pairs[i] for i in random.permutation(count)]


def build(config: Config, info: Mapping[str, Any]) -> nn.Module:
    """An encoder and a decoder of one kind."""
    layer = BY_CELL[config.cell](config.units, matmul_dtype=config.matmul_dtype)
    return Seq2Seq(
        len(CHARACTERS), info["answer_length"], layer, layer, config.attention, matmul_dtype=config.matmul_dtype
    )


def loss(logits: Float[Array, "B A V"], batch: Batch) -> Sums:
    """Cross-entropy and accuracy of characters, and how many answers are right to the last one."""
    answers, weight = jnp.asarray(batch["answers"]), jnp.asarray(batch["weight"])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, answers)  # [B, A]
    is_right = logits.argmax(axis=-1) == answers  # [B, A]
    each = jnp.broadcast_to(weight[:, None], answers.shape)
    return {
        "loss": masked_sum(losses, each),
        "accuracy": masked_sum(is_right.astype(losses.dtype), each),
        "exact": masked_sum(is_right.all(axis=1).astype(losses.dtype), weight),
    }


def samples(
    config: Config,
    info: Mapping[str, Any],
    vocabulary: CharacterVocabulary,
    logits: Float[np.ndarray, "B A V"],
    batch: Batch,
) -> list[str]:
    """Questions with the answers given, and where they are wrong the right ones."""
    lines = []
    for question, given, right in zip(batch["inputs"], logits.argmax(axis=-1), batch["answers"], strict=True):
        text = vocabulary.decode(question)[:: -1 if config.reverse else 1].strip()
        mark = "right" if (given == right).all() else f"wrong, {vocabulary.decode(right).strip()}"
        lines.append(f"  {text} = {vocabulary.decode(given).strip()}  ({mark})")
    return lines[:SHOWN]


def encode_questions(
    config: Config, info: Mapping[str, Any], vocabulary: CharacterVocabulary, lines: Sequence[str]
) -> Batch:
    """Questions as `predict.py` gets them: "535+61".

    Raises:
        InputError: a line is no sum of two numbers of at most `--digits` digits.
    """
    questions = []
    for number, line in enumerate(lines, start=1):
        if not re.fullmatch(rf"[0-9]{{1,{config.digits}}}\+[0-9]{{1,{config.digits}}}", line.strip()):
            raise InputError(
                f"line {number}: expected a sum of two numbers of up to {config.digits} digits, as 12+7; got {line!r}."
            )
        questions.append(written(line.strip(), config))
    ids = vocabulary.encode("".join(questions)).reshape(len(lines), 2 * config.digits + 1)
    return {"inputs": ids}


def answers(
    config: Config,
    info: Mapping[str, Any],
    vocabulary: CharacterVocabulary,
    logits: Float[np.ndarray, "B A V"],
    batch: Batch,
) -> list[tuple[str, float]]:
    """The answer to each question, and its probability: the product of those of its characters."""
    probability = scipy.special.softmax(logits, axis=-1).max(axis=-1).prod(axis=-1)  # [B]
    texts = [vocabulary.decode(row).strip() for row in logits.argmax(axis=-1)]
    return list(zip(texts, probability.tolist(), strict=True))


def pictures(config: Config, splits: Splits, model: nn.Module, params: Any) -> "dict[str, Figure]":
    """Where the decoder looks while it writes each character of some answers, with `--attention`."""
    if not config.attention:
        return {}
    from matplotlib.figure import Figure

    batch = splits.validation.evaluation(DRAWN)[0]
    logits, sown = model.apply({"params": params}, batch["inputs"], mutable="intermediates")
    weights = np.asarray(sown["intermediates"]["weights"][0])  # [B, A, T]
    vocabulary = CharacterVocabulary(CHARACTERS)
    figure = Figure(figsize=(3.2 * DRAWN, 2.6), layout="constrained")
    for number, (axes, looks) in enumerate(zip(figure.subplots(1, DRAWN), weights, strict=True)):
        image = axes.imshow(looks, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(looks.shape[1]), vocabulary.decode(batch["inputs"][number]))
        axes.set_yticks(range(looks.shape[0]), vocabulary.decode(np.asarray(logits[number]).argmax(axis=-1)))
        axes.set_xlabel("question as it is read")
    figure.axes[0].set_ylabel("answer")
    figure.colorbar(image, ax=figure.axes, label="weight")
    return {"attention": figure}


KERAS = {"epochs": 100, "learning_rate": 1e-3, "schedule": "constant", "clip_norm": 0.0}
"""Training as in Keras's example, at 3 digits; the model's defaults are the example's."""

TASK = Task(
    "addition",
    Config,
    load,
    build,
    loss,
    presets={
        "keras": KERAS,
        "2-digits": {"digits": 2, "epochs": 100},
        "4-digits": {"digits": 4, "epochs": 4},
        "5-digits": {"digits": 5, "epochs": 4},
    },
    samples=samples,
    prediction=Prediction(encode_questions, answers),
    pictures=pictures,
)
