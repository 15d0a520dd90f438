"""What recurrences should give: float64 NumPy, one example and one step at a time, written from the papers' equations.

Nothing here comes from the library but the order of the blocks in its parameters, which `by_gate` undoes. A step takes
`(weights, state, x)` with `state` a tuple of vectors `[H]` and `x` a vector `[D]`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

LSTM_BLOCKS = ("input", "forget", "output", "candidate")
GRU_BLOCKS = ("update", "reset", "candidate")


class Gate(NamedTuple):
    """Weights of one gate or candidate."""

    W: np.ndarray
    """[D, H] from the inputs."""
    U: np.ndarray
    """[H, H] from the previous output."""
    b: np.ndarray
    """[H] beside the input product."""
    v: np.ndarray
    """[H] beside the recurrent product."""
    p: np.ndarray
    """[H] from the cell state (peepholes)."""


Weights = dict[str, Gate]
State = tuple[np.ndarray, ...]


def by_gate(params: dict[str, Any], blocks: tuple[str, ...]) -> Weights:
    """Cut the library's parameters into gates; what is absent becomes zeros."""
    params = {name: np.asarray(value, np.float64) for name, value in params.items()}
    width = params["recurrent_kernel"].shape[0]
    zeros = np.zeros(len(blocks) * width)
    weights = {}
    for number, name in enumerate(blocks):
        columns = slice(number * width, (number + 1) * width)
        peephole = np.zeros(width)
        if "peephole_kernel" in params and name != "candidate":
            peephole = params["peephole_kernel"][("input", "forget", "output").index(name)]
        weights[name] = Gate(
            params["kernel"][:, columns],
            params["recurrent_kernel"][:, columns],
            params.get("bias", zeros)[columns],
            params.get("recurrent_bias", zeros)[columns],
            peephole,
        )
    return weights


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def simple_step(weights: Weights, state: State, x: np.ndarray, drop_h: Any = 1, activation: Any = np.tanh) -> State:
    """Elman (1990)."""
    (h,) = state
    only = weights["candidate"]
    return (activation(x @ only.W + (h * drop_h) @ only.U + only.b),)


def relu_step(weights: Weights, state: State, x: np.ndarray, drop_h: Any = 1) -> State:
    """Le, Jaitly and Hinton (2015)."""
    return simple_step(weights, state, x, drop_h, relu)


def lstm_step(weights: Weights, state: State, x: np.ndarray, drop_h: Any = 1) -> State:
    """Gers, Schmidhuber and Cummins (2000); with peepholes, Graves (2013), equations 7 to 11."""
    h, c = state

    def enter(name: str) -> np.ndarray:
        gate = weights[name]
        return x @ gate.W + (h * drop_h) @ gate.U + gate.b

    i = sigmoid(enter("input") + weights["input"].p * c)
    f = sigmoid(enter("forget") + weights["forget"].p * c)
    c = f * c + i * np.tanh(enter("candidate"))
    o = sigmoid(enter("output") + weights["output"].p * c)
    return o * np.tanh(c), c


def gru_step(weights: Weights, state: State, x: np.ndarray, drop_h: Any = 1, reset_after: bool = True) -> State:
    """Cho et al. (2014), equations 5 to 8; with `reset_after` the reset gate stands outside the product (cuDNN)."""
    (h,) = state
    z, r, g = (weights[name] for name in ("update", "reset", "candidate"))
    seen = h * drop_h
    keep = sigmoid(x @ z.W + seen @ z.U + z.b + z.v)
    reset = sigmoid(x @ r.W + seen @ r.U + r.b + r.v)
    past = reset * (seen @ g.U + g.v) if reset_after else (reset * seen) @ g.U
    return (keep * h + (1 - keep) * np.tanh(x @ g.W + g.b + past),)


def gru_before_step(weights: Weights, state: State, x: np.ndarray, drop_h: Any = 1) -> State:
    return gru_step(weights, state, x, drop_h, reset_after=False)


def run(
    step: Callable[..., State],
    weights: Weights,
    x: Any,
    num_states: int,
    *,
    lengths: Any = None,
    mask: Any = None,
    resets: Any = None,
    initial: Any = None,
    reverse: bool = False,
    drop_x: Any = None,
    drop_h: Any = None,
) -> tuple[State, np.ndarray]:
    """A plain loop over examples and time: final states `[B, H]` each, and outputs `[B, T, H]`."""
    x = np.asarray(x, np.float64)
    num_examples, num_steps, _ = x.shape
    width = next(iter(weights.values())).U.shape[0]
    outputs = np.zeros((num_examples, num_steps, width))
    finals = np.zeros((num_states, num_examples, width))
    for b in range(num_examples):
        zeros = tuple(np.zeros(width) for _ in range(num_states))
        state = zeros if initial is None else tuple(np.asarray(part, np.float64)[b] for part in initial)
        for t in reversed(range(num_steps)) if reverse else range(num_steps):
            if (lengths is not None and t >= lengths[b]) or (mask is not None and not mask[b, t]):
                continue
            if resets is not None and resets[b, t]:
                state = zeros
            kept_x = 1 if drop_x is None else np.asarray(drop_x, np.float64)[b]
            kept_h = 1 if drop_h is None else np.asarray(drop_h, np.float64)[b]
            state = step(weights, state, x[b, t] * kept_x, kept_h)
            outputs[b, t] = state[0]
        finals[:, b] = state
    return tuple(finals), outputs


