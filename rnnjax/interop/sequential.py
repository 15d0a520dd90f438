"""Named layers one after another: what a model of another framework becomes."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.core import FrozenDict
from jaxtyping import Array, Bool, Int

from rnnjax.cells.base import State
from rnnjax.layers.combinators import Bidirectional, Stack
from rnnjax.layers.embedding import Embedding
from rnnjax.layers.recurrent import RecurrentLayer, resolve_mask
from rnnjax.models.classifier import Classifier
from rnnjax.models.language_model import LanguageModel

RECURRENT = (RecurrentLayer, Bidirectional, Stack)
FUNCTIONS: Mapping[str, Callable[[Array], Array]] = {
    "relu": nn.relu,
    "sigmoid": nn.sigmoid,
    "softmax": nn.softmax,
    "tanh": nn.tanh,
}
"""Activation functions, by the names that Keras and PyTorch have for them too."""
NOT_NAMES = ("layers", "mask_zero", "name", "parent")


class Sequential(nn.Module):
    """Layers one after another, each with its name: `Sequential({"lstm": LSTM(64), "dense": nn.Dense(1)})`.

    All recurrent layers get the same lengths or mask. The parameters stand under the names, so that those of one layer,
    `variables["params"]["lstm"]`, serve that layer alone.
    """

    layers: Mapping[str, Any]
    """Recurrent layers, other Flax modules of one input, and functions of one array, such as `nn.sigmoid`."""
    mask_zero: bool = False
    """Inputs are token ids, of which 0 is padding, as in Keras's `Embedding(mask_zero=True)`."""

    def __post_init__(self) -> None:
        """Check the names where they are written, and make the field one that can be hashed, as `jax.jit` needs."""
        self.layers = FrozenDict(self.layers)
        for name in self.layers:
            if name in NOT_NAMES:
                raise ValueError(f"Sequential expects names of layers other than {', '.join(NOT_NAMES)}; got {name!r}.")
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        x: Array,
        *,
        lengths: Int[Array, "B"] | None = None,
        mask: Bool[Array, "B T"] | None = None,
        initial_state: tuple[State, ...] | None = None,
        deterministic: bool = True,
        return_state: bool = False,
    ) -> Any:
        """Run the layers in turn.

        Args:
            x: inputs `[B, T, D]`, or token ids `[B, T]` where the first layer is an `Embedding`.
            lengths: as for one recurrent layer (`RecurrentLayer.__call__`), and so `mask`.
            mask: see `lengths`.
            initial_state: a tuple with the state of each recurrent layer.
            deterministic: no dropout.
            return_state: give a tuple of the recurrent layers' final states, and the outputs.

        Returns:
            What the last layer gives, `[B, T, F]`, or `[B, F]` past a layer that does not return sequences.

        Raises:
            ValueError: a wrong number of states, or what a layer finds wrong.
        """
        mask = resolve_mask("Sequential", x.shape[:2], lengths, mask)
        if self.mask_zero:
            mask = x != 0 if mask is None else mask & (x != 0)
        count = sum(isinstance(layer, RECURRENT) for layer in self.layers.values())
        if initial_state is not None and len(initial_state) != count:
            raise ValueError(f"Sequential expects {count} initial states; got {len(initial_state)}.")
        initial = iter(initial_state or (None,) * count)
        states = []
        for name, layer in self.layers.items():
            if not isinstance(layer, nn.Module):
                x = layer(x)
                continue
            fields: dict[str, Any] = {"deterministic": deterministic} if hasattr(layer, "deterministic") else {}
            if not isinstance(layer, RECURRENT):
                x = layer.clone(parent=self, name=name, **fields)(x)
                continue
            fields["return_state"] = return_state
            x = layer.clone(parent=self, name=name, **fields)(x, mask=mask, initial_state=next(initial))
            if return_state:
                state, x = x
                states.append(state)
        return (tuple(states), x) if return_state else x


def as_sequential(model: nn.Module, params: Mapping[str, Any]) -> tuple[Sequential, dict[str, Any]]:
    """A model of rnnjax as a `Sequential` of one kind of layer at a time, with its parameters.

    Args:
        model: a `Sequential`, `Classifier`, `LanguageModel`, `Stack`, or one recurrent layer.
        params: its parameters.

    Raises:
        ValueError: it is none of these, or pools.
    """
    if isinstance(model, Sequential):
        return model, dict(params)
    if isinstance(model, Classifier):
        if model.pooling is not None:
            raise ValueError(f"expected a Classifier without pooling; got one with {type(model.pooling).__name__}.")
        output = nn.Dense(model.num_logits, parent=None)
        table = Embedding(model.vocabulary_size, model.embedding_size, parent=None)
        layers: dict[str, Any] = {"embedding": table, "recurrent": model.encoder, "output": output}
        return Sequential(layers), dict(params)
    if isinstance(model, LanguageModel):
        params = dict(params)
        if not model.embedding_size:  # one-hot vectors are the rows of an identity
            params["embedding"] = {"embedding": jnp.eye(model.vocabulary_size)}
        width = model.embedding_size or model.vocabulary_size
        layers = {"embedding": Embedding(model.vocabulary_size, width, parent=None), "recurrent": model.stack}
        if model.dropout_rate:
            layers["dropout"] = nn.Dropout(model.dropout_rate, parent=None)
        return Sequential({**layers, "output": nn.Dense(model.vocabulary_size, parent=None)}), params
    if isinstance(model, RECURRENT):
        return Sequential({"recurrent": model}), {"recurrent": params}
    raise ValueError(
        "expected a Sequential, Classifier, LanguageModel, Stack or recurrent layer of rnnjax; "
        f"got {type(model).__name__}. Put its layers into a Sequential."
    )
