"""The memory that a long sequence takes: `python -m peers.memory CASE`, in a process of its own.

CASE is a JSON object with the sizes and the layer's options. Prints one JSON object: `mib` what a step forward and
backward takes at its peak as XLA counts it (parameters and inputs, results, and temporary arrays), `process_mib` the
most memory that the process held, Python and compilation included, `ms` such a step, `value` a loss.
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
    loss = jax.value_and_grad(lambda variables, x: jnp.square(layer.apply(variables, x)).mean())
    run = jax.jit(loss).lower(variables, x).compile()
    counted = run.memory_analysis()
    mib = (counted.argument_size_in_bytes + counted.output_size_in_bytes + counted.temp_size_in_bytes) / 2**20
    value, _ = jax.block_until_ready(run(variables, x))
    begun = time.perf_counter()
    jax.block_until_ready(run(variables, x))
    milliseconds = (time.perf_counter() - begun) * 1e3
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB; on macOS bytes
    process_mib = peak / (2**20 if sys.platform == "darwin" else 2**10)
    print(json.dumps({"mib": mib, "process_mib": process_mib, "ms": milliseconds, "value": float(value)}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