class Case(NamedTuple):
    """A cell of the library and its oracle."""

    layer: str
    options: dict[str, Any]
    step: Callable[..., State]
    blocks: tuple[str, ...]
    num_states: int
    has_fused: bool = True

    @property
    def implementations(self) -> tuple[str, ...]:
        """The ways in which the layer can run."""
        return ("scan", "fused") if self.has_fused else ("scan",)

    def make_cell(self, features: int, **options: Any) -> Any:
        import rnnjax

        return getattr(rnnjax, self.layer + "Cell")(features, **{**self.options, **options})

    def make_layer(self, features: int, **options: Any) -> Any:
        import rnnjax

        return getattr(rnnjax, self.layer)(features, **{**self.options, **options})

    def state(self, *parts: Any) -> Any:
        import rnnjax

        return getattr(rnnjax, self.layer + "State")(*parts)

    def weights(self, params: dict[str, Any]) -> Weights:
        return by_gate(params, self.blocks)

    def run(self, params: dict[str, Any], x: Any, **keywords: Any) -> tuple[State, np.ndarray]:
        return run(self.step, self.weights(params), x, self.num_states, **keywords)

    def random_params(
        self, seed: int, inputs: int, features: int, dtype: Any = np.float64, use_bias: bool = True
    ) -> dict[str, np.ndarray]:
        """Asymmetric weights, large enough that every gate leaves its middle."""
        rng = np.random.default_rng(seed)
        columns = len(self.blocks) * features
        shapes: dict[str, tuple[int, ...]] = {"kernel": (inputs, columns), "recurrent_kernel": (features, columns)}
        if use_bias:
            shapes["bias"] = (columns,)
            if self.layer == "GRU" and self.options.get("reset_after", True):
                shapes["recurrent_bias"] = (columns,)
        if self.options.get("peephole"):
            shapes["peephole_kernel"] = (3, features)
        return {name: (0.7 * rng.standard_normal(shape) + 0.1).astype(dtype) for name, shape in shapes.items()}

    def random_state(self, seed: int, num_examples: int, features: int, dtype: Any = np.float64) -> Any:
        rng = np.random.default_rng(seed)
        shape = (num_examples, features)
        return self.state(*(rng.uniform(-0.9, 0.9, shape).astype(dtype) for _ in range(self.num_states)))


def _relu_options() -> dict[str, Any]:
    import jax

    return {"activation_fn": jax.nn.relu}


CASES = {
    "simple": Case("SimpleRNN", {}, simple_step, ("candidate",), 1),
    "simple_relu": Case("SimpleRNN", _relu_options(), relu_step, ("candidate",), 1),
    "lstm": Case("LSTM", {}, lstm_step, LSTM_BLOCKS, 2),
    "lstm_peephole": Case("LSTM", {"peephole": True}, lstm_step, LSTM_BLOCKS, 2, has_fused=False),
    "gru": Case("GRU", {}, gru_step, GRU_BLOCKS, 1),
    "gru_before": Case("GRU", {"reset_after": False}, gru_before_step, GRU_BLOCKS, 1),
}
"""Every cell there is."""

WAYS = [(name, implementation) for name, case in CASES.items() for implementation in case.implementations]
"""Every cell in every way that its layer can run."""


def central_differences(function: Callable[[Any], float], tree: Any, eps: float = 1e-6) -> Any:
    """Gradient of `function` at a tree of float64 arrays, number by number."""
    import jax

    leaves, structure = jax.tree.flatten(tree)
    leaves = [np.array(leaf, np.float64) for leaf in leaves]
    gradients = [np.zeros_like(leaf) for leaf in leaves]
    for leaf, gradient in zip(leaves, gradients, strict=True):
        for index in np.ndindex(leaf.shape):
            middle = leaf[index]
            leaf[index] = middle + eps
            above = function(jax.tree.unflatten(structure, leaves))
            leaf[index] = middle - eps
            below = function(jax.tree.unflatten(structure, leaves))
            leaf[index] = middle
            gradient[index] = (above - below) / (2 * eps)
    return jax.tree.unflatten(structure, gradients)
