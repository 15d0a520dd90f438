"""Handwritten digits (LeCun et al. 1998), or any small grey images: dense, convolutional, and read pixel by pixel.

The recurrent models see an image as a sequence. `irnn` (Le, Jaitly and Hinton 2015), `lstm` and `gru` read one pixel
after another, `hierarchical` (Li, Luong and Jurafsky 2015) each row and then the rows. All 784 pixels take an hour and
more on two cores: by default the former three read the means of 2 x 2 pixels, 196 of them, and with --pixels-per-step
several at once. The presets irnn-keras, lstm-pixels, gru-pixels and lstm-permuted read all of them one by one.

Run:    python train.py --task mnist
        python train.py --task mnist --model cnn --epochs 12 --shift 1
        python train.py --task mnist --model hierarchical --epochs 8 --learning-rate 3e-3 --pixels-per-step 4
        python train.py --task mnist --model irnn --pixels-per-step 7 --epochs 3
        python train.py --task mnist --model irnn --learning-rate 3e-4 --epochs 50
        python train.py --task mnist --model lstm --pixels-per-step 7 --learning-rate 1e-2 --epochs 6
        python train.py --task mnist --model lstm --learning-rate 1e-2 --epochs 12
        python train.py --task mnist --dataset folder_of_folders
        ls digits/*.png | python predict.py
Expect: test accuracy 0.982 with the default model, half a minute on two cores (benchmarks/scores.json)
"""

import dataclasses
import functools
import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import jax
import numpy as np
from flax import linen as nn
from jaxtyping import Array

from rnnjax import losses
from rnnjax.cells.lstm import remembering_bias
from rnnjax.data import cache, images, tfds
from rnnjax.data.batching import Examples, holdout, split_indices
from rnnjax.data.images import SIDE
from rnnjax.errors import InputError
from rnnjax.layers.recurrent import GRU, IRNN, LSTM
from rnnjax.models.classifier import best_classes
from rnnjax.models.images import (
    ConvolutionalClassifier,
    DenseClassifier,
    HierarchicalClassifier,
    PixelClassifier,
    Pixels,
    pixel_order,
)
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

BUILTIN_EXAMPLES = 6_000
ENCODING = 1
"""Raise when the same data and settings are to be read in another way, so that cached arrays are not used."""
PERMUTATION_SEED = 0
"""Of the order that `--permuted` means, the same in every run."""
CHANNELS = (32, 64)
"""Of the convolutions."""
UNITS = {"mlp": 256, "cnn": 128, "irnn": 100, "hierarchical": 128, "lstm": 128, "gru": 128}
DROPOUT = {"mlp": (0.4, 0.3), "cnn": (0.25, 0.5)}
PIXEL_MODELS = ("irnn", "lstm", "gru")
SHOWN = 30
"""Most mistakes in the picture."""


