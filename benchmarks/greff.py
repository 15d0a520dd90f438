"""Train each LSTM of Greff et al. (2017) on a text, and write benchmarks/greff.json and the table in docs/reference.md.

    python benchmarks/greff.py --data-dir DIR    # all that is not measured yet
    python benchmarks/greff.py CIFG NP           # these, again
    python benchmarks/greff.py --table           # only the table, from greff.json

The paper ("LSTM: A Search Space Odyssey") takes the vanilla LSTM, with peepholes, and changes one thing at a time. Here
each variant predicts the next character of tiny_shakespeare, on windows that start from a zero state, with the same
settings and seeds for all; nothing is searched for, and no model is chosen by its score.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import sys
import time
from typing import Any, NamedTuple

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from scores import ROOT, write_into

import rnnjax
from rnnjax.data import tfds
from rnnjax.data.vocabulary import CharacterVocabulary
from rnnjax.models.summary import count_parameters

RESULTS = ROOT / "benchmarks" / "greff.json"
PAGE = ROOT / "docs" / "reference.md"

PEEPHOLE = {"peephole": True}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "V": ("vanilla", PEEPHOLE),
    "NIG": ("no input gate", PEEPHOLE | {"input_gate": False}),
    "NFG": ("no forget gate", PEEPHOLE | {"forget_gate": False}),
    "NOG": ("no output gate", PEEPHOLE | {"output_gate": False}),
    "NIAF": ("no input activation function", PEEPHOLE | {"activation_fn": jax.nn.identity}),
    "NOAF": ("no output activation function", PEEPHOLE | {"output_activation_fn": jax.nn.identity}),
    "CIFG": ("coupled input and forget gate", PEEPHOLE | {"coupled_gates": True}),
    "NP": ("no peepholes", {}),
    "FGR": ("full gate recurrence", PEEPHOLE | {"full_gate_recurrence": True}),
}
"""Short names as in the paper, what they mean, and the options of `rnnjax.LSTM`."""


class Settings(NamedTuple):
    """The same for all variants."""

    units: int = 64
    window: int = 64
    """Characters of one example."""
    batch_size: int = 64
    epochs: int = 1
    learning_rate: float = 1e-2
    """At the start; it falls to zero along half a cosine."""
    clip_norm: float = 1.0
    seeds: tuple[int, ...] = (0, 1, 2)


class Model(nn.Module):
    """Logits `[B, T, V]` of the next character, from characters `[B, T]`."""

    vocabulary_size: int
    units: int
    options: dict[str, Any]

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        x = jax.nn.one_hot(tokens, self.vocabulary_size)
        return nn.Dense(self.vocabulary_size)(rnnjax.LSTM(self.units, **self.options)(x))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="*", metavar="VARIANT", help=", ".join(VARIANTS))
    parser.add_argument("--data-dir", help="folder of TFDS data sets")
    parser.add_argument("--table", action="store_true", help="train nothing")
    options = parser.parse_args()
    if unknown := set(options.variants) - set(VARIANTS):
        parser.error(f"expected variants from {', '.join(VARIANTS)}; got {', '.join(sorted(unknown))}")
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    missing = options.variants or [name for name in VARIANTS if name not in results]
    if missing and not options.table:
        text = read(options.data_dir)
        for name in missing:
            results[name] = measure(name, text, Settings())
            print(json.dumps({name: results[name]["values"], "minutes": results[name]["minutes"]}), flush=True)
            ordered = {key: results[key] for key in VARIANTS if key in results}
            RESULTS.write_text(json.dumps(ordered, indent=2) + "\n", encoding="utf-8")
    write_into(PAGE, "greff", table(results))


def read(data_dir: str | None) -> str:
    """The text as TFDS prepares it, downloaded where it is not there."""
    try:
        return tfds.read_tiny_shakespeare(tfds.prepare_tiny_shakespeare(data_dir))
    except tfds.NetworkUnavailable as error:
        sys.exit(f"--data-dir: expected tiny_shakespeare prepared by TFDS, or a network to fetch it; {error}.")


def measure(name: str, text: str, settings: Settings) -> dict[str, Any]:
    """Train one variant with all seeds, and collect the results."""
    vocabulary = CharacterVocabulary.from_text(text)
    tokens = np.asarray(vocabulary.encode(text))
    cut = len(tokens) * 9 // 10
    train, test = windows(tokens[:cut], settings.window), windows(tokens[cut:], settings.window)
    description, options = VARIANTS[name]
    model = Model(len(vocabulary), settings.units, options)
    start = time.perf_counter()
    params, losses = fit_and_score(model, train, test, settings)
    seconds = time.perf_counter() - start
    parameters = count_parameters(params["LSTM_0"]) // len(settings.seeds)
    return {
        "description": description,
        "options": [f"{key}={getattr(value, '__name__', value)}" for key, value in options.items()],
        "metric": "test loss, nats a character over the last 10 % of tiny_shakespeare",
        "mean": statistics.mean(losses),
        "deviation": statistics.stdev(losses) if len(losses) > 1 else 0.0,
        "values": losses,
        "parameters": parameters,
        "minutes": round(seconds / 60, 2),
        "settings": settings._asdict(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {jax.devices()[0].platform}",
        "versions": {package.__name__: package.__version__ for package in (jax, flax, optax, rnnjax)},
        "date": datetime.date.today().isoformat(),
    }


def windows(tokens: np.ndarray, window: int) -> np.ndarray:
    """Examples `[N, window + 1]` one after another, each beginning with the last character of the one before."""
    starts = np.arange(0, len(tokens) - window, window)
    return tokens[starts[:, None] + np.arange(window + 1)]


def fit_and_score(
    model: Model, train: np.ndarray, test: np.ndarray, settings: Settings
) -> tuple[dict[str, Any], list[float]]:
    """Parameters, with a first axis of seeds, and the test loss of each seed. All seeds are trained side by side."""
    batches = len(train) // settings.batch_size
    schedule = optax.cosine_decay_schedule(settings.learning_rate, settings.epochs * batches)
    optimizer = optax.chain(optax.clip_by_global_norm(settings.clip_norm), optax.adam(schedule))

    def start(seed: jax.Array) -> tuple[Any, Any]:
        params = model.init(jax.random.key(seed), jnp.zeros((1, 1), int))["params"]
        return params, optimizer.init(params)

    def loss(params: Any, examples: jax.Array) -> jax.Array:
        logits = model.apply({"params": params}, examples[:, :-1])
        return optax.softmax_cross_entropy_with_integer_labels(logits, examples[:, 1:]).mean()

    def update(params: Any, state: Any, examples: jax.Array) -> tuple[Any, Any]:
        updates, state = optimizer.update(jax.grad(loss)(params, examples), state, params)
        return optax.apply_updates(params, updates), state

    params, state = jax.jit(jax.vmap(start))(jnp.asarray(settings.seeds))
    step = jax.jit(jax.vmap(update), donate_argnums=(0, 1))
    orders = [np.random.default_rng(seed) for seed in settings.seeds]
    for _ in range(settings.epochs):
        order = np.stack([generator.permutation(len(train)) for generator in orders])
        for at in range(0, batches * settings.batch_size, settings.batch_size):
            params, state = step(params, state, train[order[:, at : at + settings.batch_size]])
    score = jax.jit(jax.vmap(loss, in_axes=(0, None)))
    sizes, sums = [], []
    for at in range(0, len(test), 512):
        part = test[at : at + 512]
        sizes.append(len(part))
        sums.append(np.asarray(score(params, part)) * len(part))
    return params, [float(value) for value in np.sum(sums, axis=0) / np.sum(sizes)]


def table(results: dict[str, Any]) -> str:
    """The table as Markdown; what was not measured says so."""
    lines = [
        "| variant | options of `LSTM` | test loss | deviation | beside V | parameters of the layer | minutes |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, (description, _) in VARIANTS.items():
        result = results.get(name)
        row = [f"{name}, {description}", "", "unmeasured", "", "", "", ""]
        if result is not None:
            beside = f"{result['mean'] - results['V']['mean']:+.4f}" if "V" in results else ""
            row[1:] = [
                ", ".join(f"`{option}`" for option in result["options"]) or "none",
                f"{result['mean']:.4f}",
                f"{result['deviation']:.4f}",
                beside,
                f"{result['parameters']:,}",
                f"{result['minutes']:.1f}",
            ]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
