"""Character language model: what comes next in a text, at every position.

Run:    python train.py --task char
        python train.py --task char --preset quick    # the tutorial's width and loss, 1.83, in a quarter of a minute
        python train.py --task char --preset large
        python train.py --task char --text my_book.txt
        python train.py --task char --preset nietzsche
        python train.py --task char --level word
        python generate.py --temperature 0.6
Expect: val_loss 1.465 nats a character on tiny_shakespeare, 9 minutes on two cores (benchmarks/scores.json)
"""

import dataclasses
import hashlib
import itertools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Float

from rnnjax.data import archives, builtin, files, tfds
from rnnjax.data.batching import Batches, Streams
from rnnjax.data.vocabulary import CharacterVocabulary, TextVocabulary, split_text
from rnnjax.errors import InputError
from rnnjax.layers.combinators import Stack
from rnnjax.layers.recurrent import BY_CELL
from rnnjax.metrics import Sums, masked_sum, per_token
from rnnjax.models.language_model import LanguageModel
from rnnjax.task import (
    LARGEST_AXIS,
    Batch,
    Bounds,
    NotNegative,
    OptionalSize,
    Positive,
    Rate,
    Schedule,
    Size,
    Splits,
    Task,
    TrainConfig,
)

log = logging.getLogger("rnnjax")

PARALLEL = ("mingru", "minlstm")
"""Cells that have no recurrent connections."""
WORD_EMBEDDING = 128
WARMUP = 256
"""Characters that an evaluation stream reads before those that count."""
MOST_LAYERS = 100
SHORTEST_TEXT = 30
"""Characters, of which validation and test get three each."""


NIETZSCHE = archives.Archive(
    "nietzsche",
    "https://s3.amazonaws.com/text-datasets/nietzsche.txt",
    {"nietzsche.txt": "23cf69874ab69d3d256099ab530ea4be24d47d9675b673bcc67cbcd6298ec647"},
    archives.unpack_file,
)
"""Beyond Good and Evil, translated by Helen Zimmern, as Keras's example `lstm_text_generation` reads it."""
PUBLISHED_AS = {"shakespeare": "tiny_shakespeare", "nietzsche": "nietzsche"}
"""What `--corpus` names -> the name of the data set."""
PUBLISHED = frozenset(PUBLISHED_AS.values())
"""Data sets whose validation is on their last tenth."""


@dataclasses.dataclass(frozen=True)
class Config(TrainConfig):
    """Settings of the character model."""

    corpus: Literal["shakespeare", "nietzsche"] = "shakespeare"
    """The text that --dataset auto reads: tiny_shakespeare, or Nietzsche's Beyond Good and Evil in English."""
    lowercase: bool = False
    """Make all letters of the text small."""
    batch_size: Size = 16
    """Streams of text that are read side by side."""
    learning_rate: Positive = 4e-3
    schedule: Schedule = "cosine"
    clip_norm: NotNegative = 1.0
    level: Literal["character", "word"] = "character"
    """What the text is cut into: its characters, or its words, marks and ends of lines."""
    vocab_size: Annotated[int, Bounds(2, LARGEST_AXIS)] = 10_000
    """With --level word, most words and marks in the vocabulary, the most frequent of the training part, and the one
    id of all others."""
    cell: Literal["lstm", "gru", "simple", "mingru", "minlstm"] = "lstm"
    """Cell of the recurrent layers; those of mingru and minlstm run all steps in parallel (Feng et al. 2024)."""
    units: Size = 320
    """Width of each recurrent layer."""
    layers: Annotated[int, Bounds(1, MOST_LAYERS)] = 1
    """Recurrent layers, one upon another."""
    embedding: OptionalSize | Literal["auto"] = "auto"
    """Width of the vectors of characters or words; 0 feeds them one-hot; auto: 0 for characters, 128 for words."""
    window: Size = 64
    """Steps through which gradients flow back (truncated back-propagation); the state is carried on."""
    restart: Rate = 0.0
    """Share of the streams that start again from the empty state at a window, as all do at each epoch. A model of one
    epoch may otherwise stay lost where a text begins that it was not trained from."""
    dropout: Rate = 0.2
    """Share of the inputs of each layer but the first, and of the last layer's outputs, dropped."""
    recurrent_dropout: Rate | Literal["auto"] = "auto"
    """Share of the recurrent connections dropped, one mask for all steps of a window; auto: 0.1, or 0 for mingru and
    minlstm, which have none."""

    def __post_init__(self) -> None:
        """Hold every value against its type, and the recurrent dropout against the cell."""
        super().__post_init__()
        if self.cell in PARALLEL and self.recurrent_dropout not in ("auto", 0):
            raise InputError(
                f"--recurrent-dropout: expected 0 with --cell {self.cell}, which has no recurrent connections; got "
                f"{self.recurrent_dropout}. Leave it out."
            )


