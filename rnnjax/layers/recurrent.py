"""Layers that run a cell over a sequence."""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from rnnjax.cells.base import Cell, CellOptions, Constants, State, like
from rnnjax.cells.conv_lstm import ConvLSTMCell, ConvLSTMOptions
from rnnjax.cells.gru import GRUCell, GRUOptions, MGUCell, MGUOptions
from rnnjax.cells.linear import LinearCell, MinGRUCell, MinGRUOptions, MinLSTMCell, RGLRUCell, RGLRUOptions
from rnnjax.cells.lstm import LSTMCell, LSTMOptions
from rnnjax.cells.simple import (
    IndRNNCell,
    IndRNNOptions,
    IRNNCell,
    IRNNOptions,
    SimpleRNNCell,
    SimpleRNNOptions,
)
from rnnjax.kernels.fused import Loop, Steps, recurrence
from rnnjax.kernels.linear import linear_recurrence
from rnnjax.kernels.products import over_devices
from rnnjax.kernels.sequence import mask_from_lengths, masked_step, zero_where_masked
from rnnjax.layers.embedding import Lookup

IMPLEMENTATIONS = ("auto", "scan", "fused", "parallel")
TABLE_GAIN = 2
"""A table of vectors is multiplied instead of the vectors if there are this many times as many of them as rows."""


class Inputs(NamedTuple):
    """What a layer reads, time first."""

    x: Float[Array, "T B D"] | Lookup
    """A lookup is one of pre-activations, which a cell need not make any more."""
    mask: Bool[Array, "T B"] | None
    resets: Bool[Array, "T B"] | None
    number: Int[Array, " T"] | None
    """Of each step; only where it draws noise of its own."""


Result = tuple[State, Float[Array, "T B H"] | None]
"""Final state, and outputs where they were asked for."""
Run = Callable[[Any, State, State, Constants, Inputs], Result]
"""(cell, initial state, fresh state, constants, inputs) -> result."""


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
    stateful: bool = False
    """Start where the last call ended: the final state is kept in the collection "carry", which `apply` updates with
    `mutable=["carry"]`. Gradients stop there. `resets=` at the first step starts an example anew; leaving the
    collection out, all of them."""
    chunk_size: int | None = None
    """Compute gradients with the memory of so many steps and of one state for each chunk of them: the rest of a chunk
    is computed again when gradients pass it (Chen et al. 2016). About the square root of the number of steps needs
    least."""
    unroll: int = 1
    """Steps of the loop that are compiled as one."""
    implementation: str = "auto"
    """"scan" differentiates a scan step by step; "fused" forms weight gradients after the loop: faster, for cells with
    such a form; "parallel" runs all steps at once, for linear cells. The latter two have reverse-mode derivatives only.
    "auto" is the first of parallel, fused and scan that the cell has. All have the same parameters, and agree in
    values and gradients."""


