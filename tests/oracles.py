"""What recurrences should give: float64 NumPy, one example and one step at a time, written from the papers' equations.

Nothing here comes from the library but the names and shapes of its parameters and the order of their blocks, which
`by_gate` undoes. A step takes `(weights, state, x)` with `state` a tuple of vectors, h `[H]` the first, and `x` a
vector `[D]`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

LSTM_BLOCKS = ("input", "forget", "output", "candidate")
GRU_BLOCKS = ("update", "reset", "candidate")
MGU_BLOCKS = ("forget", "candidate")


class Gate(NamedTuple):
    """Weights of one gate or candidate."""

    W: np.ndarray
    """[D, H] from the inputs; [*K, C, H] of a convolution."""
    U: np.ndarray | None
    """[H, H] from the previous output; [H] where each unit sees itself only, None where it sees nothing."""
    b: np.ndarray
    """[H] beside the input product."""
    v: np.ndarray
    """[H] beside the recurrent product."""
    p: np.ndarray
    """[H] from the cell state (peepholes)."""
    R: np.ndarray | None
    """[N*H, H] from all gates of the step before."""
    scale_W: np.ndarray | None
    """[H] of the normalised input product; None where it is not normalised."""
    scale_U: np.ndarray | None
    """[H] of the normalised recurrent product."""


class Weights(dict[str, Gate]):
    """Weights by gate and, by the library's names, what belongs to no one gate."""

    def __init__(self, gates: dict[str, Gate], rest: dict[str, np.ndarray]) -> None:
        super().__init__(gates)
        self.rest = rest


State = tuple[np.ndarray, ...]


def by_gate(params: dict[str, Any], blocks: tuple[str, ...]) -> Weights:
    """Cut the library's parameters into gates; biases and peepholes that are absent become zeros."""
    rest = {name: np.asarray(value, np.float64) for name, value in params.items()}
    whole = {
        name: rest.pop(name, None)
        for name in ("kernel", "recurrent_kernel", "bias", "recurrent_bias", "norm_scale", "recurrent_norm_scale")
    }
    peepholes, recurrence = rest.pop("peephole_kernel", None), rest.pop("gate_recurrent_kernel", None)
    width = whole["kernel"].shape[-1] // len(blocks)
    gates = [name for name in blocks if name != "candidate"]

    def cut(array: np.ndarray | None, number: int) -> np.ndarray | None:
        return None if array is None else array[..., number * width : (number + 1) * width]

    def or_zeros(array: np.ndarray | None) -> np.ndarray:
        return np.zeros(width) if array is None else array

    weights = {}
    for number, name in enumerate(blocks):
        place = gates.index(name) if name in gates else None
        weights[name] = Gate(
            W=cut(whole["kernel"], number),
            U=cut(whole["recurrent_kernel"], number),
            b=or_zeros(cut(whole["bias"], number)),
            v=or_zeros(cut(whole["recurrent_bias"], number)),
            p=np.zeros(width) if peepholes is None or place is None else peepholes[place],
            R=None if place is None else cut(recurrence, place),
            scale_W=cut(whole["norm_scale"], number),
            scale_U=cut(whole["recurrent_norm_scale"], number),
        )
    return Weights(weights, rest)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def hard_sigmoid(x: np.ndarray) -> np.ndarray:
    return np.clip(x / 6 + 0.5, 0, 1)


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def identity(x: np.ndarray) -> np.ndarray:
    return x


def normal(parts: Sequence[np.ndarray], scales: Sequence[np.ndarray | None]) -> list[np.ndarray]:
    """Ba et al. (2016), equation 4, over all parts together; as they are where there are no scales."""
    if scales[0] is None:
        return list(parts)
    together = np.concatenate(parts)
    deviation = np.sqrt(np.mean((together - together.mean()) ** 2) + 1e-5)
    return [scale * (part - together.mean()) / deviation for part, scale in zip(parts, scales, strict=True)]