def load(config: Config) -> Splits:
    """Read a text, and cut it in order into training, validation and test parts.

    tiny_shakespeare has its validation on the last 10 %, as the tutorial and nanoGPT do, and its test figure on the
    later half of that, with the model chosen on the earlier half; so has Nietzsche's text. Others are cut 80/10/10.

    Raises:
        InputError: the text is missing, unreadable or too short.
    """
    name, fingerprint, text = read(config)
    if len(text) < SHORTEST_TEXT:
        raise InputError(f"--text {name}: expected at least {SHORTEST_TEXT} characters; got {len(text)}.")
    pieces = text if config.level == "character" else split_text(text)
    if len(pieces) < SHORTEST_TEXT:
        raise InputError(f"--text {name}: expected at least {SHORTEST_TEXT} words and marks; got {len(pieces)}.")
    tenths = (9,) if name in PUBLISHED else (8, 9)
    kind: type[Part] = HalvedPart if name in PUBLISHED else Part
    cuts = [0, *(len(pieces) * part // 10 for part in tenths), len(pieces)]
    vocabulary: CharacterVocabulary | TextVocabulary
    if config.level == "character":
        vocabulary = CharacterVocabulary.from_text(text)
        tokens = vocabulary.encode(text)
    else:
        vocabulary = TextVocabulary.train(pieces[: cuts[1]], config.vocab_size)
        tokens = vocabulary.ids(pieces)
    train, *held_out = (
        kind(tokens[start:end], config.window, tokens[max(0, start - WARMUP) : start], config.restart)
        for start, end in itertools.pairwise(cuts)
    )
    info = {"vocabulary_size": len(vocabulary), "first": int(tokens[0])}
    log.info("%s: %s %ss, %s distinct; %s to train on", name, len(tokens), config.level, len(vocabulary), cuts[1])
    test = held_out[1] if len(held_out) > 1 else None
    return Splits(name, fingerprint, train, held_out[0], test, info, vocabulary)


def read(config: Config) -> tuple[str, str, str]:
    """Name, fingerprint and characters of the text that `--dataset` and `--corpus` mean, in the case asked for.

    Raises:
        InputError: the text is missing or unreadable.
    """
    name, fingerprint, text = read_as_it_is(config)
    return (name, f"{fingerprint} lower-cased", text.lower()) if config.lowercase else (name, fingerprint, text)


def read_as_it_is(config: Config) -> tuple[str, str, str]:
    """As `read`, in the case in which it is written."""
    if config.dataset == "builtin":
        return read_builtin()
    if config.dataset not in ("auto", "tfds"):
        return named(config.dataset, files.read_text(config.dataset))
    name = PUBLISHED_AS[config.corpus]
    if config.dataset == "tfds" and config.corpus != "shakespeare":
        raise InputError(
            f"--dataset tfds: expected a text that TFDS has; it has no {config.corpus}. Leave out --dataset."
        )
    try:
        if config.corpus == "nietzsche":
            folder = archives.prepare(NIETZSCHE, config.data_dir)
            return named(name, read_nietzsche(folder))
        folder = tfds.prepare_tiny_shakespeare(config.data_dir)
    except tfds.NetworkUnavailable as error:
        if config.dataset == "tfds":
            raise InputError(
                f"--dataset tfds: expected tiny_shakespeare prepared by TFDS, or a network to fetch it; {error}. "
                "Name the folder with --data-dir, or use --dataset builtin."
            ) from error
        log.warning("NO %s AND NO NETWORK (%s): training on the BUILT-IN TEXT, sources of Python", name, error)
        return read_builtin()
    return name, tfds.fingerprint(folder), tfds.read_tiny_shakespeare(folder)


def read_nietzsche(folder: Path) -> str:
    """The text, from the folder in which `archives.prepare` found it or put it."""
    (name,) = NIETZSCHE.files
    path = archives.find(folder, name)
    assert path is not None
    return archives.read(path).decode("utf-8")


def read_builtin() -> tuple[str, str, str]:
    """Sources of Python's own standard library, which differ from version to version."""
    return named("builtin", builtin.python_source())


def named(name: str, text: str) -> tuple[str, str, str]:
    """Name, fingerprint and characters of a text that was read, once, since it may come from a pipe."""
    return name, hashlib.sha256(text.encode()).hexdigest(), text


class Part(Streams):
    """A part of a text, evaluated with the characters before it as context."""

    def evaluation(self, batch_size: int, warmup: int = WARMUP) -> Batches:
        """As `Streams.evaluation`."""
        return super().evaluation(batch_size, warmup)


class HalvedPart(Part):
    """A part whose halves are evaluated also by themselves."""

    def evaluation(self, batch_size: int, warmup: int = WARMUP) -> Batches:
        """As `Streams.evaluation`, each batch with `late` [B, T]: whether a target stands in the later half."""
        batches = super().evaluation(batch_size, warmup)
        half = len(self.tokens) // 2
        return Batches(len(batches), lambda i: {**batches[i], "late": batches[i]["position"] >= half})


def build(config: Config, info: Mapping[str, Any]) -> nn.Module:
    """The language model of these settings."""
    layer = BY_CELL[config.cell]
    recurrent = config.recurrent_dropout
    if recurrent == "auto":
        recurrent = 0.0 if config.cell in PARALLEL else 0.1
    layers = [
        layer(
            config.units,
            dropout_rate=config.dropout if number else 0.0,
            recurrent_dropout_rate=recurrent,
            matmul_dtype=config.matmul_dtype,
        )
        for number in range(config.layers)
    ]
    width = config.embedding
    if width == "auto":
        width = WORD_EMBEDDING if config.level == "word" else 0
    return LanguageModel(info["vocabulary_size"], width, Stack(layers), config.dropout, config.matmul_dtype)


def loss(logits: Float[Array, "B T V"], batch: Batch) -> Sums:
    """Cross-entropy in nats a character; in evaluation also of each half of the part."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["targets"])  # [B, T]
    weight = jnp.asarray(batch["weight"])
    sums = {"loss": masked_sum(losses, weight)}
    if "late" in batch:
        late = jnp.asarray(batch["late"])
        sums["first_half_loss"] = masked_sum(losses, jnp.where(late, 0, weight))
        sums["last_half_loss"] = masked_sum(losses, jnp.where(late, weight, 0))
    return sums


def last_half_as_test(validation: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The loss on the last half of the validation part, at the epoch whose loss on the first half is the lowest."""
    chosen = min(validation, key=lambda metrics: metrics["first_half_loss"])
    return {"loss": chosen["last_half_loss"]}


PRESETS: dict[str, dict[str, Any]] = {
    "quick": {
        "units": 128,
        "dropout": 0.0,
        "recurrent_dropout": 0.0,
        "batch_size": 8,
        "learning_rate": 0.01,
        "clip_norm": 0.3,
        "epochs": 1,
        "restart": 0.01,
    },
    "large": {"units": 512, "layers": 2, "dropout": 0.5, "learning_rate": 2e-3, "epochs": 14},
    "nietzsche": {"corpus": "nietzsche", "units": 512, "dropout": 0.35, "epochs": 16},
    # As Keras's example lstm_text_generation: lower-cased, LSTM 128, RMSprop 0.01, batches of 128, windows of 40. There
    # they overlap, 3 characters apart, and each has one target; here each character is a target once an epoch, with
    # the state carried, so 60 epochs there read a character 800 times and predict it 20 times, and here 60 times each.
    "nietzsche-keras": {
        "corpus": "nietzsche",
        "lowercase": True,
        "units": 128,
        "dropout": 0.0,
        "recurrent_dropout": 0.0,
        "optimizer": "rmsprop",
        "learning_rate": 0.01,
        "schedule": "constant",
        "clip_norm": 0.0,
        "batch_size": 128,
        "window": 40,
        "epochs": 60,
        "patience": 0,
    },
}
TASK = Task(
    "char",
    Config,
    load,
    build,
    loss,
    presets=PRESETS,
    aliases={"text": "dataset"},
    unit="tokens",
    stateful=True,
    derived=per_token,
    results=last_half_as_test,
)
