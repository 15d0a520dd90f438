"""Follow a series, of which the network is shown a few values at a time: with its state carried on, and without.

Two series, after Keras's example lstm_stateful:

lag     numbers drawn between -1 and 1; the target is the mean of the last `--lag` of them. In a window that is shorter
        than the lag some of them are not to be seen: they have to be remembered from windows before.
cosine  a damped cosine, 1000 values a turn, which loses a factor e in 10 turns; the target is the mean of the next
        `--lag` values. One value does not say whether the curve is about to rise or to fall; those before it do. As in
        the example each row of a batch of B reads every B-th value.

The network gets `--window` values at each step of the training, and answers after the last of them. `--stateful` starts
each window with the state in which the one before ended, `--no-stateful` gives the same windows to a network that
starts anew in each. Gradients stay within a window either way.

Run:    python train.py --task stateful
        python train.py --task stateful --no-stateful
        python train.py --task stateful --preset cosine    # the mean of the next quarter of a turn
        python benchmarks/stateful.py    # all of these, beside each other: docs/stateful.md
Expect: test loss 0.0002, and 0.083 with --no-stateful; a quarter of a minute on one core (benchmarks/scores.json)
"""

import dataclasses
import hashlib
import logging
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from rnnjax.data.batching import Batches
from rnnjax.errors import InputError
from rnnjax.layers.combinators import Stack
from rnnjax.layers.recurrent import BY_CELL
from rnnjax.metrics import Sums, masked_sum
from rnnjax.models.sequence_regressor import SequenceRegressor
from rnnjax.task import LARGEST_AXIS, Batch, Bounds, Count, Positive, Schedule, Size, Splits, Task, TrainConfig

log = logging.getLogger("rnnjax")

PERIOD = 1_000
"""Steps of one turn of the cosine."""
DAMPING = 1e-4
"""Share of its amplitude that the cosine loses in one step."""
SHOWN = {"lag": 100, "cosine": 5_000}
"""Values of the series in the picture."""


@dataclasses.dataclass(frozen=True)
class Config(TrainConfig):
    """Settings of the two series."""

    epochs: Count | Literal["auto"] = 10
    batch_size: Size = 32
    """Rows into which the series is cut, read side by side."""
    learning_rate: Positive = 2e-3
    schedule: Schedule = "cosine"
    problem: Literal["lag", "cosine"] = "lag"
    """lag: the mean of the last numbers that were drawn; cosine: the mean of the next values of a damped cosine."""
    lag: Count = 2
    """How many values the mean is taken of."""
    window: Size = 1
    """Values that the network reads at a time, and through which gradients flow back."""
    stateful: bool = True
    """Carry the state from window to window; otherwise each window starts from zeros."""
    length: Annotated[int, Bounds(2, LARGEST_AXIS)] = 50_000
    """Values of each series: one to train on, one to validate with, one to test on."""
    cell: Literal["lstm", "gru", "simple"] = "lstm"
    """Cell of the recurrent layers."""
    units: Size = 20
    """Width of each recurrent layer."""
    layers: Annotated[int, Bounds(1, 100)] = 1
    """Recurrent layers, one upon another."""


def load(config: Config) -> Splits:
    """Make the three series; nothing is read.

    Raises:
        InputError: `--dataset` names data, or no row is as long as the lag.
    """
    if config.dataset not in ("auto", "builtin"):
        raise InputError(
            f"--dataset: expected auto or builtin, since the series are generated; got {config.dataset}. Leave it out."
        )
    windows = config.length // config.window
    if windows == 0:
        raise InputError(f"--window: expected at most --length, {config.length} values; got {config.window}.")
    # A third: then something counts, wherever the ring of a training epoch is opened.
    num_rows = min(config.batch_size, windows)
    row = windows // num_rows * config.window
    if config.problem == "lag" and config.lag > row // 3:
        raise InputError(
            f"--lag: expected at most {row // 3}, a third of the values in a row (--length in --batch-size rows); "
            f"got {config.lag}."
        )
    if config.problem == "cosine" and row * num_rows < 3 * PERIOD:
        raise InputError(f"--length: expected at least {4 * PERIOD}, four turns of the cosine; got {config.length}.")
    parts = []
    for number in range(3):
        values, targets = make_series(config, np.random.default_rng([config.seed, number]), is_first=number == 0)
        is_cosine = config.problem == "cosine"
        warmup = PERIOD if is_cosine else config.lag
        parts.append(Series(values, targets, config.window, warmup, is_interleaved=is_cosine))
    train, validation, test = parts
    digest = hashlib.sha256(b"".join(part.values.tobytes() + part.targets.tobytes() for part in parts))
    log.info("%s: %s values, lag %s, window %s", config.problem, config.length, config.lag, config.window)
    return Splits("builtin", digest.hexdigest(), train, validation, test, {"window": config.window}, None)