class RecurrentLayer(LayerOptions, nn.Module):
    """What `RNN`, `LSTM`, `GRU` and all layers over one cell share: the cell, run over the time axis."""

    cell_class: ClassVar[Callable[..., Cell]]
    """Of a layer that has its cell's options as its own."""
    cell_options: ClassVar[type[CellOptions]]
    """Which they are."""

    def __post_init__(self) -> None:
        """Check options where they are written, not where they are first used."""
        name = type(self).__name__
        if self.implementation not in IMPLEMENTATIONS:
            expected = ", ".join(IMPLEMENTATIONS)
            raise ValueError(f"{name} expects implementation to be one of {expected}; got {self.implementation!r}.")
        if self.chunk_size is not None and self.chunk_size < 1:
            raise ValueError(f"{name} expects chunk_size, an integer >= 1 or None; got {self.chunk_size}.")
        if isinstance(self, CellOptions):
            self.check(name)
        super().__post_init__()

    @nn.nowrap
    def make_cell(self, **module: Any) -> Cell:
        """The cell, with the `parent` and `name` that it is to have as a module."""
        fields = dataclasses.fields(self.cell_options)
        return type(self).cell_class(**{field.name: getattr(self, field.name) for field in fields}, **module)

    @nn.nowrap
    def initial_state(self, batch_size: int | tuple[int, ...], dtype: Any = None) -> State:
        """The state that a sequence starts from where none is given."""
        return self.make_cell(parent=None).initial_state(batch_size, dtype)

    @property
    def input_rank(self) -> int:
        """How many axes inputs have after batch and time."""
        return self.make_cell(parent=None).input_rank

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "*B T D"] | Lookup,
        *,
        lengths: Int[Array, "*B"] | None = None,
        mask: Bool[Array, "*B T"] | None = None,
        resets: Bool[Array, "*B T"] | None = None,
        initial_state: State | None = None,
        deterministic: bool | None = None,
        return_sequences: bool | None = None,
        return_state: bool | None = None,
    ) -> Any:
        """Run the cell over `x`.

        Args:
            x: inputs `[B, T, D]`; there may be several batch axes, and a ConvLSTM has spatial axes before D. What
                `Embedding.lookup` gives is as good as vectors, and faster where there are more steps than rows.
            lengths: `[B]`, the number of real steps of each example; the rest is right padding.
            mask: `[B, T]`, True at real steps, in any pattern; instead of `lengths`. A masked step changes no state,
                its output is zero, and nothing that stands there (NaN included) reaches a value or a gradient.
            resets: `[B, T]`, True where the state returns to the cell's initial state (zeros, and not what
                `initial_state` carries in) before the step is taken. A reset at a masked step does nothing.
            initial_state: the cell's state at the start; zeros by default, or what a `stateful` layer has kept.
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

        cell = self.make_cell(parent=self, name="recurrence")
        rank = cell.input_rank
        if x.ndim < rank + 2:
            axes = ", ".join(["B", "T", *"XYZ"[: rank - 1], "D"])
            hint = " For one example, pass x[None]." if x.ndim == rank + 1 else ""
            raise ValueError(f"{name} expects inputs [{axes}]; got {x.shape}.{hint}")
        *batch, num_steps = x.shape[:-rank]
        mask = resolve_mask(name, (*batch, num_steps), lengths, mask)
        resets = check_steps(name, "resets", resets, (*batch, num_steps))

        constants = cell.constants((math.prod(batch), *x.shape[len(batch) + 1 :]), deterministic)
        if isinstance(x, Lookup):
            x = self._looked_up(cell, x, constants)

        def flat(part: Array) -> Array:
            return part.reshape(math.prod(batch), *part.shape[len(batch) :])

        def unflat(part: Array) -> Array:
            return part.reshape(*batch, *part.shape[1:])

        def time_first(part: Array) -> Array:
            return jnp.swapaxes(flat(part), 0, 1)

        mask, resets = jax.tree.map(time_first, (mask, resets))  # [T, B]
        first: Any  # [1 or T, B, G]
        if isinstance(x, Lookup):
            x = first = x._replace(ids=time_first(x.ids))
        else:
            x = time_first(x)  # [T, B, ...]
            if mask is not None:
                x = zero_where_masked(mask, x)
            first = cell.project(x[:1], constants)
        fresh = cell.initial_state(first.shape[1:-1], first.dtype)
        carried, initial = None, fresh
        if self.stateful and (self.has_variable("carry", "state") or self.is_mutable_collection("carry")):
            carried = self.variable("carry", "state", lambda: fresh)
            held = jax.lax.stop_gradient(carried.value)
            if initial_state is None:
                initial = like(name, 'the collection "carry", if it is there, to hold a state', fresh, held)
        if initial_state is not None:
            expected = jax.tree.map(unflat, fresh)
            initial = jax.tree.map(flat, like(name, "an initial_state", expected, initial_state))

        numbers = None if constants.zoneout_key is None else jnp.arange(num_steps)
        run = self._form(name, cell, return_sequences)
        if self.is_mutable_collection("diagnosis") and not self.is_initializing():
            run = partial(self._run_shown, return_sequences)
        elif self.chunk_size is not None:
            run = partial(self._run_chunks, run)
        final, y = run(cell, initial, fresh, constants, Inputs(x, mask, resets, numbers))
        if carried is not None and not self.is_initializing() and self.is_mutable_collection("carry"):
            carried.value = final
        final, outputs = jax.tree.map(unflat, (final, cell.output(final) if y is None else jnp.swapaxes(y, 0, 1)))
        return (final, outputs) if return_state else outputs

    @nn.nowrap
    def _looked_up(self, cell: Cell, x: Lookup, constants: Constants) -> Float[Array, "*B T D"] | Lookup:
        """A lookup of pre-activations if that takes fewer products, and otherwise the vectors."""
        if cell.input_rank > 1 or constants.input_mask is not None or self.chunk_size is not None:
            return x.vectors()
        if self.has_variable("projected", "table"):
            return x._replace(table=self.get_variable("projected", "table"))
        keep = self.is_mutable_collection("projected") and not self.is_initializing()
        if not keep and TABLE_GAIN * len(x.table) > x.ids.size:
            return x.vectors()
        table = cell.project(over_devices(x.table), constants)  # [V, G]
        if keep:
            self.put_variable("projected", "table", table)
        return x._replace(table=table)

    @nn.nowrap
    def _form(self, name: str, cell: Cell, return_sequences: bool) -> Run:
        """The way to run this cell that `implementation` asks for."""
        forms: dict[str, Run] = {}
        if isinstance(cell, LinearCell):
            if not any(cell.zoneout_rates):
                forms["parallel"] = partial(self._run_linear, True, return_sequences)
                forms["fused"] = partial(self._run_linear, False, return_sequences)
        elif cell.fused() is not None:
            forms["fused"] = partial(self._run_fused, return_sequences)
        forms["scan"] = partial(self._run_scan, return_sequences)
        form = next(iter(forms)) if self.implementation == "auto" else self.implementation
        if form not in forms:
            raise ValueError(f"{name} with these options has no {form} form. Use implementation='auto'.")
        return forms[form]

    @nn.nowrap
    def _run_chunks(
        self, run: Run, cell: Cell, initial: State, fresh: State, constants: Constants, inputs: Inputs
    ) -> Result:
        """One chunk after another, each computed again on the way back."""
        size = self.chunk_size
        assert size is not None
        num_steps = inputs.x.shape[0]
        whole = num_steps - num_steps % size
        head = jax.tree.map(lambda part: part[:whole].reshape(-1, size, *part.shape[1:]), inputs)
        rest = jax.tree.map(lambda part: part[whole:], inputs)
        again = nn.remat(run, prevent_cse=False)
        over_chunks = self._scanned(again)

        def run_head(state: State) -> Result:
            state, y = over_chunks(cell, state, fresh, constants, head)
            return state, None if y is None else y.reshape(whole, *y.shape[2:])

        def run_rest(state: State) -> Result:
            return again(cell, state, fresh, constants, rest)

        if whole == num_steps:
            return run_head(initial)
        if self.reverse:
            state, late = run_rest(initial)
            state, early = run_head(state)
        else:
            state, early = run_head(initial)
            state, late = run_rest(state)
        return state, None if early is None or late is None else jnp.concatenate([early, late])

    @nn.nowrap
    def _scanned(self, body: Callable[..., Any], unroll: int = 1) -> Callable[..., Any]:
        """`body(cell, state, fresh, constants, inputs)` over the first axis of `inputs`, in the layer's direction."""
        scan: Callable[..., Any] = nn.scan(
            body,
            variable_broadcast="params",
            split_rngs={"params": False},
            in_axes=(nn.broadcast, nn.broadcast, 0),
            reverse=self.reverse,
            unroll=unroll,
        )
        return scan

    @nn.nowrap
    def _run_scan(
        self, return_sequences: bool, cell: Cell, initial: State, fresh: State, constants: Constants, inputs: Inputs
    ) -> Result:
        def body(cell: Cell, state: State, fresh: State, constants: Constants, step: Steps) -> Any:
            state, y = masked_step(
                lambda before: cell.advance(before, step.z, constants, step.number),
                state,
                fresh,
                step.mask,
                step.resets,
            )
            return state, y if return_sequences else None

        x, *rest = inputs
        steps = Steps(pre_activations(cell, x, constants), *rest)
        final, y = self._scanned(body, self.unroll)(cell, initial, fresh, constants, steps)
        return final, y

    @nn.nowrap
    def _run_shown(
        self, return_sequences: bool, cell: Cell, initial: State, fresh: State, constants: Constants, inputs: Inputs
    ) -> Result:
        """The plain scan, which shows in the collection "diagnosis" what `models.diagnosis` looks at.

        To the state after each step it adds what stands in the collection "perturbations", so that the gradient by
        that (zeros) is the gradient by the state.
        """
        x, *rest = inputs
        steps = Steps(pre_activations(cell, x, constants), *rest)
        shifts: Any = self.get_variable("perturbations", "states", None)  # [T, B, H] for each part of the state

        def body(cell: Cell, state: State, fresh: State, constants: Constants, given: tuple[Steps, State]) -> Any:
            step, shift = given
            gates: dict[str, Array] = {}

            def advance(before: State) -> tuple[State, Array]:
                gates.update(cell.gates(before, step.z, constants))
                after, output = cell.advance(before, step.z, constants, step.number)
                if shift is None:
                    return after, output
                after = jax.tree.map(jnp.add, after, shift)
                return after, cell.output(after)

            state, y = masked_step(advance, state, fresh, step.mask, step.resets)
            return state, (y, state, gates)

        final, (y, states, gates) = self._scanned(body)(cell, initial, fresh, constants, (steps, shifts))
        for name, value in {"states": states, "gates": gates, "mask": inputs.mask}.items():
            self.put_variable("diagnosis", name, value)
        return final, y if return_sequences else None

    @nn.nowrap
    def _run_fused(
        self, return_sequences: bool, cell: Cell, initial: State, fresh: State, constants: Constants, inputs: Inputs
    ) -> Result:
        form, mask = cell.fused(), constants.recurrent_mask
        assert form is not None
        rule, bias = form
        x, *rest = inputs
        z, input_bias = (x.vectors(), None) if isinstance(x, Lookup) else cell.products(x, constants)
        dtype = z.dtype
        return recurrence(
            Loop(rule, self.reverse, self.unroll, return_sequences, cell.matmul_dtype),
            cell.recurrent_kernel(constants, dtype),
            None if bias is None else bias.astype(dtype),
            input_bias,
            initial,
            fresh,
            None if mask is None else mask.astype(dtype),
            Steps(z, *rest),
        )

    @nn.nowrap
    def _run_linear(
        self,
        parallel: bool,
        return_sequences: bool,
        cell: LinearCell,
        initial: State,
        fresh: State,
        constants: Constants,
        inputs: Inputs,
    ) -> Result:
        x, mask, resets, _ = inputs
        decay, increment = cell.coefficients(pre_activations(cell, x, constants))
        if resets is not None:  # from zeros
            decay = jnp.where(resets[..., None], 0, decay)
        if mask is not None:
            decay = jnp.where(mask[..., None], decay, 1)
            increment = zero_where_masked(mask, increment)
        h = linear_recurrence(parallel, self.reverse, decay, increment, initial.h)
        final = initial if h.shape[0] == 0 else initial._replace(h=h[0 if self.reverse else -1])
        if not return_sequences:
            return final, None
        return final, h if mask is None else zero_where_masked(mask, h)


