"""The contract between a task and the training code: what a task gives, and the settings that all tasks share."""

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, Protocol, get_args, get_origin, get_type_hints

import numpy as np

from rnnjax.errors import InputError

Batch = dict[str, np.ndarray]
"""Arrays with one first axis: "inputs", "weight" (1 real, 0 padding), and what else a task's loss and model need."""


class Bounds(NamedTuple):
    """What values a number may take."""

    least: float = -math.inf
    most: float = math.inf
    least_open: bool = False
    """`least` itself is not allowed."""
    most_open: bool = False
    """`most` itself is not allowed."""

    def hold(self, value: float) -> bool:
        """Whether `value` is within the bounds; NaN and infinities never are."""
        above = value > self.least if self.least_open else value >= self.least
        below = value < self.most if self.most_open else value <= self.most
        return above and below and abs(value) < math.inf

    def __str__(self) -> str:
        """In words, to stand after "a number"."""
        words = []
        if self.least > -math.inf:
            words.append(f"above {self.least:.10g}" if self.least_open else f"at least {self.least:.10g}")
        if self.most < math.inf:
            words.append(f"below {self.most:.10g}" if self.most_open else f"at most {self.most:.10g}")
        return " and ".join(words)


LARGEST_COUNT = 1_000_000_000
LARGEST_AXIS = 10_000_000
"""Larger axes make arrays whose elements cannot be counted in 64 bits; these only do not fit into memory."""
Count = Annotated[int, Bounds(1, LARGEST_COUNT)]
OptionalCount = Annotated[int, Bounds(0, LARGEST_COUNT)]
Size = Annotated[int, Bounds(1, LARGEST_AXIS)]
OptionalSize = Annotated[int, Bounds(0, LARGEST_AXIS)]
Rate = Annotated[float, Bounds(0, 1, most_open=True)]
NotNegative = Annotated[float, Bounds(0)]
Positive = Annotated[float, Bounds(0, least_open=True)]
Fraction = Annotated[float, Bounds(0, 1, least_open=True)]
Schedule = Literal["constant", "cosine", "exponential", "step"]


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Settings that every task has; a task's own Config adds to them and sets its own defaults."""

    dataset: str = "auto"
    """auto (TFDS; where there is neither prepared data nor a network, the built-in sample), tfds, builtin, or the path
    of a file or folder of yours."""
    data_dir: str | None = None
    """Folder of TFDS data sets. By default TFDS_DATA_DIR, or else the folder that TFDS uses."""
    seed: Annotated[int, Bounds(0, 2**32 - 1)] = 0
    """Decides initial weights, the validation split, the order of batches and dropout."""
    epochs: Count | Literal["auto"] = 10
    """Most passes over the training data; auto: 2, or as many as make 600 steps."""
    batch_size: Size = 128
    """Examples (or streams of text) in one step."""
    optimizer: Literal["adam", "adamw", "rmsprop", "sgd", "adadelta", "adagrad", "asgd"] = "adam"
    """Optimizer, with the small print of Keras. asgd is SGD that evaluates and keeps the mean of the weights once the
    monitored metric is worse than its best of more than five epochs before (Merity et al. 2018)."""
    learning_rate: Positive = 1e-3
    """Step size at the start. Customary are 1e-3 for adam, adamw and rmsprop, 1 for adadelta, 0.01 and more for sgd and
    adagrad, and 30 with --clip-norm 0.25 for asgd."""
    momentum: Rate = 0.0
    """Momentum of sgd."""
    schedule: Schedule = "constant"
    """How the learning rate goes on: as it is; down to zero at the last epoch along half a cosine; or multiplied by
    --decay-rate every --decay-epochs, little by little or in steps."""
    decay_rate: Fraction = 0.5
    """Factor of the schedules exponential and step."""
    decay_epochs: Count = 1
    """Epochs in which those schedules come to that factor."""
    warmup_steps: OptionalCount = 0
    """Updates in which the learning rate rises along a line to its start."""
    plateau_patience: OptionalCount = 0
    """Multiply the learning rate by --plateau-factor after this many epochs without a better monitored metric, and
    after as many again; 0 disables."""
    plateau_factor: Annotated[float, Bounds(0, 1, least_open=True, most_open=True)] = 0.1
    """Factor of --plateau-patience."""
    clip_norm: NotNegative = 0.0
    """Scale gradients down to this global norm; 0 disables."""
    clip_value: NotNegative = 0.0
    """Cut each element of the gradients to at most this size, before --clip-norm; 0 disables."""
    weight_decay: NotNegative | Literal["auto"] = "auto"
    """Share of the weight matrices, times the learning rate, that each update takes away, apart from the gradient
    (Loshchilov and Hutter 2019); auto: 0.004 with adamw, otherwise 0."""
    l2: NotNegative = 0.0
    """Minimise the loss plus this times the sum of the squares of all weight matrices. The loss that is shown is
    without it."""
    accumulation: Count = 1
    """Batches whose mean gradient makes one update."""
    ema_decay: Rate = 0.0
    """Evaluate and keep an exponential moving average of the weights with this decay a step; 0 disables."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Type of the operands of matrix products. Sums, states, weights and the optimizer are float32 with either."""
    patience: OptionalCount | Literal["auto"] = 3
    """Stop after this many epochs without a better monitored metric; 0 never stops early; auto: 3, or as many as make
    450 steps where the data are small."""
    monitor: str = "val_loss"
    """The metric that decides which epoch is the best: val_loss, val_accuracy, loss, ..."""
    monitor_mode: Literal["auto", "min", "max"] = "auto"
    """Whether a smaller or a larger one is better; auto: larger where the name ends in accuracy, precision, recall or
    f1."""
    min_change: NotNegative = 0.0
    """Changes of the monitored metric up to this are no improvement."""
    restore_best: bool = True
    """Test and keep the weights of the best epoch, otherwise those of the last."""
    diagnose: bool = False
    """After each epoch write gradients by time step and by parameter, saturated gates and dead units, on one batch of
    training data without dropout, into diagnosis.jsonl and diagnosis.png. Training stays the same to the bit."""

    tensorboard: bool = False
    """Write the lines of metrics.jsonl also as event files of TensorBoard."""

    def __post_init__(self) -> None:
        """Hold every value against its type.

        Raises:
            InputError: a value of the wrong type or out of bounds.
        """
        for name, kind in get_type_hints(type(self), include_extras=True).items():
            check_value(f"--{name.replace('_', '-')}", kind, getattr(self, name))
        if self.momentum and self.optimizer != "sgd":
            raise InputError(f"--momentum: expected --optimizer sgd beside it; got {self.optimizer}. Leave one out.")
        if self.ema_decay and self.optimizer == "asgd":
            raise InputError("--ema-decay: expected it or --optimizer asgd, which averages weights itself; got both.")

    @property
    def maximises(self) -> bool:
        """Whether a larger monitored metric is better."""
        if self.monitor_mode == "auto":
            return self.monitor.endswith(("accuracy", "precision", "recall", "f1"))
        return self.monitor_mode == "max"

    @property
    def matmul_dtype(self) -> str | None:
        """What models and layers take for this `precision`."""
        return None if self.precision == "float32" else self.precision


