"""Flax Linen's own `nn.RNN`."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from peers.workload import Classifier, Layer, Workload, repeat


class Model(nn.Module):
    """Embedding, LSTM, dense layer. `nn.RNN` has no dropout; that of the inputs is put before it, one mask for all
    steps, and there is none of the recurrent connections."""

    case: Classifier

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        x = nn.Embed(self.case.vocabulary, self.case.embedding)(tokens)
        x = nn.Dropout(self.case.dropout, broadcast_dims=(1,), deterministic=False)(x)
        (_, h), _ = nn.RNN(nn.OptimizedLSTMCell(self.case.units), return_carry=True)(x)
        return nn.Dense(self.case.outputs)(h)


def classifier(case: Classifier) -> Workload:
    model = Model(case)
    tokens, labels = map(jnp.asarray, case.data())
    optimizers = {
        "adam": lambda rate: optax.adam(rate, eps=1e-7),
        "rmsprop": lambda rate: optax.rmsprop(rate, decay=0.9, eps=1e-7),
    }
    optimizer = optimizers[case.optimizer](case.learning_rate)
    key = jax.random.key(0)
    params = jax.jit(model.init)({"params": key, "dropout": key}, tokens)
    parameters = count(params)  # now: they are donated to the first step
    state = params, optimizer.init(params), jnp.zeros((), jnp.int32)

    def objective(params: Any, key: Any) -> Any:
        logits = model.apply(params, tokens, rngs={"dropout": key})
        if case.outputs == 1:
            return optax.sigmoid_binary_cross_entropy(logits[:, 0], labels).mean()
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def update(state: Any) -> Any:
        params, optimizer_state, number = state
        loss, gradients = jax.value_and_grad(objective)(params, jax.random.fold_in(key, number))
        updates, optimizer_state = optimizer.update(gradients, optimizer_state)
        return (optax.apply_updates(params, updates), optimizer_state, number + 1), loss

    train_step = jax.jit(update, donate_argnums=0)

    def step() -> Any:
        nonlocal state
        state, loss = train_step(state)
        return loss

    return Workload(repeat(step, float, lambda _: jax.block_until_ready(state)), parameters)


def layer(case: Layer) -> Workload:
    directions = 2 if case.both_ways else 1
    cell = {"lstm": nn.OptimizedLSTMCell, "gru": nn.GRUCell}[case.cell]
    layers = [nn.RNN(cell(case.units)) for _ in range(directions)]
    module = nn.Bidirectional(*layers) if case.both_ways else layers[0]
    # Its GRU has no recurrent biases for the gates, which add nothing to what the input biases can do.
    surplus = -2 * case.units * directions if case.cell == "gru" else 0
    return linen_layer(module, case, surplus)


def linen_layer(module: Any, case: Layer, surplus: int = 0) -> Workload:
    """Any Linen layer whose call gives all outputs, under `jax.jit`."""
    x, weights = map(jnp.asarray, case.data())
    variables = jax.jit(module.init)(jax.random.key(0), x)

    def loss(variables: Any, x: Any) -> Any:
        return (module.apply(variables, x) * weights).sum()

    run = jax.jit(jax.grad(loss, argnums=(0, 1)) if case.backward else module.apply)
    return Workload(repeat(lambda: run(variables, x), magnitude, jax.block_until_ready), count(variables), surplus)


def magnitude(result: Any) -> float:
    """The sum of all absolute values."""
    return sum(float(jnp.abs(leaf.astype(jnp.float32)).sum()) for leaf in jax.tree.leaves(result))


def count(params: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))
