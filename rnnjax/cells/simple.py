"""Simple recurrent networks (Elman 1990), and two made to carry gradients far: IRNN and IndRNN."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from rnnjax.cells.base import Cell, CellOptions, Constants, Initializer, drop
from rnnjax.kernels.fused import Kept, StepRule, Store, Times


class SimpleRNNState(NamedTuple):
    """State of a simple RNN."""

    h: Float[Array, "B H"]


@dataclasses.dataclass
class SimpleRNNOptions(CellOptions):
    """Options of `SimpleRNNCell` and `SimpleRNN`."""

    activation_fn: Callable[[Array], Array] = jnp.tanh
    """`jnp.tanh` (Elman) or `jax.nn.relu`."""


class SimpleRNNCell(SimpleRNNOptions, Cell):
    """One step of a simple RNN: h' = activation(x W + h U + b); with `layer_norm`, activation(LN(x W) + LN(h U) + b).

    Parameters: `kernel [D, H]`, `recurrent_kernel [H, H]`, `bias [H]`; with `layer_norm` `norm_scale [H]` of x W and
    `recurrent_norm_scale [H]` of h U.
    """

    num_blocks = 1

    @property
    def recurrent_parameters(self) -> Mapping[str, tuple[Initializer, tuple[int, ...]]]:
        """The recurrent kernel."""
        kernel = (self.recurrent_kernel_init, (self.features, self.features))
        return {"recurrent_kernel": kernel, **self.parameters_of_norm()}

    @nn.nowrap
    def initial_state(self, batch_size: int | tuple[int, ...], dtype: Any = None) -> SimpleRNNState:
        """Zeros, as an array `[*B, H]`, by default of the cell's own type."""
        return SimpleRNNState(self.zeros(batch_size, dtype))

    def step(
        self, state: SimpleRNNState, z: Float[Array, "B H"], constants: Constants
    ) -> tuple[SimpleRNNState, Float[Array, "B H"]]:
        """One step from input pre-activations."""
        state = SimpleRNNState(self.activation_fn(z + self.recurrent_product(state.h, constants)))
        return state, state.h

    @nn.nowrap
    def fused(self) -> tuple[StepRule, None] | None:
        """With any activation."""
        if self.layer_norm or any(self.zoneout_rates):
            return None
        if self.activation_fn is jax.nn.relu:
            return StepRule(self._forward_relu, self._backward_relu), None
        return StepRule(self._forward, self._backward), None

    @nn.nowrap
    def _forward_relu(
        self, state: SimpleRNNState, h: Array, z: Array, times: Times
    ) -> tuple[SimpleRNNState, tuple[Array], Kept]:
        # The output says where the slope is 1, and is kept in its place (see `fused._run`).
        after = jax.nn.relu(z + times(0, h))
        return SimpleRNNState(after), (h,), Kept(after)

    @nn.nowrap
    def _backward_relu(
        self, kept: Kept, gradient: SimpleRNNState, store: Store, times: Times
    ) -> tuple[None, Array, SimpleRNNState]:
        dz = store(jnp.where(kept.row > 0, gradient.h, 0))
        return None, times(0, dz), SimpleRNNState(jnp.zeros_like(dz))

    @nn.nowrap
    def _forward(
        self, state: SimpleRNNState, h: Array, z: Array, times: Times
    ) -> tuple[SimpleRNNState, tuple[Array], Kept]:
        z = z + times(0, h)
        after, slope = jax.jvp(self.activation_fn, (z,), (jnp.ones_like(z),))
        return SimpleRNNState(after), (h,), Kept(slope)

    @nn.nowrap
    def _backward(
        self, kept: Kept, gradient: SimpleRNNState, store: Store, times: Times
    ) -> tuple[None, Array, SimpleRNNState]:
        dz = store(kept.row * gradient.h)
        return None, times(0, dz), SimpleRNNState(jnp.zeros_like(dz))


def identity_init(scale: float = 1.0) -> Initializer:
    """Initializer of recurrent kernels: `scale` times the identity matrix (Le, Jaitly and Hinton 2015)."""

    def init(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        return scale * jnp.eye(shape[0], shape[1], dtype=dtype)

    return init


IDENTITY = identity_init()


@dataclasses.dataclass
class IRNNOptions(SimpleRNNOptions):
    """Options of `IRNNCell` and `IRNN`: those of a simple RNN, with other defaults."""

    recurrent_kernel_init: Initializer = IDENTITY
    activation_fn: Callable[[Array], Array] = jax.nn.relu


class IRNNCell(IRNNOptions, SimpleRNNCell):
    """A simple RNN of rectified linear units whose recurrent kernel starts as the identity (Le, Jaitly, Hinton 2015).

    For the paper's variant with a shorter memory: `recurrent_kernel_init=rnnjax.identity_init(0.01)`.
    """


UNIFORM = nn.initializers.uniform(scale=1.0)


@dataclasses.dataclass
class IndRNNOptions(SimpleRNNOptions):
    """Options of `IndRNNCell` and `IndRNN`: those of a simple RNN, with other defaults."""

    recurrent_kernel_init: Initializer = UNIFORM
    """Between 0 and 1, as the paper starts layers whose outputs are read at every step."""
    activation_fn: Callable[[Array], Array] = jax.nn.relu


class IndRNNCell(IndRNNOptions, SimpleRNNCell):
    """One step of an independently recurrent network: h' = activation(x W + u * h + b) (Li et al. 2018).

    For sequences of T steps the paper keeps |u| below 2 ** (1 / T): constrain "recurrent_kernel" by
    `rnnjax.max_norm(2 ** (1 / T), axis=())`.

    Parameters: `kernel [D, H]`, `recurrent_kernel [H]`, `bias [H]`; with `layer_norm` `norm_scale [H]` of x W, u * h
    being no product over columns.
    """

    @property
    def recurrent_parameters(self) -> Mapping[str, tuple[Initializer, tuple[int, ...]]]:
        """The recurrent weights, one a unit."""
        return {"recurrent_kernel": (self.recurrent_kernel_init, (self.features,))}

    def recurrent_product(self, h: Float[Array, "B H"], constants: Constants) -> Float[Array, "B H"]:
        """Each unit's own, with no other."""
        return self.recurrent_kernel(constants, h.dtype)[None, :] * drop(h, constants.recurrent_mask)

    @nn.nowrap
    def fused(self) -> None:
        """It has no product with a matrix."""
