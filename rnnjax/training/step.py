"""Training and evaluation of one batch, as pure functions of the state."""

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Float, Int

from rnnjax.metrics import Sums
from rnnjax.task import Task, TrainConfig
from rnnjax.training.devices import Devices
from rnnjax.training.named import keep, start_from, train_all_but


class TrainState(NamedTuple):
    """All that a step changes."""

    step: Int[Array, ""]
    params: Any
    averaged: Any
    """Exponential moving average of `params`; None where it is not asked for."""
    optimizer: Any
    carry: Any
    """The model's recurrent state, carried from batch to batch; None for models that have none."""

    def evaluated(self) -> Any:
        """The parameters that are evaluated and kept as best."""
        return self.params if self.averaged is None else self.averaged


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class PackedSums(Mapping[str, Array]):
    """`Sums` in one array: what a host fetches of each step costs time for each array."""

    names: tuple[str, ...] = dataclasses.field(metadata={"static": True})
    pairs: Float[Array, "M 2"]

    @classmethod
    def pack(cls, sums: Sums) -> "PackedSums":
        """Put all sums and counts together."""
        return cls(tuple(sums), jnp.stack([jnp.stack(pair) for pair in sums.values()]))

    def __getitem__(self, name: str) -> Float[Array, "2"]:
        """Sum and count of a metric."""
        return self.pairs[self.names.index(name)]

    def __iter__(self) -> Iterator[str]:
        """Names of the metrics."""
        return iter(self.names)

    def __len__(self) -> int:
        """How many metrics there are."""
        return len(self.names)


class Predicted(NamedTuple):
    """What a classifier says of each row of a batch."""

    label: Int[Array, " B"]
    """Number of the most probable class."""
    probability: Float[Array, " B"]
    """Its probability."""


def _places(devices: Devices) -> TrainState:
    """Where each part of a TrainState is."""
    copied: Any = devices.copied
    return TrainState(copied, copied, copied, copied, carry=devices.divided)


def make_optimizer(config: TrainConfig, num_steps: int, frozen: Collection[str] = ()) -> optax.GradientTransformation:
    """The optimizer that the settings name, for a run of at most `num_steps` steps, of all but `frozen` parameters."""
    if config.schedule == "cosine":
        learning_rate: Any = optax.cosine_decay_schedule(config.learning_rate, num_steps)
    else:
        learning_rate = config.learning_rate
    if config.optimizer == "rmsprop":
        update = optax.rmsprop(learning_rate, decay=0.9, eps=1e-7)
    else:
        update = optax.adam(learning_rate, eps=1e-7)
    if config.clip_norm:
        update = optax.chain(optax.clip_by_global_norm(config.clip_norm), update)
    return train_all_but(frozen, update)


def initial_train_state(
    model: nn.Module,
    config: TrainConfig,
    optimizer: optax.GradientTransformation,
    batch: Any,
    stateful: bool,
    devices: Devices | None = None,
    initial: Mapping[str, Any] | None = None,
) -> TrainState:
    """The state before the first step, drawn from the seed, on `devices`; `batch` gives shapes and types only.

    `initial` gives parameters that start from other values, by their paths.
    """
    devices = devices or Devices()

    def create(key: Array, initial: Mapping[str, Array]) -> TrainState:
        params = start_from(model.init(key, jnp.zeros_like(batch["inputs"]))["params"], initial)
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            averaged=params if config.ema_decay else None,
            optimizer=optimizer.init(params),
            carry=model.initial_state(devices.num_rows(len(batch["inputs"]))) if stateful else None,
        )

    key = jax.random.fold_in(jax.random.key(config.seed), 0)
    return jax.jit(create, out_shardings=_places(devices))(key, dict(initial or {}))


def dropout_key(seed: int) -> Array:
    """The key of which each step folds in its number."""
    return jax.random.fold_in(jax.random.key(seed), 1)


def forward(model: nn.Module, params: Any, batch: Any, carry: Any, **options: Any) -> tuple[Any, Any]:
    """Run the model on a batch, from a carried state where there is one: (state, outputs)."""
    if "lengths" in batch:
        options["lengths"] = batch["lengths"]
    if carry is None:
        return None, model.apply({"params": params}, batch["inputs"], **options)
    return model.apply({"params": params}, batch["inputs"], initial_state=carry, return_state=True, **options)


def make_train_step(
    model: nn.Module,
    task: Task,
    config: TrainConfig,
    optimizer: optax.GradientTransformation,
    devices: Devices | None = None,
) -> Callable[[TrainState, Any, Array], tuple[TrainState, PackedSums]]:
    """A function of (state, batch, key) that gives the next state and the batch's metrics. The state is donated.

    The batch is divided over `devices` (`Devices.divide_batch`), all of them by default.
    """
    devices = devices or Devices()
    frozen = task.frozen(config)

    def objective(params: Any, state: TrainState, batch: Any, key: Array) -> tuple[Array, tuple[Any, Sums]]:
        carry, outputs = forward(
            model,
            params,
            batch,
            state.carry,
            deterministic=False,
            rngs={"dropout": jax.random.fold_in(key, state.step)},
        )
        sums = task.loss(outputs, batch)
        total, count = sums["loss"]
        return total / jnp.maximum(count, 1), (carry, sums)

    def step(state: TrainState, batch: Any, key: Array) -> tuple[TrainState, PackedSums]:
        with jax.sharding.use_abstract_mesh(devices.mesh.abstract_mesh):
            gradients, (carry, sums) = jax.grad(objective, has_aux=True)(state.params, state, batch, key)
        updates, optimizer_state = optimizer.update(gradients, state.optimizer, state.params)
        params = keep(frozen, state.params, optax.apply_updates(state.params, updates))
        averaged = state.averaged
        if averaged is not None:
            # The first steps count fully: an average that starts at the initial weights would keep them for long.
            decay = jnp.minimum(config.ema_decay, (1.0 + state.step) / (10.0 + state.step))
            averaged = keep(frozen, averaged, optax.incremental_update(params, averaged, 1 - decay))
        return TrainState(state.step + 1, params, averaged, optimizer_state, carry), PackedSums.pack(sums)

    return jax.jit(step, donate_argnums=0, out_shardings=(_places(devices), devices.copied))


def make_evaluation_step(
    model: nn.Module, task: Task, devices: Devices | None = None
) -> Callable[[Any, Any, Any], tuple[Any, PackedSums, Predicted | None]]:
    """A function of (params, batch, carry): the next carry, the batch's metrics and, of a classifier, predictions."""
    devices = devices or Devices()

    def step(params: Any, batch: Any, carry: Any) -> tuple[Any, PackedSums, Predicted | None]:
        with jax.sharding.use_abstract_mesh(devices.mesh.abstract_mesh):
            carry, outputs = forward(model, params, batch, carry, deterministic=True)
        predicted = None
        if task.probabilities is not None:
            rows = task.probabilities(outputs)  # [B, C]
            predicted = Predicted(rows.argmax(axis=1).astype(jnp.int32), rows.max(axis=1))
        return carry, PackedSums.pack(task.loss(outputs, batch)), predicted

    return jax.jit(step, out_shardings=(devices.divided, devices.copied, devices.divided))
