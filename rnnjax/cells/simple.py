"""The simple recurrent network (Elman 1990)."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rnnjax.cells.base import Cell, CellOptions, Constants, drop
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

    def setup(self) -> None:
        """Make the parameters of the recurrence."""
        shape = (self.features, self.features)
        self.recurrent_kernel = self.param("recurrent_kernel", self.recurrent_kernel_init, shape, self.param_dtype)

    def initial_state(self, batch_size: int, dtype: Any = jnp.float32) -> SimpleRNNState:
        """Zeros, as an array `[B, H]`."""
        return SimpleRNNState(jnp.zeros((batch_size, self.features), dtype))

    def step(
        self, state: SimpleRNNState, z: Float[Array, "B H"], constants: Constants
    ) -> tuple[SimpleRNNState, Float[Array, "B H"]]:
        """One step from input pre-activations."""
        product = drop(state.h, constants.recurrent_mask) @ self.recurrent_kernel.astype(z.dtype)
        state = SimpleRNNState(self.activation_fn(z + product))
        return state, state.h

    def fused(self) -> tuple[StepRule, None]:
        """With any activation."""
        return StepRule(self._forward, self._backward, additive=True), None

    def _forward(self, state: SimpleRNNState, z: Array, product: Array) -> tuple[SimpleRNNState, Array]:
        z = z + product
        return SimpleRNNState(self.activation_fn(z)), z

    def _backward(self, z: Array, gradient: SimpleRNNState) -> tuple[Array, Array, SimpleRNNState]:
        (dz,) = jax.vjp(self.activation_fn, z)[1](gradient.h)
        return dz, dz, SimpleRNNState(jnp.zeros_like(dz))
