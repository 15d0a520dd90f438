"""The training loop: it owns the order in which a run's parts happen."""

import dataclasses
import hashlib
import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from rnnjax import atomic
from rnnjax.errors import InputError, RunError
from rnnjax.metrics import HostSums, means, merge
from rnnjax.models.summary import count_parameters, summary
from rnnjax.task import Batch, Splits, Task, TrainConfig, num_epochs, patience
from rnnjax.training import checkpoint, classification
from rnnjax.training.callbacks import EarlyStopping
from rnnjax.training.devices import Devices
from rnnjax.training.diagnosis import Diagnosis
from rnnjax.training.folder import RunFolder
from rnnjax.training.optimizer import Average, make_optimizer, make_plateau
from rnnjax.training.overfitting import overfitting_notice
from rnnjax.training.report import Display, format_metrics, format_seconds, plot_history, save_figures
from rnnjax.training.signals import Stopped, StopRequest
from rnnjax.training.step import (
    Predicted,
    TrainState,
    dropout_key,
    initial_train_state,
    make_evaluation_step,
    make_prediction_step,
    make_train_step,
)
from rnnjax.training.tensorboard import Events

STEPS_IN_FLIGHT = 25
"""Steps that the host may be ahead of the devices; then it waits for the metrics of all but the last `STEPS_AHEAD`."""
STEPS_AHEAD = 5
"""Steps that keep the devices busy while the host looks at metrics."""

SAVE = 1
"""A decision, smaller than the number of any signal that is caught."""

MOST_SECONDS_LOST = 300.0
"""Time after which a checkpoint is written in the middle of an epoch."""
MOST_SAVING = 0.1
"""Share of the time of short epochs that may go into checkpoints."""

log = logging.getLogger("rnnjax")


@dataclasses.dataclass
class Progress:
    """Where a run is, besides its TrainState; all of it goes into each checkpoint."""

    epoch: int = 1
    batch: int = 0
    """Batches of this epoch that are done."""
    seconds: float = 0.0
    sums: HostSums = dataclasses.field(default_factory=dict)
    """Training metrics of this epoch so far."""
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """For each finished epoch its number, and the means of its training and validation metrics."""
    early_stopping: dict[str, Any] = dataclasses.field(default_factory=dict)