def from_inputs(gates: Sequence[Gate], x: np.ndarray) -> list[np.ndarray]:
    """x W of some gates, normalised together."""
    return normal([x @ gate.W for gate in gates], [gate.scale_W for gate in gates])


def from_outputs(gates: Sequence[Gate], h: np.ndarray) -> list[np.ndarray]:
    """h U of some gates, normalised together."""
    return normal([h @ gate.U for gate in gates], [gate.scale_U for gate in gates])


def simple_step(weights: Weights, state: State, x: np.ndarray, drop_h: Any = 1, activation: Any = np.tanh) -> State:
    """Elman (1990)."""
    (h,) = state
    only = weights["candidate"]
    return (activation(from_inputs([only], x)[0] + from_outputs([only], h * drop_h)[0] + only.b),)


relu_step = partial(simple_step, activation=relu)
"""Le, Jaitly and Hinton (2015)."""


def independent_step(weights: Weights, state: State, x: np.ndarray, drop_h: Any = 1) -> State:
    """Li et al. (2018), equation 2."""
    (h,) = state
    only = weights["candidate"]
    return (relu(x @ only.W + only.U * (h * drop_h) + only.b),)


def lstm_step(
    weights: Weights,
    state: State,
    x: np.ndarray,
    drop_h: Any = 1,
    gate: Any = sigmoid,
    squash_in: Any = np.tanh,
    squash_out: Any = np.tanh,
    coupled: bool = False,
    clip: float = np.inf,
) -> State:
    """Gers, Schmidhuber and Cummins (2000); with peepholes, Graves (2013), equations 7 to 11.

    A gate without weights is open, or 1 - input gate if `coupled` (Greff et al. 2017, section III); what follows from
    weights: recurrence of gates (Greff et al.), layer normalisation (Ba et al. 2016, equations 20 to 22) and projection
    (Sak et al. 2014).
    """
    h, c, *before = state
    names = list(weights)
    from_x = dict(zip(names, from_inputs(list(weights.values()), x), strict=True))
    from_h = dict(zip(names, from_outputs(list(weights.values()), h * drop_h), strict=True))

    def enter(name: str) -> np.ndarray:
        return from_x[name] + from_h[name] + weights[name].b

    def opened(name: str, c: np.ndarray) -> np.ndarray:
        if name not in weights:
            return np.ones_like(c)
        others = before[0] @ weights[name].R if before else 0
        return gate(enter(name) + weights[name].p * c + others)

    i = opened("input", c)
    f = 1 - i if coupled else opened("forget", c)
    c = np.clip(f * c + i * squash_in(enter("candidate")), -clip, clip)
    o = opened("output", c)
    (shown,) = normal([c], [weights.rest.get("cell_norm_scale")])
    h = o * squash_out(shown + weights.rest.get("cell_norm_bias", 0))
    if "projection_kernel" in weights.rest:
        h = h @ weights.rest["projection_kernel"]
    return (h, c, np.concatenate([i, f, o])) if before else (h, c)


def gru_step(weights: Weights, state: State, x: np.ndarray, drop_h: Any = 1, reset_after: bool = True) -> State:
    """Cho et al. (2014), equations 5 to 8; with `reset_after` the reset gate stands outside the product (cuDNN).

    Normalised as in Ba et al. (2016), supplement: both gates together.
    """
    (h,) = state
    z, r, g = (weights[name] for name in ("update", "reset", "candidate"))
    seen = h * drop_h
    x_z, x_r = from_inputs([z, r], x)
    h_z, h_r = from_outputs([z, r], seen)
    keep = sigmoid(x_z + h_z + z.b + z.v)
    reset = sigmoid(x_r + h_r + r.b + r.v)
    past = reset * (from_outputs([g], seen)[0] + g.v) if reset_after else from_outputs([g], reset * seen)[0]
    return (keep * h + (1 - keep) * np.tanh(from_inputs([g], x)[0] + g.b + past),)


