"""The memory that a long sequence takes: `python -m peers.memory CASE`, in a process of its own.

CASE is a JSON object with the sizes and the layer's options. Prints one JSON object: `mib` the most memory that the
process held, `ms` a step forward and backward, `value` a loss.
"""

import json
import resource
import sys
import time

from rnnjax.cli import host


def main(case: dict) -> None:
    host.prepare()
    import jax
    import jax.numpy as jnp

    import rnnjax

    layer = rnnjax.LSTM(case["units"], **case["options"])
    shape = (case["batch"], case["length"], case["inputs"])
    x = jax.random.normal(jax.random.key(0), shape)
    variables = jax.jit(layer.init)(jax.random.key(1), x)
    run = jax.jit(jax.value_and_grad(lambda variables: jnp.square(layer.apply(variables, x)).mean()))
    value, _ = jax.block_until_ready(run(variables))
    begun = time.perf_counter()
    jax.block_until_ready(run(variables))
    milliseconds = (time.perf_counter() - begun) * 1e3
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB; on macOS bytes
    mib = peak / (2**20 if sys.platform == "darwin" else 2**10)
    print(json.dumps({"mib": mib, "ms": milliseconds, "value": float(value)}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
