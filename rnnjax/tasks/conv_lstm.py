"""The next frame of films of moving squares, by convolutional LSTMs (Shi et al. 2015).

After Keras's example conv_lstm: in each film 3 to 7 squares, of 4 or 6 pixels a side, move by -1, 0 or 1 pixels along
each axis at each step. As there, half of the time a square has a rim that is 0.1 lighter or darker in what the network
sees; the frame that it is to predict has none. Squares that overlap do not add up.

What differs: the convolution that ends the example's network reads the step after its own, too, that is what it is to
predict; ours reads the steps before. Each layer's outputs are normalised over the channels of a pixel; the example
normalises over the batch, and in the end by running means. The default is smaller in every way: frames of 20 x 20, two
layers of 8 channels.

Run:    python train.py --task conv_lstm
        python train.py --task conv_lstm --preset keras    # hours
        python benchmarks/conv_lstm.py    # beside copying the last frame, and a linear model
Expect: test loss 0.073 over all frames; 0.057 from the second on, where a linear model has 0.119 and copying 0.250
        (benchmarks/scores.json, benchmarks/conv_lstm.json); 2 minutes on one core
"""

import dataclasses
import hashlib
import logging
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array, Float

from rnnjax.data.batching import Examples
from rnnjax.errors import InputError
from rnnjax.metrics import Sums, masked_sum
from rnnjax.models.next_frame import NextFrame
from rnnjax.task import Batch, Bounds, Count, NotNegative, Positive, Schedule, Size, Splits, Task, TrainConfig

log = logging.getLogger("rnnjax")

SQUARES = (3, 7)
"""Fewest and most squares of a film."""
HALF_SIDES = (2, 3)
RIM = 0.1
"""What the rim of a square is lighter or darker by."""
SHOWN = 8
"""Frames in a picture."""


@dataclasses.dataclass(frozen=True)
class Config(TrainConfig):
    """Settings of the films and of the network."""

    epochs: Count | Literal["auto"] = 6
    batch_size: Size = 8
    """Films in one step."""
    learning_rate: Positive = 5e-3
    schedule: Schedule = "cosine"
    clip_norm: NotNegative = 1.0
    precision: Literal["float32"] = "float32"
    """Type of the operands of convolutions."""
    films: Annotated[int, Bounds(1, 10_000_000)] = 200
    """Films to train on; a fifth as many, but at least one, to validate with, and as many to test on."""
    frames: Annotated[int, Bounds(2, 10_000)] = 10
    """Frames of a film that the network sees; it predicts those one later."""
    size: Annotated[int, Bounds(4, 1_000)] = 20
    """Rows, and columns, of a frame."""
    units: Size = 8
    """Channels of each layer."""
    layers: Annotated[int, Bounds(1, 100)] = 2
    """Layers, one upon another."""


