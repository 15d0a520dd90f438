"""Layers that run a cell over a sequence."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from rnnjax.cells.base import Cell, CellOptions, Constants, State, like
from rnnjax.cells.gru import GRUCell, GRUOptions
from rnnjax.cells.lstm import LSTMCell, LSTMOptions
from rnnjax.cells.simple import SimpleRNNCell, SimpleRNNOptions
from rnnjax.kernels.fused import Loop, Steps, recurrence
from rnnjax.kernels.sequence import mask_from_lengths, masked_step, zero_where_masked

IMPLEMENTATIONS = ("auto", "scan", "fused")


@dataclasses.dataclass(kw_only=True)
class LayerOptions:
    """Options of every layer over a cell."""

    return_sequences: bool = True
    """Give the outputs of all steps `[B, T, H]`; otherwise that of the last real step `[B, H]`."""
    return_state: bool = False
    """Give `(final state, outputs)` instead of the outputs."""
    reverse: bool = False
    """Run from the last real step to the first; outputs stay aligned with inputs."""
    deterministic: bool | None = None
    """No dropout; by default what the cell says, which is True unless it was told otherwise. A call's `deterministic=`
    overrides it."""
    unroll: int = 1
    """Steps of the loop that are compiled as one."""
    implementation: str = "auto"
    """"scan" differentiates a scan step by step; "fused" forms weight gradients after the loop: faster, for cells with
    such a form, and with reverse-mode derivatives only; "auto" is "fused" where the cell has it. Both have the same
    parameters, and agree in values and gradients."""


class RecurrentLayer(LayerOptions, nn.Module):
    """What `RNN`, `LSTM`, `GRU` and `SimpleRNN` share: one cell, run over the time axis with `nn.scan`."""

    def __post_init__(self) -> None:
        """Check options where they are written, not where they are first used."""
        if self.implementation not in IMPLEMENTATIONS:
            expected = ", ".join(IMPLEMENTATIONS)
            raise ValueError(
                f"{type(self).__name__} expects implementation to be one of {expected}; got {self.implementation!r}."
            )
        if isinstance(self, CellOptions):
            self.check(type(self).__name__)
        super().__post_init__()

    @nn.nowrap
    def make_cell(self, **module: Any) -> Cell:
        """The cell, with the `parent` and `name` that it is to have as a module."""
        raise NotImplementedError

    @nn.nowrap
    def initial_state(self, batch_size: int, dtype: Any = None) -> State:
        """The state that a sequence starts from where none is given."""
        return self.make_cell(parent=None).initial_state(batch_size, dtype)

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T D"],
        *,
        lengths: Int[Array, "B"] | None = None,
        mask: Bool[Array, "B T"] | None = None,
        resets: Bool[Array, "B T"] | None = None,
        initial_state: State | None = None,
        deterministic: bool | None = None,
        return_sequences: bool | None = None,
        return_state: bool | None = None,
    ) -> Any:
        """Run the cell over `x`.

        Args:
            x: inputs `[B, T, D]`.
            lengths: `[B]`, the number of real steps of each example; the rest is right padding.
            mask: `[B, T]`, True at real steps, in any pattern; instead of `lengths`. A masked step changes no state,
                its output is zero, and nothing that stands there (NaN included) reaches a value or a gradient.
            resets: `[B, T]`, True where the state returns to the cell's initial state (zeros, and not what
                `initial_state` carries in) before the step is taken. A reset at a masked step does nothing.
            initial_state: the cell's state at the start; zeros by default.
            deterministic: no dropout; otherwise `rngs={"dropout": key}` is needed. Overrides the field, as do
                `return_sequences` and `return_state`. Under `nn.jit` and `nn.remat` use the fields: a call's keywords
                are traced there.

        Returns:
            Outputs `[B, T, H]`, or with `return_sequences=False` the output `[B, H]` of the last real step (of the
            initial state where there is no real step); with `return_state`, the final state and those outputs.

        Raises:
            ValueError: inputs, lengths, mask, resets or states of the wrong shape or type.
        """
        name = type(self).__name__
        deterministic = self.deterministic if deterministic is None else deterministic
        return_sequences = self.return_sequences if return_sequences is None else return_sequences
        return_state = self.return_state if return_state is None else return_state

        if x.ndim != 3:
            hint = " For one example, pass x[None]." if x.ndim == 2 else ""
            raise ValueError(f"{name} expects inputs [B, T, D]; got {x.shape}.{hint}")
        batch_size, num_steps, input_size = x.shape
        mask = resolve_mask(name, (batch_size, num_steps), lengths, mask)
        resets = check_steps(name, "resets", resets, (batch_size, num_steps))

        cell = self.make_cell(parent=self, name="recurrence")
        if mask is not None:
            x = zero_where_masked(mask, x)
        constants = cell.constants(batch_size, input_size, deterministic)
        z = cell.project(jnp.swapaxes(x, 0, 1), constants)  # [T, B, G]
        fresh = cell.initial_state(batch_size, z.dtype)
        initial = fresh if initial_state is None else like(name, "an initial_state", fresh, initial_state)

        steps = Steps(z, *jax.tree.map(jnp.transpose, (mask, resets)))  # [T, B, ...]
        has_fused_form = cell.fused() is not None
        if self.implementation == "fused" and not has_fused_form:
            raise ValueError(f"{name} with these options has no fused form. Use implementation='auto'.")
        run = self._run_fused if has_fused_form and self.implementation != "scan" else self._run_scan
        final, y = run(cell, initial, fresh, constants, steps, return_sequences)
        outputs = cell.output(final) if y is None else jnp.swapaxes(y, 0, 1)
        return (final, outputs) if return_state else outputs

    @nn.nowrap
    def _run_scan(
        self, cell: Cell, initial: State, fresh: State, constants: Constants, steps: Steps, return_sequences: bool
    ) -> tuple[State, Float[Array, "T B H"] | None]:
        def body(cell: Cell, state: State, fresh: State, constants: Constants, step: Steps) -> Any:
            state, y = masked_step(
                lambda before: cell.step(before, step.z, constants), state, fresh, step.mask, step.resets
            )
            return state, y if return_sequences else None

        scan = nn.scan(
            body,
            variable_broadcast="params",
            split_rngs={"params": False},
            in_axes=(nn.broadcast, nn.broadcast, 0),
            reverse=self.reverse,
            unroll=self.unroll,
        )
        return scan(cell, initial, fresh, constants, steps)

    @nn.nowrap
    def _run_fused(
        self, cell: Cell, initial: State, fresh: State, constants: Constants, steps: Steps, return_sequences: bool
    ) -> tuple[State, Float[Array, "T B H"] | None]:
        form, dtype, mask = cell.fused(), steps.z.dtype, constants.recurrent_mask
        assert form is not None
        rule, bias = form
        return recurrence(
            Loop(rule, self.reverse, self.unroll, return_sequences),
            cell.parameter("recurrent_kernel").astype(dtype),
            None if bias is None else bias.astype(dtype),
            initial,
            fresh,
            None if mask is None else mask.astype(dtype),
            steps,
        )


def resolve_mask(
    name: str, shape: tuple[int, ...], lengths: Array | None, mask: Array | None
) -> Bool[Array, "B T"] | None:
    """The mask that `lengths` or `mask` mean, None for all steps real.

    Raises:
        ValueError: both were given, or one of the wrong shape or type.
    """
    if lengths is None:
        return check_steps(name, "mask", mask, shape)
    if mask is not None:
        raise ValueError(f"{name} expects lengths or mask; got both. A mask says all that lengths say.")
    lengths = jnp.asarray(lengths)
    if lengths.shape != shape[:1] or not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise ValueError(f"{name} expects lengths as integers {shape[:1]}; got {lengths.dtype} {lengths.shape}.")
    return mask_from_lengths(lengths, shape[1])


def check_steps(name: str, argument: str, value: Array | None, shape: tuple[int, ...]) -> Bool[Array, "B T"] | None:
    """`value` as an array; ValueError unless it is absent or boolean `[B, T]`."""
    if value is None:
        return None
    value = jnp.asarray(value)
    if value.shape != shape or value.dtype != bool:
        raise ValueError(f"{name} expects {argument} as booleans {shape}; got {value.dtype} {value.shape}.")
    return value


class RNN(RecurrentLayer):
    """A layer over any cell: `RNN(LSTMCell(64, peephole=True))`."""

    cell: Cell

    def __post_init__(self) -> None:
        """Check the cell where it is handed over."""
        if not isinstance(self.cell, Cell):
            came = self.cell.__name__ if isinstance(self.cell, type) else type(self.cell).__name__
            raise ValueError(f"RNN expects a cell of rnnjax, such as RNN(LSTMCell(64)); got {came}.")
        super().__post_init__()

    @nn.nowrap
    def make_cell(self, **module: Any) -> Cell:
        """A clone of the cell handed over.

        The module that was handed over may belong to whoever made it; only a clone is sure to have its parameters here.
        """
        return self.cell.clone(**module)


class SimpleRNN(SimpleRNNOptions, RecurrentLayer):
    """Layer over `SimpleRNNCell`, with its options."""

    @nn.nowrap
    def make_cell(self, **module: Any) -> Cell:
        """The cell of these options."""
        return SimpleRNNCell(**options_of(self, SimpleRNNOptions), **module)


class LSTM(LSTMOptions, RecurrentLayer):
    """Layer over `LSTMCell`, with its options."""

    @nn.nowrap
    def make_cell(self, **module: Any) -> Cell:
        """The cell of these options."""
        return LSTMCell(**options_of(self, LSTMOptions), **module)


class GRU(GRUOptions, RecurrentLayer):
    """Layer over `GRUCell`, with its options."""

    @nn.nowrap
    def make_cell(self, **module: Any) -> Cell:
        """The cell of these options."""
        return GRUCell(**options_of(self, GRUOptions), **module)


def options_of(layer: RecurrentLayer, options: type) -> dict[str, Any]:
    """The values that `layer` has for the fields of `options`."""
    return {field.name: getattr(layer, field.name) for field in dataclasses.fields(options)}
