"""Several batch axes, and recurrences inside recurrences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_layer import LAYERS, T, assert_trees_close, inputs, state, variables
from flax import linen as nn

import rnnjax

AXES = (2, 3)
RNG = np.random.default_rng(0)
MASK = RNG.random((*AXES, T)) < 0.6
RESETS = RNG.random((*AXES, T)) < 0.3
LENGTHS = np.asarray([[6, 0, 3], [1, 5, 2]])


def merged(tree):
    """Both batch axes as one."""
    return jax.tree.map(lambda part: part.reshape(-1, *part.shape[2:]), tree)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gru_before", {"reverse": True}),
        ("lstm_full_gates", {"chunk_size": 4}),
        ("conv_lstm_1d", {}),
        ("rglru", {}),
    ],
)
def test_batch_axes_are_one_axis_folded(name, options, x64):
    x, initial, layer = inputs(name, 1, AXES), state(name, 2, AXES), LAYERS[name](return_state=True, **options)
    apply = jax.jit(layer.apply)
    for keywords in (
        {"mask": MASK, "resets": RESETS, "initial_state": initial},
        {"lengths": LENGTHS, "resets": RESETS, "initial_state": initial},
    ):
        got, want = apply(variables(name), x, **keywords), apply(variables(name), merged(x), **merged(keywords))
        assert_trees_close(merged(got), want, 1e-14)
    got = jax.jit(layer.clone(return_sequences=False).apply)(variables(name), x, **keywords)
    assert_trees_close(merged(got)[1], want[0].h, 1e-14)


def test_both_directions_and_stacks_over_batch_axes(x64):
    model = rnnjax.Stack([rnnjax.Bidirectional(rnnjax.GRU(2)), rnnjax.LSTM(4)], residual=True, return_state=True)
    x = inputs("gru", 3, AXES)
    given = jax.tree.map(np.float64, jax.jit(model.init)(jax.random.key(0), x))
    apply = jax.jit(model.apply)
    initial = jax.tree.map(lambda part: RNG.standard_normal(part.shape), model.initial_state(AXES, np.float64))
    for keywords in (
        {"mask": MASK, "resets": RESETS, "initial_state": initial},
        {"lengths": LENGTHS, "resets": RESETS, "initial_state": initial},
    ):
        got, want = apply(given, x, **keywords), apply(given, merged(x), **merged(keywords))
        assert got[0][0].backward.h.shape == (*AXES, 2)
        assert_trees_close(merged(got), want, 1e-14)


def test_each_example_on_each_axis_draws_its_own_mask():
    layer = rnnjax.SimpleRNN(8, dropout_rate=0.5, deterministic=False)
    x = jnp.ones((*AXES, 1, 16))
    y = layer.apply(layer.init(jax.random.key(0), x, deterministic=True), x, rngs={"dropout": jax.random.key(1)})
    assert len({row.tobytes() for row in np.asarray(y).reshape(-1, 8)}) == 6


def test_errors_name_all_batch_axes():
    layer, x = LAYERS["lstm"](), inputs("lstm", 4, AXES)
    for keywords, message in (
        ({"mask": MASK[0]}, r"LSTM expects mask as booleans \(2, 3, 6\); got bool \(3, 6\)"),
        ({"lengths": LENGTHS[0]}, r"LSTM expects lengths as integers \(2, 3\); got int\d+ \(3,\)"),
        ({"resets": RESETS[..., 0]}, r"LSTM expects resets as booleans \(2, 3, 6\); got bool \(2, 3\)"),
        ({"initial_state": state("lstm", 5)}, r"LSTM expects an initial_state of arrays \(2, 3, 3\); got \[\(3, 3\)"),
    ):
        with pytest.raises(ValueError, match=message):
            layer.apply(variables("lstm"), x, **keywords)


class RowsOfColumns(nn.Module):
    """A recurrence over the rows of a page, above one over the columns of each row."""

    @nn.compact
    def __call__(self, x, columns, rows):
        x = rnnjax.LSTM(4, return_sequences=False, name="within")(x, mask=columns)  # [B, R, C, D] -> [B, R, H]
        return rnnjax.GRU(2, return_state=True, name="across")(x, mask=rows)  # [B, R, H]


def test_a_recurrence_over_what_a_recurrence_makes_of_each_row(x64):
    """Against a loop, values and gradients, with columns missing in rows and rows missing in pages."""
    num_pages, num_rows, num_columns = 2, 4, 5
    rng = np.random.default_rng(6)
    x = rng.standard_normal((num_pages, num_rows, num_columns, 3))
    columns = rng.random((num_pages, num_rows, num_columns)) < 0.6
    columns[0, 1] = False
    rows = np.asarray([[1, 1, 0, 1], [0, 1, 1, 0]], bool)
    dirty = np.where((columns & rows[..., None])[..., None], x, np.nan)
    model = RowsOfColumns()
    given = jax.tree.map(np.float64, jax.jit(model.init)(jax.random.key(0), x, columns, rows))
    within, across = ({"params": given["params"][name]["recurrence"]} for name in ("within", "across"))
    inner, outer = rnnjax.LSTMCell(4), rnnjax.GRUCell(2)

    def loop(x):
        finals = []
        for page in range(num_pages):
            state = outer.initial_state(1, np.float64)
            for row in np.flatnonzero(rows[page]):
                below = inner.initial_state(1, np.float64)
                for column in np.flatnonzero(columns[page, row]):
                    below, _ = inner.apply(within, below, x[None, page, row, column])
                state, _ = outer.apply(across, state, below.h)
            finals.append(state.h[0])
        return jnp.stack(finals)

    def layers(x):
        return model.apply(given, x, columns, rows)[0].h

    np.testing.assert_allclose(jax.jit(layers)(dirty), loop(x), rtol=0, atol=1e-12)
    got, want = (jax.jit(jax.grad(lambda x, run=run: jnp.sum(jnp.sin(run(x)))))(x) for run in (layers, loop))
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)
    assert np.all((np.asarray(got) != 0) == (columns & rows[..., None])[..., None])