@dataclasses.dataclass(frozen=True)
class Config(TrainConfig):
    """Settings of the examples' models, with a schedule of our own."""

    epochs: Count | Literal["auto"] = 20
    learning_rate: Positive = 1e-3
    schedule: Schedule = "cosine"
    clip_norm: NotNegative = 1.0
    patience: OptionalCount | Literal["auto"] = 0
    model: Literal["mlp", "cnn", "irnn", "hierarchical", "lstm", "gru"] = "mlp"
    """Two dense layers; two convolutions; an IRNN, LSTM or GRU over the pixels; or an LSTM over the pixels of each row,
    and one over the rows."""
    units: Size | Literal["auto"] = "auto"
    """Width of the layers; the second dense layer has half of it. auto: 256 for mlp, 100 for irnn, otherwise 128."""
    dropout: Rate | Literal["auto"] = "auto"
    """Share of values dropped: of mlp after both layers, of cnn before and after the dense layer, otherwise of a
    recurrent layer's inputs. auto: 0.4 and 0.3, 0.25 and 0.5, 0."""
    shift: Annotated[int, Bounds(0, SIDE // 2)] = 0
    """Move each training image up to so many pixels up or down and left or right, anew in each epoch."""
    pool: Annotated[int, Bounds(1, 4)] | Literal["auto"] = "auto"
    """Read the means of squares of pixels with this side, 1, 2 or 4; auto: 2 for irnn, lstm and gru, otherwise 1."""
    pixels_per_step: Annotated[int, Bounds(1, SIDE)] = 1
    """Pixels that a recurrent model reads at once."""
    kernel_scale: Positive = 0.1
    """Standard deviation of irnn's input kernel at the start. With the 0.001 of Le et al. nothing is seen at first."""
    permuted: bool = False
    """Put the pixels into another order, the same for all images and in every run (the permutation that NumPy's
    RandomState draws first from the seed 0), so that neighbours are far apart."""
    validation_share: Annotated[float, Bounds(0, 0.9, least_open=True)] = 0.1
    """Share of the training images that is held out for validation."""

    def __post_init__(self) -> None:
        """Hold every value against its type, and the pixels of a step against those of a sequence."""
        super().__post_init__()
        if SIDE % self.pooled:
            raise InputError(f"--pool: expected auto, 1, 2 or 4; got {self.pool}.")
        if self.pixels_per_step > 1 and self.model not in (*PIXEL_MODELS, "hierarchical"):
            raise InputError(
                f"--pixels-per-step: expected a recurrent --model beside it; got {self.model}. Leave one out."
            )
        length = self.side if self.model == "hierarchical" else self.side**2
        if length % self.pixels_per_step:
            raise InputError(
                f"--pixels-per-step: expected a divisor of the {length} pixels that --model {self.model} reads one "
                f"after another with --pool {self.pooled}; got {self.pixels_per_step}."
            )

    @property
    def pooled(self) -> int:
        """Side of the squares of pixels that become one."""
        return (2 if self.model in PIXEL_MODELS else 1) if self.pool == "auto" else self.pool

    @property
    def side(self) -> int:
        """Pixels of a side, as models read an image."""
        return SIDE // self.pooled


@dataclasses.dataclass(frozen=True)
class Gallery:
    """Where the images come from: a name, a fingerprint, and how to read them, which a cached start does not do."""

    name: str
    fingerprint: str
    read: Callable[[], dict[str, np.ndarray]]
    """Images and labels of each split, and the classes' names as JSON: `train_images`, `train_labels`, ..."""


def load(config: Config) -> Splits:
    """Read the images, or take them from the cache, and hold some out for validation.

    Raises:
        InputError: the data are missing or cannot be used.
    """
    gallery = find_gallery(config)
    key = {"task": "mnist", "encoding": ENCODING, "fingerprint": gallery.fingerprint}
    arrays = cache.cached_arrays(key, gallery.read)
    classes = json.loads(arrays["classes"].tobytes())
    if int(arrays.get("resized", 0)):
        log.info("%s: %s images resized to %s x %s pixels", gallery.name, int(arrays["resized"]), SIDE, SIDE)

    def part(split: str, rows: Any = slice(None)) -> Examples:
        return Examples({"inputs": arrays[f"{split}_images"][rows], "labels": arrays[f"{split}_labels"][rows]})

    rows = {"train": np.arange(len(arrays["train_labels"]))}
    if "test_labels" not in arrays and "validation_labels" not in arrays:
        rows = split_indices(len(rows["train"]), config.seed)
    elif "validation_labels" not in arrays:
        kept, held_out = holdout(len(rows["train"]), config.validation_share, config.seed)
        rows = {"train": kept, "validation": held_out}
    parts = {split: part("train", chosen) for split, chosen in rows.items()}
    parts |= {split: part(split) for split in ("validation", "test") if f"{split}_labels" in arrays}
    log.info(
        "%s: %s training, %s validation, %s test images of %s classes",
        gallery.name, len(parts["train"]), len(parts["validation"]), len(parts.get("test", ())), len(classes),
    )  # fmt: skip
    info = {"classes": classes}
    test = parts.get("test")
    return Splits(gallery.name, gallery.fingerprint, parts["train"], parts["validation"], test, info, None)


def find_gallery(config: Config) -> Gallery:
    """The images that `--dataset` means."""
    if config.dataset == "builtin":
        return builtin_gallery()
    if config.dataset in ("auto", "tfds"):
        try:
            folder = tfds.prepare_mnist(config.data_dir)
        except tfds.NetworkUnavailable as error:
            if config.dataset == "tfds":
                raise InputError(
                    f"--dataset tfds: expected mnist prepared by TFDS, or a network to fetch it; {error}. "
                    "Name the folder with --data-dir, or use --dataset builtin."
                ) from error
            log.warning("NO MNIST AND NO NETWORK (%s): training on the BUILT-IN SAMPLE of drawn digits", error)
            return builtin_gallery()
        return Gallery("mnist", tfds.fingerprint(folder), lambda: read_mnist(folder))
    return Gallery(config.dataset, images.fingerprint_images(config.dataset), lambda: read_own(config.dataset))


def read_mnist(folder: Any) -> dict[str, np.ndarray]:
    """The 60,000 training and the 10,000 test images."""
    arrays = {"classes": as_bytes([str(digit) for digit in range(10)])}
    for split, (pictures, labels) in tfds.read_mnist(folder).items():
        arrays |= {f"{split}_images": pictures, f"{split}_labels": labels}
    return arrays


def builtin_gallery() -> Gallery:
    """Drawn digits, a sixth of them for the test, the same for every seed."""
    pictures, labels = images.digits(BUILTIN_EXAMPLES, seed=0)
    fingerprint = hashlib.sha256(pictures.tobytes() + labels.tobytes()).hexdigest()
    num_test = BUILTIN_EXAMPLES // 6
    arrays = {
        "classes": as_bytes([str(digit) for digit in range(10)]),
        "train_images": pictures[num_test:],
        "train_labels": labels[num_test:],
        "test_images": pictures[:num_test],
        "test_labels": labels[:num_test],
    }
    return Gallery("builtin", fingerprint, lambda: arrays)


def read_own(path: str) -> dict[str, np.ndarray]:
    """A user's own labelled images, in their splits where they have some."""
    data = images.read_labelled_images(path)
    classes = sorted(set(data.labels))
    number_of = {name: number for number, name in enumerate(classes)}
    labels = np.array([number_of[label] for label in data.labels], np.int32)
    splits = np.array(data.splits or ["train"] * len(labels))
    arrays = {"classes": as_bytes(classes), "resized": np.asarray(data.resized)}
    for split in dict.fromkeys(splits.tolist()):
        rows = splits == split
        arrays |= {f"{split}_images": data.images[rows], f"{split}_labels": labels[rows]}
    return arrays


def as_bytes(names: list[str]) -> np.ndarray:
    """Names as an array for the cache."""
    return np.frombuffer(json.dumps(names).encode(), np.uint8)


def build(config: Config, info: Mapping[str, Any]) -> nn.Module:
    """The model that `--model` names."""
    count, dtype = len(info["classes"]), config.matmul_dtype
    order = pixel_order(config.side**2, PERMUTATION_SEED) if config.permuted else None
    pixels = Pixels(config.pooled, order, config.shift)
    units = UNITS[config.model] if config.units == "auto" else config.units
    if config.model in DROPOUT:
        first, second = DROPOUT[config.model] if config.dropout == "auto" else (config.dropout, config.dropout)
        if config.model == "cnn":
            return ConvolutionalClassifier(count, CHANNELS, units, (first, second), pixels, dtype)
        return DenseClassifier(count, (units, max(units // 2, 1)), (first, second), pixels, dtype)
    options: dict[str, Any] = {
        "return_sequences": False,
        "dropout_rate": 0.0 if config.dropout == "auto" else config.dropout,
        "matmul_dtype": dtype,
    }
    step = config.pixels_per_step
    if config.model == "hierarchical":
        rows, encoder = LSTM(units, **options), LSTM(units, **options)
        return HierarchicalClassifier(count, rows, encoder, pixels, step, dtype)
    length = config.side**2 // step
    # Gates start so that they remember for about as long as the sequence is (Tallec and Ollivier 2018).
    layers: dict[str, Callable[..., nn.Module]] = {
        "lstm": functools.partial(LSTM, forget_bias=0.0, bias_init=functools.partial(remembering_bias, length)),
        "gru": functools.partial(GRU, update_bias=float(np.log(length))),
        "irnn": functools.partial(IRNN, kernel_init=nn.initializers.normal(config.kernel_scale)),
    }
    return PixelClassifier(count, layers[config.model](units, **options), pixels, step, dtype)


def one_image(info: Mapping[str, Any]) -> Batch:
    """A black image, from which a model without data learns the shapes of its parameters."""
    return {"inputs": np.zeros((1, SIDE, SIDE), np.uint8)}


def read_files(config: Config, info: Mapping[str, Any], vocabulary: None, lines: Sequence[str]) -> Batch:
    """Images of the files that `predict.py` is given the names of.

    Raises:
        InputError: a line names no image file.
    """
    read = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            raise InputError(f"line {number}: expected the name of an image file; got an empty line. Leave it out.")
        try:
            picture = images.read_image(line.strip())
        except InputError as error:
            raise InputError(f"line {number}: {error}") from None
        if picture.was != (SIDE, SIDE):
            log.warning("%s: resized from %s x %s to %s x %s pixels", line.strip(), *picture.was, SIDE, SIDE)
        read.append(picture.pixels)
    return {"inputs": np.stack(read) if read else np.zeros((0, SIDE, SIDE), np.uint8)}


def pictures(config: Config, splits: Splits, model: nn.Module, params: Any) -> dict[str, Any]:
    """The mistakes on the test images (or those for validation) that the model was most sure of."""
    from matplotlib.figure import Figure

    source: Any = splits.test if splits.test is not None else splits.validation

    @jax.jit
    def run(params: Any, inputs: Array) -> Array:
        logits: Any = model.apply({"params": params}, inputs)
        return jax.nn.softmax(logits)

    wrong = []
    for batch in source.evaluation(config.batch_size):
        rows = np.asarray(run(params, batch["inputs"]))  # [B, C]
        guesses = rows.argmax(axis=1)
        for i in np.flatnonzero((batch["weight"] > 0) & (guesses != batch["labels"])):
            wrong.append((float(rows[i].max()), batch["inputs"][i], int(batch["labels"][i]), int(guesses[i])))
    wrong.sort(key=lambda mistake: -mistake[0])
    columns = 6
    num_rows = max(1, -(-min(len(wrong), SHOWN) // columns))
    figure = Figure(figsize=(1.5 * columns, 1.75 * num_rows + 0.5), layout="constrained")
    grid = figure.subplots(num_rows, columns, squeeze=False)
    for axes in grid.ravel():
        axes.set_axis_off()
    for axes, (probability, image, label, guess) in zip(grid.ravel(), wrong[:SHOWN], strict=False):
        axes.imshow(image, cmap="gray", vmin=0, vmax=255)
        title = f"{info_name(splits, guess)} ({probability:.2f})\nis {info_name(splits, label)}"
        axes.set_title(title, fontsize=8, parse_math=False)
    figure.suptitle(f"{len(wrong)} of {len(source)} images taken for another; the surest first", fontsize=10)
    return {"mistakes": figure}


def info_name(splits: Splits, number: int) -> str:
    """A class's name, short enough to stand above an image."""
    name = " ".join(str(splits.info["classes"][number]).encode("utf-8", "replace").decode().split())
    return name if len(name) <= 16 else name[:15] + "…"


ORIGINAL: dict[str, Any] = {"schedule": "constant", "clip_norm": 0.0, "pool": 1}
"""What the examples of Keras have in common."""
PRESETS: dict[str, dict[str, Any]] = {
    "mlp-article": {**ORIGINAL, "optimizer": "rmsprop", "epochs": 30, "validation_share": 0.2},
    "cnn-keras": {**ORIGINAL, "model": "cnn", "optimizer": "adadelta", "learning_rate": 1.0, "epochs": 12},
    "irnn-keras": {
        **ORIGINAL,
        "model": "irnn",
        "kernel_scale": 0.001,
        "optimizer": "rmsprop",
        "learning_rate": 1e-6,
        "clip_norm": 1.0,
        "batch_size": 32,
        "epochs": 200,
    },
    "hierarchical-keras": {
        **ORIGINAL,
        "model": "hierarchical",
        "optimizer": "rmsprop",
        "batch_size": 32,
        "epochs": 5,
    },
    "lstm-pixels": {"model": "lstm", "learning_rate": 5e-3, "pool": 1},
    "gru-pixels": {"model": "gru", "learning_rate": 5e-3, "pool": 1},
    "lstm-permuted": {"model": "lstm", "learning_rate": 5e-3, "pool": 1, "permuted": True},
}
"""The article's and Keras's own settings, and all 784 pixels one by one."""

TASK = Task(
    "mnist",
    Config,
    load,
    build,
    losses.cross_entropy,
    arguments=(),
    example=one_image,
    presets=PRESETS,
    unit="images",
    probabilities=jax.nn.softmax,
    prediction=Prediction(read_files, best_classes),
    pictures=pictures,
)
