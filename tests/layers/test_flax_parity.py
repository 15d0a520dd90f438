"""Flax's own cells, where their equations are ours: the same weights give the same outputs and gradients.

Flax's `LSTMCell` is ours without peepholes, its `GRUCell` ours with `reset_after` and only the candidate's recurrent
bias and with names that say r, z, n, and its `SimpleCell` ours.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from oracles import CASES

B, T, D, H = 3, 5, 4, 6
LENGTHS = np.asarray([5, 2, 4])


def lstm_of(flax):
    """Our parameters from those of `nn.LSTMCell`, whose gates are i, f, g, o."""
    return {
        "kernel": jnp.concatenate([flax["i" + gate]["kernel"] for gate in "ifog"], axis=1),
        "recurrent_kernel": jnp.concatenate([flax["h" + gate]["kernel"] for gate in "ifog"], axis=1),
        "bias": jnp.concatenate([flax["h" + gate]["bias"] for gate in "ifog"]),
    }


def gru_of(flax):
    zeros = jnp.zeros(2 * H)
    return {
        "kernel": jnp.concatenate([flax["i" + gate]["kernel"] for gate in "zrn"], axis=1),
        "recurrent_kernel": jnp.concatenate([flax["h" + gate]["kernel"] for gate in "zrn"], axis=1),
        "bias": jnp.concatenate([flax["i" + gate]["bias"] for gate in "zrn"]),
        "recurrent_bias": jnp.concatenate([zeros, flax["hn"]["bias"]]),
    }


def simple_of(flax):
    return {
        "kernel": flax["i"]["kernel"],
        "recurrent_kernel": flax["h"]["kernel"],
        "bias": flax["i"]["bias"],
    }


PEERS = {"lstm": (nn.LSTMCell, lstm_of), "gru": (nn.GRUCell, gru_of), "simple": (nn.SimpleCell, simple_of)}


@pytest.mark.parametrize("name", PEERS)
def test_same_weights_same_outputs_and_gradients(name):
    make_peer, convert = PEERS[name]
    peer = nn.RNN(make_peer(H))
    ours = CASES[name].make_layer(H)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((B, T, D)).astype(np.float32)
    weights = rng.standard_normal((B, T, H)).astype(np.float32) * (np.arange(T)[None] < LENGTHS[:, None])[..., None]
    shapes = jax.eval_shape(peer.init, jax.random.key(0), x)["params"]["cell"]
    params = jax.tree.map(lambda leaf: (0.7 * rng.standard_normal(leaf.shape)).astype(np.float32), shapes)

    def peer_loss(params, x):
        y = peer.apply({"params": {"cell": params}}, x)
        return jnp.sum(weights * y), y

    def our_loss(params, x):
        y = ours.apply({"params": {"recurrence": convert(params)}}, x, lengths=LENGTHS)
        return jnp.sum(weights * y), y

    (_, want), want_gradient = jax.jit(jax.value_and_grad(peer_loss, argnums=(0, 1), has_aux=True))(params, x)
    (_, got), got_gradient = jax.jit(jax.value_and_grad(our_loss, argnums=(0, 1), has_aux=True))(params, x)
    real = np.arange(T)[None] < LENGTHS[:, None]
    np.testing.assert_allclose(np.asarray(got)[real], np.asarray(want)[real], rtol=0, atol=1e-5)
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=1e-5, atol=1e-5), got_gradient, want_gradient)