def load(config: Config) -> Splits:
    """Draw the films; nothing is read.

    Raises:
        InputError: `--dataset` names data.
    """
    if config.dataset not in ("auto", "builtin"):
        raise InputError(
            f"--dataset: expected auto or builtin, since the films are generated; got {config.dataset}. Leave it out."
        )
    counts = [config.films, max(1, config.films // 5), max(1, config.films // 5)]
    parts = [
        Examples(draw_films(np.random.default_rng([config.seed, number]), count, config.frames, config.size))
        for number, count in enumerate(counts)
    ]
    digest = hashlib.sha256(b"".join(part.arrays["inputs"].tobytes() for part in parts)).hexdigest()
    log.info("%s films of %s frames to train on, %s x %s pixels", config.films, config.frames, config.size, config.size)
    train, validation, test = parts
    return Splits("builtin", digest, train, validation, test, {"frames": config.frames, "size": config.size}, None)


def draw_films(rng: np.random.Generator, count: int, num_frames: int, size: int) -> dict[str, np.ndarray]:
    """Films, float32 `[N, T, S, S, 1]`: `inputs` with rims, and `targets` one frame later without them.

    A square starts anywhere in the frame, as far as its middle goes, and may leave it.
    """
    shape = (count, num_frames, size, size, 1)
    inputs, targets = np.zeros(shape, np.float32), np.zeros(shape, np.float32)

    def add(film: np.ndarray, middle: np.ndarray, half: int, value: float) -> None:
        rows, columns = (slice(max(place - half, 0), max(place + half, 0)) for place in middle)
        film[rows, columns] += value

    for film, later in zip(inputs, targets, strict=True):
        for _ in range(rng.integers(SQUARES[0], SQUARES[1], endpoint=True)):
            middle, step = rng.integers(size, size=2), rng.integers(-1, 1, size=2, endpoint=True)
            half = int(rng.integers(HALF_SIDES[0], HALF_SIDES[1], endpoint=True))
            for t in range(num_frames):
                add(film[t], middle + t * step, half, 1.0)
                if rng.integers(2):
                    add(film[t], middle + t * step, half + 1, RIM * rng.choice([-1, 1]))
                add(later[t], middle + (t + 1) * step, half, 1.0)
    return {"inputs": np.minimum(inputs, 1), "targets": np.minimum(targets, 1)}


def build(config: Config, info: Mapping[str, Any]) -> nn.Module:
    """The network of these settings."""
    return NextFrame((config.units,) * config.layers)


def loss(logits: Float[Array, "B T X Y 1"], batch: Batch) -> Sums:
    """Cross-entropy of a pixel in nats, and its squared error."""
    targets, weight = jnp.asarray(batch["targets"]), jnp.asarray(batch["weight"])
    axes = tuple(range(1, logits.ndim))
    losses = optax.sigmoid_binary_cross_entropy(logits, targets).mean(axis=axes)  # [B]
    squares = jnp.square(jax.nn.sigmoid(logits) - targets).mean(axis=axes)
    return {"loss": masked_sum(losses, weight), "squared_error": masked_sum(squares, weight)}


def probabilities(model: nn.Module, params: Any) -> Callable[[np.ndarray], np.ndarray]:
    """A function from films `[B, T, X, Y, 1]` to the predicted frames after each."""

    @jax.jit
    def apply(frames: Float[Array, "B T X Y 1"]) -> Float[Array, "B T X Y 1"]:
        logits: Any = model.apply({"params": params}, frames)
        return jax.nn.sigmoid(logits)

    return lambda frames: np.asarray(apply(frames))


def continued(model: nn.Module, params: Any, seen: Float[np.ndarray, "T X Y 1"], num_frames: int) -> np.ndarray:
    """Go on with a film: `[F, X, Y, 1]`, each frame predicted from those that were seen and those predicted before."""
    film = np.concatenate([seen, np.zeros((num_frames, *seen.shape[1:]), np.float32)])
    apply = probabilities(model, params)
    for t in range(len(seen), len(film)):
        # Frames after the last that is known reach nothing that is read here, so one program serves for all steps.
        film[t] = apply(film[None])[0, t - 1]
    return film[len(seen) :]


def pictures(config: Config, splits: Splits, model: nn.Module, params: Any) -> dict[str, Any]:
    """The first test film: its last frames, as they are, as each is predicted, and as the film goes on by itself."""
    from matplotlib.figure import Figure

    assert isinstance(splits.test, Examples)
    inputs, targets = (splits.test.arrays[name][0] for name in ("inputs", "targets"))  # [T, S, S, 1]
    apply = probabilities(model, params)
    shown = min(SHOWN, config.frames // 2)
    start = config.frames - shown
    rows = {
        "true": targets[start:],
        "predicted": apply(inputs[None])[0, start:],
        "by itself": continued(model, params, inputs[: start + 1], shown),
    }
    figure = Figure(figsize=(1.3 * shown + 1, 4.3), layout="constrained")
    panels = figure.subplots(len(rows), shown, squeeze=False)
    for line, (name, frames) in zip(panels, rows.items(), strict=True):
        for number, (axes, frame) in enumerate(zip(line, frames, strict=True)):
            axes.imshow(frame[..., 0], cmap="gray", vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
            if line is panels[0]:
                axes.set_title(f"frame {start + number + 2}", fontsize="small")
        line[0].set_ylabel(name)
    return {"frames": figure}


KERAS = {
    "films": 1_000,
    "frames": 15,
    "size": 40,
    "units": 40,
    "layers": 4,
    "epochs": 300,
    "batch_size": 10,
    "optimizer": "adadelta",
    "learning_rate": 1.0,
    "schedule": "constant",
    "clip_norm": 0.0,
}
TASK = Task(
    "conv_lstm",
    Config,
    load,
    build,
    loss,
    example=lambda info: {"inputs": np.zeros((1, info["frames"], info["size"], info["size"], 1), np.float32)},
    presets={"keras": KERAS},
    unit="films",
    pictures=pictures,
)
