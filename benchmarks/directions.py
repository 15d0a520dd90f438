"""Measure whether a bidirectional LSTM is faster with both directions in one loop than with a loop for each.

    python benchmarks/directions.py

`Bidirectional` runs two loops. The other way takes one step of both directions at a time, through `jax.vmap` of the
same fused recurrence over two recurrent kernels, with the backward run's inputs reversed. Values are compared first;
rounds alternate, and the medians go into benchmarks/directions.json: `ratio` is the time of two loops, divided by that
of one.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scores import ROOT

from rnnjax.cli import host

RESULTS = ROOT / "benchmarks" / "directions.json"
SIZES = ((1, 200, 64, 64), (8, 100, 64, 64), (32, 100, 64, 64), (128, 200, 128, 64), (64, 200, 128, 128))
"""Batch, length, width of inputs, width of each direction."""
ROUNDS = 9
CALLS = 3


def measure(size: tuple[int, int, int, int], training: bool) -> dict[str, Any]:
    """Both ways, forward alone or with the gradients by parameters and inputs."""
    import jax
    import jax.numpy as jnp

    import rnnjax
    from rnnjax.cells.lstm import LSTMState
    from rnnjax.kernels.fused import Loop, Steps, recurrence

    batch, length, width, units = size
    x = jax.random.normal(jax.random.key(0), (batch, length, width))
    layer = rnnjax.Bidirectional(rnnjax.LSTM(units))
    params = layer.init(jax.random.key(1), x)
    form = rnnjax.LSTM(units).make_cell(parent=None).fused()
    assert form is not None
    zeros = LSTMState(*(jnp.zeros((2, batch, units)) for _ in range(2)))

    def run(kernel: jax.Array, z: jax.Array, state: LSTMState) -> Any:
        return recurrence(Loop(form[0], False, 1, True), kernel, None, None, state, state, None, Steps(z, None, None))

    def one_loop(params: Any, x: jax.Array) -> jax.Array:
        forward, backward = (params["params"][name]["recurrence"] for name in ("forward", "backward"))
        x = jnp.swapaxes(x, 0, 1)
        z = jnp.stack([part @ own["kernel"] + own["bias"] for part, own in ((x, forward), (x[::-1], backward))])
        kernels = jnp.stack([forward["recurrent_kernel"], backward["recurrent_kernel"]])
        _, (left, right) = jax.vmap(run)(kernels, z, zeros)
        return jnp.swapaxes(jnp.concatenate([left, right[::-1]], axis=-1), 0, 1)

    ways: dict[str, Callable[..., Any]] = {"two_loops": layer.apply, "one_loop": one_loop}
    np.testing.assert_allclose(*(way(params, x) for way in ways.values()), atol=1e-4)
    compiled = {}
    for name, way in ways.items():
        gradient = jax.grad(lambda params, x, way=way: (way(params, x) ** 2).sum(), argnums=(0, 1))
        compiled[name] = jax.jit(gradient if training else way)
        jax.block_until_ready(compiled[name](params, x))
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, function in compiled.items():
            begun = time.perf_counter()
            for _ in range(CALLS):
                jax.block_until_ready(function(params, x))
            seconds[name].append((time.perf_counter() - begun) / CALLS)
    two, one = (1000 * statistics.median(seconds[name]) for name in ways)
    case = {"batch": batch, "length": length, "inputs": width, "units": units, "training": training}
    return {**case, "two_loops_ms": round(two, 3), "one_loop_ms": round(one, 3), "ratio": round(two / one, 3)}


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    host.prepare()
    from rnnjax.training.folder import environment

    rows = [measure(size, training) for size in SIZES for training in (False, True)]
    for row in rows:
        print(*(f"{name} {value}" for name, value in row.items()), sep=", ")
    RESULTS.write_text(json.dumps({"environment": environment(), "rows": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
