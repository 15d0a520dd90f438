"""The simple recurrent network (Elman 1990)."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from rnnjax.cells.base import Cell, CellOptions, Constants, Initializer, drop
from rnnjax.kernels.fused import StepRule


class SimpleRNNState(NamedTuple):
    """State of a simple RNN."""

    h: Float[Array, "B H"]


@dataclasses.dataclass
class SimpleRNNOptions(CellOptions):
    """Options of `SimpleRNNCell` and `SimpleRNN`."""

    activation_fn: Callable[[Array], Array] = jnp.tanh
    """`jnp.tanh` (Elman) or `jax.nn.relu`."""


class SimpleRNNCell(SimpleRNNOptions, Cell):
    """One step of a simple RNN: h' = activation(x W + h U + b).

    Parameters: `kernel [D, H]`, `recurrent_kernel [H, H]`, `bias [H]`.
    """

    num_blocks = 1

    @property
    def recurrent_parameters(self) -> Mapping[str, tuple[Initializer, tuple[int, ...]]]:
        """The recurrent kernel."""
        return {"recurrent_kernel": (self.recurrent_kernel_init, (self.features, self.features))}

    @nn.nowrap
    def initial_state(self, batch_size: int, dtype: Any = None) -> SimpleRNNState:
        """Zeros, as an array `[B, H]`, by default of the cell's own type."""
        return SimpleRNNState(self.zeros(batch_size, dtype))

    def step(
        self, state: SimpleRNNState, z: Float[Array, "B H"], constants: Constants
    ) -> tuple[SimpleRNNState, Float[Array, "B H"]]:
        """One step from input pre-activations."""
        product = drop(state.h, constants.recurrent_mask) @ self.parameter("recurrent_kernel").astype(z.dtype)
        state = SimpleRNNState(self.activation_fn(z + product))
        return state, state.h

    @nn.nowrap
    def fused(self) -> tuple[StepRule, None]:
        """With any activation."""
        return StepRule(self._forward, self._backward, additive=True), None

    @nn.nowrap
    def _forward(self, state: SimpleRNNState, z: Array, product: Array) -> tuple[SimpleRNNState, Array]:
        z = z + product
        return SimpleRNNState(self.activation_fn(z)), z

    @nn.nowrap
    def _backward(self, z: Array, gradient: SimpleRNNState) -> tuple[Array, Array, SimpleRNNState]:
        (dz,) = jax.vjp(self.activation_fn, z)[1](gradient.h)
        return dz, dz, SimpleRNNState(jnp.zeros_like(dz))