gru_before_step = partial(gru_step, reset_after=False)


def mgu_step(weights: Weights, state: State, x: np.ndarray, drop_h: Any = 1) -> State:
    """Zhou et al. (2016), equations 7."""
    (h,) = state
    f, g = weights["forget"], weights["candidate"]
    seen = h * drop_h
    opened = sigmoid(from_inputs([f], x)[0] + from_outputs([f], seen)[0] + f.b)
    candidate = np.tanh(from_inputs([g], x)[0] + from_outputs([g], opened * seen)[0] + g.b)
    return ((1 - opened) * h + opened * candidate,)


def min_gru_step(weights: Weights, state: State, x: np.ndarray, drop_h: Any = 1) -> State:
    """Feng et al. (2024), section 3.1, whose z is 1 - update here."""
    (h,) = state
    update, g = weights["update"], weights["candidate"]
    z = 1 - sigmoid(x @ update.W + update.b)
    return ((1 - z) * h + z * (x @ g.W + g.b),)


def min_lstm_step(weights: Weights, state: State, x: np.ndarray, drop_h: Any = 1) -> State:
    """Feng et al. (2024), section 3.2."""
    (h,) = state
    f, i = (sigmoid(x @ weights[name].W + weights[name].b) for name in ("forget", "input"))
    candidate = x @ weights["candidate"].W + weights["candidate"].b
    return (f / (f + i) * h + i / (f + i) * candidate,)


def rg_lru_step(weights: Weights, state: State, x: np.ndarray, drop_h: Any = 1) -> State:
    """De et al. (2024), equations 1 to 4."""
    (h,) = state
    r, i = (sigmoid(x @ weights[name].W + weights[name].b) for name in ("recurrence", "input"))
    a = sigmoid(weights.rest["decay_logit"]) ** (8 * r)
    return (a * h + np.sqrt(1 - a**2) * (i * x),)


