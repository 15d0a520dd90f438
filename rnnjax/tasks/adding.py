"""The adding problem: add the two marked numbers of a long sequence (Hochreiter and Schmidhuber 1997).

In the form of Le, Jaitly and Hinton (2015): T steps of (a number between 0 and 1, a mark); two of the marks are 1, all
others 0; the target is the sum of the two marked numbers. Whoever always answers 1 has a loss of 1/6 = 0.1667 (the
paper says 0.1767), and so begins every network: to do better it has to carry numbers over up to T steps.

Run:    python train.py --task adding
        python train.py --task adding --length 400 --cell gru
        python train.py --task adding --cell simple --diagnose
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
from flax import linen as nn
from jaxtyping import Array, Float

from rnnjax.cells.lstm import remembering_bias
from rnnjax.data.batching import Batches, Examples
from rnnjax.errors import InputError
from rnnjax.layers.recurrent import GRU, IRNN, LSTM, SimpleRNN
from rnnjax.metrics import Sums, masked_sum
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
)

log = logging.getLogger("rnnjax")

CLOSE = 0.04
"""An answer counts as right if its error is below this."""
TRAIN_EXAMPLES = 12_800
"""New examples in each epoch."""
HELD_OUT = {"validation": 2_000, "test": 10_000}


@dataclasses.dataclass(frozen=True)
class Config(TrainConfig):
    """Settings of the adding problem."""

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
    """Steps T of each sequence."""
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
            f"--dataset: expected auto or builtin, since the adding problem is generated; got {config.dataset}. "
            "Leave it out."
        )
    held_out = {
        name: Examples(generate(np.random.default_rng([config.seed, 0, number]), count, config.length))
        for number, (name, count) in enumerate(HELD_OUT.items())
    }
    train = Generated(config.length)
    digest = hashlib.sha256()
    for part in (train.training_epoch(config.seed, 1, 1)[0], *(source.arrays for source in held_out.values())):
        digest.update(part["inputs"].tobytes() + part["targets"].tobytes())
    log.info("adding problem: length %s, %s new training examples an epoch", config.length, TRAIN_EXAMPLES)
    info = {"length": config.length}
    return Splits("builtin", digest.hexdigest(), train, held_out["validation"], held_out["test"], info, None)


def generate(rng: np.random.Generator, count: int, length: int) -> dict[str, np.ndarray]:
    """Examples: inputs float32 `[N, T, 2]` of numbers and marks, targets float32 `[N]`."""
    inputs = np.zeros((count, length, 2), np.float32)
    inputs[:, :, 0] = rng.random((count, length), np.float32)
    first = rng.integers(length, size=count)
    second = (first + rng.integers(1, length, size=count)) % length  # another step, each as likely as any
    rows = np.arange(count)
    inputs[rows, first, 1] = inputs[rows, second, 1] = 1
    return {"inputs": inputs, "targets": inputs[rows, first, 0] + inputs[rows, second, 0]}


class Generated:
    """Training examples that are drawn when they are asked for: those of batch i of an epoch by (seed, epoch, i)."""

    def __init__(self, length: int) -> None:
        """`length`: steps of each sequence."""
        self.length = length

    def training_epoch(self, seed: int, epoch: int, batch_size: int) -> Batches:
        """`TRAIN_EXAMPLES` new examples, as far as they fill batches, of which there is at least one."""

        def make(i: int) -> Batch:
            examples = generate(np.random.default_rng([seed, epoch, i]), batch_size, self.length)
            return {**examples, "weight": np.ones(batch_size, np.float32)}

        return Batches(max(1, TRAIN_EXAMPLES // batch_size), make)

    def evaluation(self, batch_size: int) -> Batches:
        """The examples of the first epoch of seed 0."""
        return self.training_epoch(0, 1, batch_size)


def build(config: Config, info: Mapping[str, Any]) -> nn.Module:
    """One recurrent layer, and one number made of its last output.

    Gates start so that they remember for about T steps and let in as much as they forget (Tallec and Ollivier 2018):
    with Keras's biases a number is forgotten long before the gradient that would teach the cell to keep it.
    """
    layers: dict[str, Callable[..., nn.Module]] = {
        "lstm": functools.partial(LSTM, forget_bias=0.0, bias_init=functools.partial(remembering_bias, config.length)),
        "gru": functools.partial(GRU, update_bias=math.log(config.length)),
        "simple": SimpleRNN,
        "irnn": IRNN,
    }
    layer = layers[config.cell](config.units, return_sequences=False, matmul_dtype=config.matmul_dtype)
    return SequenceRegressor(layer, config.matmul_dtype)


def loss(answers: Float[Array, "B"], batch: Batch) -> Sums:
    """Squared error, and the share of answers that are less than `CLOSE` off."""
    error, weight = answers - jnp.asarray(batch["targets"]), jnp.asarray(batch["weight"])
    right = (jnp.abs(error) < CLOSE).astype(error.dtype)
    return {"loss": masked_sum(error * error, weight), "accuracy": masked_sum(right, weight)}


TASK = Task("adding", Config, load, build, loss)
