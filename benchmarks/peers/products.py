"""The matrix products of a training step alone, and nothing else: the floor of its time.

An LSTM over T steps needs six: of the inputs and of the previous outputs with the kernels, and the gradients of both
kernels, of the inputs and of the previous outputs. Here each is formed once over all T * B rows, as no recurrence can
form those of the previous outputs, from arrays that lie ready: what a library's own products take at their best.
"""

from collections.abc import Callable

import numpy as np

from peers.workload import Classifier, Workload, repeat


def classifier(case: Classifier) -> Workload:
    rows, inputs, units, gates = case.batch * case.length, case.embedding, case.units, 4 * case.units
    sizes = [
        (rows, inputs, gates),
        (rows, units, gates),
        (rows, gates, inputs),
        (rows, gates, units),
        (inputs, rows, gates),
        (units, rows, gates),
    ]
    rng = np.random.default_rng(0)
    pairs = [(rng.standard_normal((m, k), np.float32), rng.standard_normal((k, n), np.float32)) for m, k, n in sizes]
    operations = 2 * sum(m * k * n for m, k, n in sizes)
    run = {"xla": xla, "pytorch": pytorch}[case.library](pairs)
    return Workload(run, 0, settings=f"{operations / 1e9:.2f} GFLOP")


def xla(pairs: list[tuple[np.ndarray, np.ndarray]]) -> Callable:
    import jax

    operands = jax.device_put(pairs)
    step = jax.jit(lambda operands: [a @ b for a, b in operands])

    return repeat(lambda: step(operands), lambda results: float(results[0][0, 0]), jax.block_until_ready)


def pytorch(pairs: list[tuple[np.ndarray, np.ndarray]]) -> Callable:
    import torch

    operands = [tuple(map(torch.from_numpy, pair)) for pair in pairs]
    outputs = [torch.empty(a.shape[0], b.shape[1]) for a, b in operands]

    def step() -> torch.Tensor:
        for (a, b), output in zip(operands, outputs, strict=True):
            torch.mm(a, b, out=output)
        return outputs[0]

    return repeat(step, lambda output: output[0, 0].item())