def make_series(
    config: Config, rng: np.random.Generator, is_first: bool
) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    """Values and targets, float32 `[N]` each.

    The first cosine starts at its crest, as in the example, the others at phases that are drawn. The targets of the
    first `lag - 1` numbers are means of what there is.
    """
    count, lag = config.length, config.lag
    if config.problem == "lag":
        values = rng.uniform(-1, 1, count)
        sums = np.concatenate([np.zeros(lag), np.cumsum(values)])  # [lag + N]
        targets = (sums[lag:] - sums[:count]) / np.minimum(np.arange(count) + 1, lag)
    else:
        phase = 0.0 if is_first else rng.uniform(0, 2 * np.pi)
        times = np.arange(count + lag)
        curve = np.exp(-DAMPING * times) * np.cos(2 * np.pi * times / PERIOD + phase)
        values, sums = curve[:count], np.cumsum(curve)
        targets = (sums[lag:] - sums[:count]) / lag
    return values.astype(np.float32), targets.astype(np.float32)


class Series:
    """A series in windows, each row of which goes on where the same row of the batch before ended.

    The batches of one pass have

        inputs   float32 [B, W, 1]  values
        targets  float32 [B]        target of the last of them
        weight   float32 [B]        1 where it counts, else 0 (the row has passed less than `warmup` values, or padding)

    B is the batch size, or less where there are fewer windows. The rows are B parts of the series or, interleaved, each
    reads every B-th value. Every row of a pass starts from the initial state. What does not fill a window at the end is
    left out.
    """

    def __init__(
        self,
        values: Float[np.ndarray, " N"],
        targets: Float[np.ndarray, " N"],
        window: int,
        warmup: int,
        is_interleaved: bool = False,
    ) -> None:
        """`window`: W; `warmup`: values of the series that a row has to pass before a target counts."""
        self.values, self.targets = values, targets
        self.window, self.warmup, self.is_interleaved = window, warmup, is_interleaved

    def training_epoch(self, seed: int, epoch: int, batch_size: int) -> Batches:
        """Every window once; the series is closed to a ring, and opened at a place drawn from (seed, epoch)."""
        places, counted = self.rows(batch_size)
        count = int(places.max()) + 1
        places = (places + np.random.default_rng([seed, epoch]).integers(count)) % count
        # Where the ring is closed the series begins anew.
        return self._batches(places, counted & (places[:, :, -1] + 1 >= self.warmup))

    def evaluation(self, batch_size: int) -> Batches:
        """Every window once, the rows in the series's own order."""
        return self._batches(*self.rows(batch_size))

    def rows(self, batch_size: int) -> tuple[Int[np.ndarray, "B M W"], Bool[np.ndarray, "B M"]]:
        """Places of the values of each row's windows, and whether the target of the last counts."""
        num_windows = len(self.values) // self.window
        num_rows = min(batch_size, num_windows)
        if self.is_interleaved:
            steps = np.arange(num_windows // num_rows * self.window)
            places = np.arange(num_rows)[:, None] + num_rows * steps
            inside = np.ones_like(places, bool)
            passed = num_rows * (steps + 1)
        else:
            bounds = np.arange(num_rows + 1) * num_windows // num_rows * self.window  # [B + 1]
            steps = np.arange((bounds[1:] - bounds[:-1]).max())
            places = bounds[:-1, None] + steps
            inside = places < bounds[1:, None]
            passed = steps + 1
        counted = inside & (passed >= self.warmup)
        ends = slice(self.window - 1, None, self.window)
        return np.where(inside, places, 0).reshape(num_rows, -1, self.window), counted[:, ends]

    def _batches(self, places: Int[np.ndarray, "B M W"], counted: Bool[np.ndarray, "B M"]) -> Batches:
        def make(i: int) -> Batch:
            return {
                "inputs": self.values[places[:, i]][:, :, None],
                "targets": self.targets[places[:, i, -1]],
                "weight": counted[:, i].astype(np.float32),
            }

        return Batches(places.shape[1], make)


def build(config: Config, info: Mapping[str, Any]) -> nn.Module:
    """Recurrent layers, and one number made of what the last of them gives at the window's end."""
    last = config.layers - 1
    layers = [
        BY_CELL[config.cell](config.units, return_sequences=number < last, matmul_dtype=config.matmul_dtype)
        for number in range(config.layers)
    ]
    return SequenceRegressor(Stack(layers), config.matmul_dtype, config.stateful)


def loss(answers: Float[Array, "B"], batch: Batch) -> Sums:
    """Squared error."""
    error = answers - jnp.asarray(batch["targets"])
    return {"loss": masked_sum(error * error, jnp.asarray(batch["weight"]))}


def follow(source: Series, batch_size: int, model: nn.Module, params: Any) -> dict[str, Float[np.ndarray, " M"]]:
    """Answer a whole series as a test does, with the state carried on.

    Returns:
        In the order of the series and without what does not count: `place` of the value after which each answer was
        given, its `target` and the `answer`.
    """
    places, counted = source.rows(batch_size)
    carry = model.initial_state(len(places))
    step = jax.jit(
        lambda inputs, carry: model.apply({"params": params}, inputs, initial_state=carry, return_state=True)
    )
    answers = []
    for batch in source.evaluation(batch_size):
        carry, one = step(batch["inputs"], carry)
        answers.append(np.asarray(one))
    answer, place = np.stack(answers, axis=1)[counted], places[:, :, -1][counted]
    order = np.argsort(place)
    return {"place": place[order], "target": source.targets[place[order]], "answer": answer[order]}


def pictures(config: Config, splits: Splits, model: nn.Module, params: Any) -> dict[str, Any]:
    """The test series' targets, and what the model answers."""
    from matplotlib.figure import Figure

    assert isinstance(splits.test, Series)
    followed = follow(splits.test, config.batch_size, model, params)
    shown = followed["place"] < followed["place"][0] + SHOWN[config.problem]
    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(followed["place"][shown], followed["target"][shown], color="black", linewidth=1, label="target")
    name = "state carried on" if config.stateful else "every window from zeros"
    axes.plot(
        followed["place"][shown], followed["answer"][shown], ".-", color="C0", linewidth=1, markersize=3, label=name
    )
    axes.set(xlabel="step of the test series", title=f"{config.problem} {config.lag}, window {config.window}")
    axes.grid(alpha=0.3)
    axes.legend()
    return {"series": figure}


KERAS = {
    "batch_size": 25,
    "epochs": 25,
    "optimizer": "rmsprop",
    "learning_rate": 1e-3,
    "schedule": "constant",
    "patience": 0,
}
PRESETS = {
    "cosine": {**KERAS, "problem": "cosine", "lag": 250, "units": 50, "epochs": 10, "schedule": "cosine"},
    "keras-cosine": {**KERAS, "problem": "cosine", "lag": 1, "units": 50, "layers": 2},
    "keras-lag": {**KERAS, "problem": "lag", "lag": 2, "units": 20, "layers": 1},
}
TASK = Task(
    "stateful",
    Config,
    load,
    build,
    loss,
    example=lambda info: {"inputs": np.zeros((1, info["window"], 1), np.float32)},
    presets=PRESETS,
    stateful=True,
    pictures=pictures,
)
