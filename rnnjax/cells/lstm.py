"""Long short-term memory (Hochreiter and Schmidhuber 1997; with forget gate, Gers et al. 2000), in all its forms."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from rnnjax.cells.base import Cell, CellOptions, Constants, Initializer, check_rate
from rnnjax.kernels.fused import Kept, StepRule, Store, Times
from rnnjax.kernels.products import multiply
from rnnjax.kernels.sequence import normalise, sigmoid

GATES = ("input", "forget", "output", "candidate")
"""Order of the blocks in kernels and biases. The three sigmoid gates stand together, so that one tanh serves them."""


class LSTMState(NamedTuple):
    """State of an LSTM."""

    h: Float[Array, "B H"]
    """What the layer above sees."""
    c: Float[Array, "B H"]
    """What the cell remembers."""


class GatedLSTMState(NamedTuple):
    """State of an LSTM with full gate recurrence."""

    h: Float[Array, "B H"]
    c: Float[Array, "B H"]
    gates: Float[Array, "B N*H"]
    """What its gates were."""


@dataclasses.dataclass
class LSTMOptions(CellOptions):
    """Options of `LSTMCell` and `LSTM`."""

    forget_bias: float = 1.0
    """Added to the forget gate's bias at the start, so that the cell remembers before it has learnt to."""
    peephole: bool = False
    """Let the gates see the cell state (Gers and Schmidhuber 2000)."""
    input_gate: bool = dataclasses.field(default=True, kw_only=True)
    """Without one it is always open (Greff et al. 2017: NIG)."""
    forget_gate: bool = dataclasses.field(default=True, kw_only=True)
    """Without one the cell never forgets, as in 1997 (NFG)."""
    output_gate: bool = dataclasses.field(default=True, kw_only=True)
    """Without one it is always open (NOG)."""
    coupled_gates: bool = dataclasses.field(default=False, kw_only=True)
    """Forget what is written over: the forget gate is 1 - input gate, with no weights of its own (CIFG)."""
    full_gate_recurrence: bool = dataclasses.field(default=False, kw_only=True)
    """Let the gates see all gates of the step before (FGR)."""
    gate_fn: Callable[[Array], Array] = dataclasses.field(default=sigmoid, kw_only=True)
    """Of the gates; `jax.nn.hard_sigmoid` for the piecewise linear one."""
    activation_fn: Callable[[Array], Array] = dataclasses.field(default=jnp.tanh, kw_only=True)
    """Of the candidate; `jax.nn.identity` for none (NIAF)."""
    output_activation_fn: Callable[[Array], Array] = dataclasses.field(default=jnp.tanh, kw_only=True)
    """Of the cell state where it is put out; `jax.nn.identity` for none (NOAF)."""
    proj_size: int | None = dataclasses.field(default=None, kw_only=True)
    """Width P of a linear projection of the output, which then is h (Sak et al. 2014)."""
    cell_clip: float | None = dataclasses.field(default=None, kw_only=True)
    """Keep the cell state within +-this (Sak et al. 2014)."""
    cell_zoneout_rate: float = dataclasses.field(default=0.0, kw_only=True)
    """As `zoneout_rate`, of the cell state."""

    def check(self, name: str) -> None:
        """Raise ValueError where an option has no meaning."""
        super().check(name)
        check_rate(name, "cell_zoneout_rate", self.cell_zoneout_rate)
        if self.coupled_gates and not (self.input_gate and self.forget_gate):
            raise ValueError(f"{name} expects both input and forget gate with coupled_gates; one is absent.")
        if self.full_gate_recurrence and not (self.input_gate or self.forget_gate or self.output_gate):
            raise ValueError(f"{name} expects a gate with full_gate_recurrence; all are absent.")
        size = self.proj_size
        if size is not None and (not isinstance(size, int | np.integer) or size < 1):
            raise ValueError(f"{name} expects proj_size, an integer >= 1 or None; got {size}.")
        if self.cell_clip is not None and self.cell_clip <= 0:
            raise ValueError(f"{name} expects cell_clip > 0 or None; got {self.cell_clip}.")


