"""minGRU, minLSTM and RG-LRU where gates open and shut entirely."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax

H = 2


@pytest.mark.parametrize("layer", [rnnjax.RGLRU, rnnjax.MinGRU, rnnjax.MinLSTM])
def test_gradients_stay_finite_with_gates_shut_or_open(layer):
    """sqrt(1 - a ** 2) has an infinite slope at a = 1, and both gates of a minLSTM may be 0 in float32."""
    x = np.random.default_rng(0).standard_normal((1, 3, H)).astype(np.float32)
    model = layer(H)
    columns = {rnnjax.MinLSTM: 3}.get(layer, 2) * H

    def loss(params, x):
        y = model.apply({"params": {"recurrence": params}}, x)
        return jnp.sum(y**2), y

    gradients = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))
    for bias in (-200, 200):
        for decay in (-200, 0, 200) if layer is rnnjax.RGLRU else (None,):
            params = {"kernel": np.ones((H, columns), np.float32), "bias": np.full(columns, bias, np.float32)}
            if decay is not None:
                params["decay_logit"] = np.full(H, decay, np.float32)
            assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradients(params, x)))


def test_two_shut_gates_of_a_min_lstm_still_share_as_their_logits_say(x64):
    cell = rnnjax.MinLSTMCell(1)
    params = {"kernel": np.zeros((1, 3)), "bias": np.asarray([-1000.0, -1001.0, 3.0])}
    state, _ = jax.jit(cell.apply)({"params": params}, rnnjax.LinearState(np.full((1, 1), 7.0)), np.zeros((1, 1)))
    keep = 1 / (1 + np.e)  # exp(-1001) of exp(-1001) + exp(-1000)
    np.testing.assert_allclose(state.h, [[keep * 7 + (1 - keep) * 3]], rtol=1e-12)


def test_a_shut_recurrence_gate_of_an_rg_lru_keeps_everything_and_writes_nothing():
    cell = rnnjax.RGLRUCell(1)
    params = {"kernel": jnp.zeros((1, 2)), "bias": jnp.asarray([-200.0, 0.0]), "decay_logit": jnp.asarray([1.0])}
    state, _ = jax.jit(cell.apply)({"params": params}, rnnjax.LinearState(jnp.full((1, 1), 7.0)), jnp.ones((1, 1)))
    np.testing.assert_allclose(state.h, [[7]], rtol=1e-6)


def test_positive_is_above_zero_continuous_and_the_papers():
    x = np.asarray([-30.0, -1.0, -1e-7, 0.0, 1e-7, 2.0], np.float32)
    expected = [np.exp(-30), 1 / (1 + np.e), 0.5, 0.5, 0.5, 2.5]
    np.testing.assert_allclose(rnnjax.positive(x), expected, rtol=1e-6, atol=1e-7)


def test_a_candidates_activation_is_applied_to_it_alone(x64):
    for cell in (rnnjax.MinGRUCell, rnnjax.MinLSTMCell):
        blocks = 2 if cell is rnnjax.MinGRUCell else 3
        params = {"kernel": np.zeros((1, blocks)), "bias": np.asarray([*[0.0] * (blocks - 1), -1.0])}
        state, _ = jax.jit(cell(1, activation_fn=rnnjax.positive).apply)(
            {"params": params}, rnnjax.LinearState(np.ones((1, 1))), np.zeros((1, 1))
        )
        np.testing.assert_allclose(state.h, [[0.5 + 0.5 / (1 + np.e)]], rtol=1e-12)


def test_an_rg_lrus_inputs_must_be_as_wide_as_its_state():
    message = r"^RGLRUCell expects inputs as wide as its features, 2; got 3\. Put nn\.Dense before it\."
    with pytest.raises(ValueError, match=message):
        rnnjax.RGLRU(H).init(jax.random.key(0), jnp.ones((1, 1, 3)))
