"""Problems that need a long memory: add two marked numbers, or copy symbols after a pause.

adding  In the form of Le, Jaitly and Hinton (2015): T steps of (a number between 0 and 1, a mark); two of the marks are
        1, all others 0; the target is the sum of the two marked numbers. Whoever always answers 1 has a loss of 1/6 =
        0.1667 (the paper says 0.1767), and so begins every network: to do better it has to carry numbers over up to T
        steps.
copy    In the form of Arjovsky, Shah and Bengio (2016): ten symbols, each one of eight; T - 1 blanks, a mark, and ten
        blanks more, at which the ten symbols are to be said again, in their order; before, the answer is blank. The
        loss is the cross-entropy as a mean over all T + 20 steps. Whoever remembers nothing has 10 ln 8 / (T + 20).

Both are of Hochreiter and Schmidhuber (1997), in later forms.

Run:    python train.py --task adding
        python train.py --task adding --length 400 --cell gru
        python train.py --task adding --cell simple --diagnose
        python train.py --task adding --preset irnn
        python train.py --task adding --preset copy
Expect: test loss 0.0007 at T = 200, accuracy 0.93, 5 minutes on two cores that others used too (benchmarks/scores.json)
"""

import dataclasses
import functools
import hashlib
import logging
import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array, Float

from rnnjax.cells.lstm import remembering_bias
from rnnjax.data.batching import Batches, Examples
from rnnjax.errors import InputError
from rnnjax.layers.combinators import Stack
from rnnjax.layers.recurrent import GRU, IRNN, LSTM, SimpleRNN
from rnnjax.metrics import Sums, masked_sum
from rnnjax.models.language_model import LanguageModel
from rnnjax.models.sequence_regressor import SequenceRegressor
from rnnjax.task import (
    LARGEST_AXIS,
    Batch,
    Bounds,
    Count,
    NotNegative,
    Positive,
    Size,
    Splits,
    Task,
    TrainConfig,
    one_token,
)

log = logging.getLogger("rnnjax")

CLOSE = 0.04
"""An answer counts as right if its error is below this."""
TRAIN_EXAMPLES = 12_800
"""New examples in each epoch."""
HELD_OUT = {"validation": 2_000, "test": 10_000}
SYMBOLS = 8
"""What is copied is one of these; the blank and the mark that asks for the copy come after them."""
COPIED = 10
"""Symbols in each sequence that are copied."""


