"""Layers made of layers: both directions, and one upon another."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from rnnjax.cells.base import State, check_rate
from rnnjax.layers.embedding import Lookup
from rnnjax.layers.recurrent import check_steps, resolve_mask

MERGES = ("concat", "sum", "mul", "average")


class BidirectionalState(NamedTuple):
    """States of both directions."""

    forward: State
    backward: State


class Bidirectional(nn.Module):
    """A layer and its twin that runs the other way (Schuster and Paliwal 1997).

    Both directions are clones of `layer`, with weights of their own; the twin reverses what `layer` has for `reverse`.
    Under padding the backward run starts at each example's last real step. With `resets`, which mark the first steps of
    documents packed into one row, the backward run is reset between the same documents, so that neither direction sees
    a neighbour.
    """

    layer: nn.Module
    """`LSTM`, `GRU`, `SimpleRNN` or `RNN`."""
    merge: str = "concat"
    """How the two outputs become one: "concat" `[..., 2H]`, "sum", "mul" or "average" `[..., H]`."""
    return_sequences: bool | None = None
    """Give the outputs of all steps; by default what `layer` says, as with the two fields below."""
    return_state: bool | None = None
    """Give `(states, outputs)` instead of the outputs."""
    deterministic: bool | None = None
    """No dropout."""

    def __post_init__(self) -> None:
        """Check the layer and the merge where they are written."""
        if not _is_layer(self.layer) or not hasattr(type(self.layer), "reverse"):
            raise ValueError(
                f"Bidirectional expects a layer over one cell, such as LSTM(64); got {type(self.layer).__name__}. "
                "For several layers, stack bidirectional ones."
            )
        if self.merge not in MERGES:
            raise ValueError(f"Bidirectional expects merge to be one of {', '.join(MERGES)}; got {self.merge!r}.")
        super().__post_init__()

    @property
    def input_rank(self) -> int:
        """How many axes inputs have after batch and time."""
        return int(self.layer.input_rank)

    @nn.nowrap
    def initial_state(self, batch_size: int | tuple[int, ...], dtype: Any = None) -> BidirectionalState:
        """The states that a sequence starts from where none are given."""
        return BidirectionalState(*(self.layer.initial_state(batch_size, dtype) for _ in range(2)))

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "*B T D"] | Lookup,
        *,
        lengths: Int[Array, "*B"] | None = None,
        mask: Bool[Array, "*B T"] | None = None,
        resets: Bool[Array, "*B T"] | None = None,
        initial_state: BidirectionalState | None = None,
        deterministic: bool | None = None,
        return_sequences: bool | None = None,
        return_state: bool | None = None,
    ) -> Any:
        """Run both directions; arguments as for one (`RecurrentLayer.__call__`).

        Returns:
            Merged outputs `[B, T, 2H or H]`. With `return_sequences=False`, the merge of what each direction gives
            last: the forward run at the last real step, the backward run at the first. With `return_state`, a
            `BidirectionalState` of final states and those outputs.
        """
        fields: dict[str, Any] = {
            "deterministic": _first(deterministic, self.deterministic, self.layer.deterministic),
            "return_sequences": _first(return_sequences, self.return_sequences, self.layer.return_sequences),
            "return_state": _first(return_state, self.return_state, self.layer.return_state),
        }
        steps = x.shape[: -self.layer.input_rank]
        mask = resolve_mask("Bidirectional", steps, lengths, mask)
        resets = check_steps("Bidirectional", "resets", resets, steps)
        initial = initial_state if initial_state is not None else BidirectionalState(None, None)

        # Clones: a module handed over may belong to another, and one module for both would tie their weights. What
        # is no array goes into their fields: a call's keywords are traced where nn.jit or nn.remat made the class.
        directions = []
        for name, reverse, state in zip(
            ("forward", "backward"), (self.layer.reverse, not self.layer.reverse), initial, strict=True
        ):
            layer = self.layer.clone(parent=self, name=name, reverse=reverse, **fields)
            bounds = resets
            if resets is not None and name == "backward":
                bounds = _bounds_from_the_other_side(resets, mask, reverse)
            directions.append(layer(x, mask=mask, resets=bounds, initial_state=state))
        if not fields["return_state"]:
            return self._merged(*directions)
        (forward_state, forward), (backward_state, backward) = directions
        return BidirectionalState(forward_state, backward_state), self._merged(forward, backward)

    @nn.nowrap
    def _merged(self, forward: Float[Array, "*T H"], backward: Float[Array, "*T H"]) -> Float[Array, "*T G"]:
        if self.merge == "concat":
            return jnp.concatenate([forward, backward], axis=-1)
        if self.merge == "sum":
            return forward + backward
        if self.merge == "mul":
            return forward * backward
        return (forward + backward) / 2


def _bounds_from_the_other_side(
    resets: Bool[Array, "*B T"], mask: Bool[Array, "*B T"] | None, reverse: bool
) -> Bool[Array, "*B T"]:
    """Where a run the other way enters the same documents: the real step before each reset, as the first run counts."""
    if not reverse:
        mask = None if mask is None else mask[..., ::-1]
        return _bounds_from_the_other_side(resets[..., ::-1], mask, reverse=True)[..., ::-1]
    num_steps, last = resets.shape[-1], resets.ndim - 1
    steps = jax.lax.broadcasted_iota(int, resets.shape, last)
    real = steps if mask is None else jnp.where(mask, steps, num_steps)
    # Of each step, the next real one; num_steps, where no document begins, if there is none.
    following = jax.lax.cummin(real, axis=last, reverse=True)[..., 1:]  # [*B, T - 1]
    edge = ((0, 0),) * last + ((0, 1),)
    following = jnp.pad(following, edge, constant_values=num_steps)  # [*B, T]
    return jnp.take_along_axis(jnp.pad(resets, edge), following, axis=-1)


class Stack(nn.Module):
    """Layers one upon another: `Stack([LSTM(64), LSTM(32, return_sequences=False)])`.

    Each layer but the last must return sequences. All get the same lengths, mask and resets.
    """

    layers: Sequence[nn.Module]
    return_sequences: bool | None = None
    """For the last layer; by default what it says itself."""
    return_state: bool = False
    """Give `(states, outputs)` instead of the outputs."""
    deterministic: bool | None = None
    """For all layers; by default what each says itself."""
    residual: bool = False
    """Add to the outputs of each layer above the first what it reads (Wu et al. 2016)."""
    dropout_rate: float = 0.0
    """Share of each layer's outputs dropped, at each step anew, where the next layer reads them; residual connections
    go past it. It needs `deterministic=False` here or in the call. For one mask a sequence give the layers
    `dropout_rate`."""

    def __post_init__(self) -> None:
        """Check the layers where they are written."""
        layers = self.layers if isinstance(self.layers, Sequence) else [self.layers]
        if not layers:
            raise ValueError("Stack expects at least one layer; got none.")
        if layers is not self.layers or not all(map(_is_layer, layers)):
            came = ", ".join(type(layer).__name__ for layer in layers)
            raise ValueError(f"Stack expects a list of recurrent layers, such as [LSTM(64), LSTM(32)]; got {came}.")
        check_rate("Stack", "dropout_rate", self.dropout_rate)
        super().__post_init__()

    @property
    def input_rank(self) -> int:
        """How many axes inputs have after batch and time."""
        return int(self.layers[0].input_rank)

    @nn.nowrap
    def initial_state(self, batch_size: int | tuple[int, ...], dtype: Any = None) -> tuple[State, ...]:
        """The states that a sequence starts from where none are given."""
        return tuple(layer.initial_state(batch_size, dtype) for layer in self.layers)

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "*B T D"] | Lookup,
        *,
        lengths: Int[Array, "*B"] | None = None,
        mask: Bool[Array, "*B T"] | None = None,
        resets: Bool[Array, "*B T"] | None = None,
        initial_state: tuple[State, ...] | None = None,
        deterministic: bool | None = None,
        return_sequences: bool | None = None,
        return_state: bool | None = None,
    ) -> Any:
        """Run the layers in turn; arguments as for one (`RecurrentLayer.__call__`).

        Args:
            initial_state: a tuple with each layer's state.
            return_sequences: for the last layer, whose field it overrides.

        Returns:
            The last layer's outputs; with `return_state`, a tuple of each layer's final state, and those outputs.

        Raises:
            ValueError: a layer below the last that gives no sequences, or a wrong number of states.
        """
        return_state = _first(return_state, self.return_state)
        for number, layer in enumerate(self.layers[:-1]):
            if not _returns_sequences(layer):
                raise ValueError(
                    f"Stack expects every layer but the last to return sequences; layer {number} "
                    f"({type(layer).__name__}) does not. Give it return_sequences=True."
                )
        if initial_state is not None and len(initial_state) != len(self.layers):
            raise ValueError(f"Stack expects {len(self.layers)} initial states; got {len(initial_state)}.")
        mask = resolve_mask("Stack", x.shape[: -self.layers[0].input_rank], lengths, mask)
        last = len(self.layers) - 1
        deterministic = _first(deterministic, self.deterministic)
        if self.residual and not _first(return_sequences, self.return_sequences, _returns_sequences(self.layers[-1])):
            raise ValueError(
                "Stack with residual=True expects return_sequences=True, since outputs are added to inputs step by "
                "step. Pool the outputs instead, with MeanPooling for example."
            )
        states = []
        for number, layer in enumerate(self.layers):
            fields: dict[str, Any] = {  # and no keywords of the call: see `Bidirectional`
                "deterministic": _first(deterministic, layer.deterministic),
                "return_sequences": _first(return_sequences, self.return_sequences, _returns_sequences(layer))
                if number == last
                else True,
                "return_state": return_state,
            }
            initial = None if initial_state is None else initial_state[number]
            below: Any = x
            if number and self.dropout_rate:
                x = nn.Dropout(self.dropout_rate, deterministic=deterministic is not False)(x)
            x = layer.clone(parent=self, name=f"layer_{number}", **fields)(
                x, mask=mask, resets=resets, initial_state=initial
            )
            if return_state:
                state, x = x
                states.append(state)
            if number and self.residual:
                if x.shape != below.shape:
                    raise ValueError(
                        "Stack with residual=True expects layers above the first to be as wide as what they read; "
                        f"layer {number} reads {below.shape[-1]} and gives {x.shape[-1]}."
                    )
                x = x + below
        return (tuple(states), x) if return_state else x


def _is_layer(module: object) -> bool:
    """Whether `module` has the fields and the initial state of a recurrent layer."""
    fields = ("return_sequences", "return_state", "deterministic", "initial_state")
    return isinstance(module, nn.Module) and all(hasattr(type(module), name) for name in fields)


def _returns_sequences(layer: Any) -> bool:
    """Whether a layer gives the outputs of all steps: by itself, or else as the layer inside that gives them."""
    if layer.return_sequences is not None:
        return bool(layer.return_sequences)
    return _returns_sequences(layer.layers[-1] if isinstance(layer, Stack) else layer.layer)


def _first(*choices: bool | None) -> bool | None:
    """The first that was made."""
    return next((choice for choice in choices if choice is not None), None)
