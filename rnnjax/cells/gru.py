"""Gated recurrent unit (Cho et al. 2014), in both of its forms, and the minimal gated unit."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from rnnjax.cells.base import Cell, CellOptions, Constants, Initializer, columns_of, drop
from rnnjax.kernels.fused import Kept, StepRule, Store, Times
from rnnjax.kernels.products import multiply
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

    With `layer_norm` each product is normalised, those of both gates together and those of the candidate by themselves
    (Ba et al. 2016, supplement).

    Parameters, with blocks in the order of `GATES`: `kernel [D, 3H]`, `recurrent_kernel [H, 3H]`, `bias [3H]`, and with
    `reset_after` `recurrent_bias [3H]`, of which only the candidate's block (ug) can do what `bias` cannot; the others
    are there so that weights and their number match Keras and PyTorch. With `layer_norm` `norm_scale [3H]` of x W and
    `recurrent_norm_scale [3H]` of h U.
    """

    num_blocks = 3
    norm_groups = (2, 1)

    @property
    def recurrent_parameters(self) -> Mapping[str, tuple[Initializer, tuple[int, ...]]]:
        """The recurrent kernel, and the bias inside the reset gate's reach."""
        columns = 3 * self.features
        parameters: dict[str, Any] = {
            "recurrent_kernel": (self.recurrent_kernel_init, (self.features, columns)),
            **self.parameters_of_norm(),
        }
        if self.use_bias and self.reset_after:
            parameters["recurrent_bias"] = (self.bias_init, (columns,))
        return parameters

    @nn.nowrap
    def initial_state(self, batch_size: int | tuple[int, ...], dtype: Any = None) -> GRUState:
        """Zeros, as an array `[*B, H]`, by default of the cell's own type."""
        return GRUState(self.zeros(batch_size, dtype))

    @nn.nowrap
    def initial_bias(self, key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        """Raise the update gate's bias by `update_bias`."""
        return self.bias_init(key, shape, dtype).at[: self.features].add(self.update_bias)

    def step(
        self, state: GRUState, z: Float[Array, "B 3H"], constants: Constants
    ) -> tuple[GRUState, Float[Array, "B H"]]:
        """One step from input pre-activations."""
        after, _ = self._step_and_gates(state, z, constants)
        return after, after.h

    def gates(self, state: GRUState, z: Float[Array, "B 3H"], constants: Constants) -> dict[str, Array]:
        """Update and reset gate."""
        return self._step_and_gates(state, z, constants)[1]

    def _step_and_gates(
        self, state: GRUState, z: Float[Array, "B 3H"], constants: Constants
    ) -> tuple[GRUState, dict[str, Array]]:
        if self.reset_after:
            product = self.recurrent_product(state.h, constants)
            if self.use_bias:
                product = product + self.parameter("recurrent_bias").astype(z.dtype)[None, :]
            after, opened = combine_after(state, z, product)
            return after, dict(zip(GATES[:-1], opened, strict=False))
        kernel = self.recurrent_kernel(constants, z.dtype)
        parts = columns_of(self.features, 2, 1)

        def times(part: int, x: Array) -> Array:
            product = multiply(x, kernel[:, parts[part]], self.matmul_dtype)
            return self.normalised(product, parts[part], (1,))

        after, _, kept = forward_before(state, drop(state.h, constants.recurrent_mask), z, times)
        return after, dict(zip(GATES[:-1], kept.rest, strict=True))

    @nn.nowrap
    def fused(self) -> tuple[StepRule, Float[Array, "3H"] | None] | None:
        """In both forms, without normalisation."""
        if self.layer_norm or any(self.zoneout_rates):
            return None
        if not self.reset_after:
            return RULE_BEFORE, None
        return RULE_AFTER, self.parameter("recurrent_bias") if self.use_bias else None


def combine_after(
    state: GRUState, z: Float[Array, "B 3H"], product: Float[Array, "B 3H"]
) -> tuple[GRUState, list[Array]]:
    """The next state, with the reset gate after the product, from both pre-activations, and the gates: [z, r, g]."""
    width = 2 * z.shape[1] // 3
    update, reset = jnp.split(sigmoid(z[:, :width] + product[:, :width]), 2, axis=1)
    candidate = jnp.tanh(z[:, width:] + reset * product[:, width:])
    return blend(update, state, candidate), [update, reset, candidate]


def blend(update: Float[Array, "B H"], state: GRUState, candidate: Float[Array, "B H"]) -> GRUState:
    """update * h + (1 - update) * candidate, doubled and halved: so XLA on CPU vectorises the gates before it."""
    twice = 2 * update
    return GRUState(0.5 * (twice * state.h + (2 - twice) * candidate))


def slopes(
    update: Float[Array, "B H"], state: GRUState, candidate: Float[Array, "B H"]
) -> tuple[Float[Array, "B H"], Float[Array, "B H"]]:
    """Derivatives of `blend` by the pre-activations of the update gate and of the candidate."""
    return (state.h - candidate) * update * (1 - update), (1 - update) * (1 - candidate * candidate)


def forward_after(
    state: GRUState, h: Float[Array, "B H"], z: Float[Array, "B 3H"], times: Times
) -> tuple[GRUState, tuple[Array], Kept]:
    """One step with the reset gate after the product, as `StepRule.forward`."""
    product = times(0, h)
    after, (update, reset, candidate) = combine_after(state, z, product)
    d_update, d_candidate = slopes(update, state, candidate)
    d_reset = d_candidate * product[:, 2 * candidate.shape[1] :] * reset * (1 - reset)
    return after, (h,), Kept(jnp.concatenate([d_update, d_reset, d_candidate], axis=1), (update, reset))


def backward_after(
    kept: Kept, gradient: GRUState, store: Store, times: Times
) -> tuple[tuple[Array], Float[Array, "B H"], GRUState]:
    """Its derivative, as `StepRule.backward`."""
    update, reset = kept.rest
    dz = store(kept.row * jnp.tile(gradient.h, (1, 3)))
    width = 2 * reset.shape[1]
    d_product = jnp.concatenate([dz[:, :width], dz[:, width:] * reset], axis=1)
    return (d_product,), times(0, d_product), GRUState(gradient.h * update)


def forward_before(
    state: GRUState, h: Float[Array, "B H"], z: Float[Array, "B 3H"], times: Times
) -> tuple[GRUState, tuple[Array, Array], Kept]:
    """One step with the reset gate before the product, as `StepRule.forward`."""
    width = 2 * z.shape[1] // 3
    update, reset = jnp.split(sigmoid(z[:, :width] + times(0, h)), 2, axis=1)
    seen = reset * h
    candidate = jnp.tanh(z[:, width:] + times(1, seen))
    after = blend(update, state, candidate)
    d_update, d_candidate = slopes(update, state, candidate)
    row = jnp.concatenate([d_update, seen * (1 - reset), d_candidate], axis=1)
    return after, (h, seen), Kept(row, (update, reset))


def backward_before(
    kept: Kept, gradient: GRUState, store: Store, times: Times
) -> tuple[None, Float[Array, "B H"], GRUState]:
    """Its derivative, as `StepRule.backward`."""
    update, reset = kept.rest
    width = reset.shape[1]
    d_seen = times(1, gradient.h * kept.row[:, 2 * width :])
    dz = store(kept.row * jnp.concatenate([gradient.h, d_seen, gradient.h], axis=1))
    return None, times(0, dz[:, : 2 * width]) + d_seen * reset, GRUState(gradient.h * update)


RULE_AFTER = StepRule(forward_after, backward_after)
RULE_BEFORE = StepRule(forward_before, backward_before, parts=(2, 1))


@dataclasses.dataclass
class MGUOptions(CellOptions):
    """Options of `MGUCell` and `MGU`."""

    forget_bias: float = 0.0
    """Added to the forget gate's bias at the start; here a closed gate keeps the past, so -1 remembers."""


class MGUCell(MGUOptions, Cell):
    """One step of a minimal gated unit (Zhou et al. 2016): a GRU whose one gate does the work of two.

        f = sigmoid(x Wf + h Uf + bf)            forget gate
        g = tanh(x Wg + (f * h) Ug + bg)         candidate
        h' = (1 - f) * h + f * g

    Parameters, with the forget gate's block before the candidate's: `kernel [D, 2H]`, `recurrent_kernel [H, 2H]`,
    `bias [2H]`; with `layer_norm`, which takes each block by itself, `norm_scale [2H]` and `recurrent_norm_scale [2H]`.
    """

    num_blocks = 2
    norm_groups = (1, 1)

    @property
    def recurrent_parameters(self) -> Mapping[str, tuple[Initializer, tuple[int, ...]]]:
        """The recurrent kernel."""
        kernel = (self.recurrent_kernel_init, (self.features, 2 * self.features))
        return {"recurrent_kernel": kernel, **self.parameters_of_norm()}

    @nn.nowrap
    def initial_state(self, batch_size: int | tuple[int, ...], dtype: Any = None) -> GRUState:
        """Zeros, as an array `[*B, H]`, by default of the cell's own type."""
        return GRUState(self.zeros(batch_size, dtype))

    @nn.nowrap
    def initial_bias(self, key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        """Raise the forget gate's bias by `forget_bias`."""
        return self.bias_init(key, shape, dtype).at[: self.features].add(self.forget_bias)

    def step(
        self, state: GRUState, z: Float[Array, "B 2H"], constants: Constants
    ) -> tuple[GRUState, Float[Array, "B H"]]:
        """One step from input pre-activations."""
        kernel, h = self.recurrent_kernel(constants, z.dtype), drop(state.h, constants.recurrent_mask)
        gate, rest = columns_of(self.features, 1, 1)

        def times(x: Array, columns: slice) -> Array:
            return self.normalised(multiply(x, kernel[:, columns], self.matmul_dtype), columns, (1,))

        f = sigmoid(z[:, gate] + times(h, gate))
        candidate = jnp.tanh(z[:, rest] + times(f * h, rest))
        state = GRUState((1 - f) * state.h + f * candidate)
        return state, state.h
