"""Gated recurrent unit (Cho et al. 2014), in both of its forms."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from rnnjax.cells.base import Cell, CellOptions, Constants, Initializer, drop
from rnnjax.kernels.fused import StepRule
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
    update_bias: float = 0.0
    """Added to the update gate's bias at the start; 1 lets the cell remember before it has learnt to, as in an LSTM."""


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

    @property
    def recurrent_parameters(self) -> Mapping[str, tuple[Initializer, tuple[int, ...]]]:
        """The recurrent kernel, and the bias inside the reset gate's reach."""
        columns = 3 * self.features
        parameters: dict[str, Any] = {"recurrent_kernel": (self.recurrent_kernel_init, (self.features, columns))}
        if self.use_bias and self.reset_after:
            parameters["recurrent_bias"] = (self.bias_init, (columns,))
        return parameters

    @nn.nowrap
    def initial_state(self, batch_size: int, dtype: Any = None) -> GRUState:
        """Zeros, as an array `[B, H]`, by default of the cell's own type."""
        return GRUState(self.zeros(batch_size, dtype))

    @nn.nowrap
    def initial_bias(self, key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        """Raise the update gate's bias by `update_bias`."""
        return self.bias_init(key, shape, dtype).at[: self.features].add(self.update_bias)

    def step(
        self, state: GRUState, z: Float[Array, "B 3H"], constants: Constants
    ) -> tuple[GRUState, Float[Array, "B H"]]:
        """One step from input pre-activations."""
        dropped = drop(state.h, constants.recurrent_mask)
        kernel = self.parameter("recurrent_kernel").astype(z.dtype)
        if self.reset_after:
            product = dropped @ kernel
            if self.use_bias:
                product = product + self.parameter("recurrent_bias").astype(z.dtype)[None, :]
            state, _ = forward(state, z, product)
        else:
            width = 2 * self.features
            update, reset = jnp.split(sigmoid(z[:, :width] + dropped @ kernel[:, :width]), 2, axis=1)
            candidate = jnp.tanh(z[:, width:] + (reset * dropped) @ kernel[:, width:])
            state = GRUState(update * state.h + (1 - update) * candidate)
        return state, state.h

    @nn.nowrap
    def fused(self) -> tuple[StepRule, Float[Array, "3H"] | None] | None:
        """With the reset gate after the product."""
        if not self.reset_after:
            return None
        return RULE, self.parameter("recurrent_bias") if self.use_bias else None


class Kept(NamedTuple):
    """What the derivative of a step needs."""

    gates: Float[Array, "B 2H"]
    candidate: Float[Array, "B H"]
    product: Float[Array, "B H"]
    """The candidate's block."""
    h: Float[Array, "B H"]
    """Before the step."""


def forward(state: GRUState, z: Float[Array, "B 3H"], product: Float[Array, "B 3H"]) -> tuple[GRUState, Kept]:
    """The next state, with the reset gate after the product, from both pre-activations."""
    width = 2 * z.shape[1] // 3
    gates = sigmoid(z[:, :width] + product[:, :width])
    update, reset = jnp.split(gates, 2, axis=1)
    candidate = jnp.tanh(z[:, width:] + reset * product[:, width:])
    return GRUState(update * state.h + (1 - update) * candidate), Kept(gates, candidate, product[:, width:], state.h)


def backward(kept: Kept, gradient: GRUState) -> tuple[Float[Array, "B 3H"], Float[Array, "B 3H"], GRUState]:
    """Gradients of z, of the product, and of the state other than through the product."""
    update, reset = jnp.split(kept.gates, 2, axis=1)
    d_candidate = gradient.h * (1 - update) * (1 - kept.candidate * kept.candidate)
    d_gates = jnp.concatenate(
        [
            gradient.h * (kept.h - kept.candidate) * update * (1 - update),
            d_candidate * kept.product * reset * (1 - reset),
        ],
        axis=1,
    )
    dz = jnp.concatenate([d_gates, d_candidate], axis=1)
    d_product = jnp.concatenate([d_gates, d_candidate * reset], axis=1)
    return dz, d_product, GRUState(gradient.h * update)


RULE = StepRule(forward, backward, additive=False)
