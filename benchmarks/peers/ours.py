"""rnnjax: its layers, its training step, its sampler."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax
from peers.flax_linen import linen_layer
from peers.workload import Classifier, Generation, Layer, Workload, repeat
from rnnjax.models.classifier import Classifier as ClassifierModel
from rnnjax.models.language_model import LanguageModel
from rnnjax.models.summary import count_parameters
from rnnjax.sampling import Sampler
from rnnjax.tasks.imdb import TASK, Config
from rnnjax.training.devices import Devices
from rnnjax.training.optimizer import make_optimizer
from rnnjax.training.step import dropout_key, initial_train_state, make_train_step

CHUNK = 128
"""Characters that `Sampler.sample` draws at a time."""


def classifier(case: Classifier) -> Workload:
    """The step that `train.py --task imdb` takes, with the tutorial's settings: no clipping, no schedule."""
    config = Config(
        optimizer=case.optimizer, learning_rate=case.learning_rate, schedule="constant", clip_norm=0.0, seed=0
    )
    rates = {"dropout_rate": case.dropout, "recurrent_dropout_rate": case.dropout}
    encoder = rnnjax.LSTM(case.units, return_sequences=False, **rates)
    model = ClassifierModel(case.vocabulary, max(case.outputs, 2), case.embedding, encoder)
    tokens, labels = case.data()
    batch = {"inputs": tokens, "labels": labels, "weight": np.ones(case.batch, np.float32)}
    if case.lengths:
        batch["lengths"] = np.full(case.batch, case.length, np.int32)
    devices = Devices()
    optimizer = make_optimizer(config, 1)
    train_step = make_train_step(model, TASK, config, optimizer, devices)
    key = dropout_key(config.seed)
    state = initial_train_state(model, config, optimizer, batch, stateful=False, devices=devices)

    def step() -> Any:
        nonlocal state
        divided = devices.divide_batch(batch)
        devices.settle(state)
        state, sums = train_step(state, divided, key)
        return sums

    def mean(sums: Any) -> float:
        total, count = sums["loss"]
        return float(total / count)

    return Workload(repeat(step, mean, lambda _: jax.block_until_ready(state)), count_parameters(state.params))


def layer(case: Layer) -> Workload:
    """A layer under `jax.jit`."""
    module: Any = {"lstm": rnnjax.LSTM, "gru": rnnjax.GRU}[case.cell](
        case.units, matmul_dtype=case.matmul_dtype or None
    )
    if case.both_ways:
        module = rnnjax.Bidirectional(module)
    return linen_layer(module, case)


def generation(case: Generation) -> Workload:
    """What generate.py does, from the first character after the prompt on."""
    model = LanguageModel(case.vocabulary, case.embedding, rnnjax.Stack([rnnjax.LSTM(case.units)]))
    params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 1), jnp.int32))["params"]
    sampler = Sampler(model, params, temperature=case.temperature)

    def run(steps: int) -> tuple[float, float]:
        chunks = -(-steps // CHUNK)
        drawn = sampler.sample(case.prompt(), (chunks + 1) * CHUNK, num_samples=case.streams, chunk=CHUNK)
        next(drawn)  # the prompt is read
        begun = time.perf_counter()
        tokens = list(drawn)
        return (time.perf_counter() - begun) / (chunks * CHUNK), float(tokens[-1].mean())

    return Workload(run, count_parameters(params))
