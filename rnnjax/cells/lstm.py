"""Long short-term memory (Hochreiter and Schmidhuber 1997; with forget gate, Gers et al. 2000)."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from rnnjax.cells.base import Cell, CellOptions, Constants, Initializer, drop
from rnnjax.kernels.fused import StepRule
from rnnjax.kernels.sequence import sigmoid

GATES = ("input", "forget", "output", "candidate")
"""Order of the blocks in kernels and biases. The three sigmoid gates stand together, so that one tanh serves them."""


class LSTMState(NamedTuple):
    """State of an LSTM."""

    h: Float[Array, "B H"]
    """What the layer above sees."""
    c: Float[Array, "B H"]
    """What the cell remembers."""


@dataclasses.dataclass
class LSTMOptions(CellOptions):
    """Options of `LSTMCell` and `LSTM`."""

    forget_bias: float = 1.0
    """Added to the forget gate's bias at the start, so that the cell remembers before it has learnt to."""
    peephole: bool = False
    """Let the gates see the cell state (Gers and Schmidhuber 2000)."""


class LSTMCell(LSTMOptions, Cell):
    """One step of an LSTM.

        i = sigmoid(x Wi + h Ui + bi)            input gate
        f = sigmoid(x Wf + h Uf + bf)            forget gate
        g = tanh(x Wg + h Ug + bg)               candidate
        c' = f * c + i * g
        o = sigmoid(x Wo + h Uo + bo)            output gate
        h' = o * tanh(c')

    With `peephole`, `pi * c`, `pf * c` and `po * c'` are added inside the gates.

    Parameters, with blocks in the order of `GATES`: `kernel [D, 4H]`, `recurrent_kernel [H, 4H]`, `bias [4H]`, and with
    `peephole` `peephole_kernel [3, H]`.
    """

    num_blocks = 4

    @property
    def recurrent_parameters(self) -> Mapping[str, tuple[Initializer, tuple[int, ...]]]:
        """The recurrent kernel, and what the gates see the cell state through."""
        shape = (self.features, 4 * self.features)
        parameters: dict[str, Any] = {"recurrent_kernel": (self.recurrent_kernel_init, shape)}
        if self.peephole:
            parameters["peephole_kernel"] = (self.kernel_init, (3, self.features))
        return parameters

    @nn.nowrap
    def initial_state(self, batch_size: int, dtype: Any = None) -> LSTMState:
        """Zeros, as arrays `[B, H]`, by default of the cell's own type."""
        zeros = self.zeros(batch_size, dtype)
        return LSTMState(zeros, zeros)

    @nn.nowrap
    def initial_bias(self, key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        """Raise the forget gate's bias by `forget_bias` (Jozefowicz et al. 2015)."""
        forget = slice(self.features, 2 * self.features)
        return self.bias_init(key, shape, dtype).at[forget].add(self.forget_bias)

    def step(
        self, state: LSTMState, z: Float[Array, "B 4H"], constants: Constants
    ) -> tuple[LSTMState, Float[Array, "B H"]]:
        """One step from input pre-activations."""
        kernel = self.parameter("recurrent_kernel").astype(z.dtype)
        product = drop(state.h, constants.recurrent_mask) @ kernel  # [B, 4H]
        if self.peephole:
            return self._peephole_step(state.c, z + product)
        state, _ = forward(state, z, product)
        return state, state.h

    @nn.nowrap
    def fused(self) -> tuple[StepRule, None] | None:
        """Without peepholes."""
        return None if self.peephole else (RULE, None)

    def _peephole_step(self, c: Float[Array, "B H"], z: Float[Array, "B 4H"]) -> tuple[LSTMState, Float[Array, "B H"]]:
        i, f, o, g = jnp.split(z, 4, axis=1)
        to_i, to_f, to_o = (p[None, :] for p in self.parameter("peephole_kernel").astype(z.dtype))  # [1, H] each
        new_c = sigmoid(f + to_f * c) * c + sigmoid(i + to_i * c) * jnp.tanh(g)
        h = sigmoid(o + to_o * new_c) * jnp.tanh(new_c)
        return LSTMState(h, new_c), h


class Kept(NamedTuple):
    """What the derivative of a step needs."""

    gates: Float[Array, "B 3H"]
    candidate: Float[Array, "B H"]
    c: Float[Array, "B H"]
    """Before the step."""


def forward(state: LSTMState, z: Float[Array, "B 4H"], product: Float[Array, "B 4H"]) -> tuple[LSTMState, Kept]:
    """The next state, from the pre-activations of inputs and of the previous output."""
    z = z + product
    width = z.shape[1] // 4
    gates, g = sigmoid(z[:, : 3 * width]), jnp.tanh(z[:, 3 * width :])
    i, f, o = jnp.split(gates, 3, axis=1)
    c = f * state.c + i * g
    return LSTMState(o * jnp.tanh(c), c), Kept(gates, g, state.c)


def backward(kept: Kept, gradient: LSTMState) -> tuple[Float[Array, "B 4H"], Float[Array, "B 4H"], LSTMState]:
    """Gradients of z, of the product, and of the state other than through the product."""
    i, f, o = jnp.split(kept.gates, 3, axis=1)
    g, c = kept.candidate, kept.c
    squashed = jnp.tanh(f * c + i * g)
    dc = gradient.c + gradient.h * o * (1 - squashed * squashed)
    dz = jnp.concatenate(
        [
            dc * g * i * (1 - i),
            dc * c * f * (1 - f),
            gradient.h * squashed * o * (1 - o),
            dc * i * (1 - g * g),
        ],
        axis=1,
    )
    return dz, dz, LSTMState(jnp.zeros_like(dc), dc * f)


RULE = StepRule(forward, backward, additive=True)