class LSTMCell(LSTMOptions, Cell):
    """One step of an LSTM.

        i = sigmoid(x Wi + h Ui + bi)            input gate
        f = sigmoid(x Wf + h Uf + bf)            forget gate
        g = tanh(x Wg + h Ug + bg)               candidate
        c' = f * c + i * g
        o = sigmoid(x Wo + h Uo + bo)            output gate
        h' = o * tanh(c')

    With `peephole`, `pi * c`, `pf * c` and `po * c'` are added inside the gates; with `full_gate_recurrence`, the
    products of the last step's gates with `gate_recurrent_kernel`. The eight variants of Greff et al. (2017), whose
    vanilla LSTM has peepholes, are `input_gate=False`, `forget_gate=False`, `output_gate=False`,
    `activation_fn=jax.nn.identity`, `output_activation_fn=jax.nn.identity`, `coupled_gates=True`,
    `full_gate_recurrence=True`, each with `peephole=True`, and `peephole=False`.

    With `layer_norm` (Ba et al. 2016, equations 20 to 22), where LN has a scale:

        z = LN(x W) + LN(h U) + b                all blocks together
        h' = o * tanh(LN(c') + bc)

    With `proj_size`, h' = (o * tanh(c')) V is the output, and c stays H wide.

    Parameters, with blocks in the order of `GATES`, absent gates having none: `kernel [D, 4H]`,
    `recurrent_kernel [H, 4H]` (`[P, 4H]` with `proj_size`), `bias [4H]`; `peephole_kernel [3, H]`;
    `gate_recurrent_kernel [3H, 3H]`; `projection_kernel [H, P]`; `norm_scale [4H]` of x W, `recurrent_norm_scale [4H]`
    of h U, `cell_norm_scale [H]` and `cell_norm_bias [H]`.
    """

    @property
    def blocks(self) -> tuple[str, ...]:
        """Gates that have weights, and the candidate, in the order of `GATES`."""
        absent = {
            "input": not self.input_gate,
            "forget": not self.forget_gate or self.coupled_gates,
            "output": not self.output_gate,
        }
        return tuple(name for name in GATES if not absent.get(name))

    @property
    def num_blocks(self) -> int:
        """One a gate that has weights, and the candidate."""
        return len(self.blocks)

    @property
    def output_size(self) -> int:
        """P with a projection, H without."""
        return self.proj_size or self.features

    @property
    def recurrent_parameters(self) -> Mapping[str, tuple[Initializer, tuple[int, ...]]]:
        """The recurrent kernel, and what the options add."""
        width, gates = self.features, self.num_blocks - 1
        parameters: dict[str, Any] = {
            "recurrent_kernel": (self.recurrent_kernel_init, (self.output_size, self.num_blocks * width)),
            **self.parameters_of_norm(),
        }
        if self.peephole and gates:
            parameters["peephole_kernel"] = (self.kernel_init, (gates, width))
        if self.full_gate_recurrence:
            parameters["gate_recurrent_kernel"] = (self.recurrent_kernel_init, (gates * width, gates * width))
        if self.proj_size:
            parameters["projection_kernel"] = (self.kernel_init, (width, self.proj_size))
        if self.layer_norm:
            parameters["cell_norm_scale"] = (nn.initializers.ones, (width,))
            parameters["cell_norm_bias"] = (nn.initializers.zeros, (width,))
        return parameters

    @nn.nowrap
    def initial_state(self, batch_size: int | tuple[int, ...], dtype: Any = None) -> LSTMState | GatedLSTMState:
        """Zeros, as arrays `[*B, H]` (h: `[*B, P]` with `proj_size`), by default of the cell's own type."""
        h, c = self.zeros(batch_size, dtype, self.output_size), self.zeros(batch_size, dtype)
        if self.full_gate_recurrence:
            return GatedLSTMState(h, c, self.zeros(batch_size, dtype, (self.num_blocks - 1) * self.features))
        return LSTMState(h, c)

    @nn.nowrap
    def initial_bias(self, key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        """Raise the forget gate's bias by `forget_bias` (Jozefowicz et al. 2015)."""
        bias = self.bias_init(key, shape, dtype)
        if "forget" not in self.blocks:
            return bias
        start = self.blocks.index("forget") * self.features
        return bias.at[start : start + self.features].add(self.forget_bias)

    @property
    def zoneout_rates(self) -> tuple[float, ...]:
        """Of h, of c, and none of gates."""
        rates = (self.zoneout_rate, self.cell_zoneout_rate)
        return (*rates, 0.0) if self.full_gate_recurrence else rates

    @property
    def is_plain(self) -> bool:
        """Whether the equations are those above the options."""
        return (
            self.num_blocks == len(GATES)
            and (self.gate_fn, self.activation_fn, self.output_activation_fn) == (sigmoid, jnp.tanh, jnp.tanh)
            and self.proj_size is None
            and self.cell_clip is None
            and not (self.peephole or self.full_gate_recurrence or self.layer_norm)
        )

    def step(
        self, state: LSTMState | GatedLSTMState, z: Float[Array, "B G"], constants: Constants
    ) -> tuple[LSTMState | GatedLSTMState, Float[Array, "B P"]]:
        """One step from input pre-activations."""
        after, _ = self._step_and_gates(state, z, constants)
        return after, after.h

    def gates(
        self, state: LSTMState | GatedLSTMState, z: Float[Array, "B G"], constants: Constants
    ) -> dict[str, Array]:
        """Those that have weights."""
        return self._step_and_gates(state, z, constants)[1]

    def _step_and_gates(
        self, state: LSTMState | GatedLSTMState, z: Float[Array, "B G"], constants: Constants
    ) -> tuple[LSTMState | GatedLSTMState, dict[str, Array]]:
        product = self.recurrent_product(state.h, constants)  # [B, G]
        if self.is_plain:
            plain, opened = combine(LSTMState(*state), z, product)
            return plain, dict(zip(GATES[:-1], opened, strict=False))
        parts = dict(zip(self.blocks, jnp.split(z + product, self.num_blocks, axis=1), strict=True))
        gates = self.blocks[:-1]
        if isinstance(state, GatedLSTMState):
            kernel = self.parameter("gate_recurrent_kernel").astype(z.dtype)
            more = jnp.split(multiply(state.gates, kernel, self.matmul_dtype), len(gates), axis=1)
            parts.update({name: parts[name] + part for name, part in zip(gates, more, strict=True)})

        def gate(name: str, c: Float[Array, "B H"]) -> Float[Array, "B H"]:
            if name not in gates:
                return jnp.ones_like(c)
            seen = parts[name]
            if self.peephole:
                seen = seen + self.parameter("peephole_kernel")[gates.index(name)].astype(z.dtype)[None, :] * c
            return self.gate_fn(seen)

        i = gate("input", state.c)
        f = 1 - i if self.coupled_gates else gate("forget", state.c)
        c = f * state.c + i * self.activation_fn(parts["candidate"])
        if self.cell_clip is not None:
            c = jnp.clip(c, -self.cell_clip, self.cell_clip)
        o = gate("output", c)
        shown = c
        if self.layer_norm:
            scale, bias = (self.parameter(f"cell_norm_{part}").astype(z.dtype) for part in ("scale", "bias"))
            shown = normalise(c, scale, (1,)) + bias[None, :]
        h = o * self.output_activation_fn(shown)
        if self.proj_size:
            h = multiply(h, self.parameter("projection_kernel").astype(z.dtype), self.matmul_dtype)
        values = {"input": i, "forget": f, "output": o}
        own = {name: values[name] for name in gates}
        if self.full_gate_recurrence:
            return GatedLSTMState(h, c, jnp.concatenate(list(own.values()), axis=1)), own
        return LSTMState(h, c), own

    @nn.nowrap
    def fused(self) -> tuple[StepRule, None] | None:
        """In its plain form."""
        return (RULE, None) if self.is_plain and not any(self.zoneout_rates) else None


def remembering_bias(length: int, key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    """Biases of an LSTM whose units remember for 1 to `length` steps (Tallec and Ollivier 2018).

    With u drawn for each unit from 1 to `length` - 1: log(u) in the forget, -log(u) in the input gate, zeros elsewhere.
    For `bias_init`, with a forget bias of 0.
    """
    features = shape[0] // len(GATES)
    bias = jnp.log(jax.random.uniform(key, (features,), dtype, 1, max(length - 1, 1)))
    values = {"input": -bias, "forget": bias}
    return jnp.concatenate([values.get(name, jnp.zeros_like(bias)) for name in GATES])


def combine(state: LSTMState, z: Float[Array, "B 4H"], product: Float[Array, "B 4H"]) -> tuple[LSTMState, list[Array]]:
    """The next state, from the pre-activations of inputs and of the previous output, and how: [i, f, o, g, tanh(c')].

    All four activations are one tanh, since sigmoid(x) = tanh(x / 2) / 2 + 1 / 2 and XLA vectorises tanh on CPU.
    """
    width = z.shape[1] // 4
    half = np.repeat([0.5, 0.5, 0.5, 1.0], width)[None, :].astype(z.dtype)
    shift = np.repeat([0.5, 0.5, 0.5, 0.0], width)[None, :].astype(z.dtype)
    i, f, o, g = jnp.split(half * jnp.tanh(half * (z + product)) + shift, 4, axis=1)
    c = f * state.c + i * g
    shown = jnp.tanh(c)
    return LSTMState(o * shown, c), [i, f, o, g, shown]


def forward(
    state: LSTMState, h: Float[Array, "B H"], z: Float[Array, "B 4H"], times: Times
) -> tuple[LSTMState, tuple[Array], Kept]:
    """One step, as `StepRule.forward`."""
    after, (i, f, o, g, shown) = combine(state, z, times(0, h))
    row = jnp.concatenate([g * i * (1 - i), state.c * f * (1 - f), shown * o * (1 - o), i * (1 - g * g)], axis=1)
    return after, (h,), Kept(row, (f, o * (1 - shown * shown)))


def backward(
    kept: Kept, gradient: LSTMState, store: Store, times: Times
) -> tuple[None, Float[Array, "B H"], LSTMState]:
    """Its derivative, as `StepRule.backward`."""
    f, slope = kept.rest
    dc = gradient.c + gradient.h * slope
    dz = store(kept.row * jnp.concatenate([dc, dc, gradient.h, dc], axis=1))
    return None, times(0, dz), LSTMState(jnp.zeros_like(dc), dc * f)


RULE = StepRule(forward, backward)