def check_value(option: str, kind: Any, value: Any) -> None:
    """Raise InputError unless `value` is what the annotation `kind` says."""
    if not _fits(kind, value):
        raise InputError(f"{option}: expected {describe(kind)}; got {value!r}.")


def describe(kind: Any) -> str:
    """What an annotation allows, in words."""
    if get_origin(kind) is Annotated:
        kind, bounds = get_args(kind)
        return f"{describe(kind)} {bounds}"
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(str, get_args(kind)))
    if members := get_args(kind):
        return " or ".join(describe(member) for member in members if member is not type(None))
    return {int: "a whole number", float: "a number", str: "text", bool: "true or false"}[kind]


def _fits(kind: Any, value: Any) -> bool:
    if get_origin(kind) is Annotated:
        kind, bounds = get_args(kind)
        return _fits(kind, value) and bounds.hold(value)
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if members := get_args(kind):
        return any(_fits(member, value) for member in members)
    if kind in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if kind is float else kind)


def num_epochs(config: TrainConfig, steps_per_epoch: int) -> int:
    """What `--epochs` means for data of this size."""
    if config.epochs != "auto":
        return config.epochs
    return max(2, math.ceil(600 / steps_per_epoch))


def patience(config: TrainConfig, steps_per_epoch: int) -> int:
    """What `--patience` means for data of this size, in epochs."""
    return max(3, math.ceil(450 / steps_per_epoch)) if config.patience == "auto" else config.patience


def one_token(info: Mapping[str, Any]) -> Batch:
    """A batch of one example with one token, which gives a model of texts the shapes of its parameters."""
    return {"inputs": np.zeros((1, 1), np.int32)}


