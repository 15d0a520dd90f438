"""Both directions: merges, padding, states, packed documents, and weights that are never tied."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given
from hypothesis.extra import numpy as hnp
from oracles import CASES

import rnnjax

B, T, D, H = 4, 6, 3, 4
LENGTHS = np.asarray([6, 0, 1, 4])
MASK = np.asarray([[1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0], [0, 0, 1, 0, 1, 1], [1, 0, 1, 1, 0, 0]], bool)
KEY = jax.random.key(0)
MERGES = {
    "concat": lambda f, b: np.concatenate([f, b], axis=-1),
    "sum": lambda f, b: f + b,
    "mul": lambda f, b: f * b,
    "average": lambda f, b: (f + b) / 2,
}


def inputs(seed: int = 0, dtype=np.float64) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((B, T, D)).astype(dtype)


def two_params(case, dtype=np.float64):
    return case.random_params(1, D, H, dtype), case.random_params(2, D, H, dtype)


def variables_of(forward, backward) -> dict:
    return {"params": {"forward": {"recurrence": forward}, "backward": {"recurrence": backward}}}


@functools.cache
def jitted(name: str, merge: str = "concat", **options):
    layer = CASES[name].make_layer(H, return_state=True, **options)
    return jax.jit(rnnjax.Bidirectional(layer, merge=merge).apply)


def assert_close(got, want, atol=1e-12) -> None:
    for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(g, w, rtol=0, atol=atol)


@pytest.mark.parametrize("merge", MERGES)
def test_every_merge_is_of_the_two_loops_under_lengths(merge, x64):
    case, x = CASES["gru"], inputs()
    forward, backward = two_params(case)
    state, y = jitted("gru", merge)(variables_of(forward, backward), x, lengths=LENGTHS)
    forward_state, forward_y = case.run(forward, x, lengths=LENGTHS)
    backward_state, backward_y = case.run(backward, x, lengths=LENGTHS, reverse=True)
    np.testing.assert_allclose(y, MERGES[merge](forward_y, backward_y), rtol=0, atol=1e-12)
    assert_close(state, (forward_state, backward_state))
    assert np.all(np.asarray(y)[np.arange(T)[None] >= LENGTHS[:, None]] == 0)


@pytest.mark.parametrize(
    ("name", "reverse"),
    [("simple", False), ("lstm", False), ("lstm", True), ("lstm_peephole", False), ("gru", True), ("gru_before", True)],
)
def test_states_go_in_and_come_out_of_both_directions_and_a_reversed_layer_swaps_them(name, reverse, x64):
    case, x = CASES[name], inputs(3)
    forward, backward = two_params(case)
    initial = rnnjax.BidirectionalState(case.random_state(4, B, H), case.random_state(5, B, H))
    state, y = jitted(name, reverse=reverse)(variables_of(forward, backward), x, mask=MASK, initial_state=initial)
    one, one_y = case.run(forward, x, mask=MASK, initial=initial.forward, reverse=reverse)
    other, other_y = case.run(backward, x, mask=MASK, initial=initial.backward, reverse=not reverse)
    assert isinstance(state, rnnjax.BidirectionalState)
    assert type(state.forward) is type(initial.forward)
    assert_close(state.forward, one)
    assert_close(state.backward, other)
    np.testing.assert_allclose(y, np.concatenate([one_y, other_y], axis=-1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("merge", MERGES)
def test_without_sequences_each_direction_gives_what_it_saw_last(merge, x64):
    case, x = CASES["lstm"], inputs(6)
    forward, backward = two_params(case)
    (f, _), _ = case.run(forward, x, mask=MASK)
    (b, _), _ = case.run(backward, x, mask=MASK, reverse=True)
    state, y = jitted("lstm", merge, return_sequences=False)(variables_of(forward, backward), x, mask=MASK)
    np.testing.assert_allclose(y, MERGES[merge](f, b), rtol=0, atol=1e-12)
    assert_close((state.forward.h, state.backward.h), (f, b))


def documents_of(mask, resets, row: int) -> list[np.ndarray]:
    """The real steps of each document of a row: a reset at a real step begins a new one."""
    documents: list[list[int]] = [[]]
    for t in np.flatnonzero(mask[row]):
        if resets[row, t] and documents[-1]:
            documents.append([])
        documents[-1].append(t)
    return [np.asarray(document, int) for document in documents if document]


@pytest.mark.parametrize("reverse", [False, True])
def test_packed_documents_are_each_as_if_run_alone(reverse):
    """In any packing, with padding between documents and inside them, and resets at masked steps."""
    case, x = CASES["gru"], inputs(7, np.float32)
    forward, backward = two_params(case, np.float32)
    variables = variables_of(forward, backward)
    apply = jitted("gru", reverse=reverse)

    @given(mask=hnp.arrays(bool, (B, T)), resets=hnp.arrays(bool, (B, T)))
    def check(mask, resets):
        # As the first direction counts: with a reversed layer, documents begin on the right.
        marks = resets[:, ::-1] if reverse else resets
        place = mask[:, ::-1] if reverse else mask
        _, y = apply(variables, x, mask=mask, resets=resets)
        expected = np.zeros((B, T, 2 * H))
        for row in range(B):
            for steps in documents_of(place, marks, row):
                steps = np.sort(T - 1 - steps) if reverse else steps
                alone = x[row : row + 1, steps]
                _, one = case.run(forward, alone, reverse=reverse)
                _, other = case.run(backward, alone, reverse=not reverse)
                expected[row, steps] = np.concatenate([one[0], other[0]], axis=-1)
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5)

    check()


def test_packed_documents_without_any_padding(x64):
    case, x = CASES["lstm"], inputs(8)
    forward, backward = two_params(case)
    resets = np.zeros((B, T), bool)
    resets[:, [0, 2, 5]] = True
    _, y = jitted("lstm")(variables_of(forward, backward), x, resets=resets)
    for start, stop in [(0, 2), (2, 5), (5, 6)]:
        _, one = case.run(forward, x[:, start:stop])
        _, other = case.run(backward, x[:, start:stop], reverse=True)
        np.testing.assert_allclose(y[:, start:stop], np.concatenate([one, other], axis=-1), rtol=0, atol=1e-12)


def test_what_stands_in_padding_reaches_nothing():
    case, x = CASES["lstm"], inputs(9, np.float32)
    variables = variables_of(*two_params(case, np.float32))
    layer = rnnjax.Bidirectional(case.make_layer(H))
    weights = np.random.default_rng(1).standard_normal((B, T, 2 * H)).astype(np.float32)

    @jax.jit
    def run(variables, x):
        return jax.value_and_grad(lambda v, x: jnp.sum(weights * layer.apply(v, x, mask=MASK)), argnums=(0, 1))(
            variables, x
        )

    clean, dirty = (run(variables, np.where(MASK[..., None], x, fill).astype(np.float32)) for fill in (0, np.nan))
    jax.tree.map(np.testing.assert_array_equal, clean, dirty)
    value, (to_params, to_x) = dirty
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((value, to_params)))
    assert np.all(np.asarray(to_x)[~MASK] == 0)
    assert np.all(np.asarray(to_x)[MASK] != 0)


class InCompact(nn.Module):
    make: object

    @nn.compact
    def __call__(self, x):
        return self.make()(x)


class InSetup(nn.Module):
    make: object

    def setup(self):
        self.sub = self.make()

    def __call__(self, x):
        return self.sub(x)


class CellMadeHere(nn.Module):
    """The layer and the cell are submodules of this module before `Bidirectional` is handed them."""

    @nn.compact
    def __call__(self, x):
        cell = rnnjax.GRUCell(H)
        layer = rnnjax.RNN(cell)
        return rnnjax.Bidirectional(layer)(x)


class CellMadeInSetup(nn.Module):
    def setup(self):
        self.cell = rnnjax.GRUCell(H)
        self.layer = rnnjax.RNN(self.cell)
        self.both = rnnjax.Bidirectional(self.layer)

    def __call__(self, x):
        return self.both(x)


def of_layer():
    return rnnjax.Bidirectional(rnnjax.GRU(H))


def of_cell():
    return rnnjax.Bidirectional(rnnjax.RNN(rnnjax.GRUCell(H)))


@pytest.mark.parametrize(
    "model",
    [
        of_layer(),
        of_cell(),
        InCompact(of_layer),
        InCompact(of_cell),
        InSetup(of_layer),
        InSetup(of_cell),
        CellMadeHere(),
        CellMadeInSetup(),
        nn.Sequential([of_cell()]),
        rnnjax.Stack([of_cell()]),
    ],
    ids=lambda model: type(model).__name__,
)
def test_two_directions_never_share_weights(model):
    x = inputs(10, np.float32)
    variables = jax.jit(model.init)(KEY, x)
    params = variables["params"]
    while set(params) != {"forward", "backward"}:
        (params,) = params.values()  # nothing stands beside it: no parameter landed outside its layer
    forward, backward = params["forward"]["recurrence"], params["backward"]["recurrence"]
    assert forward is not backward
    assert sorted(forward) == sorted(backward) == ["bias", "kernel", "recurrent_bias", "recurrent_kernel"]
    for kernel in ("kernel", "recurrent_kernel"):
        assert np.abs(np.asarray(forward[kernel]) - np.asarray(backward[kernel])).max() > 0.1
    _, one = CASES["gru"].run(forward, x)
    _, other = CASES["gru"].run(backward, x, reverse=True)
    np.testing.assert_allclose(model.apply(variables, x), np.concatenate([one, other], axis=-1), rtol=0, atol=1e-5)


def test_fields_of_the_inner_layer_serve_and_keywords_override_them():
    x = inputs(11, np.float32)
    variables = variables_of(*two_params(CASES["simple"], np.float32))
    plain = rnnjax.Bidirectional(rnnjax.SimpleRNN(H))
    fields = rnnjax.Bidirectional(rnnjax.SimpleRNN(H, return_sequences=False, return_state=True))
    own = rnnjax.Bidirectional(rnnjax.SimpleRNN(H), return_sequences=False, return_state=True)
    by_keyword = plain.apply(variables, x, return_sequences=False, return_state=True)
    for layer in (fields, own):
        by_field = layer.apply(variables, x)
        assert jax.tree.structure(by_field) == jax.tree.structure(by_keyword)
        jax.tree.map(np.testing.assert_array_equal, by_field, by_keyword)
    np.testing.assert_array_equal(
        fields.apply(variables, x, return_sequences=True, return_state=False), plain.apply(variables, x)
    )


def test_wrong_options_and_arguments():
    with pytest.raises(
        ValueError, match=r"^Bidirectional expects merge to be one of concat, sum, mul, average; got 'ave'\.$"
    ):
        rnnjax.Bidirectional(rnnjax.LSTM(H), merge="ave")
    for wrong in (
        rnnjax.LSTMCell(H),
        rnnjax.Stack([rnnjax.LSTM(H)]),
        rnnjax.Bidirectional(rnnjax.LSTM(H)),
        rnnjax.LSTM,
    ):
        name = "type" if isinstance(wrong, type) else type(wrong).__name__
        with pytest.raises(ValueError, match=rf"^Bidirectional expects a layer over one cell, .*; got {name}\."):
            rnnjax.Bidirectional(wrong)
    x = jnp.zeros((B, T, D))
    layer = rnnjax.Bidirectional(rnnjax.SimpleRNN(H))
    variables = variables_of(*two_params(CASES["simple"], np.float32))
    with pytest.raises(ValueError, match="Bidirectional expects lengths or mask; got both"):
        layer.apply(variables, x, lengths=LENGTHS, mask=MASK)
    with pytest.raises(ValueError, match="Bidirectional expects mask as booleans"):
        layer.apply(variables, x, mask=jnp.ones((B, T)))
    with pytest.raises(ValueError, match=r"expects inputs \[B, T, D\]; got \(6, 3\)"):
        layer.apply(variables, x[0])
    with pytest.raises(ValueError, match=r"expects resets as booleans \(4, 6\); got bool \(4, 3\)"):
        layer.apply(variables, x, resets=jnp.ones((B, 3), bool))
