"""Optimizers, schedules and averages of weights: from settings to optax."""

from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
import optax

from rnnjax.errors import InputError
from rnnjax.task import TrainConfig
from rnnjax.training.named import train_all_but

EPSILON = 1e-7
"""Of Keras's optimizers, as are the other constants here."""
DIRECTIONS: dict[str, Callable[[TrainConfig], optax.GradientTransformation]] = {
    "adam": lambda config: optax.scale_by_adam(eps=EPSILON),
    "adamw": lambda config: optax.scale_by_adam(eps=EPSILON),
    "rmsprop": lambda config: optax.scale_by_rms(decay=0.9, eps=EPSILON),
    "sgd": lambda config: optax.trace(config.momentum) if config.momentum else optax.identity(),
    "adadelta": lambda config: optax.scale_by_adadelta(rho=0.95, eps=EPSILON),
    "adagrad": lambda config: optax.scale_by_rss(initial_accumulator_value=0.1, eps=EPSILON),
    "asgd": lambda config: optax.identity(),
}
"""Gradients to the direction of an update, before it is scaled by the learning rate."""
ADAMW_DECAY = 0.004
NON_MONOTONE = 5
"""Epochs that asgd looks back over before it averages; `n` in Merity et al. (2018), Algorithm 1."""


def make_optimizer(
    config: TrainConfig, num_steps: int, frozen: Collection[str] = (), steps_per_epoch: int = 1
) -> optax.GradientTransformation:
    """The optimizer that the settings name, of all but `frozen` parameters.

    Args:
        config: the settings.
        num_steps: the most steps (batches) of the run.
        frozen: paths of parameters that it neither changes nor remembers anything of.
        steps_per_epoch: steps of one epoch, which the schedules exponential and step count in.

    Raises:
        InputError: the warm-up is longer than the run.
    """
    decay = config.weight_decay
    if decay == "auto":
        decay = ADAMW_DECAY if config.optimizer == "adamw" else 0.0
    update = optax.chain(
        DIRECTIONS[config.optimizer](config),
        *([optax.add_decayed_weights(decay, mask=_is_matrix)] if decay else []),
        optax.scale_by_learning_rate(learning_rate(config, num_steps, steps_per_epoch)),
    )
    before = [
        *([optax.add_decayed_weights(2 * config.l2, mask=_is_matrix)] if config.l2 else []),
        *([optax.clip(config.clip_value)] if config.clip_value else []),
        *([optax.clip_by_global_norm(config.clip_norm)] if config.clip_norm else []),
    ]
    if before:
        update = optax.chain(*before, update)
    if config.accumulation > 1:
        update = optax.MultiSteps(update, config.accumulation).gradient_transformation()
    return train_all_but(frozen, update)


def learning_rate(config: TrainConfig, num_steps: int, steps_per_epoch: int = 1) -> float | optax.Schedule:
    """The learning rate as a function of the number of updates before; arguments and errors of `make_optimizer`."""
    updates = max(num_steps // config.accumulation, 1)
    if config.warmup_steps >= updates:
        raise InputError(
            f"--warmup-steps: expected fewer than the {updates} updates of the whole run; got {config.warmup_steps}. "
            "Warm up for a shorter time, or train for more epochs."
        )
    rate = config.learning_rate
    schedule: float | optax.Schedule = rate
    if config.schedule == "cosine":
        schedule = optax.cosine_decay_schedule(rate, updates - config.warmup_steps)
    elif config.schedule != "constant":
        period = max(config.decay_epochs * steps_per_epoch // config.accumulation, 1)
        schedule = optax.exponential_decay(rate, period, config.decay_rate, staircase=config.schedule == "step")
    if config.warmup_steps:
        rise = optax.linear_schedule(rate / (config.warmup_steps + 1), rate, config.warmup_steps)
        after = schedule if callable(schedule) else optax.constant_schedule(schedule)
        schedule = optax.join_schedules([rise, after], [config.warmup_steps])
    return schedule


def make_plateau(config: TrainConfig) -> optax.GradientTransformationExtraArgs | None:
    """What scales updates down when the monitored metric gets no better, as `update(updates, state, value=...)` says.

    Called once an epoch, with a value of which smaller ones are better; in between, updates are multiplied by
    `state.scale`. None where it is not asked for.
    """
    if not config.plateau_patience:
        return None
    # optax asks for a threshold above zero; this one is lost in the rounding of any metric.
    return optax.contrib.reduce_on_plateau(
        config.plateau_factor, config.plateau_patience, rtol=0.0, atol=max(config.min_change, 1e-12)
    )


class Average:
    """An average of the weights, which is evaluated and kept in their place.

    With `ema_decay` an exponential moving average. With the optimizer asgd the weights themselves until `begin`, and
    from then on the mean of the weights after each update (Polyak and Juditsky 1992).
    """

    def __init__(self, config: TrainConfig) -> None:
        """From the settings; `is_wanted` says whether they ask for an average at all."""
        self.config = config
        self.is_mean = config.optimizer == "asgd"
        self.is_wanted = self.is_mean or config.ema_decay > 0

    def init(self, params: Any) -> tuple[Any, Any]:
        """Weights and the number of them that they are the mean of, -1 before averaging begins; or None twice."""
        if not self.is_wanted:
            return None, None
        return params, jnp.full((), -1, jnp.int32) if self.is_mean else None

    def update(self, averaged: Any, count: Any, params: Any, step: Any) -> tuple[Any, Any]:
        """The same after the step of number `step` (the first is 0), which made `params`."""
        if averaged is None:
            return None, None
        updates = step // self.config.accumulation
        if self.is_mean:
            share = jnp.where(count < 0, 1.0, 1 / (count + 1))
        else:
            # The first steps count fully: an average that starts at the initial weights would keep them for long.
            share = 1 - jnp.minimum(self.config.ema_decay, (1.0 + updates) / (10.0 + updates))
        if self.config.accumulation > 1:  # between updates the weights stay, and so does their average
            is_update = (step + 1) % self.config.accumulation == 0
            share = jnp.where(is_update, share, 0.0)
        else:
            is_update = True
        if self.is_mean:
            count = jnp.where((count < 0) | jnp.logical_not(is_update), count, count + 1)
        return optax.incremental_update(params, averaged, share), count

    @staticmethod
    def begins(values: list[float]) -> bool:
        """Whether asgd begins to average after epochs with these values, of which smaller ones are better."""
        return len(values) > NON_MONOTONE + 1 and values[-1] > min(values[: -NON_MONOTONE - 1])


def _is_matrix(params: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.ndim(leaf) > 1, params)
