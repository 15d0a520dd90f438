"""Linear recurrences, in parallel and one step after another, against a loop and its central differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import central_differences

from rnnjax.kernels.linear import linear_recurrence

B, H = 2, 3


def loop(reverse: bool, decay: np.ndarray, increment: np.ndarray, initial: np.ndarray) -> np.ndarray:
    h, outputs = initial, np.zeros_like(increment)
    for t in reversed(range(len(decay))) if reverse else range(len(decay)):
        h = outputs[t] = decay[t] * h + increment[t]
    return outputs


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("num_steps", [0, 1, 2, 5])
def test_values_and_gradients_are_those_of_a_loop(parallel, reverse, num_steps, x64):
    rng = np.random.default_rng(0)
    arguments = (
        rng.uniform(-1.2, 1.2, (num_steps, B, H)),
        rng.standard_normal((num_steps, B, H)),
        rng.standard_normal((B, H)),
    )
    weights = rng.standard_normal((num_steps, B, H))

    def ours(arguments):
        h = linear_recurrence(parallel, reverse, *arguments)
        return jnp.sum(weights * h), h

    (_, h), got = jax.jit(jax.value_and_grad(ours, has_aux=True))(arguments)
    np.testing.assert_allclose(h, loop(reverse, *arguments), rtol=0, atol=1e-13)
    want = central_differences(lambda arguments: float(np.sum(weights * loop(reverse, *arguments))), arguments)
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=0, atol=1e-8), got, want)


def test_a_decay_of_zero_starts_anew_and_of_one_adds_up():
    """Zeros also where nothing before them may pass, however large: no division by a decay."""
    decay = jnp.asarray([1.0, 1, 0, 1])[:, None, None]
    increment = jnp.asarray([1.0, 2, 3, 4])[:, None, None]
    for parallel in (False, True):
        h = linear_recurrence(parallel, False, decay, increment, jnp.full((1, 1), 1e30))
        np.testing.assert_array_equal(h[2:].ravel(), [3, 7])
        h = linear_recurrence(parallel, False, decay, increment, jnp.full((1, 1), 10.0))
        np.testing.assert_array_equal(h.ravel(), [11, 13, 3, 7])
