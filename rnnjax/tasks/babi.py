"""Answer questions about short stories: the bAbI tasks (Weston et al. 2016), by an RNN or a memory network.

A story and a question, "Where is Mary?", have one word (or a list of words) as answer. rnn reads the
story with the question beside each sentence, and by default reads it a second time with a question that the first
reading has changed (`models/story_reader.py`); memnn looks at all sentences at once, three times over
(`models/memory_network.py`). A file of your own has the archive's format (`data/babi.py`).

Run:    python train.py --task babi
        python train.py --task babi --qa 2
        python train.py --task babi --model memnn
        python train.py --task babi --qa 15 --examples 1k
        python train.py --task babi --dataset stories.txt
        python benchmarks/babi.py                           (all 20 tasks; figures in docs/babi.md)
Expect: test accuracy 1.000 (task 1), 0.997 (task 2), half a minute and 1.5 minutes on one core (benchmarks/scores.json)
"""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import jax
import numpy as np
import scipy.special
from flax import linen as nn
from jaxtyping import Array, Float, Int

from rnnjax import losses
from rnnjax.data import babi, tfds
from rnnjax.data.babi import Question
from rnnjax.data.batching import Examples, holdout, split_indices
from rnnjax.data.vocabulary import SplitTexts, WordVocabulary
from rnnjax.errors import InputError
from rnnjax.layers.embedding import centred_uniform
from rnnjax.layers.recurrent import BY_CELL
from rnnjax.models.classifier import most_probable
from rnnjax.models.memory_network import MemoryNetwork, WordMatchNetwork
from rnnjax.models.story_reader import StoryReader
from rnnjax.task import (
    LARGEST_AXIS,
    Batch,
    Bounds,
    Count,
    NotNegative,
    OptionalCount,
    Positive,
    Prediction,
    Rate,
    Schedule,
    Size,
    Splits,
    Task,
    TrainConfig,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger("rnnjax")

VALIDATION_SHARE = 0.1
"""Share of the training stories that is held out; their questions stay together."""
BUILTIN_STORIES = {"1k": 250, "10k": 2_500}
"""Of five questions each, a fifth of them for validation and test."""
FEW = 5_000
"""Fewer training questions are learned by heart if nothing is dropped."""
SHOWN = 4
"""Questions whose answers are shown after each epoch."""
NAMED = 20
"""Words that the model knows, in a message about one that it does not."""
DRAWN = 3
"""Stories in a picture."""


@dataclasses.dataclass(frozen=True)
class Config(TrainConfig):
    """Settings of ours; the presets have those of Keras's examples."""

    epochs: Count | Literal["auto"] = "auto"
    batch_size: Size = 64
    """Questions in one step."""
    learning_rate: Positive = 5e-3
    schedule: Schedule = "cosine"
    clip_norm: NotNegative = 1.0
    patience: OptionalCount | Literal["auto"] = 0
    monitor: str = "val_accuracy"
    """The metric that decides which epoch is the best: val_accuracy, val_loss, loss, ... On a thousand questions the
    loss grows again, by a few answers that are wrong and sure, long before the accuracy falls."""
    qa: Annotated[int, Bounds(1, 20)] = 1
    """Which of the 20 tasks: 1 a fact, 2 and 3 two and three facts, 7 counting, 15 deduction, 19 finding a path, ..."""
    examples: Literal["1k", "10k"] = "10k"
    """Training questions of the archive: 1,000 or 10,000. The 1,000 test questions are the same."""
    model: Literal["rnn", "memnn", "memnn-words"] = "rnn"
    """A recurrent network that reads the story; a memory network over its sentences (Sukhbaatar et al. 2015); or one
    over its words, as in Keras's example."""
    cell: Literal["lstm", "gru", "simple"] = "gru"
    """Cell of the recurrent layers of rnn and memnn-words."""
    units: Size = 64
    """Width of the layer that reads the story, or the matches of memnn-words."""
    embedding: Size = 64
    """Width of the word vectors."""
    story: Literal["sentences", "words"] = "sentences"
    """What are the steps of rnn."""
    merge: Literal["end", "add", "product"] = "product"
    """Where rnn brings in the question: beside the story's last output; added to each step of the story; or beside each
    step, multiplied with it."""
    readings: Annotated[int, Bounds(1, 100)] = 2
    """Times that rnn reads the story, each time with a question that the reading before has changed."""
    hops: Annotated[int, Bounds(1, 100)] = 3
    """Looks at the memory of memnn, one after another."""
    dropout: Rate | Literal["auto"] = "auto"
    """Share dropped of word vectors (sentence vectors with --story sentences; not in memnn) and of what the answer is
    read from; auto: 0.3 for fewer than 5,000 training questions, otherwise 0."""
    max_sentences: Count | Literal["auto"] = "auto"
    """Sentences kept of a story, its last ones; auto: as many as the longest story to train on has."""

    def __post_init__(self) -> None:
        """Hold every value against its type, and several readings against the way that a question changes one."""
        super().__post_init__()
        if self.readings > 1 and self.merge == "end":
            raise InputError(
                f"--readings: expected 1 with --merge end, where no reading knows the question; got {self.readings}. "
                "Choose --merge add or product, or --readings 1."
            )


def load(config: Config) -> Splits:
    """Read or compose the stories, hold some out, and encode them.

    Raises:
        InputError: the data are missing or cannot be used.
    """
    name, parts = find_questions(config)
    train = parts["train"]
    digest = hashlib.sha256(json.dumps([parts[split] for split in sorted(parts)]).encode())
    vocabulary = WordVocabulary.train([text for q in train for text in (*q.story, q.text)], LARGEST_AXIS)
    sentences = max(len(q.story) for q in train)
    if config.max_sentences != "auto":
        sentences = min(sentences, config.max_sentences)
    # Which answers there can be is part of the problem: a list of things may be asked for in the test only.
    classes = sorted({q.answer for questions in parts.values() for q in questions})
    texts = [q for questions in parts.values() for q in questions]
    info = {
        "vocabulary_size": len(vocabulary),
        "classes": classes,
        "sentences": sentences,
        "sentence_length": longest([sentence for q in texts for sentence in q.story]),
        "question_length": longest([q.text for q in texts]),
        "questions": len(train),
    }

    def source(split: str) -> Examples | None:
        if split not in parts:
            return None
        encoded = encode([(q.story, q.text) for q in parts[split]], info, vocabulary)
        labels = np.array([classes.index(q.answer) for q in parts[split]], np.int32)
        return Examples({**encoded, "labels": labels, "facts": facts_of(parts[split], sentences)})

    examples, validation = source("train"), source("validation")
    assert examples is not None
    assert validation is not None
    log.info(
        "%s: %s training, %s validation, %s test questions; stories of up to %s sentences, %s words, %s answers",
        name, len(examples), len(validation), len(parts.get("test", ())), sentences, len(vocabulary), len(classes),
    )  # fmt: skip
    return Splits(name, digest.hexdigest(), examples, validation, source("test"), info, vocabulary)


def find_questions(config: Config) -> tuple[str, dict[str, list[Question]]]:
    """The name of the data set that `--dataset` means, and its questions by split."""
    if config.dataset == "builtin":
        return composed(config)
    if config.dataset in ("auto", "tfds"):
        try:
            train, test = babi.find_task(config.qa, config.examples, config.data_dir)
        except tfds.NetworkUnavailable as error:
            if config.dataset == "tfds" or config.qa not in babi.COMPOSED:
                raise InputError(
                    f"--dataset {config.dataset}: expected the bAbI tasks in the folder of data sets, or a network to "
                    f"fetch them; {error}. Name the folder with --data-dir, or use --dataset builtin with --qa 1 or 2."
                ) from error
            log.warning("NO BABI TASKS AND NO NETWORK (%s): training on BUILT-IN, composed stories", error)
            return composed(config)
        read = {"train": babi.read(train), "test": babi.read(test)}
        return f"babi/qa{config.qa}-{config.examples}", with_validation(read, config.seed)
    train, own_test = babi.own_files(config.dataset, config.qa)
    if own_test is not None:
        return config.dataset, with_validation({"train": babi.read(train), "test": babi.read(own_test)}, config.seed)
    return config.dataset, divide(babi.read(train), config.seed, str(train))


def composed(config: Config) -> tuple[str, dict[str, list[Question]]]:
    """Stories of our own making; they and their division are the same for every seed."""
    if config.qa not in babi.COMPOSED:
        raise InputError(f"--qa: expected 1 or 2, of which there is a built-in form; got {config.qa}.")
    questions = babi.compose(config.qa, BUILTIN_STORIES[config.examples], seed=0)
    return "builtin", divide(questions, 0, "builtin")


def divide(questions: list[Question], seed: int, where: str) -> dict[str, list[Question]]:
    """Divide stories 80/10/10 by the seed."""
    stories = by_story(questions)
    if len(stories) < 3:
        raise InputError(
            f"{where}: expected 3 or more stories, to divide into train, validation and test; got {len(stories)}. "
            "Add some: a story starts with a sentence of number 1."
        )
    return {
        split: [question for row in rows for question in stories[row]]
        for split, rows in split_indices(len(stories), seed).items()
    }


def with_validation(parts: dict[str, list[Question]], seed: int) -> dict[str, list[Question]]:
    """Hold a tenth of the training stories out for validation."""
    stories = by_story(parts["train"])
    kept, held_out = holdout(len(stories), VALIDATION_SHARE, seed)
    rows = {"train": kept, "validation": held_out}
    return {**parts, **{split: [q for row in rows[split] for q in stories[row]] for split in rows}}


def by_story(questions: Sequence[Question]) -> list[list[Question]]:
    """The questions of each story."""
    stories: dict[int, list[Question]] = {}
    for question in questions:
        stories.setdefault(question.story_number, []).append(question)
    return list(stories.values())


def longest(texts: Sequence[str]) -> int:
    """Words of the longest text, at least 1."""
    return int(SplitTexts.of(texts).lengths.max(initial=1))


def encode(
    questions: Sequence[tuple[Sequence[str], str]], info: Mapping[str, Any], vocabulary: WordVocabulary
) -> dict[str, np.ndarray]:
    """Stories and questions as ids: inputs int32 [N, S, W], where the last sentence stands last, and question [N, Q].

    What is longer than S, W or Q keeps its end.
    """
    most = info["sentences"]
    kept = [story[-most:] for story, _ in questions]
    distinct = list(dict.fromkeys(sentence for story in kept for sentence in story))
    table = fit(vocabulary.encode(distinct, info["sentence_length"])[0], info["sentence_length"])  # [M, W]
    table = np.concatenate([np.zeros_like(table[:1]), table])
    number_of = {sentence: number for number, sentence in enumerate(distinct, start=1)}
    rows = [[0] * (most - len(story)) + [number_of[sentence] for sentence in story] for story in kept]
    asked = vocabulary.encode([text for _, text in questions], info["question_length"])[0]
    return {"inputs": table[np.array(rows, np.int32)], "question": fit(asked, info["question_length"])}


def fit(ids: Int[np.ndarray, "N L"], width: int) -> Int[np.ndarray, "N W"]:
    """Ids with padding up to a width."""
    return np.pad(ids, ((0, 0), (0, width - ids.shape[1])))


def facts_of(questions: Sequence[Question], sentences: int) -> np.ndarray:
    """Which sentences tell the answers: bool [N, S], as stories are encoded."""
    found = np.zeros((len(questions), sentences), bool)
    for row, question in zip(found, questions, strict=True):
        for fact in question.facts:
            place = fact - len(question.story)  # counted from the end
            if place >= -sentences:
                row[place] = True
    return found


def build(config: Config, info: Mapping[str, Any]) -> nn.Module:
    """The model that `--model` names."""
    sizes = (info["vocabulary_size"], len(info["classes"]), config.embedding)
    dropout = config.dropout
    if dropout == "auto":
        dropout = 0.3 if info["questions"] < FEW else 0.0
    options: dict[str, Any] = {"dropout_rate": dropout, "matmul_dtype": config.matmul_dtype}
    if config.model == "memnn":
        return MemoryNetwork(*sizes, config.hops, **options)
    layer = BY_CELL[config.cell]
    last: dict[str, Any] = {"return_sequences": False, "matmul_dtype": config.matmul_dtype}
    if config.model == "memnn-words":
        return WordMatchNetwork(*sizes, layer(config.units, **last), **options)
    asked = config.units if config.merge == "end" else config.embedding
    if config.merge != "product":
        options["embedding_init"] = centred_uniform  # as in the examples
    layers = (layer(config.units, **last), layer(asked, **last))
    by_sentence = config.story == "sentences"
    return StoryReader(*sizes, *layers, config.merge, config.readings, by_sentence, **options)


def example(info: Mapping[str, Any]) -> Batch:
    """One empty story and question."""
    return {
        "inputs": np.zeros((1, info["sentences"], info["sentence_length"]), np.int32),
        "question": np.zeros((1, info["question_length"]), np.int32),
    }


def samples(
    config: Config, info: Mapping[str, Any], vocabulary: WordVocabulary, logits: Float[np.ndarray, "B C"], batch: Batch
) -> list[str]:
    """Questions with the answers given, and where they are wrong the right ones."""
    lines = []
    for asked, given, right in zip(batch["question"], logits.argmax(axis=1), batch["labels"], strict=True):
        mark = "right" if given == right else f"wrong, {info['classes'][right]}"
        lines.append(f"  {vocabulary.decode(asked)} {info['classes'][given]}  ({mark})")
    return lines[:SHOWN]


def encode_lines(config: Config, info: Mapping[str, Any], vocabulary: WordVocabulary, lines: Sequence[str]) -> Batch:
    """Stories and questions as `predict.py` gets them: "Mary moved to the bathroom. Where is Mary?".

    Raises:
        InputError: a line is no story with a question at its end, or has words that no training story had.
    """
    questions = []
    known = set(vocabulary.words)
    for number, line in enumerate(lines, start=1):
        parts = babi.split_line(line)
        if parts is None or not all(SplitTexts.of([text]).words for text in (*parts[0], parts[1].rstrip("?"))):
            raise InputError(
                f"line {number}: expected sentences and then a question, as in 'Mary moved to the bathroom. Where is "
                f"Mary?'; got {line[:80]!r}."
            )
        unknown = [word for word in SplitTexts.of([line]).words if word not in known]
        if unknown:
            raise InputError(
                f"line {number}: expected words of the stories that the model was trained on; got "
                f"{', '.join(map(repr, unknown))}. It knows {', '.join(vocabulary.words[2 : 2 + NAMED])}"
                f"{', ...' if len(vocabulary) > 2 + NAMED else '.'}"
            )
        questions.append(parts)
    if not questions:
        return {name: array[:0] for name, array in example(info).items()}
    return encode(questions, info, vocabulary)


def answers(
    config: Config, info: Mapping[str, Any], vocabulary: WordVocabulary, logits: Float[np.ndarray, "B C"], batch: Batch
) -> list[tuple[str, float]]:
    """The most probable answer to each question, and its probability."""
    return most_probable(info["classes"], scipy.special.softmax(logits, axis=-1))


def pictures(config: Config, splits: Splits, model: nn.Module, params: Any) -> "dict[str, Figure]":
    """What some answers come from: where memnn looks at each hop, or how an RNN's answer grows with the story.

    Sentences that tell the answer, where the data name them, are marked with a star.
    """
    batch = splits.validation.evaluation(DRAWN)[0]
    classes, vocabulary = splits.info["classes"], splits.vocabulary
    assert vocabulary is not None
    if config.model == "memnn":
        variables = {"params": params}
        logits, sown = model.apply(variables, batch["inputs"], question=batch["question"], mutable="intermediates")
        columns = np.swapaxes(np.asarray(sown["intermediates"]["weights"][0]), 1, 2)  # [B, S, K]
        names = [f"hop {hop + 1}" for hop in range(columns.shape[2])]
        title, name = "weight of each sentence", "attention"
    else:
        probability = probability_so_far(model, params, batch)  # [B, S, C]
        logits = probability[:, -1]
        columns, names = probability, classes
        title, name = "probability of each answer, when the story is read so far", "reading"
    from matplotlib.figure import Figure

    rows = min(int((batch["inputs"] != 0).any(axis=-1).sum(axis=1).max()), 25)
    columns = columns[:, -rows:]
    figure = Figure(figsize=(4.6 + 0.35 * len(names), DRAWN * (1.2 + 0.22 * rows)), layout="constrained")
    for number, axes in enumerate(figure.subplots(DRAWN, 1, squeeze=False)[:, 0]):
        story = batch["inputs"][number][-rows:]
        stars = np.where(batch["facts"][number][-rows:], "* ", "")
        image = axes.imshow(columns[number], cmap="Blues", vmin=0, vmax=1, aspect="auto")
        sentences = [star + vocabulary.decode(ids) for star, ids in zip(stars, story, strict=True)]
        axes.set_yticks(range(rows), sentences, fontsize=7, parse_math=False)
        axes.set_xticks(range(len(names)), names, fontsize=7, rotation=90 if len(names) > 5 else 0, parse_math=False)
        given = classes[np.asarray(logits[number]).argmax()]
        asked = f"{vocabulary.decode(batch['question'][number])} {given}"
        right = classes[batch["labels"][number]]
        axes.set_title(asked if given == right else f"{asked} (right: {right})", fontsize=9, parse_math=False)
    figure.colorbar(image, ax=figure.axes, label=title)
    return {name: figure}


def probability_so_far(model: nn.Module, params: Any, batch: Batch) -> Float[np.ndarray, "B S C"]:
    """Probability of each answer had the story ended after each of its sentences; before its first, NaN."""
    story = batch["inputs"]  # [B, S, W]
    shifted = np.zeros((story.shape[1], *story.shape), story.dtype)  # [S, B, S, W]
    for last in range(story.shape[1]):
        shifted[last, :, story.shape[1] - 1 - last :] = story[:, : last + 1]

    @jax.jit
    def run(cut: Int[Array, "B S W"]) -> Float[Array, "B C"]:
        logits: Any = model.apply({"params": params}, cut, question=batch["question"])
        return jax.nn.softmax(logits)

    found = np.stack([np.asarray(run(cut)) for cut in shifted], axis=1)  # [B, S, C]
    begun = np.maximum.accumulate((story != 0).any(axis=-1), axis=1)
    return np.where(begun[..., None], found, np.nan)


RNN_KERAS = {
    "model": "rnn",
    "story": "words",
    "merge": "end",
    "readings": 1,
    "cell": "lstm",
    "units": 100,
    "embedding": 50,
    "dropout": 0.0,
    "epochs": 40,
    "batch_size": 32,
    "learning_rate": 1e-3,
    "schedule": "constant",
    "clip_norm": 0.0,
}
"""The example babi_rnn in its first version."""
RNN_KERAS_LATER = {**RNN_KERAS, "merge": "add", "units": 50, "dropout": 0.3}
"""Its later version."""
MEMNN_KERAS = {
    **RNN_KERAS,
    "model": "memnn-words",
    "units": 32,
    "embedding": 64,
    "dropout": 0.3,
    "epochs": 120,
    "optimizer": "rmsprop",
}
"""The example babi_memnn."""

TASK = Task(
    "babi",
    Config,
    load,
    build,
    losses.cross_entropy,
    arguments=("question",),
    example=example,
    presets={"rnn-keras": RNN_KERAS, "rnn-keras-later": RNN_KERAS_LATER, "memnn-keras": MEMNN_KERAS},
    samples=samples,
    prediction=Prediction(encode_lines, answers),
    pictures=pictures,
)