class Prediction(NamedTuple):
    """What `predict.py` needs of a task: lines of text become examples, and a model's outputs answers."""

    encode: Callable[[Any, Mapping[str, Any], Any, Sequence[str]], Batch]
    """Settings, `Splits.info`, vocabulary and lines -> arrays of one example a line, as `load` makes them.
    Raises InputError where a line cannot be read."""
    decode: Callable[[Any, Mapping[str, Any], Any, Any, Batch], Sequence[tuple[str, float]]]
    """Settings, `Splits.info`, vocabulary, the model's outputs and the batch, on the host -> for each row the answer
    and its probability."""


class Source(Protocol):
    """Examples of one split, as batches."""

    def training_epoch(self, seed: int, epoch: int, batch_size: int) -> Sequence[Batch]:
        """Batches of one pass, in an order drawn from (seed, epoch) alone."""
        ...

    def evaluation(self, batch_size: int) -> Sequence[Batch]:
        """Batches in which each example counts exactly once."""
        ...


class Vocabulary(Protocol):
    """What turns text into ids; saved with the run."""

    def save(self, path: Any) -> None:
        """Write the vocabulary as one JSON file."""
        ...

    def decode(self, ids: Any) -> str:
        """The text of some ids, as a model sees it."""
        ...


@dataclasses.dataclass(frozen=True)
class Splits:
    """A task's data, ready to train on."""

    dataset: str
    """The real name of the data set, the file, or "builtin"."""
    fingerprint: str
    """Changes when the data change."""
    train: Source
    validation: Source
    test: Source | None
    info: Mapping[str, Any]
    """What `build` needs besides the settings (sizes, class names); goes into config.json."""
    vocabulary: Vocabulary | None
    """None where there is no text."""
    initial: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    """Parameters that start from values of the data's, by their paths: {"embedding/embedding": table}."""


@dataclasses.dataclass(frozen=True)
class Task:
    """An experiment: its settings, data, model and loss."""

    name: str
    config: type[Any]
    """A subclass of TrainConfig; the docstring under each field is its --help."""
    load: Callable[[Any], Splits]
    """Settings -> data."""
    build: Callable[[Any, Mapping[str, Any]], Any]
    """Settings and `Splits.info` -> Flax module, called as `model(batch["inputs"], **task.keywords(batch))`; with
    `stateful` also `initial_state=, return_state=True`."""
    loss: Callable[[Any, Any], Any]
    """Model outputs and a batch -> metrics as sums and counts (`metrics.Sums`); the mean of "loss" is minimised."""
    arguments: Collection[str] = ("lengths",)
    """Entries of a batch that the model takes by keyword, where the batch has them."""
    example: Callable[[Mapping[str, Any]], Batch] = one_token
    """`Splits.info` -> a batch of any values, from which a model without data learns the shapes of its parameters."""
    presets: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    """Named sets of options."""
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Other spellings of options: {"text": "dataset"}."""
    unit: str = "examples"
    """What the losses count."""
    stateful: bool = False
    """The model's state is carried from batch to batch within an epoch."""
    frozen: Callable[[Any], Collection[str]] = lambda config: ()
    """Settings -> paths of parameters that training leaves as they start, to the bit: {"embedding/embedding"}."""
    derived: Callable[[Mapping[str, float]], dict[str, float]] = lambda means: {}
    """Means of the metrics over a split -> more metrics, which say the same in other units: perplexity of a loss."""
    probabilities: Callable[[Any], Any] | None = None
    """Of a classifier with class names in `Splits.info["classes"]` and numbers in `batch["labels"]`: model outputs ->
    probability of each class [B, C]."""
    results: Callable[[Sequence[Mapping[str, float]]], dict[str, float]] | None = None
    """Results drawn from the validation metrics of all epochs, where there is no test split of its own."""
    samples: Callable[[Any, Mapping[str, Any], Any, Any, Batch], Sequence[str]] | None = None
    """Settings, `Splits.info`, vocabulary, the model's outputs and a batch, on the host -> lines that show what the
    model answers, after each epoch."""
    prediction: Prediction | None = None
    """How `predict.py` asks a model; None where there is nothing to ask it in a line of text."""
    pictures: Callable[[Any, Splits, Any, Any], Mapping[str, Any]] | None = None
    """Settings, data, the model and its best parameters -> matplotlib figures by name, which show what the model does;
    they are drawn at the end of a run into its folder `pictures`."""

    def keywords(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """What the model takes of a batch by keyword."""
        return {name: batch[name] for name in self.arguments if name in batch}
