"""What `import rnnjax` gives, and the promises of its first page."""

import subprocess
import sys

import jax
import numpy as np
import pytest

import rnnjax


@pytest.mark.parametrize("name", rnnjax.__all__)
def test_every_public_name_is_there_and_says_what_it_is(name):
    value = getattr(rnnjax, name)
    assert value.__name__ == name
    assert value.__doc__
    assert name in dir(rnnjax)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'rnnjax' has no attribute 'LSTN'"):
        rnnjax.LSTN  # noqa: B018


def test_star_import_gives_all_names():
    names: dict = {}
    exec("from rnnjax import *", names)
    assert set(rnnjax.__all__) <= set(names)


def test_import_is_light():
    """No JAX and no Flax until a name is used, so that a command line answers at once."""
    code = (
        "import sys, rnnjax; heavy = {'jax', 'flax', 'numpy', 'tensorflow_datasets', 'matplotlib'} & set(sys.modules);"
        "assert not heavy, heavy; rnnjax.LSTM; assert 'jax' in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_the_library_as_its_users_write_it():
    """Each line of the first page, its results held against each other."""
    key, (batch, steps, width) = jax.random.key(0), (3, 5, 4)
    x = jax.random.normal(key, (batch, steps, width))
    lengths = np.asarray([5, 0, 2], np.int32)
    mask = np.arange(steps)[None, :] < lengths[:, None]

    layer = rnnjax.LSTM(64, dropout_rate=0.2, recurrent_dropout_rate=0.2)
    variables = jax.jit(layer.init)(key, x)
    y = layer.apply(variables, x, lengths=lengths)
    assert y.shape == (batch, steps, 64)
    np.testing.assert_array_equal(y, layer.apply(variables, x, mask=mask))
    whole = layer.apply(variables, x)
    np.testing.assert_allclose(y, np.where(mask[..., None], whole, 0), atol=1e-6)

    state, first = layer.apply(variables, x[:, :2], return_state=True)
    assert isinstance(state, rnnjax.LSTMState)
    state, second = layer.apply(variables, x[:, 2:], initial_state=state, return_state=True)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), whole, atol=1e-6)
    np.testing.assert_array_equal(state.h, second[:, -1])

    noisy = layer.apply(variables, x, deterministic=False, rngs={"dropout": key})
    assert np.abs(noisy - whole).max() > 1e-3
    last = rnnjax.LSTM(64, return_sequences=False).apply(variables, x)
    np.testing.assert_allclose(last, whole[:, -1], atol=1e-6)

    both = rnnjax.Bidirectional(rnnjax.LSTM(64), merge="concat")
    tied = {"params": {"forward": variables["params"], "backward": variables["params"]}}
    flipped = layer.apply(variables, x[:, ::-1])[:, ::-1]
    np.testing.assert_allclose(both.apply(tied, x), np.concatenate([whole, flipped], axis=-1), atol=1e-6)

    stack = rnnjax.Stack([rnnjax.LSTM(64), rnnjax.LSTM(32, return_sequences=False)])
    stacked = jax.jit(stack.init)(key, x)
    below = rnnjax.LSTM(64).apply({"params": stacked["params"]["layer_0"]}, x)
    above = rnnjax.LSTM(32).apply({"params": stacked["params"]["layer_1"]}, below)
    np.testing.assert_allclose(stack.apply(stacked, x), above[:, -1], atol=1e-6)

    peephole = rnnjax.RNN(rnnjax.LSTMCell(64, peephole=True))
    seen = jax.jit(peephole.init)(key, x)
    assert seen["params"]["recurrence"].pop("peephole_kernel").shape == (3, 64)
    blind = {**seen["params"]["recurrence"], "peephole_kernel": np.zeros((3, 64), np.float32)}
    np.testing.assert_allclose(
        peephole.apply({"params": {"recurrence": blind}}, x), rnnjax.LSTM(64).apply(seen, x), atol=1e-6
    )

    cell = rnnjax.LSTMCell(64)
    cell_variables = {"params": variables["params"]["recurrence"]}
    state = cell.initial_state(batch)
    for t in range(steps):
        state, out = cell.apply(cell_variables, state, x[:, t])
        np.testing.assert_allclose(out, whole[:, t], atol=1e-6)
