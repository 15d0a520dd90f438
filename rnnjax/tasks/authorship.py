"""Who wrote a passage: authorship attribution over a folder of texts.

A folder of yours has one sub-folder of .txt files an author, or one .txt file an author. Each author's text is cut
into passages at word borders; the first 80 % are to train on, the next 10 % to validate and the last 10 % to test, so
that no passage overlaps one of another split. The built-in form has four composed authors whose words are the same.

All authors share a language model but for its output layer, of which each has one. A passage is taken for that of the
author under whom it is the likeliest. The loss is that of the true author's model, in nats a character.

Run:    python train.py --task authorship
        python train.py --task authorship --dataset my_authors --passage 300
        python predict.py --text "The captain, however, slowly walked home in grey colours."
Expect: test accuracy 0.924 on the composed authors, 4 minutes on one core (benchmarks/scores.json)
"""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rnnjax.data import authors
from rnnjax.data.vocabulary import CharacterVocabulary
from rnnjax.errors import InputError
from rnnjax.metrics import Sums, masked_sum
from rnnjax.models.authorship import AuthorLanguageModel, probabilities
from rnnjax.models.classifier import most_probable
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

BUILTIN_SENTENCES = 1_000
"""Sentences of each composed author."""


@dataclasses.dataclass(frozen=True)
class Config(TrainConfig):
    """Settings of the authorship example."""

    epochs: Count | Literal["auto"] = 60
    batch_size: Size = 32
    learning_rate: Positive = 1e-2
    schedule: Schedule = "cosine"
    clip_norm: NotNegative = 1.0
    patience: OptionalCount | Literal["auto"] = 0
    passage: Annotated[int, Bounds(20, 100_000)] = 200
    """Most characters of a passage."""
    embedding: Size = 32
    """Width of the vectors of characters."""
    units: Size = 192
    """Width of the GRU."""
    dropout: Rate = 0.5
    """Share of the GRU's outputs dropped."""
    recurrent_dropout: Rate = 0.4
    """Share of the recurrent connections dropped, one mask for all steps."""


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
    vocabulary = authors.known_characters(parts["train"].texts)
    sources = {split: authors.PassageSource(part, vocabulary, config.passage) for split, part in parts.items()}
    info = {"classes": list(texts), "passage": config.passage, "vocabulary_size": len(vocabulary)}
    log.info(
        "%s: %s authors; %s training, %s validation, %s test passages",
        name, len(texts), *(len(source) for source in sources.values()),
    )  # fmt: skip
    train, validation, test = sources.values()
    return Splits(name, authors.fingerprint(texts), train, validation, test, info, vocabulary)


def build(config: Config, info: Mapping[str, Any]) -> AuthorLanguageModel:
    """The authors' language models."""
    return AuthorLanguageModel(
        info["vocabulary_size"],
        len(info["classes"]),
        config.embedding,
        config.units,
        config.dropout,
        config.recurrent_dropout,
        config.matmul_dtype,
    )


def loss(nats: Float[Array, "B K"], batch: Batch) -> Sums:
    """Of the true author's model, in nats a character; and the share of passages of which it is the likeliest."""
    inputs, labels = jnp.asarray(batch["inputs"]), jnp.asarray(batch["labels"])
    weight = jnp.asarray(batch["weight"])
    own = jnp.take_along_axis(nats, labels[:, None], axis=1)[:, 0]  # [B]
    counted = jnp.where(weight > 0, (inputs[:, 1:] > 0).sum(axis=1), 0)  # [B] characters
    right = (nats.argmax(axis=1) == labels).astype(own.dtype)
    return {"loss": (-jnp.where(weight > 0, own, 0).sum(), counted.sum()), "accuracy": masked_sum(right, weight)}


def example(info: Mapping[str, Any]) -> Batch:
    """A passage, for the shapes of the parameters."""
    return {"inputs": np.zeros((1, info["passage"] + 2), np.int32)}


def encode_texts(
    config: Config, info: Mapping[str, Any], vocabulary: CharacterVocabulary, texts: Sequence[str]
) -> Batch:
    """The first passage of each text, as long as those to train on."""
    first = [(authors.cut(text, config.passage) or [""])[0] for text in texts]
    return authors.encode(first, vocabulary, config.passage)


def likeliest(
    config: Config,
    info: Mapping[str, Any],
    vocabulary: CharacterVocabulary,
    nats: Float[np.ndarray, "B K"],
    batch: Batch,
) -> list[tuple[str, float]]:
    """The author of each passage, and the probability."""
    return most_probable(info["classes"], np.asarray(probabilities(jnp.asarray(nats))))


TASK = Task(
    "authorship",
    Config,
    load,
    build,
    loss,
    arguments=(),
    unit="characters",
    example=example,
    presets={"long": {"passage": 500}},
    probabilities=probabilities,
    prediction=Prediction(encode_texts, likeliest),
)
