"""How gradients flow through a model's recurrent layers, and what their gates and units do, on one batch.

The gradient by a state is that by zeros which are added to it after its step (Linen's "perturbations"), so it holds
all paths to the loss: the outputs of this step and the states of later ones. Layers run as the plain scan for this,
whatever their `implementation`; all of them give the same values.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float

SATURATED = (0.1, 0.9)
"""A gate below the one is as good as closed, above the other as good as open."""
DEAD = 1e-3
"""A unit is dead if the standard deviation of its output, over all real steps of the batch, is below this."""


class Layer(NamedTuple):
    """What one recurrent layer did, time first; B are all its batch axes as one."""

    states: Any
    """The cell's state after each step, each part `[T, B, ...]`; a masked step keeps the state before it."""
    gates: Mapping[str, Float[Array, "T B H"]]
    """Of each step; empty where the cell shows none. LSTM and GRU do."""
    mask: Bool[Array, "T B"]
    """Real steps."""
    gradients: Any
    """Of the loss by each state, in the shape of `states`. Of an LSTM's c this is the part that goes by later steps:
    the output of its own step is counted at h."""


def look(
    model: nn.Module, params: Any, loss: Callable[[Any], Array], *inputs: Any, **keywords: Any
) -> tuple[Array, Any, dict[str, Layer]]:
    """Run a model forwards and backwards, and look into its recurrent layers.

    Args:
        model: a Flax module with layers of `rnnjax.layers.recurrent` anywhere in it, or one of these.
        params: its parameters.
        loss: a function from its outputs to one number.
        inputs: arguments of its call.
        keywords: keyword arguments of its call.

    Returns:
        The loss, its gradient by the parameters, and each recurrent layer by its path ("recurrent/layer_0"; of a layer
        that is called several times, the last call).
    """

    def run(params: Any, perturbations: Any) -> tuple[Array, Any]:
        variables = {"params": params, "perturbations": perturbations}
        outputs, shown = model.apply(variables, *inputs, mutable=["diagnosis"], **keywords)
        return loss(outputs), shown.get("diagnosis", {})

    _, shapes = jax.eval_shape(run, params, {})
    zeros: dict[str, Any] = {}
    for path, shown in _layers(shapes):
        place = zeros
        for name in path:
            place = place.setdefault(name, {})
        place["states"] = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shown["states"])
    (value, variables), (by_params, by_states) = jax.value_and_grad(run, argnums=(0, 1), has_aux=True)(params, zeros)
    layers = {}
    for path, shown in _layers(variables):
        gradients: Any = by_states
        for name in path:
            gradients = gradients[name]
        mask = shown["mask"]
        if mask is None:
            mask = jnp.ones(shown["states"].h.shape[:2], bool)
        layers["/".join(path)] = Layer(shown["states"], shown["gates"], mask, gradients["states"])
    return value, by_params, layers


def diagnose(
    model: nn.Module,
    params: Any,
    loss: Callable[[Any], Array],
    *inputs: Any,
    rows: Bool[Array, "B"] | None = None,
    **keywords: Any,
) -> dict[str, Any]:
    """Numbers that tell how a model fares; arguments as for `look`, for use within `jax.jit` too.

    Args:
        rows: which examples count; by default all.

    Returns:
        A tree of arrays:

        - `loss`;
        - `parameter_gradients`: path -> norm of the gradient of the loss;
        - `layers`: path -> a dictionary of
          `state_gradients`: part of the state -> `[T]`, the norm of the gradient of the loss by one example's state
          after that step, times the number of examples (so that it does not shrink with the batch), as a mean over
          the examples for which the step is real; NaN where there is none;
          `gates`: name -> `below` and `above`, shares of gate values below 0.1 and above 0.9;
          `dead_units`: how many units' outputs have a standard deviation below 0.001 over all real steps;
          `units`: how many there are.
    """
    value, by_params, layers = look(model, params, loss, *inputs, **keywords)
    leaves, _ = jax.tree.flatten_with_path(by_params)
    described: dict[str, Any] = {}
    for path, layer in layers.items():
        counted = layer.mask
        if rows is not None:  # several batch axes are one here
            counted = counted & jnp.repeat(rows, counted.shape[1] // len(rows))[None, :]
        num_examples = counted.any(axis=0).sum() if rows is None else rows.sum()
        parts = dict(zip(layer.states._fields, layer.gradients, strict=True))
        h = layer.states.h
        described[path] = {
            "state_gradients": {
                name: _mean(num_examples * _norms(part), counted, axis=1) for name, part in parts.items()
            },
            "gates": {
                name: {"below": _share(gate < SATURATED[0], counted), "above": _share(gate > SATURATED[1], counted)}
                for name, gate in layer.gates.items()
            },
            "dead_units": (_deviation(h, counted) < DEAD).sum(),
            "units": jnp.asarray(h.shape[-1]),
        }
    return {
        "loss": value,
        "parameter_gradients": {
            jax.tree_util.keystr(path, simple=True, separator="/"): _norm(leaf) for path, leaf in leaves
        },
        "layers": described,
    }


def _layers(shown: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """What each layer has put into the collection, by its path."""
    if isinstance(shown.get("states"), tuple):
        yield path, shown
        return
    for name, part in shown.items():
        yield from _layers(part, (*path, name))


def _norm(x: Array) -> Array:
    """Euclidean norm, whose squares neither vanish nor overflow."""
    largest = jnp.max(jnp.abs(x), initial=0)
    safe = jnp.where(largest > 0, largest, 1)
    return largest * jnp.sqrt(jnp.sum(jnp.square(x / safe)))


def _norms(x: Float[Array, "T B ..."]) -> Float[Array, "T B"]:
    """Of each example at each step."""
    return jax.vmap(jax.vmap(_norm))(x)


def _mean(values: Array, counted: Bool[Array, "T B"], axis: Any = None) -> Array:
    """Over the steps that count; NaN where none does."""
    count = counted.sum(axis=axis)
    total = jnp.where(counted, values, 0).sum(axis=axis)
    return jnp.where(count > 0, total / jnp.maximum(count, 1), jnp.nan)


def _share(true: Bool[Array, "T B ..."], counted: Bool[Array, "T B"]) -> Array:
    return _mean(true.reshape(*true.shape[:2], -1).mean(axis=2), counted)


def _deviation(h: Float[Array, "T B ..."], counted: Bool[Array, "T B"]) -> Float[Array, " H"]:
    """Standard deviation of each unit over all that counts, places of a convolution too."""
    axes = tuple(range(h.ndim - 1))
    weight = counted.reshape(counted.shape + (1,) * (h.ndim - 2))
    count = jnp.maximum(jnp.broadcast_to(weight, (*h.shape[:-1], 1)).sum(), 1)
    mean = jnp.where(weight, h, 0).sum(axis=axes, keepdims=True) / count
    return jnp.sqrt(jnp.where(weight, jnp.square(h - mean), 0).sum(axis=axes) / count)
