"""Training and evaluation of one batch, as pure functions of the state."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Float, Int

from rnnjax.kernels.sequence import select
from rnnjax.metrics import Sums
from rnnjax.task import Task, TrainConfig
from rnnjax.training.devices import Devices
from rnnjax.training.named import keep, start_from
from rnnjax.training.optimizer import Average, make_plateau


class TrainState(NamedTuple):
    """All that a step changes."""

    step: Int[Array, ""]
    params: Any
    averaged: Any
    """An average of `params` (`optimizer.Average`); None where it is not asked for."""
    optimizer: Any
    carry: Any
    """The model's recurrent state, carried from batch to batch; None for models that have none."""
    averaged_count: Any = None
    """How many weights `averaged` is the mean of (`optimizer.Average`); None where it is no mean."""
    plateau: Any = None
    """State of `optimizer.make_plateau`, whose `scale` multiplies updates; None where it is not asked for."""

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
    return TrainState(copied, copied, copied, copied, devices.divided, copied, copied)


def initial_train_state(
    model: nn.Module,
    config: TrainConfig,
    optimizer: optax.GradientTransformation,
    batch: Any,
    stateful: bool,
    devices: Devices | None = None,
    initial: Mapping[str, Any] | None = None,
    keywords: Mapping[str, Any] | None = None,
) -> TrainState:
    """The state before the first step, drawn from the seed, on `devices`; `batch` gives shapes and types only.

    `initial` gives parameters that start from other values, by their paths; `keywords` what the model takes of the
    batch by keyword to have all its parameters.
    """
    devices = devices or Devices()

    def create(key: Array, initial: Mapping[str, Array]) -> TrainState:
        zeros = jax.tree.map(jnp.zeros_like, dict(keywords or {}))
        params = start_from(model.init(key, jnp.zeros_like(batch["inputs"]), **zeros)["params"], initial)
        averaged, count = Average(config).init(params)
        plateau = make_plateau(config)
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            averaged=averaged,
            optimizer=optimizer.init(params),
            carry=model.initial_state(devices.num_rows(len(batch["inputs"]))) if stateful else None,
            averaged_count=count,
            plateau=plateau.init(params) if plateau else None,
        )

    key = jax.random.fold_in(jax.random.key(config.seed), 0)
    return jax.jit(create, out_shardings=_places(devices))(key, dict(initial or {}))


def dropout_key(seed: int) -> Array:
    """The key of which each step folds in its number."""
    return jax.random.fold_in(jax.random.key(seed), 1)


def forward(task: Task, model: nn.Module, params: Any, batch: Any, carry: Any, **options: Any) -> tuple[Any, Any]:
    """Run the model on a batch, from a carried state where there is one: (state, outputs).

    Rows that the batch marks in `restart` [B] start from the initial state, whatever is carried.
    """
    options |= task.keywords(batch)
    if carry is None:
        return None, model.apply({"params": params}, batch["inputs"], **options)
    if "restart" in batch:
        restart = jnp.asarray(batch["restart"])
        carry = select(restart, model.initial_state(len(restart)), carry)
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
    average = Average(config)

    def objective(params: Any, state: TrainState, batch: Any, key: Array) -> tuple[Array, tuple[Any, Sums]]:
        carry, outputs = forward(
            task,
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
        if state.plateau is not None:
            updates = jax.tree.map(lambda update: state.plateau.scale * update, updates)
        params = keep(frozen, state.params, optax.apply_updates(state.params, updates))
        averaged, count = average.update(state.averaged, state.averaged_count, params, state.step)
        if averaged is not None:
            averaged = keep(frozen, state.averaged, averaged)
        return state._replace(
            step=state.step + 1,
            params=params,
            averaged=averaged,
            optimizer=optimizer_state,
            carry=carry,
            averaged_count=count,
        ), PackedSums.pack(sums)

    return jax.jit(step, donate_argnums=0, out_shardings=(_places(devices), devices.copied))


def make_evaluation_step(
    model: nn.Module, task: Task, devices: Devices | None = None
) -> Callable[[Any, Any, Any], tuple[Any, PackedSums, Predicted | None]]:
    """A function of (params, batch, carry): the next carry, the batch's metrics and, of a classifier, predictions."""
    devices = devices or Devices()

    def step(params: Any, batch: Any, carry: Any) -> tuple[Any, PackedSums, Predicted | None]:
        with jax.sharding.use_abstract_mesh(devices.mesh.abstract_mesh):
            carry, outputs = forward(task, model, params, batch, carry, deterministic=True)
        predicted = None
        if task.probabilities is not None:
            rows = task.probabilities(outputs)  # [B, C]
            predicted = Predicted(rows.argmax(axis=1).astype(jnp.int32), rows.max(axis=1))
        return carry, PackedSums.pack(task.loss(outputs, batch)), predicted

    return jax.jit(step, out_shardings=(devices.divided, devices.copied, devices.divided))


def make_prediction_step(model: nn.Module, task: Task, devices: Devices | None = None) -> Callable[[Any, Any], Any]:
    """A function of (params, batch) that gives the outputs of a model that carries no state."""
    devices = devices or Devices()

    def step(params: Any, batch: Any) -> Any:
        with jax.sharding.use_abstract_mesh(devices.mesh.abstract_mesh):
            return forward(task, model, params, batch, None, deterministic=True)[1]

    return jax.jit(step, out_shardings=devices.divided)
