"""What every layer promises, in each of its forms, whatever the padding, the cuts and the inputs."""

import functools

import jax
import numpy as np
import pytest
from every_layer import (
    FORMS,
    LAYERS,
    WEIGHTS,
    B,
    T,
    assert_trees_close,
    compiled,
    flipped,
    inputs,
    jitted,
    state,
    variables,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import rnnjax
from rnnjax.layers import recurrent

GARBAGE = (np.nan, np.inf, -np.inf, 1e300)
FEW = settings(max_examples=4)
MASK = np.asarray([[0, 1, 1, 0, 1, 0], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]], bool)
RESETS = np.asarray([[0, 0, 1, 1, 0, 1], [1, 0, 0, 1, 0, 0], [0, 1, 0, 0, 0, 0]], bool)

every_form = pytest.mark.parametrize(("name", "form"), FORMS)
every_layer = pytest.mark.parametrize("name", LAYERS)
masks = hnp.arrays(bool, (B, T))


def over_steps(mask: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A mask `[B, T]` with as many axes as `x`."""
    return mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim))


@functools.cache
def forward(name: str, form: str = "auto", reverse: bool = False):
    return jitted(LAYERS[name](implementation=form, reverse=reverse, return_state=True))


def test_the_table_has_every_layer_and_each_form_it_has():
    layers = [getattr(rnnjax, name) for name in rnnjax.__all__]
    layers = [value for value in layers if isinstance(value, type) and issubclass(value, recurrent.RecurrentLayer)]
    assert {type(make()) for make in LAYERS.values()} | {rnnjax.RNN} == set(layers)
    for name, make in LAYERS.items():
        for form in set(recurrent.IMPLEMENTATIONS) - {"auto"} - {form for of, form in FORMS if of == name}:
            layer = make(implementation=form)
            with pytest.raises(ValueError, match=f"{type(layer).__name__} with these options has no {form} form"):
                jax.eval_shape(layer.apply, variables(name), inputs(name, 0))


@every_form
def test_what_stands_in_padding_reaches_no_value_and_no_gradient(name, form):
    x, initial, run = inputs(name, 1), state(name, 2), compiled(name, form)

    @FEW
    @given(mask=masks, garbage=st.lists(st.sampled_from(GARBAGE), min_size=1, max_size=4))
    def check(mask, garbage):
        real = over_steps(mask, x)
        zeros, dirty = np.where(real, x, 0), np.where(real, x, np.resize(garbage, x.shape))
        clean, result = (run(variables(name), part, initial, mask=mask, resets=RESETS) for part in (zeros, dirty))
        jax.tree.map(np.testing.assert_array_equal, result, clean)
        (final, y), (to_variables, to_x, to_state) = result
        for leaf in jax.tree.leaves((final, y, to_variables, to_state)):
            assert np.all(np.isfinite(leaf))
        assert not np.any(np.asarray(y)[~mask])
        assert not np.any(np.asarray(to_x)[~mask])

    with jax.enable_x64(True):
        check()


@every_layer
def test_a_gap_is_as_if_its_steps_were_not_there(name):
    """Left padding, gaps and all: real steps moved to the front, with lengths, give the same in the same order."""
    x, initial, run = inputs(name, 3), state(name, 4), compiled(name, "scan")

    @FEW
    @given(mask=masks, resets=masks)
    def check(mask, resets):
        order = np.argsort(~mask, axis=1, kind="stable")
        front = np.arange(T)[None, :] < mask.sum(axis=1)[:, None]
        moved_x, moved_weights, moved_resets = (
            np.stack([one[places] for one, places in zip(part, order, strict=True)]) for part in (x, WEIGHTS, resets)
        )
        (final, y), (to_variables, to_x, to_state) = run(variables(name), x, initial, WEIGHTS, mask=mask, resets=resets)
        (want_final, want_y), (want_to_variables, want_to_x, want_to_state) = run(
            variables(name), moved_x, initial, moved_weights, mask=front, resets=moved_resets
        )
        assert_trees_close((final, to_variables, to_state), (want_final, want_to_variables, want_to_state))
        for got, want in ((y, want_y), (to_x, want_to_x)):
            assert_trees_close(np.asarray(got)[mask], np.asarray(want)[front])

    with jax.enable_x64(True):
        check()


@every_layer
def test_a_cut_anywhere_with_the_state_carried_changes_nothing(name):
    x, initial, run = inputs(name, 5), state(name, 6), compiled(name, "scan")

    @FEW
    @given(mask=masks, resets=masks, cuts=st.lists(st.integers(0, T), min_size=B, max_size=B))
    def check(mask, resets, cuts):
        early = np.arange(T)[None, :] < np.asarray(cuts)[:, None]
        (want, want_y), _ = run(variables(name), x, initial, mask=mask, resets=resets)
        (middle, first), _ = run(variables(name), x, initial, mask=mask & early, resets=resets)
        (final, second), _ = run(variables(name), x, middle, mask=mask & ~early, resets=resets)
        assert_trees_close((final, first + second), (want, want_y))

    with jax.enable_x64(True):
        check()


@every_layer
def test_a_batch_is_its_examples_and_no_example_sees_another(name, x64):
    x, initial, run = inputs(name, 7), state(name, 8), compiled(name, "scan")
    (final, y), (_, to_x, to_state) = run(variables(name), x, initial, mask=MASK, resets=RESETS)
    together = None
    for b in range(B):
        alone = np.arange(B) == b  # the others hold what no example may see
        others = np.where(alone.reshape(B, *(1,) * (x.ndim - 1)), x, np.nan)
        mask = MASK & alone[:, None]
        (alone_final, alone_y), (to_variables, alone_to_x, alone_to_state) = run(
            variables(name), others, initial, mask=mask, resets=RESETS
        )
        got, want = ((alone_final, alone_y, alone_to_x, alone_to_state), (final, y, to_x, to_state))
        assert_trees_close(*(jax.tree.map(lambda leaf, b=b: leaf[b], tree) for tree in (got, want)), 1e-13)
        together = to_variables if together is None else jax.tree.map(np.add, together, to_variables)
    (_, _), (to_variables, _, _) = run(variables(name), x, initial, mask=MASK, resets=RESETS)
    assert_trees_close(together, jax.tree.map(np.asarray, to_variables))


@every_layer
def test_every_form_equals_the_scan_in_values_and_gradients(name):
    x, initial = inputs(name, 9), state(name, 10)

    @FEW
    @given(mask=masks, resets=masks)
    def check(mask, resets):
        want = compiled(name, "scan")(variables(name), x, initial, mask=mask, resets=resets)
        for form in (form for of, form in FORMS if of == name and form != "scan"):
            assert_trees_close(compiled(name, form)(variables(name), x, initial, mask=mask, resets=resets), want)

    with jax.enable_x64(True):
        check()


@pytest.mark.parametrize(("name", "form"), [*((name, "auto") for name in LAYERS), ("lstm", "scan"), ("rglru", "fused")])
def test_reversed_twice_is_forward(name, form):
    x, initial = inputs(name, 11), state(name, 12)

    @FEW
    @given(lengths=st.lists(st.integers(0, T), min_size=B, max_size=B), resets=masks)
    def check(lengths, resets):
        lengths = np.asarray(lengths)
        (final, y), _ = compiled(name, "scan")(
            variables(name), x, initial, mask=np.arange(T)[None, :] < lengths[:, None], resets=resets
        )
        back_final, back = forward(name, form, reverse=True)(
            variables(name),
            flipped(x, lengths),
            initial_state=initial,
            lengths=lengths,
            resets=flipped(resets, lengths),
        )
        assert_trees_close((back_final, flipped(np.asarray(back), lengths)), (final, np.asarray(y)))

    with jax.enable_x64(True):
        check()


@pytest.mark.parametrize(
    ("name", "form"), [("gru_before", "fused"), ("conv_lstm_1d", "scan"), ("min_gru", "fused"), ("rglru", "parallel")]
)
def test_gradients_reversed_twice_are_those_of_forward(name, form, x64):
    x, initial, flip = inputs(name, 13), state(name, 14), slice(None, None, -1)
    (final, y), (to_variables, to_x, to_state) = compiled(name, form, reverse=True)(
        variables(name), x[:, flip], initial, WEIGHTS[:, flip], mask=MASK[:, flip], resets=RESETS[:, flip]
    )
    want = compiled(name, form)(variables(name), x, initial, WEIGHTS, mask=MASK, resets=RESETS)
    assert_trees_close(((final, y[:, flip]), (to_variables, to_x[:, flip], to_state)), want)


@every_layer
def test_step_by_step_is_the_whole_sequence(name, x64):
    x, layer = inputs(name, 15), LAYERS[name]()
    cell = layer.make_cell(parent=None)
    now = initial = state(name, 16)
    (final, y), _ = compiled(name, "scan")(
        variables(name), x, initial, mask=np.ones((B, T), bool), resets=np.zeros((B, T), bool)
    )
    step = jax.jit(cell.apply)
    for t in range(T):
        now, output = step({"params": variables(name)["params"]["recurrence"]}, now, x[:, t])
        assert_trees_close(output, y[:, t], 1e-13)
    assert_trees_close(now, final, 1e-13)


@every_layer
def test_eager_steps_of_a_layer_are_those_of_the_compiled_one(name, x64):
    """Of the first two steps, which see nothing of later ones: an eager call is slow."""
    x, initial, first = inputs(name, 17), state(name, 18), slice(0, 2)
    (_, y), _ = compiled(name, "scan")(variables(name), x, initial, mask=MASK, resets=RESETS)
    eager = LAYERS[name]().apply(
        variables(name), x[:, first], mask=MASK[:, first], resets=RESETS[:, first], initial_state=initial
    )
    np.testing.assert_allclose(eager, y[:, first], rtol=0, atol=1e-12)
