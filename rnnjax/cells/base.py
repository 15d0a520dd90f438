"""What all cells share: the three functions of a recurrence, and the options that each cell has."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.linen.dtypes import promote_dtype
from jaxtyping import Array, Float

from rnnjax.kernels.fused import StepRule

Initializer = Callable[..., Array]
State = Any  # a NamedTuple of [B, H] arrays, named by each cell


GLOROT = nn.initializers.glorot_uniform()
ORTHOGONAL = nn.initializers.orthogonal()


class Constants(NamedTuple):
    """What is drawn once and stays fixed for a whole sequence; None where nothing is dropped."""

    input_mask: Float[Array, "B D"] | None
    recurrent_mask: Float[Array, "B H"] | None


@dataclasses.dataclass
class CellOptions:
    """Options of every cell, and so of the layer over it."""

    features: int
    """Width H of the state."""
    use_bias: bool = True
    dropout_rate: float = 0.0
    """Share of the inputs dropped, one mask for all steps of a sequence."""
    recurrent_dropout_rate: float = 0.0
    """Share of the previous output dropped where it enters the recurrent product, one mask for all steps."""
    kernel_init: Initializer = GLOROT
    recurrent_kernel_init: Initializer = ORTHOGONAL
    bias_init: Initializer = nn.initializers.zeros
    dtype: Any = None
    """Type of the computation; by default that of inputs and parameters together."""
    param_dtype: Any = jnp.float32

    def check(self, name: str) -> None:
        """Raise ValueError where an option has no meaning."""
        if not isinstance(self.features, int | np.integer) or self.features < 1:
            raise ValueError(f"{name} expects features, an integer >= 1; got {self.features!r}.")
        for option in ("dropout_rate", "recurrent_dropout_rate"):
            rate = getattr(self, option)
            if not 0 <= rate < 1:
                raise ValueError(f"{name} expects 0 <= {option} < 1; got {rate}.")


class Cell(CellOptions, nn.Module):
    """One step of a recurrence, in three functions.

    `project` takes inputs to pre-activations and has no recurrence, so a layer applies it to a whole sequence in one
    product. `constants` draws what stays fixed for a sequence. `step` is the recurrence. A call on one step does all
    three. A subclass names its state, and gives `initial_state`, `step`, the number of blocks that `project` makes, and
    `recurrent_parameters`.
    """

    deterministic: bool = True
    """No dropout. A call's `deterministic=` overrides it."""

    def __post_init__(self) -> None:
        """Check the options where they are written, not where they are first used."""
        self.check(type(self).__name__)
        super().__post_init__()

    @property
    def num_blocks(self) -> int:
        """How many blocks of H columns the kernels have: one a gate or candidate."""
        raise NotImplementedError

    @property
    def recurrent_parameters(self) -> Mapping[str, tuple[Initializer, tuple[int, ...]]]:
        """Names of what `step` asks `parameter` for, each with its initializer and shape; by default nothing."""
        return {}

    @nn.compact
    def parameter(self, name: str) -> Array:
        """A parameter of `recurrent_parameters`, made when it is first asked for.

        Not in `setup`: Flax runs that also for a cell that a layer only holds as a field, and the parameters would land
        outside the layer's own clone of it.
        """
        initializer, shape = self.recurrent_parameters[name]
        return self.param(name, initializer, shape, self.param_dtype)

    @nn.nowrap
    def initial_state(self, batch_size: int, dtype: Any = None) -> State:
        """Zeros, as arrays `[B, H]`, by default of the cell's own type."""
        raise NotImplementedError

    @nn.nowrap
    def zeros(self, batch_size: int, dtype: Any) -> Float[Array, "B H"]:
        """An array of an initial state."""
        return jnp.zeros((batch_size, self.features), dtype or self.dtype or self.param_dtype)

    def step(self, state: State, z: Float[Array, "B G"], constants: Constants) -> tuple[State, Float[Array, "B H"]]:
        """One step from pre-activations `z`, of which `project` made G = num_blocks * H columns."""
        raise NotImplementedError

    @nn.nowrap
    def fused(self) -> tuple[StepRule, Float[Array, "G"] | None] | None:
        """For `kernels.fused`, the rule of this cell and its recurrent bias; None where the cell has no such form."""
        return None

    def output(self, state: State) -> Float[Array, "B H"]:
        """What the layer above sees of a state."""
        return state.h

    @nn.compact
    def project(self, x: Float[Array, "*T B D"], constants: Constants) -> Float[Array, "*T B G"]:
        """Input pre-activations, for one step or (time first) for all steps at once."""
        columns = self.num_blocks * self.features
        for name in self.recurrent_parameters:  # now, since inside a loop none can be made
            self.parameter(name)
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], columns), self.param_dtype)
        bias = self.param("bias", self.initial_bias, (columns,), self.param_dtype) if self.use_bias else None
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        if constants.input_mask is not None:
            mask = constants.input_mask.astype(x.dtype)
            x = x * mask.reshape((1,) * (x.ndim - mask.ndim) + mask.shape)
        z = x.reshape(-1, x.shape[-1]) @ kernel
        if bias is not None:
            z = z + bias[None, :]
        return z.reshape(*x.shape[:-1], columns)

    @nn.nowrap
    def initial_bias(self, key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        """Initial bias of the input projection; LSTM raises that of its forget gate."""
        return self.bias_init(key, shape, dtype)

    def constants(self, batch_size: int, input_size: int, deterministic: bool | None = None) -> Constants:
        """Draw the dropout masks of a sequence from the "dropout" stream: 0, or 1 / (1 - rate)."""
        if deterministic is None:
            deterministic = self.deterministic

        def draw(rate: float, size: int) -> Array | None:
            if deterministic or rate == 0:
                return None
            keep = jax.random.bernoulli(self.make_rng("dropout"), 1 - rate, (batch_size, size))
            return keep.astype(self.param_dtype) / jnp.asarray(1 - rate, self.param_dtype)

        return Constants(draw(self.dropout_rate, input_size), draw(self.recurrent_dropout_rate, self.features))

    def __call__(
        self, state: State, x: Float[Array, "B D"], *, deterministic: bool | None = None
    ) -> tuple[State, Float[Array, "B H"]]:
        """One step: `state, output = cell.apply(variables, state, x_t)`.

        With dropout each call draws its masks from the key that it is given: give the same key at every step of a
        sequence to have one mask for all steps, as the layers do.
        """
        name = type(self).__name__
        if x.ndim != 2:
            hint = " For one example, pass x[None]." if x.ndim == 1 else f" For whole sequences use RNN({name}(...))."
            raise ValueError(f"{name} expects the inputs of one step [B, D]; got {x.shape}.{hint}")
        constants = self.constants(x.shape[0], x.shape[1], deterministic)
        z = self.project(x, constants)
        return self.step(like(name, "a state", self.initial_state(x.shape[0], z.dtype), state), z, constants)


def like(name: str, argument: str, expected: State, given: State) -> State:
    """`given`, in the types of `expected`.

    Raises:
        ValueError: its structure or shapes are others; the message says what `name` got as `argument`.
    """
    if jax.tree.structure(given) != jax.tree.structure(expected):  # type: ignore[operator]
        raise ValueError(f"{name} expects {argument} of type {type(expected).__name__}; got {type(given).__name__}.")
    shapes = [leaf.shape for leaf in jax.tree.leaves(given)]
    if shapes != [leaf.shape for leaf in jax.tree.leaves(expected)]:
        raise ValueError(f"{name} expects {argument} of arrays {jax.tree.leaves(expected)[0].shape}; got {shapes}.")
    return jax.tree.map(lambda e, g: jnp.asarray(g, e.dtype), expected, given)


def drop(h: Float[Array, "B H"], mask: Float[Array, "B H"] | None) -> Float[Array, "B H"]:
    """Apply a mask that may be absent."""
    return h if mask is None else h * mask.astype(h.dtype)
