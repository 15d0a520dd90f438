"""Layers made of layers: both directions, and one upon another."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from rnnjax.cells.base import State
from rnnjax.layers.recurrent import resolve_mask

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

    def __post_init__(self) -> None:
        """Check the merge where it is written."""
        if self.merge not in MERGES:
            raise ValueError(f"Bidirectional expects merge to be one of {', '.join(MERGES)}; got {self.merge!r}.")
        super().__post_init__()

    @property
    def return_sequences(self) -> bool:
        """Whether the outputs of all steps are given."""
        return self.layer.return_sequences

    def initial_state(self, batch_size: int, dtype: Any = jnp.float32) -> BidirectionalState:
        """The states that a sequence starts from where none are given."""
        return BidirectionalState(*(self.layer.initial_state(batch_size, dtype) for _ in range(2)))

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T D"],
        *,
        lengths: Int[Array, "B"] | None = None,
        mask: Bool[Array, "B T"] | None = None,
        resets: Bool[Array, "B T"] | None = None,
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
        if return_state is None:
            return_state = self.layer.return_state
        options = {"deterministic": deterministic, "return_sequences": return_sequences, "return_state": True}
        mask = resolve_mask("Bidirectional", x.shape[:2], lengths, mask)
        initial = initial_state if initial_state is not None else BidirectionalState(None, None)

        # Clones: a module handed over may belong to another, and one module for both would tie their weights.
        directions = []
        for name, reverse, state in zip(
            ("forward", "backward"), (self.layer.reverse, not self.layer.reverse), initial, strict=True
        ):
            layer = self.layer.clone(parent=self, name=name, reverse=reverse)
            bounds = resets
            if resets is not None and name == "backward":
                bounds = _bounds_from_the_other_side(resets, mask, reverse)
            directions.append(layer(x, mask=mask, resets=bounds, initial_state=state, **options))
        (forward_state, forward), (backward_state, backward) = directions

        if self.merge == "concat":
            outputs = jnp.concatenate([forward, backward], axis=-1)
        elif self.merge == "sum":
            outputs = forward + backward
        elif self.merge == "mul":
            outputs = forward * backward
        else:
            outputs = (forward + backward) / 2
        return (BidirectionalState(forward_state, backward_state), outputs) if return_state else outputs


def _bounds_from_the_other_side(
    resets: Bool[Array, "B T"], mask: Bool[Array, "B T"] | None, reverse: bool
) -> Bool[Array, "B T"]:
    """Where a run the other way enters the same documents: the real step before each reset, as the first run counts."""
    if not reverse:
        mask = None if mask is None else mask[:, ::-1]
        return _bounds_from_the_other_side(resets[:, ::-1], mask, reverse=True)[:, ::-1]
    num_steps = resets.shape[1]
    steps = jnp.broadcast_to(jnp.arange(num_steps)[None, :], resets.shape)
    real = steps if mask is None else jnp.where(mask, steps, num_steps)
    # Of each step, the next real one; num_steps, where no document begins, if there is none.
    following = jax.lax.cummin(real, axis=1, reverse=True)[:, 1:]  # [B, T - 1]
    edge = ((0, 0), (0, 1))
    following = jnp.pad(following, edge, constant_values=num_steps)  # [B, T]
    return jnp.take_along_axis(jnp.pad(resets, edge), following, axis=1)


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

    def initial_state(self, batch_size: int, dtype: Any = jnp.float32) -> tuple[State, ...]:
        """The states that a sequence starts from where none are given."""
        return tuple(layer.initial_state(batch_size, dtype) for layer in self.layers)

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T D"],
        *,
        lengths: Int[Array, "B"] | None = None,
        mask: Bool[Array, "B T"] | None = None,
        resets: Bool[Array, "B T"] | None = None,
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
            ValueError: no layers, a layer below the last that gives no sequences, or a wrong number of states.
        """
        deterministic = self.deterministic if deterministic is None else deterministic
        return_sequences = self.return_sequences if return_sequences is None else return_sequences
        return_state = self.return_state if return_state is None else return_state
        if not self.layers:
            raise ValueError("Stack expects at least one layer; got none.")
        for number, layer in enumerate(self.layers[:-1]):
            if not _returns_sequences(layer):
                raise ValueError(
                    f"Stack expects every layer but the last to return sequences; layer {number} "
                    f"({type(layer).__name__}) does not. Give it return_sequences=True."
                )
        if initial_state is not None and len(initial_state) != len(self.layers):
            raise ValueError(f"Stack expects {len(self.layers)} initial states; got {len(initial_state)}.")
        mask = resolve_mask("Stack", x.shape[:2], lengths, mask)
        last = len(self.layers) - 1
        states = []
        for number, layer in enumerate(self.layers):
            state, x = layer.clone(parent=self, name=f"layer_{number}")(
                x,
                mask=mask,
                resets=resets,
                initial_state=None if initial_state is None else initial_state[number],
                deterministic=deterministic,
                return_sequences=return_sequences if number == last else True,
                return_state=True,
            )
            states.append(state)
        return (tuple(states), x) if return_state else x


def _returns_sequences(layer: nn.Module) -> bool:
    """Whether a layer gives the outputs of all steps; a stack does what its last layer does, unless told otherwise."""
    if isinstance(layer, Stack) and layer.return_sequences is None:
        return _returns_sequences(layer.layers[-1])
    return bool(layer.return_sequences)
