"""Layers over a sequence against a plain loop over the papers' equations: lengths, masks, resets, states, reverse."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from oracles import CASES, WAYS, central_differences

import rnnjax

B, T, D, H = 4, 6, 3, 4
LENGTHS = np.asarray([6, 0, 1, 4])
MASK = np.asarray(
    [[1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0], [0, 0, 1, 0, 1, 1], [1, 0, 1, 1, 0, 0]],
    bool,  # all real; none; padding on the left and a gap; gaps and padding on the right
)
RESETS = np.asarray([[0, 0, 1, 0, 1, 0], [1, 0, 0, 1, 0, 0], [0, 0, 1, 1, 0, 1], [1, 1, 0, 1, 1, 0]], bool)


def inputs(seed: int = 0, dtype=np.float64) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((B, T, D)).astype(dtype)


def variables_of(params) -> dict:
    return {"params": {"recurrence": params}}


@functools.cache
def jitted(name: str, **options):
    """`layer.apply` compiled once for a test that calls it often."""
    layer = CASES[name].make_layer(H, return_state=True, **options)
    return jax.jit(layer.apply)


def assert_close(got, want, atol: float = 1e-12) -> None:
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=0, atol=atol), tuple(got), tuple(want))


def state_of(case, dtype=np.float64):
    return case.random_state(2, B, H, dtype)


STEPS = {
    "all": lambda case: {},
    "lengths": lambda case: {"lengths": LENGTHS},
    "state_mask": lambda case: {"mask": MASK, "initial_state": state_of(case)},
    "state_resets": lambda case: {"resets": RESETS, "initial_state": state_of(case)},
    "reverse": lambda case: {"mask": MASK, "resets": RESETS, "initial_state": state_of(case)},
}


@pytest.mark.parametrize(("name", "way"), WAYS)
@pytest.mark.parametrize("steps", STEPS)
def test_layer_equals_the_loop(name, way, steps, x64):
    case, x = CASES[name], inputs()
    params = case.random_params(1, D, H)
    keywords, reverse = STEPS[steps](case), steps == "reverse"
    final, y = jitted(name, reverse=reverse, implementation=way)(variables_of(params), x, **keywords)
    expected, outputs = case.run(params, x, initial=keywords.pop("initial_state", None), reverse=reverse, **keywords)
    assert type(final).__name__ == case.layer + "State"
    assert_close(final, expected)
    np.testing.assert_allclose(y, outputs, rtol=0, atol=1e-12)
    if "mask" in keywords:
        assert np.all(np.asarray(y)[~MASK] == 0)


@pytest.mark.parametrize(
    ("name", "way"), [("lstm", "scan"), ("lstm", "fused"), ("gru", "fused"), ("gru_before", "scan")]
)
@pytest.mark.parametrize("reverse", [False, True])
def test_any_mask_and_any_resets(name, way, reverse):
    case, x = CASES[name], inputs(3, np.float32)
    params = case.random_params(1, D, H, np.float32)
    state = case.random_state(2, B, H, np.float32)
    apply = jitted(name, reverse=reverse, implementation=way)

    @given(mask=hnp.arrays(bool, (B, T)), resets=hnp.arrays(bool, (B, T)))
    def check(mask, resets):
        expected, outputs = case.run(params, x, mask=mask, resets=resets, initial=state, reverse=reverse)
        final, y = apply(variables_of(params), x, mask=mask, resets=resets, initial_state=state)
        assert_close(final, expected, 1e-5)
        np.testing.assert_allclose(y, outputs, rtol=0, atol=1e-5)
        assert np.all(np.asarray(y)[~mask] == 0)

    check()


@pytest.mark.parametrize("name", ["simple", "lstm_peephole", "gru", "gru_before"])
def test_lengths_are_the_mask_they_mean_and_steps_beyond_them_are_as_if_cut_off(name):
    case, x = CASES[name], inputs(4, np.float32)
    params = case.random_params(1, D, H, np.float32)
    apply = jitted(name)

    @given(lengths=st.lists(st.integers(0, T), min_size=B, max_size=B))
    def check(lengths):
        final, y = apply(variables_of(params), x, lengths=np.asarray(lengths))
        mask = np.arange(T)[None, :] < np.asarray(lengths)[:, None]
        by_mask, y_by_mask = apply(variables_of(params), x, mask=mask)
        assert_close((*final, y), (*by_mask, y_by_mask), 0)
        for b, length in enumerate(lengths):
            alone, outputs = case.run(params, x[b : b + 1, :length])
            assert_close([part[b] for part in final], [part[0] for part in alone], 1e-5)
            np.testing.assert_allclose(y[b, :length], outputs[0], rtol=0, atol=1e-5)

    check()


@pytest.mark.parametrize("name", CASES)
def test_layer_is_the_cell_called_step_by_step(name, x64):
    case, x = CASES[name], inputs(5)
    params = case.random_params(1, D, H)
    cell = case.make_cell(H)
    state = cell.initial_state(B, np.float64)
    final, y = jitted(name)(variables_of(params), x)
    step = jax.jit(cell.apply)
    for t in range(T):
        state, output = step({"params": params}, state, x[:, t])
        np.testing.assert_allclose(y[:, t], output, rtol=0, atol=1e-13)
    assert_close(final, state, 1e-13)


@pytest.mark.parametrize(("name", "way"), [("simple", "fused"), ("lstm", "scan"), ("gru", "fused")])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_cut_with_the_state_carried_changes_nothing(name, way, reverse, x64):
    """Resets included: after the cut they still go to zeros and not to what was carried."""
    case, x = CASES[name], inputs(6)
    variables = variables_of(case.random_params(1, D, H))
    apply = jitted(name, reverse=reverse, implementation=way)
    state = carried = state_of(case)
    whole, y = apply(variables, x, mask=MASK, resets=RESETS, initial_state=state)
    pieces = [slice(0, 2), slice(2, T)]
    for piece in reversed(pieces) if reverse else pieces:
        carried, outputs = apply(
            variables, x[:, piece], mask=MASK[:, piece], resets=RESETS[:, piece], initial_state=carried
        )
        np.testing.assert_allclose(outputs, y[:, piece], rtol=0, atol=1e-12)
    assert_close(carried, whole)

    @given(
        mask=hnp.arrays(bool, (B, T)),
        resets=hnp.arrays(bool, (B, T)),
        cuts=st.lists(st.integers(0, T), min_size=B, max_size=B),
    )
    def check(mask, resets, cuts):
        """Each example cut where it likes, its other piece masked."""
        early = np.arange(T)[None, :] < np.asarray(cuts)[:, None]
        whole, y = apply(variables, x, mask=mask, resets=resets, initial_state=state)
        first, second = (mask & ~early, mask & early) if reverse else (mask & early, mask & ~early)
        middle, y_first = apply(variables, x, mask=first, resets=resets, initial_state=state)
        final, y_second = apply(variables, x, mask=second, resets=resets, initial_state=middle)
        assert_close(final, whole)
        np.testing.assert_allclose(y_first + y_second, y, rtol=0, atol=1e-12)

    with jax.enable_x64(True):
        check()


@pytest.mark.parametrize("name", ["simple", "lstm", "gru"])
def test_a_batch_is_its_examples_one_by_one(name, x64):
    case, x = CASES[name], inputs(7)
    variables = variables_of(case.random_params(1, D, H))
    state = case.random_state(2, B, H)
    apply = jitted(name)
    final, y = apply(variables, x, mask=MASK, resets=RESETS, initial_state=state)
    for b in range(B):
        one = slice(b, b + 1)
        alone, outputs = apply(
            variables,
            x[one],
            mask=MASK[one],
            resets=RESETS[one],
            initial_state=case.state(*(part[one] for part in state)),
        )
        assert_close([part[b] for part in final], [part[0] for part in alone], 1e-13)
        np.testing.assert_allclose(y[b], outputs[0], rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", ["lstm", "lstm_peephole", "gru"])
def test_last_output_is_that_of_the_last_real_step(name, x64):
    case, x = CASES[name], inputs(8)
    variables, state = variables_of(case.random_params(1, D, H)), case.random_state(2, B, H)
    for reverse in (False, True):
        sequence, last = jitted(name, reverse=reverse), jitted(name, reverse=reverse, return_sequences=False)
        final, y = sequence(variables, x, mask=MASK, initial_state=state)
        also_final, output = last(variables, x, mask=MASK, initial_state=state)
        assert_close(also_final, final, 1e-13)
        for b in range(B):
            real = np.flatnonzero(MASK[b])
            expected = y[b, real[0 if reverse else -1]] if len(real) else state.h[b]
            np.testing.assert_allclose(output[b], expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", CASES)
def test_reverse_is_the_flipped_run_of_flipped_inputs(name, x64):
    case, x = CASES[name], inputs(9)
    variables = variables_of(case.random_params(1, D, H))
    final, y = jitted(name)(variables, x, mask=MASK, resets=RESETS)
    flipped, outputs = jitted(name, reverse=True)(variables, x[:, ::-1], mask=MASK[:, ::-1], resets=RESETS[:, ::-1])
    assert_close(flipped, final, 1e-13)
    np.testing.assert_allclose(outputs[:, ::-1], y, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", ["simple", "lstm", "gru"])
def test_compiled_equals_eager_and_unrolled_equals_rolled(name, x64):
    case, x = CASES[name], inputs(10)
    variables, state = variables_of(case.random_params(1, D, H)), case.random_state(2, B, H)
    keywords = {"mask": MASK, "resets": RESETS, "initial_state": state}
    final, y = jitted(name)(variables, x, **keywords)
    for unroll in (1, 4):
        eager, outputs = case.make_layer(H, unroll=unroll).apply(variables, x, return_state=True, **keywords)
        assert_close(eager, final, 1e-13)
        np.testing.assert_allclose(outputs, y, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", ["simple", "lstm", "gru", "gru_before"])
def test_a_field_and_a_keyword_of_a_call_agree_and_the_keyword_wins(name):
    case, x = CASES[name], inputs(11, np.float32)
    variables = variables_of(case.random_params(1, D, H, np.float32))
    layer = case.make_layer(H)
    y = layer.apply(variables, x)
    assert y.shape == (B, T, H)
    for fields in ({"return_sequences": False}, {"return_state": True}):
        by_field = case.make_layer(H, **fields).apply(variables, x)
        by_keyword = layer.apply(variables, x, **fields)
        assert jax.tree.structure(by_field) == jax.tree.structure(by_keyword)
        jax.tree.map(np.testing.assert_array_equal, by_field, by_keyword)
        undone = {key: not value for key, value in fields.items()}
        np.testing.assert_array_equal(case.make_layer(H, **fields).apply(variables, x, **undone), y)
    np.testing.assert_array_equal(layer.apply(variables, x, return_sequences=False), y[:, -1])


@pytest.mark.parametrize(
    ("name", "way", "reverse"), [*((*way, False) for way in WAYS), ("lstm", "fused", True), ("gru", "fused", True)]
)
def test_gradients_equal_finite_differences_of_the_loop(name, way, reverse, x64):
    """Of weights, inputs and initial state, through gaps and resets."""
    case, num_features = CASES[name], 2
    x, mask, resets = inputs(12)[2:, :, :2], MASK[2:], np.zeros_like(RESETS[2:])
    resets[1, 3] = True
    arguments = (case.random_params(13, 2, num_features), case.random_state(14, 2, num_features), x)
    rng = np.random.default_rng(15)
    cotangents = [rng.standard_normal((2, num_features)) for _ in range(case.num_states)]
    cotangents.append(rng.standard_normal((2, T, num_features)))
    layer = case.make_layer(num_features, return_state=True, reverse=reverse, implementation=way)

    def ours(arguments):
        params, state, x = arguments
        final, y = layer.apply(variables_of(params), x, mask=mask, resets=resets, initial_state=state)
        return sum(jnp.sum(w * part) for w, part in zip(cotangents, (*final, y), strict=True))

    def theirs(arguments):
        params, state, x = arguments
        final, y = case.run(params, x, mask=mask, resets=resets, initial=state, reverse=reverse)
        return float(sum(np.sum(w * part) for w, part in zip(cotangents, (*final, y), strict=True)))

    got = jax.jit(jax.grad(ours))(arguments)
    want = central_differences(theirs, arguments)
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=0, atol=1e-7), got, want)
    assert np.all(np.asarray(got[2])[~mask] == 0)


@pytest.mark.parametrize(("name", "way", "reverse"), [*((*way, False) for way in WAYS), ("lstm", "fused", True)])
def test_what_stands_in_padding_reaches_nothing(name, way, reverse):
    case, x = CASES[name], inputs(16, np.float32)
    variables = variables_of(case.random_params(1, D, H, np.float32))
    layer = case.make_layer(H, reverse=reverse, return_state=True, implementation=way)
    garbage = np.resize(np.asarray([np.nan, np.inf, -np.inf, 1e38], np.float32), x.shape)
    weights = np.random.default_rng(17).standard_normal((B, T, H)).astype(np.float32)

    @jax.jit
    def run(variables, x):
        def loss(variables, x):
            final, y = layer.apply(variables, x, mask=MASK)
            return jnp.sum(weights * y) + sum(jnp.sum(jnp.sin(part)) for part in final), (final, y)

        return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(variables, x)

    zeros, garbled = np.where(MASK[..., None], x, 0), np.where(MASK[..., None], x, garbage)
    assert not np.all(np.isfinite(garbled))
    clean, dirty = run(variables, zeros), run(variables, garbled)
    jax.tree.map(np.testing.assert_array_equal, clean, dirty)
    (_, (_, y)), (to_params, to_x) = dirty
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((y, to_params)))
    assert np.all(np.asarray(to_x)[~MASK] == 0)
    if name != "simple_relu":
        assert np.all(np.asarray(to_x)[MASK] != 0)


@pytest.mark.parametrize("name", ["simple", "lstm", "gru"])
def test_no_real_step_at_all_gives_the_initial_state_back(name):
    case, x = CASES[name], inputs(18, np.float32)
    variables = variables_of(case.random_params(1, D, H, np.float32))
    state = case.random_state(2, B, H, np.float32)
    layer = case.make_layer(H)
    for sequence, keywords in [(x, {"lengths": np.zeros(B, np.int32)}), (x[:, :0], {})]:
        final, y = layer.apply(variables, sequence, initial_state=state, return_state=True, **keywords)
        jax.tree.map(np.testing.assert_array_equal, final, state)
        np.testing.assert_array_equal(y, np.zeros((*sequence.shape[:2], H)))
        last = layer.apply(variables, sequence, initial_state=state, return_sequences=False, **keywords)
        np.testing.assert_array_equal(last, state.h)
        zero = layer.apply(variables, sequence, return_sequences=False, **keywords)
        np.testing.assert_array_equal(zero, np.zeros((B, H)))


def test_a_reset_at_a_masked_step_does_nothing():
    case, x = CASES["lstm"], inputs(19, np.float32)
    variables = variables_of(case.random_params(1, D, H, np.float32))
    state = case.random_state(2, B, H, np.float32)
    plain = jitted("lstm")(variables, x, mask=MASK, initial_state=state)
    reset = jitted("lstm")(variables, x, mask=MASK, resets=~MASK, initial_state=state)
    jax.tree.map(np.testing.assert_array_equal, plain, reset)


def test_low_precision_keeps_its_type_in_outputs_and_states():
    case = CASES["lstm"]
    params = case.random_params(1, D, H, np.float32)
    layer = case.make_layer(H, dtype=jnp.bfloat16, return_state=True)
    state = case.random_state(2, B, H, np.float32)
    final, y = layer.apply(variables_of(params), inputs(20, np.float32), lengths=LENGTHS, initial_state=state)
    assert {leaf.dtype for leaf in jax.tree.leaves((final, y))} == {jnp.dtype(jnp.bfloat16)}
    _, outputs = case.run(params, inputs(20, np.float32), lengths=LENGTHS, initial=state)
    np.testing.assert_allclose(np.asarray(y, np.float32), outputs, rtol=0, atol=0.06)


def test_wrong_arguments_say_what_was_expected_and_what_came():
    layer, x = rnnjax.LSTM(H), jnp.zeros((B, T, D))
    variables = layer.init(jax.random.key(0), x)

    def expect(message: str, x=x, **keywords) -> None:
        with pytest.raises(ValueError, match=message):
            layer.apply(variables, x, **keywords)

    expect(r"^LSTM expects inputs \[B, T, D\]; got \(6, 3\)\. For one example, pass x\[None\]\.", x[0])
    expect("LSTM expects lengths or mask; got both", lengths=LENGTHS, mask=MASK)
    expect(r"LSTM expects lengths as integers \(4,\); got float32 \(4,\)", lengths=jnp.ones(B))
    expect(r"LSTM expects lengths as integers \(4,\); got int32 \(3,\)", lengths=jnp.ones(3, jnp.int32))
    expect(r"LSTM expects mask as booleans \(4, 6\); got float32 \(4, 6\)", mask=jnp.ones((B, T)))
    expect(r"LSTM expects mask as booleans \(4, 6\); got bool \(6, 4\)", mask=jnp.ones((T, B), bool))
    expect(r"LSTM expects resets as booleans \(4, 6\); got bool \(4,\)", resets=jnp.ones(B, bool))
    expect("LSTM expects an initial_state of type LSTMState; got ndarray", initial_state=np.zeros((B, H)))
    expect("LSTM expects an initial_state of type LSTMState; got GRUState", initial_state=rnnjax.GRUState(x[:, 0]))
    wrong = rnnjax.LSTMCell(H + 1).initial_state(B)
    expect(r"LSTM expects an initial_state of arrays \(4, 4\); got \[\(4, 5\), \(4, 5\)\]", initial_state=wrong)
