"""What is measured: the numbers of a case, the data that each peer gets, and what a peer makes of them."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np


class Unsupported(Exception):
    """A peer has no such thing."""


class Workload(NamedTuple):
    """A compiled case."""

    run: Callable[[int], tuple[float, float]]
    """Take this many steps, or a few more: (seconds a step, the loss or another number that shows a fault)."""
    parameters: int
    surplus: int = 0
    """How many parameters more than ours it has, because its authors write biases otherwise."""
    settings: str = ""
    """What was chosen because it was faster here."""


@dataclass(frozen=True)
class Classifier:
    """One training step: embedding, LSTM, and a dense layer on its last output. One output means a sigmoid."""

    batch: int
    length: int
    vocabulary: int
    embedding: int
    units: int
    outputs: int
    dropout: float
    """Of the LSTM's inputs and, where a peer has it, of its recurrent connections."""
    optimizer: str
    learning_rate: float
    lengths: bool = False
    """Say how long each example is (all are whole): what our own training does."""
    library: str = ""
    """For `peers.products`: whose matrix products."""

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Tokens int32 [B, T], none of them 0, and labels int32 [B]."""
        rng = np.random.default_rng(0)
        tokens = rng.integers(1, self.vocabulary, (self.batch, self.length), np.int32)
        return tokens, rng.integers(0, max(self.outputs, 2), self.batch, np.int32)


@dataclass(frozen=True)
class Layer:
    """A layer alone, from its initial state and over whole sequences; backward to its inputs and its weights."""

    cell: str
    """"lstm", or "gru" with the reset gate after the product."""
    both_ways: bool
    batch: int
    length: int
    inputs: int
    units: int
    backward: bool
    matmul_dtype: str = ""
    """Of ours: type to which the operands of matrix products are rounded."""

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Inputs [B, T, D], and what the outputs are multiplied with [B, T, H or 2H] for a loss: their sum."""
        rng = np.random.default_rng(0)
        directions = 2 if self.both_ways else 1
        shapes = [(self.batch, self.length, size) for size in (self.inputs, directions * self.units)]
        x, weights = (rng.standard_normal(shape, np.float32) for shape in shapes)
        return x, weights


@dataclass(frozen=True)
class Generation:
    """One character of each stream, drawn from a character model; the model's state is carried where a peer can."""

    streams: int
    vocabulary: int
    embedding: int
    units: int
    window: int
    """What a peer that carries no state reads again for each character."""
    temperature: float

    def prompt(self) -> np.ndarray:
        """One window of tokens, int32 [W]."""
        return np.random.default_rng(0).integers(0, self.vocabulary, self.window, np.int32)


KINDS = {kind.__name__: kind for kind in (Classifier, Layer, Generation)}


def repeat(
    step: Callable[[], Any], value: Callable[[Any], float], wait: Callable[[Any], Any] = lambda result: None
) -> Callable[[int], tuple[float, float]]:
    """`Workload.run` of a step, whose result `wait` waits for; `value` of the last result is not timed."""

    def run(steps: int) -> tuple[float, float]:
        begun = time.perf_counter()
        for _ in range(steps):
            result = step()
        wait(result)
        return (time.perf_counter() - begun) / steps, value(result)

    return run


def fastest(workloads: list[Workload], seconds: float = 0.2) -> Workload:
    """The one that takes the least time a step, of a run of about so many seconds each."""

    def seconds_a_step(workload: Workload) -> float:
        workload.run(1)  # compiles
        guess, _ = workload.run(1)
        return workload.run(max(round(seconds / guess), 1))[0]

    return min(workloads, key=seconds_a_step) if len(workloads) > 1 else workloads[0]