def pre_activations(cell: Cell, x: Float[Array, "T B D"] | Lookup, constants: Constants) -> Float[Array, "T B G"]:
    """What `x` adds to each step."""
    return x.vectors() if isinstance(x, Lookup) else cell.project(x, constants)


def resolve_mask(
    name: str, shape: tuple[int, ...], lengths: Array | None, mask: Array | None
) -> Bool[Array, "*B T"] | None:
    """The mask that `lengths` or `mask` mean, None for all steps real.

    Raises:
        ValueError: both were given, or one of the wrong shape or type.
    """
    if lengths is None:
        return check_steps(name, "mask", mask, shape)
    if mask is not None:
        raise ValueError(f"{name} expects lengths or mask; got both. A mask says all that lengths say.")
    lengths = jnp.asarray(lengths)
    if lengths.shape != shape[:-1] or not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise ValueError(f"{name} expects lengths as integers {shape[:-1]}; got {lengths.dtype} {lengths.shape}.")
    return mask_from_lengths(lengths, shape[-1])


def check_steps(name: str, argument: str, value: Array | None, shape: tuple[int, ...]) -> Bool[Array, "*B T"] | None:
    """`value` as an array; ValueError unless it is absent or boolean `[*B, T]`."""
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

    cell_class, cell_options = SimpleRNNCell, SimpleRNNOptions