class Run:
    """One training run in one folder."""

    def __init__(
        self, task: Task, config: TrainConfig, splits: Splits, folder: RunFolder, devices: Devices | None = None
    ) -> None:
        """Build the model and its first state, on all devices unless some are named."""
        self.task, self.config, self.splits, self.folder = task, config, splits, folder
        self.devices = devices or Devices()
        self.model: nn.Module = task.build(config, splits.info)
        self.steps_per_epoch = len(splits.train.training_epoch(config.seed, 1, config.batch_size))
        self.epochs = num_epochs(config, self.steps_per_epoch)
        self.optimizer = make_optimizer(
            config, self.epochs * self.steps_per_epoch, task.frozen(config), self.steps_per_epoch
        )
        self.plateau, self.average = make_plateau(config), Average(config)
        self.train_step = make_train_step(self.model, task, config, self.optimizer, self.devices)
        self.evaluation_step = make_evaluation_step(self.model, task, self.devices)
        self.prediction_step = make_prediction_step(self.model, task, self.devices)
        self.key = dropout_key(config.seed)
        self.progress = Progress()
        self.saved_step = -1
        self.early_stopping = EarlyStopping(patience(config, self.steps_per_epoch), config.maximises, config.min_change)
        first = splits.train.training_epoch(config.seed, 1, config.batch_size)[0]
        # Without lengths: a model has all its parameters without them, and its summary shows whole sequences.
        keywords = {name: value for name, value in task.keywords(first).items() if name != "lengths"}
        self.state: TrainState = initial_train_state(
            self.model,
            config,
            self.optimizer,
            first,
            task.stateful,
            self.devices,
            splits.initial,
            keywords,
        )
        self.check_monitor(first)
        self.best = _copy(self.state.evaluated())
        self.inputs, self.keywords = jax.tree.map(
            lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), (first["inputs"], keywords)
        )
        self.num_streams = len(first["inputs"])
        self.diagnosis = Diagnosis(self.model, task, first, folder, self.devices) if config.diagnose else None

    def check_monitor(self, batch: Batch) -> None:
        """Raise InputError unless `--monitor` names a metric of the task."""
        name = self.config.monitor
        if name in ("loss", "val_loss"):
            return
        carry = self.model.initial_state(len(batch["inputs"])) if self.task.stateful else None
        _, sums, _ = jax.eval_shape(self.evaluation_step, self.state.evaluated(), batch, carry)
        metrics = dict.fromkeys(sums.names, 0.0)
        metrics |= self.task.derived(metrics)
        names = [*_prefixed("val_", metrics), *metrics]
        if name not in names:
            raise InputError(f"--monitor: expected one of {', '.join(names)}; got {name!r}.")

    def monitored(self, train: Mapping[str, float], validation: Mapping[str, float]) -> float:
        """The metric that decides which epoch is the best."""
        value: float = {**train, **_prefixed("val_", validation)}[self.config.monitor]
        return value

    def restore(self) -> None:
        """Go back to the newest whole checkpoint, or to the beginning where there is none. Nothing is changed yet.

        Raises:
            InputError: there are checkpoints, and none is whole or fits the model.
            RunError: processes read different ones.
        """
        path = checkpoint.newest_whole(self.folder.checkpoints, log.warning)
        if path is None and checkpoint.steps(self.folder.checkpoints):  # which a kill does not do
            raise InputError(
                f"--resume: expected a whole checkpoint in {self.folder.checkpoints}; all of them are broken. "
                "Restore one, or start again with --overwrite."
            )
        if path is not None:
            with self.folder.explain_config():
                state, best, progress = checkpoint.restore(path, self._without_padding(self.state), self.best)
                self.progress = Progress(**progress)
                self.early_stopping = EarlyStopping(**self.progress.early_stopping)
            carry = self.devices.divide_state(state.carry)
            self.state = self.devices.copy(state._replace(carry=None))._replace(carry=carry)
            self.best = self.devices.copy(best)
            self.saved_step = int(self.state.step)
        step = int(self.state.step)
        if not self.devices.have_same(step):
            raise RunError(
                f"{self.folder.path}: processes found different checkpoints. Share the folder between hosts."
            )
        log.info("resuming from %s", f"step {step}, epoch {self.progress.epoch}" if step else "the beginning")

    def train(self, stop: StopRequest) -> dict[str, Any]:
        """Train to the end and write the results.

        Raises:
            RunError: the loss is no longer a number.
            Stopped: a signal asked for it; a checkpoint is saved.
        """
        log.info("%s", summary(self.model, self.inputs, **self.keywords))
        if self.devices.is_writer:  # a killed run may have gone further than what it is resumed from
            checkpoint.drop_after(self.folder.checkpoints, int(self.state.step))
            self.folder.cut_metrics(int(self.state.step))
        self.saved_at = time.monotonic()
        self.save_seconds = 0.0
        self.started = self.saved_at - self.progress.seconds
        self.display = Display(
            self.epochs, self.steps_per_epoch, int(self.state.step), self.task.unit, quiet=not self.devices.is_writer
        )
        self.events = Events(self.folder) if self.config.tensorboard and self.devices.is_writer else None
        try:
            while self.progress.epoch <= self.epochs and not self.early_stopping.stops:
                self.train_epoch(stop)
                self.finish_epoch()
                self.obey(self.decide(stop, self.is_save_due()))
        finally:
            self.display.clear()
            if self.events is not None:
                self.events.close()
            if self.diagnosis is not None:
                self.diagnosis.draw()
        if self.saved_step != int(self.state.step):
            self.save()
        return self.finish()

    def train_epoch(self, stop: StopRequest) -> None:
        """Take the steps of an epoch that are not done yet."""
        progress = self.progress
        batches = self.splits.train.training_epoch(self.config.seed, progress.epoch, self.config.batch_size)
        if progress.batch == 0 and self.task.stateful:
            self.state = self.state._replace(carry=jax.tree.map(jnp.zeros_like, self.state.carry))
        pending: list[Any] = []
        for number in range(progress.batch, len(batches)):
            # The step runs while the host makes the next batch.
            batch = self.devices.divide_batch(batches[number])
            self.devices.settle(self.state)
            self.state, sums = self.train_step(self.state, batch, self.key)
            pending.append(sums)
            progress.batch = number + 1
            is_last = progress.batch == len(batches)
            decision = 0
            if not is_last and (self.devices.num_processes == 1 or progress.batch % STEPS_IN_FLIGHT == 0):
                decision = self.decide(stop, time.monotonic() - self.saved_at > MOST_SECONDS_LOST)
            if is_last or decision:
                done, pending = pending, []
            elif len(pending) == STEPS_IN_FLIGHT:
                done, pending = pending[:-STEPS_AHEAD], pending[-STEPS_AHEAD:]
            else:
                continue
            self.account(done, len(pending))
            self.obey(decision)

    def decide(self, stop: StopRequest, is_save_due: bool) -> int:
        """What all processes do now: 0 go on, `SAVE`, or a signal's number: save, and stop. All have to ask."""
        return self.devices.agree(stop.number or SAVE * is_save_due)

    def obey(self, decision: int) -> None:
        """Do what was decided.

        Raises:
            Stopped: a signal asked for it.
        """
        if decision:
            self.save()
        if decision > SAVE:
            raise Stopped(decision)

    def account(self, done: Sequence[Any], in_flight: int) -> None:
        """Add the metrics of steps to the epoch's sums, and show them; `in_flight` steps were taken since."""
        progress = self.progress
        before = progress.sums.get("loss", (0.0, 0.0))[1]
        step = (progress.epoch - 1) * self.steps_per_epoch + progress.batch - in_flight
        for number, sums in enumerate(jax.device_get(done), start=step - len(done) + 1):
            self.check_finite("the loss", float(sums["loss"][0]), number)
            progress.sums = merge(progress.sums, sums)
        current = means(progress.sums)
        if "loss" not in current:  # padding only, so far
            return
        self.display.update(progress.epoch, step, current, progress.sums["loss"][1] - before)

    def check_finite(self, name: str, value: float, step: int) -> None:
        """Raise RunError where the loss of a step is no number."""
        if not math.isfinite(value):
            raise RunError(diverged(name, value, step, self.progress.epoch, self.config, self.folder.checkpoints))

    def finish_epoch(self) -> None:
        """Evaluate, record, remember the best."""
        progress = self.progress
        train = self.summarise(progress.sums)
        validation = self.evaluate(self.state.evaluated(), self.splits.validation)
        self.check_finite("val_loss", validation["loss"], progress.epoch * self.steps_per_epoch)
        is_best = self.early_stopping.update(progress.epoch, self.monitored(train, validation))
        if is_best or not self.config.restore_best:
            self.best = _copy(self.state.evaluated())
        progress.seconds = time.monotonic() - self.started
        progress.history.append({"epoch": progress.epoch, "train": train, "validation": validation})
        self.record("train", train)
        self.record("validation", validation)
        if self.diagnosis is not None:
            self.diagnosis.record({"step": int(self.state.step), "epoch": progress.epoch}, self.state.params)
        mark = " *" if is_best else ""
        self.display.line(*(
            f"epoch {progress.epoch}/{self.epochs}  {format_metrics(self.measured(train))}"
            f"  {format_metrics(_prefixed('val_', shown))}  {format_seconds(progress.seconds)}{mark}"
            for shown in (validation, self.measured(validation))
        ))  # fmt: skip
        if notice := overfitting_notice(progress.history, self.config):
            self.display.clear()
            log.warning("%s", notice)
        self.show_samples()
        self.adapt()
        progress.epoch, progress.batch, progress.sums = progress.epoch + 1, 0, {}

    def show_samples(self) -> None:
        """What the model answers to the first examples of the validation split."""
        if self.task.samples is None:
            return
        batch = self.splits.validation.evaluation(self.config.batch_size)[0]
        outputs = self.devices.gather(self.prediction_step(self.state.evaluated(), self.devices.divide_batch(batch)))
        count = len(batch["inputs"])
        outputs = jax.tree.map(lambda leaf: leaf[:count], outputs)
        for line in self.task.samples(self.config, self.splits.info, self.splits.vocabulary, outputs, batch):
            self.display.line(line)

    def adapt(self) -> None:
        """Let the learning rate and the average of the weights follow the monitored metric, after an epoch."""
        sign = -1.0 if self.config.maximises else 1.0
        costs = [sign * self.monitored(record["train"], record["validation"]) for record in self.progress.history]
        if self.plateau is not None:
            state = self.devices.gather(self.state.plateau)
            _, after = self.plateau.update({}, state, value=costs[-1])
            self.state = self.state._replace(plateau=self.devices.copy(after))
            if after.scale < state.scale:
                self.display.line(
                    f"{self.config.monitor} got no better for {self.config.plateau_patience} epochs: "
                    f"learning rate x {after.scale:.3g} from here"
                )
        if self.average.is_mean and self.average.begins(costs) and self.devices.gather(self.state.averaged_count) < 0:
            self.state = self.state._replace(averaged_count=self.devices.copy(np.int32(0)))
            self.display.line(f"{self.config.monitor} has stopped falling: the weights are averaged from here")

    def record(self, split: str, metrics: dict[str, float]) -> None:
        """Add a line to metrics.jsonl."""
        if not self.devices.is_writer:
            return
        place = {"step": int(self.state.step), "epoch": self.progress.epoch, "split": split}
        record = {**place, **metrics, "seconds": round(self.progress.seconds, 3)}
        self.folder.append_metrics(record)
        if self.events is not None:
            self.events.add(record)

    def is_save_due(self) -> bool:
        """Whether an epoch's end is worth a checkpoint: yes, unless epochs are so short that saving would take over."""
        return time.monotonic() - self.saved_at > self.save_seconds / MOST_SAVING

    def save(self) -> None:
        """Write a checkpoint of all that the run would need to go on."""
        begun = time.monotonic()
        self.progress.seconds = begun - self.started
        self.progress.early_stopping = dataclasses.asdict(self.early_stopping)
        step = int(self.state.step)
        # Until an epoch is done there is no best one: what was learned so far serves better than the first weights.
        best = self.best if self.early_stopping.best_epoch else self.state.evaluated()
        state, best = self.devices.gather((self.state, best))
        if self.devices.is_writer:
            progress = dataclasses.asdict(self.progress)
            checkpoint.save(self.folder.checkpoints, step, self._without_padding(state), best, progress)
        self.devices.agree(0)  # so that no process ends before it is written
        self.saved_step, self.saved_at = step, time.monotonic()
        self.save_seconds = self.saved_at - begun

    def _without_padding(self, state: TrainState) -> TrainState:
        """Without the rows of the carried state that only even out a number of devices."""
        return state._replace(carry=jax.tree.map(lambda leaf: leaf[: self.num_streams], state.carry))

    def summarise(self, sums: HostSums) -> dict[str, float]:
        """Means of the metrics, and what the task derives from them."""
        found = means(sums)
        return {**found, **self.task.derived(found)}

    def measured(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Metrics without those that say the same in other units."""
        derived = self.task.derived(metrics)
        return {name: value for name, value in metrics.items() if name not in derived}

    def evaluate(self, params: Any, source: Any) -> dict[str, float]:
        """Means of a split's metrics, each example counted once; of a stateful task, with its state carried."""
        return self.evaluate_and_predict(params, source)[0]

    def evaluate_and_predict(self, params: Any, source: Any) -> tuple[dict[str, float], list[Predicted | None]]:
        """As `evaluate`; and what a classifier says of each batch, still on the devices."""
        batches = source.evaluation(self.config.batch_size)
        carry = None
        if self.task.stateful:
            carry = self.devices.divide_state(self.model.initial_state(len(batches[0]["inputs"])))
        pending: list[Any] = []
        predictions: list[Predicted | None] = []
        for batch in map(self.devices.divide_batch, batches):
            self.devices.settle((params, pending[-1:]))
            carry, sums, predicted = self.evaluation_step(params, batch, carry)
            pending.append(sums)
            predictions.append(predicted)
        total: HostSums = {}
        for sums in jax.device_get(pending):
            total = merge(total, sums)
        return self.summarise(total), predictions

    def finish(self) -> dict[str, Any]:
        """Test the best parameters and write results.json, last."""
        history, best_epoch = self.progress.history, self.early_stopping.best_epoch
        kept_epoch = best_epoch if self.config.restore_best else history[-1]["epoch"]
        kept = next(record for record in history if record["epoch"] == kept_epoch)
        examination, classes = None, {}
        if self.splits.test is not None:
            test, predictions = self.evaluate_and_predict(self.best, self.splits.test)
            if self.task.probabilities is not None:
                batches = self.splits.test.evaluation(self.config.batch_size)
                examination = classification.Examination(self.splits, batches, self.devices.gather(predictions))
                test, classes = {**test, **examination.macro_means()}, {"classes": examination.table()}
        elif self.task.results is not None:
            test = self.task.results([record["validation"] for record in history])
            test = {**test, **self.task.derived(test)}
        else:
            test = {}
        results = {
            "task": self.task.name,
            "model": getattr(self.config, "model", getattr(self.config, "cell", None)),
            "dataset": self.splits.dataset,
            "seed": self.config.seed,
            "epochs_run": len(history),
            "best_epoch": best_epoch,
            "parameters": count_parameters(self.best),
            "train_seconds": round(self.progress.seconds, 3),
            **_prefixed("test_", test),
            **_prefixed("val_", kept["validation"]),
            **classes,
            "parameters_sha256": {"best": parameters_sha256(self.best), "last": parameters_sha256(self.state.params)},
        }
        if self.devices.is_writer:
            title = f"{self.task.name} on {self.splits.dataset}"
            with self.folder.writing(self.folder.plot):
                plot_history(self.folder.plot, title, history, best_epoch, list(self.measured(kept["validation"])))
            if examination is not None:
                with self.folder.writing(self.folder.confusion):
                    examination.write(self.folder, f"{title}: test split")
            if self.task.pictures is not None:
                figures = self.task.pictures(self.config, self.splits, self.model, self.devices.gather(self.best))
                with self.folder.writing(self.folder.pictures):
                    save_figures(self.folder.pictures, figures)
            with self.folder.writing(self.folder.results):
                atomic.write_text(self.folder.results, json.dumps(results, indent=2) + "\n")
        return results


def diverged(name: str, value: float, step: int, epoch: int, config: TrainConfig, checkpoints: Path) -> str:
    """What to say of a loss that is no number: where, what is left, and what to try."""
    saved = checkpoint.steps(checkpoints)
    left = f"the last good checkpoint is of step {saved[-1]}" if saved else "there is no checkpoint yet"
    remedies = [f"a lower --learning-rate (it is {config.learning_rate:g})"]
    if not 0 < config.clip_norm <= 1:
        remedies.insert(0, "--clip-norm 1")
    if not config.diagnose:
        remedies.append("--diagnose to see where gradients explode")
    return f"{name} became {value} at step {step}, epoch {epoch}; {left}. Try {', or '.join(remedies)}."


def parameters_sha256(params: Any) -> str:
    """SHA-256 over the bytes of all parameters, ordered by their paths."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(params):  # JAX orders dictionaries by key
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


@jax.jit  # one program for all
def _copy(tree: Any) -> Any:
    """Arrays of their own: the state's are donated to the next step."""
    return jax.tree.map(jnp.copy, tree)


def _prefixed(prefix: str, metrics: Mapping[str, float]) -> dict[str, float]:
    return {prefix + name: value for name, value in metrics.items()}
