"""Topics of newswires: Reuters-21578 (Lewis 1997), in 46 classes as Keras has them.

The class of a newswire is the first of its topics; topics of fewer than 14 newswires are left out. That leaves the
11,228 newswires and 46 topics of Keras's data set, made from the original files. `--split random` tests on a fifth of
them, always the same, as Keras does (with another shuffle); `--split modapte` on the test part of ModApte.

Run:    python train.py --task reuters
        python train.py --task reuters --preset words
        python predict.py --text "OPEC ministers met in Geneva to discuss output quotas."
Expect: test accuracy 0.882 with the default model, a quarter of a minute on two cores (benchmarks/scores.json)
"""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from flax import linen as nn

from rnnjax import losses
from rnnjax.data import archives, cache, reuters
from rnnjax.data.batching import Examples, holdout
from rnnjax.data.tfds import NetworkUnavailable
from rnnjax.data.vocabulary import SplitTexts, WordVocabulary
from rnnjax.errors import InputError
from rnnjax.layers.combinators import Bidirectional
from rnnjax.layers.pooling import MaxPooling
from rnnjax.layers.recurrent import GRU, LSTM
from rnnjax.models.bag import BagClassifier
from rnnjax.models.classifier import Classifier, best_classes, encode_texts, probabilities
from rnnjax.task import (
    LARGEST_AXIS,
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

TEST_SHARE = 0.2
TEST_SEED = 113
"""Draws the test part of `--split random`, whatever the seed of a run."""
VALIDATION_SHARE = 0.1
BUILTIN_EXAMPLES = 2_000
ENCODING = 1
"""Raise when the same data and settings are to be encoded in another way, so that cached arrays are not used."""


@dataclasses.dataclass(frozen=True)
class Config(TrainConfig):
    """Settings of the topics example, with a schedule of our own."""

    epochs: Count | Literal["auto"] = 8
    batch_size: Size = 64
    learning_rate: Positive = 2e-3
    schedule: Schedule = "cosine"
    clip_norm: NotNegative = 1.0
    patience: OptionalCount | Literal["auto"] = 3
    model: Literal["mlp", "lstm", "bidirectional"] = "mlp"
    """A hidden layer over a bag of words; an LSTM over the words; or a layer in each direction and the largest outputs
    of all steps."""
    cell: Literal["lstm", "gru"] = "lstm"
    """Cell of the recurrent layers."""
    units: Size | Literal["auto"] = "auto"
    """Width of the hidden or recurrent layer; auto: 512 of mlp, otherwise 64."""
    embedding: Size = 64
    """Width of the word vectors; only of the recurrent models."""
    vocab_size: Annotated[int, Bounds(3, LARGEST_AXIS)] | Literal["auto"] = "auto"
    """Most words in the vocabulary, padding and unknown words included; auto: 1,000 of mlp, otherwise 10,000."""
    max_length: Count | Literal["auto"] = "auto"
    """Words kept of a newswire, its last ones; auto: all of mlp, otherwise 200."""
    dropout: Rate = 0.5
    """Share of the hidden layer's outputs, or of a recurrent layer's inputs, that is dropped."""
    split: Literal["random", "modapte"] = "random"
    """The newswires to test on: a fifth of them, drawn once for all; or those of the split that is called ModApte."""


def vocab_size(config: Config) -> int:
    """What `--vocab-size` means for the model."""
    if config.vocab_size == "auto":
        return 1_000 if config.model == "mlp" else 10_000
    return config.vocab_size


def load(config: Config) -> Splits:
    """Read, divide and encode the newswires, or take them from the cache of encoded data.

    Raises:
        InputError: the data are missing or cannot be used.
    """
    folder = find_folder(config)
    if folder is None:
        texts, topics = reuters.compose(BUILTIN_EXAMPLES, seed=0)
        name, fingerprint = "builtin", hashlib.sha256(json.dumps([texts, topics]).encode()).hexdigest()
        newswires = [reuters.Newswire(text, topic, "TRAIN") for text, topic in zip(texts, topics, strict=True)]
    else:
        name, fingerprint = "reuters21578", archives.fingerprint(folder, reuters.ARCHIVE.files)
        newswires = []
    is_random = config.split == "random" or folder is None
    key = {
        "task": "reuters",
        "encoding": ENCODING,
        "fingerprint": fingerprint,
        "seed": config.seed,
        "random": is_random,
        "vocab_size": vocab_size(config),
        "max_length": config.max_length if config.max_length != "auto" else config.model == "mlp",
    }
    arrays = cache.cached_arrays(
        key, lambda: encode(newswires if folder is None else reuters.read(folder), is_random, config)
    )
    vocabulary = WordVocabulary.from_json(arrays["vocabulary"].tobytes().decode())
    train, validation, test = (
        Examples({name: arrays[f"{split}_{name}"] for name in ("inputs", "lengths", "labels")})
        for split in ("train", "validation", "test")
    )
    classes = json.loads(arrays["classes"].tobytes())
    info = {"classes": classes, "vocabulary_size": len(vocabulary), "max_length": train.arrays["inputs"].shape[1]}
    log.info(
        "%s: %s training, %s validation, %s test newswires; %s topics; %s words",
        name, len(train), len(validation), len(test), len(classes), len(vocabulary),
    )  # fmt: skip
    return Splits(name, fingerprint, train, validation, test, info, vocabulary)


def find_folder(config: Config) -> Path | None:
    """The folder of the newswires; None for the built-in ones."""
    if config.dataset == "builtin":
        return None
    if config.dataset not in ("auto", "tfds"):
        return Path(config.dataset)
    if config.dataset == "tfds":
        raise InputError("--dataset: expected auto, builtin or a folder, since TFDS does not have Reuters; got tfds.")
    try:
        return archives.prepare(reuters.ARCHIVE, config.data_dir)
    except NetworkUnavailable as error:
        log.warning("NO REUTERS DATA AND NO NETWORK (%s): training on the BUILT-IN SAMPLE of composed newswires", error)
        return None


def encode(newswires: Sequence[reuters.Newswire], is_random: bool, config: Config) -> dict[str, np.ndarray]:
    """Ids, lengths and labels of each split, and the vocabulary of the training texts, as arrays for the cache."""
    if is_random:
        rest, test = holdout(len(newswires), TEST_SHARE, TEST_SEED)
    else:
        rest, test = (np.flatnonzero([newswire.split == part for newswire in newswires]) for part in ("TRAIN", "TEST"))
        if not len(test):
            raise InputError("--split modapte: expected newswires of its test part; found none. Use --split random.")
    kept, held_out = holdout(len(rest), VALIDATION_SHARE, config.seed)
    parts = {"train": rest[kept], "validation": rest[held_out], "test": test}
    classes = sorted({newswire.topic for newswire in newswires})
    labels = np.array([classes.index(newswire.topic) for newswire in newswires], np.int32)
    words = {split: SplitTexts.of([newswires[i].text for i in rows]) for split, rows in parts.items()}
    vocabulary = WordVocabulary.train(words["train"], vocab_size(config))
    max_length: int | None = config.max_length if config.max_length != "auto" else 200
    if config.max_length == "auto" and config.model == "mlp":
        max_length = int(words["train"].lengths.max())
    arrays = {
        "vocabulary": np.frombuffer(vocabulary.to_json().encode(), np.uint8),
        "classes": np.frombuffer(json.dumps(classes).encode(), np.uint8),
    }
    for split, rows in parts.items():
        inputs, lengths = vocabulary.encode(words[split], max_length)
        arrays |= {f"{split}_inputs": inputs, f"{split}_lengths": lengths, f"{split}_labels": labels[rows]}
    return arrays


def build(config: Config, info: Mapping[str, Any]) -> nn.Module:
    """The model that `--model` names."""
    num_classes, size = len(info["classes"]), info["vocabulary_size"]
    if config.model == "mlp":
        units = 512 if config.units == "auto" else config.units
        return BagClassifier(size, num_classes, units, config.dropout, config.matmul_dtype)
    layer = {"lstm": LSTM, "gru": GRU}[config.cell]
    is_pooled = config.model == "bidirectional"
    encoder: nn.Module = layer(
        64 if config.units == "auto" else config.units,
        return_sequences=is_pooled,
        dropout_rate=config.dropout,
        matmul_dtype=config.matmul_dtype,
    )
    return Classifier(
        size,
        num_classes,
        config.embedding,
        Bidirectional(encoder) if is_pooled else encoder,
        MaxPooling() if is_pooled else None,
        matmul_dtype=config.matmul_dtype,
    )


KERAS = {
    "batch_size": 32,
    "epochs": 5,
    "learning_rate": 1e-3,
    "schedule": "constant",
    "clip_norm": 0.0,
    "patience": 0,
    "restore_best": False,
}
"""Training as in Keras's example; the default model is the example's."""

WORDS = {"model": "bidirectional", "epochs": 6, "learning_rate": 0.01, "dropout": 0.3, "max_length": 120}
"""Training for the recurrent models, which learn from 8,000 newswires less than a bag of words does."""

TASK = Task(
    "reuters",
    Config,
    load,
    build,
    losses.classification,
    presets={"keras": KERAS, "words": WORDS},
    probabilities=probabilities,
    prediction=Prediction(encode_texts, best_classes),
)