def convolve(
    x: np.ndarray, kernel: np.ndarray, strides: Sequence[int], padding: str, dilation: Sequence[int]
) -> np.ndarray:
    """[*S, C] by [*K, C, G]: sums over windows, one output after another. "SAME" pads the odd zero at the end."""
    extent = [(size - 1) * gap + 1 for size, gap in zip(kernel.shape[:-2], dilation, strict=True)]
    if padding == "SAME":
        sizes = [-(-length // stride) for length, stride in zip(x.shape[:-1], strides, strict=True)]
        spare = [
            max((size - 1) * stride + window - length, 0)
            for size, stride, window, length in zip(sizes, strides, extent, x.shape[:-1], strict=True)
        ]
        x = np.pad(x, [*((total // 2, total - total // 2) for total in spare), (0, 0)])
    else:
        sizes = [
            (length - window) // stride + 1
            for length, window, stride in zip(x.shape[:-1], extent, strides, strict=True)
        ]
    y = np.zeros((*sizes, kernel.shape[-1]))
    for place in np.ndindex(*sizes):
        for tap in np.ndindex(*kernel.shape[:-2]):
            at = tuple(p * stride + k * gap for p, stride, k, gap in zip(place, strides, tap, dilation, strict=True))
            y[place] += x[at] @ kernel[tap]
    return y


def conv_lstm_step(
    weights: Weights,
    state: State,
    x: np.ndarray,
    strides: Sequence[int],
    padding: str = "SAME",
    dilation: Sequence[int] | None = None,
) -> State:
    """Shi et al. (2015), equations 3, without peepholes: x `[*S, C]`, state `[*S', H]`."""
    h, c = state
    ones = (1,) * (x.ndim - 1)

    def enter(name: str) -> np.ndarray:
        gate = weights[name]
        seen = convolve(x, gate.W, strides, padding, dilation or ones)
        return seen + convolve(h, gate.U, ones, "SAME", ones) + gate.b

    c = sigmoid(enter("forget")) * c + sigmoid(enter("input")) * np.tanh(enter("candidate"))
    return sigmoid(enter("output")) * np.tanh(c), c


def state_widths(weights: Weights, num_states: int) -> tuple[int, ...]:
    """Of h, of c, and of the gates that a state keeps."""
    width = next(iter(weights.values())).b.shape[0]
    h = weights.rest["projection_kernel"].shape[1] if "projection_kernel" in weights.rest else width
    return (h, width, (len(weights) - 1) * width)[:num_states]


def run(
    step: Callable[..., State],
    weights: Weights,
    x: Any,
    widths: tuple[int, ...],
    *,
    lengths: Any = None,
    mask: Any = None,
    resets: Any = None,
    initial: Any = None,
    reverse: bool = False,
    drop_x: Any = None,
    drop_h: Any = None,
) -> tuple[State, np.ndarray]:
    """A plain loop over examples and time: final states, each `[B, its width]`, and outputs `[B, T, H]`."""
    x = np.asarray(x, np.float64)
    num_examples, num_steps, _ = x.shape
    outputs = np.zeros((num_examples, num_steps, widths[0]))
    finals = tuple(np.zeros((num_examples, width)) for width in widths)
    for b in range(num_examples):
        zeros = tuple(np.zeros(width) for width in widths)
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
        for final, part in zip(finals, state, strict=True):
            final[b] = part
    return finals, outputs


class Case(NamedTuple):
    """A cell of the library and its oracle."""

    layer: str
    options: dict[str, Any]
    step: Callable[..., State]
    blocks: tuple[str, ...]
    num_states: int
    implementations: tuple[str, ...] = ("scan", "fused")
    """The ways in which the layer can run."""

    def make_cell(self, features: int, **options: Any) -> Any:
        import rnnjax

        return getattr(rnnjax, self.layer + "Cell")(features, **{**self.options, **options})

    def make_layer(self, features: int, **options: Any) -> Any:
        import rnnjax

        return getattr(rnnjax, self.layer)(features, **{**self.options, **options})

    def state(self, *parts: Any) -> Any:
        return type(self.make_cell(1).initial_state(1))(*parts)

    def input_width(self, width: int, features: int) -> int:
        """`width`, or that of the state where inputs must be as wide."""
        return features if self.layer == "RGLRU" else width

    def weights(self, params: dict[str, Any]) -> Weights:
        return by_gate(params, self.blocks)

    def run(self, params: dict[str, Any], x: Any, **keywords: Any) -> tuple[State, np.ndarray]:
        weights = self.weights(params)
        return run(self.step, weights, x, state_widths(weights, self.num_states), **keywords)

    def random_params(
        self, seed: int, inputs: int, features: int, dtype: Any = np.float64, use_bias: bool = True
    ) -> dict[str, np.ndarray]:
        """Asymmetric weights, large enough that every gate leaves its middle."""
        import jax

        rng = np.random.default_rng(seed)
        cell = self.make_cell(features, use_bias=use_bias)
        x = jax.ShapeDtypeStruct((1, inputs), np.float32)
        shapes = jax.eval_shape(lambda x: cell.init(jax.random.key(0), cell.initial_state(1), x)["params"], x)
        return {name: (0.7 * rng.standard_normal(shapes[name].shape) + 0.1).astype(dtype) for name in sorted(shapes)}

    def random_state(self, seed: int, num_examples: int, features: int, dtype: Any = np.float64) -> Any:
        rng = np.random.default_rng(seed)
        state = self.make_cell(features).initial_state(num_examples)
        return type(state)(*(rng.uniform(-0.9, 0.9, part.shape).astype(dtype) for part in state))


def _activation(name: str, field: str = "activation_fn") -> dict[str, Any]:
    import jax

    return {field: getattr(jax.nn, name)}


SCAN = ("scan",)
LINEAR = ("scan", "fused", "parallel")


def _greff(options: dict[str, Any], *absent: str, num_states: int = 2, **oracle: Any) -> Case:
    """A variant of Greff et al. (2017), whose LSTM has peepholes."""
    blocks = tuple(name for name in LSTM_BLOCKS if name not in absent)
    return Case("LSTM", {"peephole": True, **options}, partial(lstm_step, **oracle), blocks, num_states, SCAN)


CASES = {
    "simple": Case("SimpleRNN", {}, simple_step, ("candidate",), 1),
    "simple_relu": Case("SimpleRNN", _activation("relu"), relu_step, ("candidate",), 1),
    "lstm": Case("LSTM", {}, lstm_step, LSTM_BLOCKS, 2),
    "lstm_peephole": Case("LSTM", {"peephole": True}, lstm_step, LSTM_BLOCKS, 2, SCAN),
    "gru": Case("GRU", {}, gru_step, GRU_BLOCKS, 1),
    "gru_before": Case("GRU", {"reset_after": False}, gru_before_step, GRU_BLOCKS, 1),
}
"""One of each kind, for what all share."""

WAYS = [(name, implementation) for name, case in CASES.items() for implementation in case.implementations]
"""Those in every way that their layers can run."""

FORMS = {
    "simple_layer_norm": Case("SimpleRNN", {"layer_norm": True}, simple_step, ("candidate",), 1, SCAN),
    "irnn": Case("IRNN", {}, relu_step, ("candidate",), 1),
    "indrnn": Case("IndRNN", {}, independent_step, ("candidate",), 1, SCAN),
    "lstm_no_input_gate": _greff({"input_gate": False}, "input"),
    "lstm_no_forget_gate": _greff({"forget_gate": False}, "forget"),
    "lstm_no_output_gate": _greff({"output_gate": False}, "output"),
    "lstm_no_input_activation": _greff(_activation("identity"), squash_in=identity),
    "lstm_no_output_activation": _greff(_activation("identity", "output_activation_fn"), squash_out=identity),
    "lstm_coupled_gates": _greff({"coupled_gates": True}, "forget", coupled=True),
    "lstm_full_gate_recurrence": _greff({"full_gate_recurrence": True}, num_states=3),
    "lstm_hard_sigmoid": Case(
        "LSTM", _activation("hard_sigmoid", "gate_fn"), partial(lstm_step, gate=hard_sigmoid), LSTM_BLOCKS, 2, SCAN
    ),
    "lstm_clipped": Case("LSTM", {"cell_clip": 0.5}, partial(lstm_step, clip=0.5), LSTM_BLOCKS, 2, SCAN),
    "lstm_projected": Case("LSTM", {"proj_size": 2}, lstm_step, LSTM_BLOCKS, 2, SCAN),
    "lstm_layer_norm": Case("LSTM", {"layer_norm": True}, lstm_step, LSTM_BLOCKS, 2, SCAN),
    "gru_layer_norm": Case("GRU", {"layer_norm": True}, gru_step, GRU_BLOCKS, 1, SCAN),
    "gru_before_layer_norm": Case(
        "GRU", {"layer_norm": True, "reset_after": False}, gru_before_step, GRU_BLOCKS, 1, SCAN
    ),
    "mgu": Case("MGU", {}, mgu_step, MGU_BLOCKS, 1, SCAN),
    "mgu_layer_norm": Case("MGU", {"layer_norm": True}, mgu_step, MGU_BLOCKS, 1, SCAN),
    "min_gru": Case("MinGRU", {}, min_gru_step, ("update", "candidate"), 1, LINEAR),
    "min_lstm": Case("MinLSTM", {}, min_lstm_step, ("input", "forget", "candidate"), 1, LINEAR),
    "rg_lru": Case("RGLRU", {}, rg_lru_step, ("recurrence", "input"), 1, LINEAR),
}
"""The other cells, and the forms that options give."""

EVERY_CASE = {**CASES, **FORMS}
"""Every cell there is, but for ConvLSTM, in every form."""


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
