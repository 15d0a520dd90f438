"""Cells whose gates see the inputs only, so that all steps can run in parallel: minGRU, minLSTM and the RG-LRU."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from rnnjax.cells.base import Cell, CellOptions, Constants, Initializer, drop
from rnnjax.kernels.sequence import sigmoid


class LinearState(NamedTuple):
    """State of a linear recurrence."""

    h: Float[Array, "B H"]


@dataclasses.dataclass
class LinearOptions(CellOptions):
    """Options of every linear cell."""

    def check(self, name: str) -> None:
        """Raise ValueError where an option has no meaning."""
        super().check(name)
        for option in ("recurrent_dropout_rate", "weight_drop_rate", "layer_norm"):
            if getattr(self, option):
                raise ValueError(f"{name} has no recurrent product, so {option} has no meaning; leave it out.")


class LinearCell(LinearOptions, Cell):
    """One step of a linear recurrence, h' = a * h + b, with a and b made of the inputs by `coefficients`."""

    @nn.nowrap
    def initial_state(self, batch_size: int | tuple[int, ...], dtype: Any = None) -> LinearState:
        """Zeros, as an array `[*B, H]`, by default of the cell's own type."""
        return LinearState(self.zeros(batch_size, dtype))

    def coefficients(self, z: Float[Array, "*T B G"]) -> tuple[Float[Array, "*T B H"], Float[Array, "*T B H"]]:
        """Decay a and increment b from pre-activations, for one step or for all at once."""
        raise NotImplementedError

    def step(
        self, state: LinearState, z: Float[Array, "B G"], constants: Constants
    ) -> tuple[LinearState, Float[Array, "B H"]]:
        """One step from input pre-activations."""
        decay, increment = self.coefficients(z)
        state = LinearState(decay * state.h + increment)
        return state, state.h


@dataclasses.dataclass
class MinGRUOptions(LinearOptions):
    """Options of `MinGRUCell` and `MinGRU`, and of `MinLSTMCell` and `MinLSTM`."""

    activation_fn: Callable[[Array], Array] = jax.nn.identity
    """Of the candidate; `rnnjax.positive` keeps it above zero, as the paper's experiments do."""


class MinGRUCell(MinGRUOptions, LinearCell):
    """One step of a minGRU (Feng et al. 2024, section 3.1); as in our GRU the update gate z keeps the past.

        z = sigmoid(x Wz + bz)                   update gate, 1 - z in the paper
        g = x Wg + bg                            candidate
        h' = z * h + (1 - z) * g

    Parameters, with the update gate's block before the candidate's: `kernel [D, 2H]`, `bias [2H]`.
    """

    num_blocks = 2

    def coefficients(self, z: Float[Array, "*T B 2H"]) -> tuple[Float[Array, "*T B H"], Float[Array, "*T B H"]]:
        """z and (1 - z) * g."""
        update, candidate = jnp.split(z, 2, axis=-1)
        update = sigmoid(update)
        return update, (1 - update) * self.activation_fn(candidate)


class MinLSTMCell(MinGRUOptions, LinearCell):
    """One step of a minLSTM (Feng et al. 2024, section 3.2), whose two gates are made to sum to one.

        i = sigmoid(x Wi + bi)                   input gate
        f = sigmoid(x Wf + bf)                   forget gate
        g = x Wg + bg                            candidate
        h' = f / (f + i) * h + i / (f + i) * g

    Parameters, with blocks in this order: `kernel [D, 3H]`, `bias [3H]`.
    """

    num_blocks = 3

    def coefficients(self, z: Float[Array, "*T B 3H"]) -> tuple[Float[Array, "*T B H"], Float[Array, "*T B H"]]:
        """f / (f + i) and i / (f + i) * g."""
        write, keep, candidate = jnp.split(z, 3, axis=-1)
        # f / (f + i) = sigmoid(log f - log i), which stays exact where both gates close.
        keep = sigmoid(jax.nn.log_sigmoid(keep) - jax.nn.log_sigmoid(write))
        return keep, (1 - keep) * self.activation_fn(candidate)


def positive(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """x + 0.5 above zero and sigmoid(x) below: the activation of Feng et al. (2024, appendix B)."""
    return jnp.where(x >= 0, x + 0.5, sigmoid(x))


def decay_between(low: float, high: float) -> Initializer:
    """Initializer of an RG-LRU's `decay_logit`: sigmoid of it, to the power `SHARPNESS`, uniform in [low, high]."""

    def init(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        log_decay = jnp.log(jax.random.uniform(key, shape, dtype, low, high)) / SHARPNESS
        return log_decay - jnp.log(-jnp.expm1(log_decay))

    return init


SHARPNESS = 8.0
"""c of the paper: how far a recurrence gate can raise the decay's exponent."""
LONG_DECAY = decay_between(0.9, 0.999)


@dataclasses.dataclass
class RGLRUOptions(LinearOptions):
    """Options of `RGLRUCell` and `RGLRU`."""

    decay_init: Initializer = LONG_DECAY
    """Of `decay_logit`."""


class RGLRUCell(RGLRUOptions, LinearCell):
    """One step of a real-gated linear recurrent unit (De et al. 2024, Griffin, equations 1 to 4); inputs are H wide.

        r = sigmoid(x Wr + br)                   recurrence gate
        i = sigmoid(x Wi + bi)                   input gate
        a = sigmoid(L) ** (8 r)                  decay
        h' = a * h + sqrt(1 - a ** 2) * (i * x)

    Gates have full kernels, where RecurrentGemma has block-diagonal ones.

    Parameters, with the recurrence gate's block before the input gate's: `kernel [H, 2H]`, `bias [2H]`,
    `decay_logit [H]` (L), which starts so that a is between 0.9 and 0.999 with the gate open.
    """

    num_blocks = 2

    @property
    def recurrent_parameters(self) -> Mapping[str, tuple[Initializer, tuple[int, ...]]]:
        """The logit of the decay."""
        return {"decay_logit": (self.decay_init, (self.features,))}

    def project(self, x: Float[Array, "*T B H"], constants: Constants) -> Float[Array, "*T B 3H"]:
        """Pre-activations of both gates, and the inputs themselves."""
        if x.shape[-1] != self.features:
            raise ValueError(
                f"RGLRUCell expects inputs as wide as its features, {self.features}; got {x.shape[-1]}. "
                "Put nn.Dense before it."
            )
        z = super().project(x, constants)
        return jnp.concatenate([z, drop(x.astype(z.dtype), constants.input_mask)], axis=-1)

    def coefficients(self, z: Float[Array, "*T B 3H"]) -> tuple[Float[Array, "*T B H"], Float[Array, "*T B H"]]:
        """a and sqrt(1 - a ** 2) * (i * x)."""
        recurrence, write, x = jnp.split(z, 3, axis=-1)
        log_decay = jax.nn.log_sigmoid(self.parameter("decay_logit").astype(z.dtype))
        log_decay = log_decay.reshape((1,) * (z.ndim - 1) + log_decay.shape) * SHARPNESS * sigmoid(recurrence)
        # The root's slope at 0, where the gate is shut, would be infinite.
        rest = jnp.maximum(-jnp.expm1(2 * log_decay), jnp.finfo(z.dtype).tiny)
        return jnp.exp(log_decay), jnp.sqrt(rest) * sigmoid(write) * x