@dataclasses.dataclass(frozen=True)
class Config(TrainConfig):
    """Settings of the problems."""

    problem: Literal["adding", "copy"] = "adding"
    """adding: the sum of two marked numbers; copy: ten symbols, said again after a pause."""

    epochs: Count | Literal["auto"] = 10
    """Most passes over 12,800 examples, which are new ones in each epoch."""
    batch_size: Size = 64
    """Sequences in one step."""
    learning_rate: Positive = 5e-3
    """Step size at the start."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """How the learning rate goes on: as it is, or down to zero at the last epoch along half a cosine."""
    clip_norm: NotNegative = 1.0
    """Scale gradients down to this global norm; 0 disables."""
    patience: Annotated[int, Bounds(0)] | Literal["auto"] = 0
    """Stop after this many epochs without a lower val_loss; 0 never stops early, since a network may stand still for
    long before it finds out; auto: 3, or as many as make 450 steps. The best weights are kept anyway."""
    length: Annotated[int, Bounds(2, LARGEST_AXIS)] = 200
    """Steps T of each sequence; of the copy problem those between the symbols and where they are asked for."""
    cell: Literal["lstm", "gru", "simple", "irnn"] = "lstm"
    """Cell of the recurrent layer."""
    units: Size = 64
    """Width of the recurrent layer."""


def load(config: Config) -> Splits:
    """Generate the problem; nothing is read.

    Raises:
        InputError: `--dataset` names data.
    """
    if config.dataset not in ("auto", "builtin"):
        raise InputError(
            f"--dataset: expected auto or builtin, since the {config.problem} problem is generated; "
            f"got {config.dataset}. Leave it out."
        )
    draw = functools.partial({"adding": generate, "copy": generate_copy}[config.problem], length=config.length)
    held_out = {
        name: Examples(draw(np.random.default_rng([config.seed, 0, number]), count))
        for number, (name, count) in enumerate(HELD_OUT.items())
    }
    train = Generated(draw)
    digest = hashlib.sha256()
    for part in (train.training_epoch(config.seed, 1, 1)[0], *(source.arrays for source in held_out.values())):
        digest.update(part["inputs"].tobytes() + part["targets"].tobytes())
    log.info("%s problem: length %s, %s new training examples an epoch", config.problem, config.length, TRAIN_EXAMPLES)
    info = {"length": config.length, "problem": config.problem}
    return Splits("builtin", digest.hexdigest(), train, held_out["validation"], held_out["test"], info, None)


def generate(rng: np.random.Generator, count: int, length: int) -> dict[str, np.ndarray]:
    """Examples to add: inputs float32 `[N, T, 2]` of numbers and marks, targets float32 `[N]`."""
    inputs = np.zeros((count, length, 2), np.float32)
    inputs[:, :, 0] = rng.random((count, length), np.float32)
    first = rng.integers(length, size=count)
    second = (first + rng.integers(1, length, size=count)) % length  # another step, each as likely as any
    rows = np.arange(count)
    inputs[rows, first, 1] = inputs[rows, second, 1] = 1
    return {"inputs": inputs, "targets": inputs[rows, first, 0] + inputs[rows, second, 0]}


def generate_copy(rng: np.random.Generator, count: int, length: int) -> dict[str, np.ndarray]:
    """Examples to copy: inputs and targets int32 `[N, T + 20]`."""
    blank, mark = SYMBOLS, SYMBOLS + 1
    symbols = rng.integers(SYMBOLS, size=(count, COPIED), dtype=np.int32)
    inputs, targets = (np.full((count, length + 2 * COPIED), blank, np.int32) for _ in range(2))
    inputs[:, :COPIED] = targets[:, -COPIED:] = symbols
    inputs[:, -COPIED - 1] = mark
    return {"inputs": inputs, "targets": targets}


class Generated:
    """Training examples that are drawn when they are asked for: those of batch i of an epoch by (seed, epoch, i)."""

    def __init__(self, draw: Callable[[np.random.Generator, int], dict[str, np.ndarray]]) -> None:
        """`draw`: a generator and a number of examples -> these."""
        self.draw = draw

    def training_epoch(self, seed: int, epoch: int, batch_size: int) -> Batches:
        """`TRAIN_EXAMPLES` new examples, as far as they fill batches, of which there is at least one."""

        def make(i: int) -> Batch:
            examples = self.draw(np.random.default_rng([seed, epoch, i]), batch_size)
            return {**examples, "weight": np.ones(batch_size, np.float32)}

        return Batches(max(1, TRAIN_EXAMPLES // batch_size), make)

    def evaluation(self, batch_size: int) -> Batches:
        """The examples of the first epoch of seed 0."""
        return self.training_epoch(0, 1, batch_size)


def build(config: Config, info: Mapping[str, Any]) -> nn.Module:
    """One recurrent layer, and one number made of its last output or, to copy, a symbol of each.

    Gates start so that they remember for about T steps and let in as much as they forget (Tallec and Ollivier 2018):
    with Keras's biases a number is forgotten long before the gradient that would teach the cell to keep it.
    """
    span = config.length + (COPIED if config.problem == "copy" else 0)
    layers: dict[str, Callable[..., nn.Module]] = {
        "lstm": functools.partial(LSTM, forget_bias=0.0, bias_init=functools.partial(remembering_bias, span)),
        "gru": functools.partial(GRU, update_bias=math.log(span)),
        "simple": SimpleRNN,
        "irnn": IRNN,
    }
    layer = functools.partial(layers[config.cell], config.units, matmul_dtype=config.matmul_dtype)
    if config.problem == "copy":
        return LanguageModel(SYMBOLS + 2, 0, Stack([layer()]), matmul_dtype=config.matmul_dtype)
    return SequenceRegressor(layer(return_sequences=False), config.matmul_dtype)


def loss(answers: Float[Array, "B"] | Float[Array, "B S V"], batch: Batch) -> Sums:
    """Of sums the squared error, and the share of answers that are less than `CLOSE` off.

    Of copies (answers are logits) the cross-entropy, as a mean over the steps of each sequence, and the share of the
    copied symbols that are right.
    """
    targets, weight = jnp.asarray(batch["targets"]), jnp.asarray(batch["weight"])
    if answers.ndim == 3:
        losses = optax.softmax_cross_entropy_with_integer_labels(answers, targets).mean(axis=1)  # [B]
        right = (answers.argmax(axis=-1) == targets)[:, -COPIED:].astype(losses.dtype).mean(axis=1)
    else:
        error = answers - targets
        losses, right = error * error, (jnp.abs(error) < CLOSE).astype(error.dtype)
    return {"loss": masked_sum(losses, weight), "accuracy": masked_sum(right, weight)}


def example(info: Mapping[str, Any]) -> Batch:
    """A batch of one step."""
    return one_token(info) if info["problem"] == "copy" else {"inputs": np.zeros((1, 1, 2), np.float32)}


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "copy": {"problem": "copy", "length": 100, "units": 128, "epochs": 60},
    # With larger steps its state grows without bounds.
    "irnn": {"cell": "irnn", "units": 100, "learning_rate": 3e-4, "epochs": 20},
}
TASK = Task("adding", Config, load, build, loss, example=example, presets=PRESETS)
