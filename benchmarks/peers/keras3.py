"""Keras 3, on the back end that KERAS_BACKEND names.

On TensorFlow each case is compiled with XLA and without, and the faster one is measured; on JAX all is compiled.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from peers.workload import Classifier, Generation, Layer, Workload, fastest, repeat

BACKEND = keras.backend.backend()
JIT_CHOICES = (True, False) if BACKEND == "tensorflow" else (True,)


class Clock(keras.callbacks.Callback):
    """When each step of `fit` ended, so that what `fit` does before and after its steps is not measured."""

    def on_train_begin(self, logs: Any = None) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.ends.append(time.perf_counter())
        self.loss = float(logs["loss"])


def classifier(case: Classifier) -> Workload:
    """The tutorial's model, trained with `fit`."""
    return fastest([compiled_classifier(case, jit) for jit in JIT_CHOICES])


def compiled_classifier(case: Classifier, jit: bool) -> Workload:
    keras.utils.set_random_seed(0)
    model = make_model(case)
    optimizers = {"adam": keras.optimizers.Adam, "rmsprop": keras.optimizers.RMSprop}
    model.compile(
        optimizer=optimizers[case.optimizer](case.learning_rate),
        loss="binary_crossentropy" if case.outputs == 1 else "sparse_categorical_crossentropy",
        jit_compile=jit,
    )
    tokens, labels = case.data()
    clock = Clock()

    def run(steps: int) -> tuple[float, float]:
        batches = same_batch(tokens, labels[:, None])
        options = {"epochs": 1, "verbose": 0, "shuffle": False, "callbacks": [clock]}
        model.fit(batches, steps_per_epoch=steps + 1, **options)
        return (clock.ends[-1] - clock.ends[0]) / steps, clock.loss

    return Workload(run, model.count_params(), settings=settings(jit))


def make_model(case: Classifier) -> Any:
    return keras.Sequential(
        [
            keras.Input((case.length,), dtype="int32"),
            keras.layers.Embedding(case.vocabulary, case.embedding),
            keras.layers.LSTM(case.units, dropout=case.dropout, recurrent_dropout=case.dropout),
            keras.layers.Dense(case.outputs, activation="sigmoid" if case.outputs == 1 else "softmax"),
        ]
    )


def same_batch(tokens: np.ndarray, labels: np.ndarray) -> Any:
    """One batch again and again, in the form that costs the back end least."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.data.Dataset.from_tensors((tokens, labels)).repeat()

    def batches() -> Iterator[Any]:
        while True:
            yield tokens, labels

    return batches()


def layer(case: Layer) -> Workload:
    """A layer in one compiled function of the back end."""
    keras.utils.set_random_seed(0)
    module = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU}[case.cell](case.units, return_sequences=True)
    if case.both_ways:
        module = keras.layers.Bidirectional(module)
    x, weights = case.data()
    module.build(x.shape)
    on_back_end = {"tensorflow": tensorflow_layer, "jax": jax_layer}[BACKEND]
    return fastest(
        [
            Workload(on_back_end(module, x, weights, case.backward, jit), module.count_params(), settings=settings(jit))
            for jit in JIT_CHOICES
        ]
    )


def tensorflow_layer(module: Any, x: np.ndarray, weights: np.ndarray, backward: bool, jit: bool) -> Callable:
    import tensorflow as tf

    inputs, factors = tf.constant(x), tf.constant(weights)

    @tf.function(jit_compile=jit)
    def step(inputs: Any) -> Any:
        if not backward:
            return [module(inputs)]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            loss = tf.reduce_sum(module(inputs) * factors)
        return tape.gradient(loss, [inputs, *[weight.value for weight in module.trainable_variables]])

    return repeat(lambda: step(inputs), magnitude)


def magnitude(arrays: list[Any]) -> float:
    """The sum of all absolute values."""
    return sum(float(np.abs(np.asarray(array)).sum()) for array in arrays)


def jax_layer(module: Any, x: np.ndarray, weights: np.ndarray, backward: bool, jit: bool) -> Callable:
    import jax
    import jax.numpy as jnp

    inputs, factors = jnp.asarray(x), jnp.asarray(weights)
    trainable = [variable.value for variable in module.trainable_variables]
    others = [variable.value for variable in module.non_trainable_variables]

    def forward(trainable: Any, inputs: Any) -> Any:
        return module.stateless_call(trainable, others, inputs)[0]

    def loss(trainable: Any, inputs: Any) -> Any:
        return (forward(trainable, inputs) * factors).sum()

    step = jax.jit(jax.grad(loss, argnums=(0, 1)) if backward else forward)
    return repeat(
        lambda: step(trainable, inputs), lambda result: magnitude(jax.tree.leaves(result)), jax.block_until_ready
    )


def generation(case: Generation) -> Workload:
    """The tutorial's loop: `predict` on the last window for each character."""
    return fastest([compiled_generation(case, jit) for jit in JIT_CHOICES])


def compiled_generation(case: Generation, jit: bool) -> Workload:
    keras.utils.set_random_seed(0)
    shape = Classifier(
        batch=case.streams, length=case.window, vocabulary=case.vocabulary, embedding=case.embedding, units=case.units,
        outputs=case.vocabulary, dropout=0.0, optimizer="", learning_rate=0.0,
    )  # fmt: skip
    model = make_model(shape)
    model.compile(jit_compile=jit)
    rng = np.random.default_rng(0)
    window = np.tile(case.prompt(), (case.streams, 1))  # [S, W]

    def step() -> np.ndarray:
        nonlocal window
        logits = np.log(model.predict(window, verbose=0, batch_size=case.streams) + 1e-8) / case.temperature
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        drawn = (probabilities.cumsum(axis=1) < rng.random((case.streams, 1))).sum(axis=1)
        tokens = np.minimum(drawn, case.vocabulary - 1).astype(np.int32)
        window = np.concatenate([window[:, 1:], tokens[:, None]], axis=1)
        return tokens

    return Workload(repeat(step, lambda tokens: float(tokens.mean())), model.count_params(), settings=settings(jit))


def settings(jit: bool) -> str:
    return "" if BACKEND == "jax" else f"jit_compile={jit}"