class IRNN(IRNNOptions, RecurrentLayer):
    """Layer over `IRNNCell`, with its options."""

    cell_class, cell_options = IRNNCell, IRNNOptions


class IndRNN(IndRNNOptions, RecurrentLayer):
    """Layer over `IndRNNCell`, with its options."""

    cell_class, cell_options = IndRNNCell, IndRNNOptions


class LSTM(LSTMOptions, RecurrentLayer):
    """Layer over `LSTMCell`, with its options."""

    cell_class, cell_options = LSTMCell, LSTMOptions


class GRU(GRUOptions, RecurrentLayer):
    """Layer over `GRUCell`, with its options."""

    cell_class, cell_options = GRUCell, GRUOptions


class MGU(MGUOptions, RecurrentLayer):
    """Layer over `MGUCell`, with its options."""

    cell_class, cell_options = MGUCell, MGUOptions


class ConvLSTM(ConvLSTMOptions, RecurrentLayer):
    """Layer over `ConvLSTMCell`, with its options: inputs `[B, T, *S, C]`, outputs `[B, T, *S', H]`."""

    cell_class, cell_options = ConvLSTMCell, ConvLSTMOptions


class MinGRU(MinGRUOptions, RecurrentLayer):
    """Layer over `MinGRUCell`, with its options."""

    cell_class, cell_options = MinGRUCell, MinGRUOptions


class MinLSTM(MinGRUOptions, RecurrentLayer):
    """Layer over `MinLSTMCell`, with its options."""

    cell_class, cell_options = MinLSTMCell, MinGRUOptions


class RGLRU(RGLRUOptions, RecurrentLayer):
    """Layer over `RGLRUCell`, with its options."""

    cell_class, cell_options = RGLRUCell, RGLRUOptions


BY_CELL: dict[str, Callable[..., RecurrentLayer]] = {
    "lstm": LSTM,
    "gru": GRU,
    "simple": SimpleRNN,
    "irnn": IRNN,
    "indrnn": IndRNN,
    "mgu": MGU,
    "mingru": MinGRU,
    "minlstm": MinLSTM,
}
"""What `--cell` names in tasks that start these layers as they are. RGLRU reads inputs of its own width only."""
