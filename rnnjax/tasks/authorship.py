"""Who wrote a passage: authorship attribution over a folder of texts.

A folder of yours has one sub-folder of .txt files an author, or one .txt file an author. Each author's text is cut
into passages at word borders; the first 80 % are to train on, the next 10 % to validate and the last 10 % to test, so
that no passage overlaps one of another split. The built-in form has four composed authors whose words are the same.

Run:    python train.py --task authorship
        python train.py --task authorship --dataset my_authors --passage 300
        python predict.py --text "The captain, however, slowly walked home in grey colours."
Expect: test accuracy 0.889 on the composed authors, half a minute on one core (benchmarks/scores.json)
"""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from rnnjax import losses
from rnnjax.data import authors
from rnnjax.errors import InputError
from rnnjax.models.authorship import AuthorClassifier
from rnnjax.models.classifier import best_classes, probabilities
from rnnjax.task import (
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

log = logging.getLogger("rnnjax")

BUILTIN_SENTENCES = 500
"""Sentences of each composed author."""


@dataclasses.dataclass(frozen=True)
class Config(TrainConfig):
    """Settings of the authorship example."""

    epochs: Count | Literal["auto"] = 20
    batch_size: Size = 32
    learning_rate: Positive = 5e-3
    schedule: Schedule = "cosine"
    clip_norm: NotNegative = 1.0
    patience: OptionalCount | Literal["auto"] = 0
    ema_decay: Rate = 0.98
    passage: Annotated[int, Bounds(20, 100_000)] = 200
    """Most characters of a passage."""
    buckets: Annotated[int, Bounds(2, 10_000_000)] = 32_768
    """Values that features (n-grams of characters, words, pairs of words) are hashed to."""
    embedding: Size = 32
    """Width of the vectors of features."""
    units: Size = 64
    """Width of the GRU of each direction."""
    dropout: Rate = 0.5
    """Share of the GRU's inputs, and of what is read of it, that is dropped."""
    gram_dropout: Rate = 0.2
    """Share of a passage's features that is dropped."""
    linear_scale: Positive = 10.0
    """Factor of the linear part, in the place of the C of logistic regression."""


def load(config: Config) -> Splits:
    """Read the authors' texts, or compose some, and cut them into passages.

    Raises:
        InputError: the texts are missing or cannot be used.
    """
    if config.dataset == "tfds":
        raise InputError("--dataset: expected auto, builtin or a folder, since TFDS has no such data; got tfds.")
    if config.dataset in ("auto", "builtin"):
        if config.dataset == "auto":
            log.info("authorship has no data set to fetch: taking four composed authors; --dataset FOLDER names yours")
        name, texts = "builtin", authors.compose(BUILTIN_SENTENCES, seed=0)
    else:
        name, texts = config.dataset, authors.read_authors(Path(config.dataset))
    parts = authors.divide(texts, config.passage)
    sources = {split: authors.PassageSource(part, config.buckets, config.passage) for split, part in parts.items()}
    info = {"classes": list(texts), "passage": config.passage}
    log.info(
        "%s: %s authors; %s training, %s validation, %s test passages",
        name, len(texts), *(len(source) for source in sources.values()),
    )  # fmt: skip
    initial = {"idf": authors.inverse_frequency(parts["train"].texts, config.buckets)}
    train, validation, test = sources.values()
    return Splits(name, authors.fingerprint(texts), train, validation, test, info, None, initial)


def build(config: Config, info: Mapping[str, Any]) -> AuthorClassifier:
    """The linear model of n-grams with GRUs beside it."""
    return AuthorClassifier(
        config.buckets,
        len(info["classes"]),
        config.embedding,
        config.units,
        config.dropout,
        config.gram_dropout,
        config.linear_scale,
        authors.most_words(config.passage),
        config.matmul_dtype,
    )


def example(info: Mapping[str, Any]) -> Batch:
    """A passage, for the shapes of the parameters."""
    return authors.encode_passages(["a"], 2, info["passage"])


def encode_texts(config: Config, info: Mapping[str, Any], vocabulary: None, texts: Sequence[str]) -> Batch:
    """The first passage of each text, as long as those to train on."""
    first = [(authors.cut(text, config.passage) or [""])[0] for text in texts]
    return authors.encode_passages(first, config.buckets, config.passage)


TASK = Task(
    "authorship",
    Config,
    load,
    build,
    losses.classification,
    arguments=("counts", "words", "lengths"),
    example=example,
    presets={"long": {"passage": 500}},
    frozen=lambda config: ("idf",),
    probabilities=probabilities,
    prediction=Prediction(encode_texts, best_classes),
)
