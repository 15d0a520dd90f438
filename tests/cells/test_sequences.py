"""The layer over every form of a cell against the loop over its equations, and its ways to run against each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import CASES, FORMS

T, D, H = 5, 3, 4
MASK = np.asarray([[1, 1, 1, 1, 1], [0, 1, 0, 1, 0]], bool)
RESETS = np.asarray([[0, 0, 1, 0, 0], [1, 0, 0, 1, 1]], bool)


@pytest.mark.parametrize("name", FORMS)
def test_layer_equals_the_loop_in_every_way(name, x64):
    """In values; and the ways in gradients of weights, initial state and inputs."""
    case = FORMS[name]
    reverse, width = len(name) % 2 == 0, case.input_width(D, H)
    x = np.random.default_rng(0).standard_normal((2, T, width))
    arguments = case.random_params(1, width, H), case.random_state(2, 2, H), x
    params, state, _ = arguments
    final, outputs = case.run(params, x, mask=MASK, resets=RESETS, initial=state, reverse=reverse)
    gradients = []
    for way in case.implementations:
        layer = case.make_layer(H, return_state=True, reverse=reverse, implementation=way)

        def loss(arguments, layer=layer):
            params, state, x = arguments
            results = layer.apply({"params": {"recurrence": params}}, x, mask=MASK, resets=RESETS, initial_state=state)
            return sum(jnp.sum(jnp.sin(3 * part)) for part in jax.tree.leaves(results)), results

        if len(case.implementations) == 1:  # derivatives are JAX's, of the step
            _, (got, y) = jax.jit(loss)(arguments)
        else:
            (_, (got, y)), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(arguments)
            gradients.append(gradient)
        np.testing.assert_allclose(y, outputs, rtol=0, atol=1e-12)
        for part, want in zip(got, final, strict=True):
            np.testing.assert_allclose(part, want, rtol=0, atol=1e-12)
    for gradient in gradients[1:]:
        jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=0, atol=1e-11), gradient, gradients[0])
    for leaf in jax.tree.leaves(gradients):
        assert np.any(leaf != 0) or name == "irnn"  # whose units may be at rest


def test_a_form_that_a_cell_lacks_is_refused():
    x = jnp.ones((1, T, D))
    for name, way in [("lstm_clipped", "fused"), ("gru_layer_norm", "fused"), ("irnn", "parallel")]:
        case = FORMS[name]
        layer = case.make_layer(H, implementation=way)
        message = rf"^{case.layer} with these options has no {way} form\. Use implementation='auto'\."
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(layer.init, jax.random.key(0), x)


@pytest.mark.parametrize("name", ["simple", "lstm", "gru", "gru_before"])
def test_rounded_operands_in_both_ways(name):
    """Scan and fused round the same operands; both stay near float64, and neither is it."""
    case = CASES[name]
    x = np.random.default_rng(0).standard_normal((2, T, D)).astype(np.float32)
    params = case.random_params(1, D, H, np.float32)
    _, exact = case.run(params, x, mask=MASK)

    def loss(params, x, way):
        layer = case.make_layer(H, matmul_dtype=jnp.bfloat16, implementation=way)
        y = layer.apply({"params": {"recurrence": params}}, x, mask=MASK)
        return jnp.mean(jnp.sin(3 * y)), y

    run = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True), static_argnums=2)
    ((_, y), scan), ((_, fused_y), fused) = (run(params, x, way) for way in ("scan", "fused"))
    np.testing.assert_allclose(fused_y, y, rtol=0, atol=2e-3)
    jax.tree.map(lambda f, s: np.testing.assert_allclose(f, s, rtol=0, atol=2e-3), fused, scan)
    for outputs in (y, fused_y):
        assert outputs.dtype == jnp.float32
        np.testing.assert_allclose(outputs, exact, rtol=0, atol=0.05)
        assert np.abs(outputs - exact).max() > 1e-4
