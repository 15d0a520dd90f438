"""Measure whether several seeds train faster together, through `jax.vmap`, than one after the other.

    python benchmarks/seeds_together.py

The step is that of `train.py --task imdb` and of `--task addition` with their own settings, on data of the same shape.
Both ways start from the same states and take the same batches; after one step they are compared. The rounds alternate,
and the medians go into benchmarks/seeds_together.json: `ratio` is the time of the seeds one by one, divided by the time
of all together. `train.py --seeds` trains them one by one, since no ratio is clearly above 1.
"""

import argparse
import json
import statistics
import time
from typing import Any

import numpy as np
from scores import ROOT

from rnnjax.cli import host

RESULTS = ROOT / "benchmarks" / "seeds_together.json"
SEEDS = (2, 5)
ROUNDS = 7
STEPS = 10
TASKS = {"imdb": {"vocabulary_size": 10_000, "classes": ["negative", "positive"]}, "addition": {"answer_length": 4}}


def make_batch(name: str, rng: np.random.Generator, batch_size: int) -> dict[str, np.ndarray]:
    """A batch of the task's shapes."""
    weight = np.ones(batch_size, np.float32)
    if name == "imdb":
        inputs = rng.integers(2, 10_000, (batch_size, 200), np.int32)
        labels = rng.integers(0, 2, batch_size, np.int32)
        lengths = rng.integers(50, 201, batch_size, np.int32)
        return {"inputs": inputs, "lengths": lengths, "labels": labels, "weight": weight}
    inputs, answers = (rng.integers(0, 12, (batch_size, length), np.int32) for length in (7, 4))
    return {"inputs": inputs, "answers": answers, "weight": weight}


def measure(name: str, num_seeds: int) -> dict[str, Any]:
    """Both ways, on this machine."""
    import jax
    import jax.numpy as jnp

    from rnnjax.cli.runs import get_task
    from rnnjax.training.optimizer import make_optimizer
    from rnnjax.training.step import dropout_key, initial_train_state, make_train_step

    task = get_task(name)
    config = task.config()
    model, optimizer = task.build(config, TASKS[name]), make_optimizer(config, 1000)
    rng = np.random.default_rng(0)
    batches = [make_batch(name, rng, config.batch_size) for _ in range(num_seeds)]
    states = [
        initial_train_state(model, task.config(seed=seed), optimizer, batches[seed], stateful=False)
        for seed in range(num_seeds)
    ]
    keys = [dropout_key(seed) for seed in range(num_seeds)]
    alone = make_train_step(model, task, config, optimizer)
    together = jax.jit(jax.vmap(alone.__wrapped__), donate_argnums=0)  # type: ignore[attr-defined]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    all_batches = jax.tree.map(lambda *leaves: np.stack(leaves), *batches)
    all_keys = jnp.stack(keys)

    states = [alone(*of_one)[0] for of_one in zip(states, batches, keys, strict=True)]
    stacked, _ = together(stacked, all_batches, all_keys)
    difference = max(
        float(jnp.abs(one - many[seed]).max())
        for seed, state in enumerate(states)
        for one, many in zip(jax.tree.leaves(state.params), jax.tree.leaves(stacked.params), strict=True)
    )
    seconds: dict[str, list[float]] = {"alone": [], "together": []}
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        for seed in range(num_seeds):
            for _ in range(STEPS):
                states[seed], _ = alone(states[seed], batches[seed], keys[seed])
            jax.block_until_ready(states[seed])
        seconds["alone"].append(time.perf_counter() - begun)
        begun = time.perf_counter()
        for _ in range(STEPS):
            stacked, _ = together(stacked, all_batches, all_keys)
        jax.block_until_ready(stacked)
        seconds["together"].append(time.perf_counter() - begun)
    alone_ms, together_ms = (1000 * statistics.median(times) / STEPS for times in seconds.values())
    return {
        "task": name,
        "seeds": num_seeds,
        "alone_ms": round(alone_ms, 3),
        "together_ms": round(together_ms, 3),
        "ratio": round(alone_ms / together_ms, 3),
        "largest_difference_after_a_step": difference,
        "rounds": ROUNDS,
    }


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    host.prepare()
    from rnnjax.training.folder import environment

    found = [measure(name, count) for name in TASKS for count in SEEDS]
    for row in found:
        print(f"{row['task']}, {row['seeds']} seeds: {row['ratio']} times as fast together")
    RESULTS.write_text(json.dumps({"environment": environment(), "rows": found}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
