"""Gated recurrent unit (Cho et al. 2014), in both of its forms."""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from rnnjax.cells.base import Cell, CellOptions, Constants, Fused, drop
from rnnjax.kernels.sequence import sigmoid

GATES = ("update", "reset", "candidate")
"""Order of the blocks in kernels and biases."""


class GRUState(NamedTuple):
    """State of a GRU."""

    h: Float[Array, "B H"]


@dataclasses.dataclass
class GRUOptions(CellOptions):
    """Options of `GRUCell` and `GRU`."""

    reset_after: bool = True
    """Apply the reset gate after the recurrent product (Keras, PyTorch, cuDNN) or, if False, before it (Cho et al.)."""


class GRUCell(GRUOptions, Cell):
    """One step of a GRU. The update gate z keeps the past, as in Keras and PyTorch.

        z = sigmoid(x Wz + h Uz + bz)            update gate
        r = sigmoid(x Wr + h Ur + br)            reset gate
        g = tanh(x Wg + r * (h Ug + ug) + bg)    candidate, reset_after=True
        g = tanh(x Wg + (r * h) Ug + bg)         candidate, reset_after=False
        h' = z * h + (1 - z) * g

    Texts that write h' = (1 - z) * h + z * g mean by z what is 1 - z here: a sign in the weights of that gate. With
    `reset_after=False` these are then the equations of such texts (Cho et al. 2014).

    Parameters, with blocks in the order of `GATES`: `kernel [D, 3H]`, `recurrent_kernel [H, 3H]`, `bias [3H]`, and with
    `reset_after` `recurrent_bias [3H]`, of which only the candidate's block (ug) can do what `bias` cannot; the others
    are there so that weights and their number match Keras and PyTorch.
    """

    num_blocks = 3

    def setup(self) -> None:
        """Make the parameters of the recurrence."""
        shape = (self.features, 3 * self.features)
        self.recurrent_kernel = self.param("recurrent_kernel", self.recurrent_kernel_init, shape, self.param_dtype)
        if self.use_bias and self.reset_after:
            self.recurrent_bias = self.param("recurrent_bias", self.bias_init, shape[1:], self.param_dtype)

    def initial_state(self, batch_size: int, dtype: Any = jnp.float32) -> GRUState:
        """Zeros, as an array `[B, H]`."""
        return GRUState(jnp.zeros((batch_size, self.features), dtype))

    def step(
        self, state: GRUState, z: Float[Array, "B 3H"], constants: Constants
    ) -> tuple[GRUState, Float[Array, "B H"]]:
        """One step from input pre-activations."""
        dropped = drop(state.h, constants.recurrent_mask)
        kernel = self.recurrent_kernel.astype(z.dtype)
        if self.reset_after:
            state = combine(self._recurrent_bias(z.dtype), state, z, dropped @ kernel)
        else:
            width = 2 * self.features
            update, reset = jnp.split(sigmoid(z[:, :width] + dropped @ kernel[:, :width]), 2, axis=1)
            candidate = jnp.tanh(z[:, width:] + (reset * dropped) @ kernel[:, width:])
            state = GRUState(update * state.h + (1 - update) * candidate)
        return state, state.h

    def fused(self) -> Fused | None:
        """With the reset gate after the product."""
        return Fused(combine, additive=False, weights=self._recurrent_bias) if self.reset_after else None

    def _recurrent_bias(self, dtype: Any) -> Float[Array, "1 3H"] | None:
        return self.recurrent_bias.astype(dtype)[None, :] if self.use_bias else None


def combine(
    bias: Float[Array, "1 3H"] | None, state: GRUState, z: Float[Array, "B 3H"], product: Float[Array, "B 3H"]
) -> GRUState:
    """The next state, with the reset gate after the product, from both pre-activations."""
    recurrent = product if bias is None else product + bias
    width = 2 * z.shape[1] // 3
    update, reset = jnp.split(sigmoid(z[:, :width] + recurrent[:, :width]), 2, axis=1)
    candidate = jnp.tanh(z[:, width:] + reset * recurrent[:, width:])
    return GRUState(update * state.h + (1 - update) * candidate)
