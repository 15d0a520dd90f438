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
from rnnjax.kernels.products import multiply
from rnnjax.kernels.sequence import normalise

Initializer = Callable[..., Array]
State = Any  # a NamedTuple of [B, H] arrays, named by each cell


GLOROT = nn.initializers.glorot_uniform()
ORTHOGONAL = nn.initializers.orthogonal()


class Constants(NamedTuple):
    """What is drawn once and stays fixed for a whole sequence; None where nothing is dropped."""

    input_mask: Float[Array, "B D"] | None = None
    recurrent_mask: Float[Array, "B H"] | None = None
    kernel_mask: Float[Array, "H G"] | None = None
    """Of the recurrent kernel, one for all examples."""
    zoneout_key: Array | None = None
    """Each step folds its number into it; None for the expectation."""


@dataclasses.dataclass
class CellOptions:
    """Options of every cell, and so of the layer over it."""

    features: int
    """Width H of the state."""
    use_bias: bool = True
    dropout_rate: float = 0.0
    """Share of the inputs dropped, one mask for all steps of a sequence (Gal and Ghahramani 2016)."""
    recurrent_dropout_rate: float = 0.0
    """Share of the previous output dropped where it enters the recurrent product, one mask for all steps."""
    kernel_init: Initializer = GLOROT
    recurrent_kernel_init: Initializer = ORTHOGONAL
    bias_init: Initializer = nn.initializers.zeros
    dtype: Any = None
    """Type of the computation; by default that of inputs and parameters together."""
    param_dtype: Any = jnp.float32
    weight_drop_rate: float = dataclasses.field(default=0.0, kw_only=True)
    """Share of the recurrent kernel's weights dropped, one mask for all steps and examples (DropConnect; Merity et al.
    2018)."""
    zoneout_rate: float = dataclasses.field(default=0.0, kw_only=True)
    """Share of the units of h that keep their value at a step, drawn at each step; without dropout, the expectation
    (Krueger et al. 2017)."""
    layer_norm: bool = dataclasses.field(default=False, kw_only=True)
    """Normalise the products of inputs and of previous outputs, each over its columns, before they are added (Ba et al.
    2016)."""
    matmul_dtype: Any = dataclasses.field(default=None, kw_only=True)
    """Type to which the operands of matrix products are rounded, such as `jnp.bfloat16`; sums and all else stay in
    `dtype`. With one, derivatives are reverse-mode only."""

    def check(self, name: str) -> None:
        """Raise ValueError where an option has no meaning."""
        if not isinstance(self.features, int | np.integer) or self.features < 1:
            raise ValueError(f"{name} expects features, an integer >= 1; got {self.features!r}.")
        for field in dataclasses.fields(CellOptions):
            if field.name.endswith("_rate"):
                check_rate(name, field.name, getattr(self, field.name))


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
        if self.weight_drop_rate and "recurrent_kernel" not in self.recurrent_parameters:
            raise ValueError(f"{type(self).__name__} has no recurrent kernel, so weight_drop_rate must be 0.")
        super().__post_init__()

    @property
    def num_blocks(self) -> int:
        """How many blocks of H columns the kernels have: one a gate or candidate."""
        raise NotImplementedError

    @property
    def norm_groups(self) -> tuple[int, ...]:
        """How many blocks `layer_norm` takes together; by default all."""
        return (self.num_blocks,)

    @property
    def output_size(self) -> int:
        """Width of the output, which enters the recurrent product."""
        return self.features

    @nn.nowrap
    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of one step's output, from that of its inputs."""
        return *input_shape[:-1], self.output_size

    @property
    def input_rank(self) -> int:
        """How many axes one example's inputs have at one step: 1, or 1 + the spatial axes of a convolution."""
        return 1

    @property
    def recurrent_parameters(self) -> Mapping[str, tuple[Initializer, tuple[int, ...]]]:
        """Names of what `step` asks `parameter` for, each with its initializer and shape; by default nothing."""
        return {}

    @nn.nowrap
    def parameters_of_norm(self) -> dict[str, tuple[Initializer, tuple[int, ...]]]:
        """The scale of the recurrent product where `layer_norm` is on."""
        columns = (self.num_blocks * self.features,)
        return {"recurrent_norm_scale": (nn.initializers.ones, columns)} if self.layer_norm else {}

    @nn.compact
    def parameter(self, name: str) -> Array:
        """A parameter of `recurrent_parameters`, made when it is first asked for.

        Not in `setup`: Flax runs that also for a cell that a layer only holds as a field, and the parameters would land
        outside the layer's own clone of it.
        """
        initializer, shape = self.recurrent_parameters[name]
        return self.param(name, initializer, shape, self.param_dtype)

    @nn.nowrap
    def initial_state(self, batch_size: int | tuple[int, ...], dtype: Any = None) -> State:
        """Zeros, as arrays `[*B, H]`, by default of the cell's own type."""
        raise NotImplementedError

    @nn.nowrap
    def zeros(self, batch_size: int | tuple[int, ...], dtype: Any, size: int | None = None) -> Float[Array, "*B H"]:
        """An array of an initial state, `size` wide (by default H)."""
        batch = (batch_size,) if isinstance(batch_size, int | np.integer) else tuple(batch_size)
        return jnp.zeros((*batch, size or self.features), dtype or self.dtype or self.param_dtype)

    def step(self, state: State, z: Float[Array, "B G"], constants: Constants) -> tuple[State, Float[Array, "B H"]]:
        """One step from pre-activations `z`, of which `project` made G = num_blocks * H columns."""
        raise NotImplementedError

    def gates(self, state: State, z: Float[Array, "B G"], constants: Constants) -> dict[str, Array]:
        """What the gates are in the step that `step` takes, each [B, H], by name; nothing where a cell shows none."""
        return {}

    def advance(
        self, state: State, z: Float[Array, "B G"], constants: Constants, number: Any = 0
    ) -> tuple[State, Float[Array, "B H"]]:
        """`step`, and then zoneout: some units keep the value that they had; `number` is the step's."""
        after, output = self.step(state, z, constants)
        rates = self.zoneout_rates
        if not any(rates):
            return after, output
        keys: Any = [None] * len(rates)
        if constants.zoneout_key is not None:
            keys = jax.random.split(jax.random.fold_in(constants.zoneout_key, number), len(rates))
        after = type(after)(*map(zoneout, rates, keys, state, after))
        return after, self.output(after)

    @property
    def zoneout_rates(self) -> tuple[float, ...]:
        """Of each part of the state; by default only h has one."""
        return (self.zoneout_rate,)

    @nn.nowrap
    def fused(self) -> tuple[StepRule, Float[Array, "G"] | None] | None:
        """For `kernels.fused`, the rule of this cell and its recurrent bias; None where the cell has no such form."""
        return None

    def output(self, state: State) -> Float[Array, "B H"]:
        """What the layer above sees of a state."""
        return state.h

    def project(self, x: Float[Array, "*T B D"], constants: Constants) -> Float[Array, "*T B G"]:
        """Input pre-activations, for one step or (time first) for all steps at once."""
        z, bias = self.products(x, constants)
        return z if bias is None else z + bias.reshape((1,) * (z.ndim - 1) + bias.shape)

    @nn.compact
    def products(
        self, x: Float[Array, "*T B D"], constants: Constants
    ) -> tuple[Float[Array, "*T B G"], Float[Array, " G"] | None]:
        """What `project` adds: the products, normalised where `layer_norm` is on, and the bias if there is one."""
        columns = self.num_blocks * self.features
        for name in self.recurrent_parameters:  # now, since inside a loop none can be made
            self.parameter(name)
        kernel = self.param("kernel", self.kernel_init, self.kernel_shape(x.shape[-1]), self.param_dtype)
        bias = self.param("bias", self.initial_bias, (columns,), self.param_dtype) if self.use_bias else None
        scale = None
        if self.layer_norm:
            scale = self.param("norm_scale", nn.initializers.ones, (columns,), self.param_dtype)
        x, kernel, bias, scale = promote_dtype(x, kernel, bias, scale, dtype=self.dtype)
        z = self.input_product(drop(x, constants.input_mask), kernel)
        if scale is not None:
            z = normalise(z, scale, self.norm_groups)
        return z, bias

    @nn.nowrap
    def kernel_shape(self, input_size: int) -> tuple[int, ...]:
        """Shape of the input kernel."""
        return input_size, self.num_blocks * self.features

    @nn.nowrap
    def input_product(self, x: Float[Array, "*T B D"], kernel: Float[Array, "D G"]) -> Float[Array, "*T B G"]:
        """What the inputs add to the pre-activations, without any bias."""
        return multiply(x, kernel, self.matmul_dtype)

    def recurrent_kernel(self, constants: Constants, dtype: Any) -> Array:
        """The recurrent kernel, less what `weight_drop_rate` takes from it."""
        return drop(self.parameter("recurrent_kernel").astype(dtype), constants.kernel_mask)

    def recurrent_product(self, h: Float[Array, "B H"], constants: Constants) -> Float[Array, "B G"]:
        """What the previous output adds to the pre-activations, without any bias."""
        kernel = self.recurrent_kernel(constants, h.dtype)
        product = multiply(drop(h, constants.recurrent_mask), kernel, self.matmul_dtype)
        return self.normalised(product, slice(None), self.norm_groups)

    def normalised(self, product: Float[Array, "B G"], columns: slice, groups: tuple[int, ...]) -> Float[Array, "B G"]:
        """Recurrent products of some of the columns, normalised where `layer_norm` is on."""
        if not self.layer_norm:
            return product
        scale = self.parameter("recurrent_norm_scale")[columns]
        return normalise(product, scale.astype(product.dtype), groups)

    @nn.nowrap
    def initial_bias(self, key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        """Initial bias of the input projection; LSTM raises that of its forget gate."""
        return self.bias_init(key, shape, dtype)

    def constants(self, input_shape: tuple[int, ...], deterministic: bool | None = None) -> Constants:
        """Draw what is dropped throughout a sequence from the "dropout" stream: masks of 0, or 1 / (1 - rate).

        Args:
            input_shape: of the inputs of one step, `(B, D)`.
            deterministic: drop nothing; by default what the field says.
        """
        if deterministic is None:
            deterministic = self.deterministic
        if deterministic:
            return Constants()
        kernel = self.recurrent_parameters.get("recurrent_kernel", (None, ()))[1]
        return Constants(
            self.draw_mask(self.dropout_rate, input_shape),
            self.draw_mask(self.recurrent_dropout_rate, self.output_shape(input_shape)),
            self.draw_mask(self.weight_drop_rate, kernel),
            self.make_rng("dropout") if any(self.zoneout_rates) else None,
        )

    def draw_mask(self, rate: float, shape: tuple[int, ...]) -> Array | None:
        """Zeros for the dropped share, and 1 / (1 - rate) elsewhere; None for a rate of 0."""
        if rate == 0:
            return None
        keep = jax.random.bernoulli(self.make_rng("dropout"), 1 - rate, shape)
        return keep.astype(self.param_dtype) / jnp.asarray(1 - rate, self.param_dtype)

    def __call__(
        self, state: State, x: Float[Array, "B D"], *, deterministic: bool | None = None
    ) -> tuple[State, Float[Array, "B H"]]:
        """One step: `state, output = cell.apply(variables, state, x_t)`.

        With dropout each call draws new masks; draw them with `constants` and call `project` and `step` yourself for a
        sequence to have one mask for all steps, as the layers do.
        """
        name = type(self).__name__
        if x.ndim != self.input_rank + 1:
            hint = f" For whole sequences use RNN({name}(...))."
            if x.ndim == self.input_rank:
                hint = " For one example, pass x[None]."
            axes = " ".join(["B", *"XYZ"[: self.input_rank - 1], "D"]).replace(" ", ", ")
            raise ValueError(f"{name} expects the inputs of one step [{axes}]; got {x.shape}.{hint}")
        constants = self.constants(x.shape, deterministic)
        z = self.project(x, constants)
        fresh = self.initial_state(z.shape[:-1], z.dtype)
        return self.advance(like(name, "a state", fresh, state), z, constants)


def check_rate(name: str, option: str, rate: float) -> None:
    """Raise ValueError unless `rate` is a share that may be dropped; `name` says whose `option` it is."""
    if not 0 <= rate < 1:
        raise ValueError(f"{name} expects 0 <= {option} < 1; got {rate}.")


def like(name: str, argument: str, expected: State, given: State) -> State:
    """`given`, in the types of `expected`.

    Raises:
        ValueError: its structure or shapes are others; the message says what `name` got as `argument`.
    """
    if jax.tree.structure(given) != jax.tree.structure(expected):  # type: ignore[operator]
        raise ValueError(f"{name} expects {argument} of type {type(expected).__name__}; got {type(given).__name__}.")
    wanted = [leaf.shape for leaf in jax.tree.leaves(expected)]
    shapes = [leaf.shape for leaf in jax.tree.leaves(given)]
    if shapes != wanted:
        first = wanted[0] if len(set(wanted)) == 1 else wanted
        raise ValueError(f"{name} expects {argument} of arrays {first}; got {shapes}.")
    return jax.tree.map(lambda e, g: jnp.asarray(g, e.dtype), expected, given)


def drop(x: Float[Array, "*T B H"], mask: Float[Array, "B H"] | None) -> Float[Array, "*T B H"]:
    """Apply a mask that may be absent, at all steps alike."""
    return x if mask is None else x * mask.astype(x.dtype).reshape((1,) * (x.ndim - mask.ndim) + mask.shape)


def zoneout(rate: float, key: Array | None, before: Array, after: Array) -> Array:
    """`before` for a share of the units, drawn with `key`; their expectation without a key."""
    if rate == 0:
        return after
    if key is None:
        return rate * before + (1 - rate) * after
    return jnp.where(jax.random.bernoulli(key, rate, after.shape), before, after)


def columns_of(features: int, *blocks: int) -> tuple[slice, ...]:
    """Where stretches of so many blocks of `features` columns lie, one after another."""
    ends = [features * end for end in np.cumsum(blocks)]
    return tuple(map(slice, [0, *ends[:-1]], ends))
