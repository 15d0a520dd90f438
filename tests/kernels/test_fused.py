"""The recurrence whose weight gradient is formed after the loop, against a plain scan: values and every gradient."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.kernels.fused import Kept, Loop, StepRule, Steps, recurrence
from rnnjax.kernels.sequence import masked_step

T, B, H = 5, 3, 2
MASK = np.asarray([[1, 1, 1, 1, 1], [0, 0, 0, 0, 0], [0, 1, 0, 1, 1]], bool).T
RESETS = np.asarray([[0, 0, 1, 0, 1], [1, 0, 0, 1, 0], [0, 1, 1, 0, 1]], bool).T


class State(NamedTuple):
    h: jax.Array
    c: jax.Array


def added(state, z, product):
    """Two pre-activations that are only ever added, and a state of two parts."""
    a, b = jnp.split(z + product, 2, axis=1)
    c = jnp.tanh(a) * state.c + jnp.sin(b)
    return State(jnp.tanh(c), c)


def multiplied(state, z, product):
    """Two pre-activations that are multiplied, so that each has a gradient of its own."""
    a, b = jnp.split(z * product, 2, axis=1)
    return State(jnp.tanh(a + state.c), jnp.cos(b) * state.c + state.h)


def rule_of(step) -> StepRule:
    """The rule of a step, its derivative by JAX."""

    def forward(state, h, z, times):
        product = times(0, h)
        return step(state, z, product), (h,), Kept(z, (*state, *jnp.split(product, 2, axis=1)))

    def backward(kept, gradient, store, times):
        state, product = State(*kept.rest[:2]), jnp.concatenate(kept.rest[2:], axis=1)
        state, z, product = jax.vjp(step, state, kept.row, product)[1](gradient)
        store(z)
        return None if step is added else (product,), times(0, product), state

    return StepRule(forward, backward)


RULES = {step: rule_of(step) for step in (added, multiplied)}


def scanned(loop, kernel, bias, input_bias, initial, fresh, recurrent_mask, steps):
    """The same by `lax.scan`, differentiated by JAX."""

    def body(state, step):
        def advance(before):
            h = before.h if recurrent_mask is None else before.h * recurrent_mask
            product = h @ kernel if bias is None else h @ kernel + bias[None]
            z = step.z if input_bias is None else step.z + input_bias[None]
            after = loop.rule.forward(before, h, z, lambda part, x: product)[0]
            return after, after.h

        return masked_step(advance, state, fresh, step.mask, step.resets)

    final, outputs = jax.lax.scan(body, initial, steps, reverse=loop.reverse)
    return final, outputs if loop.return_sequences else None


def arguments():
    rng = np.random.default_rng(0)

    def draw(*shape):
        return jnp.asarray(rng.standard_normal(shape))

    return draw(H, 2 * H), draw(2 * H), draw(2 * H), State(draw(B, H), draw(B, H)), draw(T, B, 2 * H)


FRESH = np.full((B, H), 0.3), np.full((B, H), -0.2)
KEPT = np.asarray([[0, 2], [2, 2], [2, 0]], float)


@pytest.mark.parametrize(
    ("step", "reverse", "full", "return_sequences"),
    [
        (added, False, False, True),
        (added, True, True, True),
        (added, False, True, False),
        (multiplied, True, False, False),
        (multiplied, False, True, True),
        (multiplied, True, True, True),
    ],
)
def test_values_and_gradients_equal_those_of_a_scan(step, reverse, full, return_sequences, x64):
    loop = Loop(RULES[step], reverse, 2, return_sequences)
    rng = np.random.default_rng(1)
    cotangents = State(*rng.standard_normal((2, B, H))), rng.standard_normal((T, B, H)) if return_sequences else None

    def loss(run, arguments):
        kernel, *biases, initial, z = arguments
        biases = biases if full else (None, None)
        fresh = State(*map(jnp.asarray, FRESH))
        mask, resets, kept = (jnp.asarray(MASK), jnp.asarray(RESETS), jnp.asarray(KEPT)) if full else (None,) * 3
        results = run(loop, kernel, *biases, initial, fresh, kept, Steps(z, mask, resets))
        return sum(jax.tree.leaves(jax.tree.map(lambda w, part: jnp.sum(w * part), cotangents, results))), results

    run = jax.jit(jax.value_and_grad(loss, argnums=1, has_aux=True), static_argnums=0)
    (_, results), gradient = run(recurrence, arguments())
    (_, expected), expected_gradient = run(scanned, arguments())
    assert (results[1] is None) == (not return_sequences)
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=0, atol=1e-12), results, expected)
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=0, atol=1e-11), gradient, expected_gradient)
    kernel, *biases, initial, z = gradient
    assert all(np.any(leaf != 0) for leaf in (kernel, *initial, z))
    assert all(np.any(bias != 0) == full for bias in biases)
    if full:
        assert np.all(np.asarray(z)[~MASK] == 0)
        for part in initial:  # an example with no real step hands the gradient of its state through
            assert np.all(part[1] != 0)


def test_gradients_of_gradients_are_those_of_a_scan(x64):
    loop = Loop(RULES[multiplied], False, 1, True)
    kernel, *biases, initial, z = arguments()

    def penalty(run, kernel):
        def loss(z):
            steps = Steps(z, jnp.asarray(MASK), None)
            return jnp.sum(run(loop, kernel, *biases, initial, initial, jnp.asarray(KEPT), steps)[1] ** 2)

        return jnp.sum(jax.grad(loss)(z) ** 2)

    got, want = (jax.jit(jax.grad(penalty, argnums=1), static_argnums=0)(run, kernel) for run in (recurrence, scanned))
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9)
    assert np.all(want != 0)
