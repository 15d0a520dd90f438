"""Penalties and constraints against the formulas of Keras and of the papers, in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rnnjax

B, T, H = 4, 6, 3
LENGTHS = np.array([6, 0, 3, 1], np.int32)
MASK = np.array([[1, 0, 1, 1, 0, 1], [0] * 6, [0, 1, 0, 0, 1, 0], [0, 0, 0, 0, 0, 1]], bool)
Y = np.random.default_rng(0).standard_normal((B, T, H))
PENALTIES = {
    "activation": (rnnjax.activation_penalty, lambda steps: steps**2),
    "temporal": (rnnjax.temporal_activation_penalty, lambda steps: np.diff(steps, axis=0) ** 2),
}


def mean_over_real_steps(terms, y, mask):
    """Of each sequence only what is real, side by side; then one mean over all."""
    found = np.concatenate([terms(row[real]) for row, real in zip(y, mask, strict=True)])
    return found.mean() if found.size else 0.0


@pytest.mark.parametrize("name", PENALTIES)
def test_penalty_over_real_steps(name, x64):
    penalty, terms = PENALTIES[name]
    real = np.arange(T)[None, :] < LENGTHS[:, None]
    for keywords, mask in [
        ({}, np.ones((B, T), bool)),
        ({"lengths": LENGTHS}, real),
        ({"mask": MASK}, MASK),
        ({"mask": MASK & False}, MASK & False),
    ]:
        poisoned = np.where(mask[..., None], Y, np.nan)
        value = penalty(poisoned, **keywords)
        assert float(value) == pytest.approx(mean_over_real_steps(terms, Y, mask), abs=1e-14)
        assert value.shape == ()
    deep = penalty(Y.reshape(2, 2, T, H), mask=MASK.reshape(2, 2, T))
    assert float(deep) == pytest.approx(mean_over_real_steps(terms, Y, MASK), abs=1e-14)
    deep = penalty(Y.reshape(2, 2, T, H), lengths=LENGTHS.reshape(2, 2))
    assert float(deep) == pytest.approx(mean_over_real_steps(terms, Y, real), abs=1e-14)
    assert float(penalty(Y[0], mask=MASK[0])) == pytest.approx(mean_over_real_steps(terms, Y[:1], MASK[:1]), abs=1e-14)


@pytest.mark.parametrize("name", PENALTIES)
def test_gradient_of_a_penalty(name, x64):
    penalty, terms = PENALTIES[name]
    gradient = np.asarray(jax.jit(jax.grad(lambda y: penalty(y, mask=MASK)))(np.where(MASK[..., None], Y, np.nan)))
    np.testing.assert_array_equal(gradient[~MASK], 0)
    numeric = np.zeros_like(Y)
    for place in np.ndindex(Y.shape):
        ends = []
        for step in (1e-6, -1e-6):
            moved = Y.copy()
            moved[place] += step
            ends.append(mean_over_real_steps(terms, moved, MASK))
        numeric[place] = (ends[0] - ends[1]) / 2e-6
    np.testing.assert_allclose(gradient, numeric, rtol=0, atol=1e-8)
    assert np.abs(numeric).max() > 1e-3


@pytest.mark.parametrize("name", PENALTIES)
def test_wrong_outputs_are_named(name):
    penalty, _ = PENALTIES[name]
    with pytest.raises(ValueError, match=rf"{penalty.__name__} expects outputs \[..., T, H\]; got \(3,\)"):
        penalty(jnp.zeros(3))
    with pytest.raises(ValueError, match=f"{penalty.__name__} expects lengths or mask; got both"):
        penalty(jnp.zeros((B, T, H)), lengths=LENGTHS, mask=MASK)


def random_tree():
    """Parameters as of a model with a layer in both directions and two dense layers."""
    draw = np.random.default_rng(1)

    def recurrence():
        return {
            "recurrence": {
                "kernel": draw.standard_normal((5, 8)),
                "recurrent_kernel": draw.standard_normal((2, 8)),
                "bias": draw.standard_normal(8),
            }
        }

    return {
        "params": {
            "layer": {"forward": recurrence(), "backward": recurrence()},
            "output": {"kernel": draw.standard_normal((4, 3)), "bias": draw.standard_normal(3)},
        }
    }


def test_weight_penalties_by_name(x64):
    tree = random_tree()
    layer, output = tree["params"]["layer"], tree["params"]["output"]
    forward, backward = layer["forward"]["recurrence"], layer["backward"]["recurrence"]

    def squares(*leaves):
        return sum(np.sum(leaf**2) for leaf in leaves)

    def magnitudes(*leaves):
        return sum(np.sum(np.abs(leaf)) for leaf in leaves)

    def check(expected, **coefficients):
        assert float(rnnjax.weight_penalty(tree, **coefficients)) == pytest.approx(expected, rel=1e-12)

    check(0)
    check(0.3 * squares(forward["kernel"], backward["kernel"], output["kernel"]), l2={"kernel": 0.3})
    check(0.3 * squares(forward["kernel"], backward["kernel"]), l2={"recurrence/kernel": 0.3})
    check(0.3 * magnitudes(output["kernel"]), l1={"output/kernel": 0.3})
    check(
        0.1 * squares(forward["recurrent_kernel"], backward["recurrent_kernel"])
        + 0.2 * magnitudes(forward["bias"], backward["bias"], output["bias"])
        + 0.4 * squares(backward["bias"]),
        l2={"recurrent_kernel": 0.1, "backward/recurrence/bias": 0.4},
        l1={"bias": 0.2},
    )
    # The longest name that fits a weight is the one that counts.
    check(0.3 * squares(forward["kernel"], backward["kernel"]), l2={"kernel": 0.3, "output/kernel": 0.0})


def test_gradient_of_weight_penalties(x64):
    tree = random_tree()
    tree["params"]["output"]["kernel"][0, 0] = 0  # where |w| has a corner: 0, as in Keras
    gradient = jax.grad(rnnjax.weight_penalty)(tree, l1={"kernel": 0.5}, l2={"kernel": 0.25, "bias": 2.0})
    leaves = zip(*map(jax.tree.leaves, (tree, gradient)), strict=True)
    for (path, _), (leaf, slope) in zip(jax.tree.leaves_with_path(tree), leaves, strict=True):
        name = path[-1].key
        expected = {"kernel": 0.5 * np.sign(leaf) + 0.5 * leaf, "bias": 4 * leaf, "recurrent_kernel": 0 * leaf}[name]
        np.testing.assert_allclose(slope, expected, rtol=1e-12)


def test_names_that_fit_nothing_are_refused():
    tree = random_tree()
    for call in (
        lambda: rnnjax.weight_penalty(tree, l2={"kernal": 1.0}),
        lambda: rnnjax.weight_penalty(tree, l1={"ernel": 1.0}),  # not an end of a path, but of a name
        lambda: rnnjax.constrain({"outputs/kernel": rnnjax.unit_norm()}).init(tree),
    ):
        with pytest.raises(
            ValueError, match=r"names of parameters, from params/layer/backward/recurrence/bias, .*; got"
        ):
            call()


def keras_norm(weights, axis):
    return np.sqrt(np.sum(weights**2, axis=axis, keepdims=True))


def keras_max_norm(weights, most, axis=0):
    norms = keras_norm(weights, axis)
    return weights * (np.clip(norms, 0, most) / (1e-7 + norms))


def keras_unit_norm(weights, axis=0):
    return weights / (1e-7 + keras_norm(weights, axis))


def keras_min_max_norm(weights, least, most, rate, axis=0):
    norms = keras_norm(weights, axis)
    desired = rate * np.clip(norms, least, most) + (1 - rate) * norms
    return weights * (desired / (1e-7 + norms))


CONSTRAINTS = {
    "max": (rnnjax.max_norm(1.5), lambda w: keras_max_norm(w, 1.5)),
    "max along rows": (rnnjax.max_norm(1.5, axis=1), lambda w: keras_max_norm(w, 1.5, axis=1)),
    "max of all": (rnnjax.max_norm(1.5, axis=(0, 1)), lambda w: keras_max_norm(w, 1.5, axis=(0, 1))),
    "unit": (rnnjax.unit_norm(), keras_unit_norm),
    "min and max": (rnnjax.min_max_norm(1.0, 1.5), lambda w: keras_min_max_norm(w, 1.0, 1.5, 1.0)),
    "part of the way": (rnnjax.min_max_norm(1.0, 1.5, rate=0.3), lambda w: keras_min_max_norm(w, 1.0, 1.5, 0.3)),
    "non-negative": (optax.projections.projection_non_negative, lambda w: w * (w >= 0)),
}


def matrix():
    """Columns with norms from 0 to 3."""
    w = np.random.default_rng(3).standard_normal((4, 7))
    return w / np.sqrt((w**2).sum(axis=0)) * np.array([0.0, 0.3, 0.99, 1.0, 1.2, 1.6, 3.0])


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_constraints_as_in_keras(name, x64):
    constraint, formula = CONSTRAINTS[name]
    w = matrix()
    np.testing.assert_allclose(constraint(jnp.asarray(w)), formula(w), rtol=1e-6, atol=1e-12)


def test_norms_within_bounds_are_left_as_they_are_to_the_bit():
    w = jnp.asarray(matrix(), jnp.float32)
    bounded = np.asarray(rnnjax.max_norm(1.5)(w))
    np.testing.assert_array_equal(bounded[:, :5], w[:, :5])
    np.testing.assert_allclose(np.linalg.norm(bounded, axis=0)[5:], 1.5, rtol=1e-6)
    part = np.asarray(rnnjax.min_max_norm(0.5, 1.5, rate=0.1)(w))
    np.testing.assert_array_equal(part[:, 2:5], w[:, 2:5])
    np.testing.assert_array_equal(rnnjax.unit_norm()(w)[:, 0], 0)


def test_bounds_without_meaning_are_refused():
    for call in (
        lambda: rnnjax.max_norm(-1.0),
        lambda: rnnjax.min_max_norm(2.0, 1.0),
        lambda: rnnjax.max_norm(float("nan")),
    ):
        with pytest.raises(ValueError, match="least norm <= largest norm"):
            call()
    with pytest.raises(ValueError, match="0 < rate <= 1; got 0"):
        rnnjax.min_max_norm(0.0, 1.0, rate=0)


def test_constrained_updates_lead_to_constrained_weights_and_leave_others_alone(x64):
    params = random_tree()
    updates = jax.tree.map(lambda leaf: 0.1 * leaf[::-1] - 0.2, params)
    transformation = rnnjax.constrain(
        {
            "recurrent_kernel": rnnjax.max_norm(1.0),
            "forward/recurrence/recurrent_kernel": rnnjax.unit_norm(),
            "recurrence/bias": optax.projections.projection_non_negative,
        }
    )
    constrained, _ = transformation.update(updates, transformation.init(params), params)
    reached = optax.apply_updates(params, constrained)
    free = optax.apply_updates(params, updates)
    for name in ("forward", "backward"):
        before, ours, plain = (
            tree["params"]["layer"][name]["recurrence"] for tree in (constrained, reached, free)
        )  # fmt: skip
        recurrent = plain["recurrent_kernel"]
        expected = keras_unit_norm(recurrent) if name == "forward" else keras_max_norm(recurrent, 1.0)
        np.testing.assert_allclose(ours["recurrent_kernel"], expected, rtol=1e-6)
        np.testing.assert_array_equal(ours["bias"], np.maximum(plain["bias"], 0))
        assert (plain["bias"] < 0).any()
        inside = plain["bias"] >= 0
        np.testing.assert_array_equal(  # an update that needs no change has none
            before["bias"][inside], updates["params"]["layer"][name]["recurrence"]["bias"][inside]
        )
        np.testing.assert_array_equal(ours["kernel"], plain["kernel"])
    jax.tree.map(np.testing.assert_array_equal, reached["params"]["output"], free["params"]["output"])
    with pytest.raises(ValueError, match="got no params"):
        transformation.update(updates, transformation.init(params))


def test_a_training_loop_of_ones_own():
    """The example of the module's docstring: a large penalty or a constraint shows in the weights."""
    x = np.random.default_rng(4).standard_normal((3, 5, 2)).astype(np.float32)
    lengths = np.array([5, 2, 0], np.int32)
    lstm = rnnjax.LSTM(4)
    start = jax.jit(lstm.init)(jax.random.key(0), x)

    def train(coefficient, constraints):
        def loss(params):
            y = lstm.apply(params, x, lengths=lengths)
            penalty = rnnjax.weight_penalty(params, l2={"recurrence/kernel": coefficient})
            penalty += 2 * rnnjax.activation_penalty(y, lengths=lengths)
            penalty += rnnjax.temporal_activation_penalty(y, lengths=lengths)
            return -y.sum() + penalty

        optimizer = optax.chain(optax.sgd(0.02), rnnjax.constrain(constraints))

        @jax.jit
        def step(params, state):
            value, gradients = jax.value_and_grad(loss)(params)
            updates, state = optimizer.update(gradients, state, params)
            return optax.apply_updates(params, updates), state, value

        params, state = start, optimizer.init(start)
        values = []
        for _ in range(40):
            params, state, value = step(params, state)
            values.append(float(value))
        assert values[-1] < values[0]
        return params["params"]["recurrence"]

    free = train(0.0, {})
    held = train(1.0, {"recurrent_kernel": rnnjax.max_norm(0.5)})
    assert np.linalg.norm(held["kernel"]) < 0.6 * np.linalg.norm(free["kernel"])
    norms = [np.linalg.norm(params["recurrent_kernel"], axis=0) for params in (held, free)]
    assert norms[0].max() <= 0.5 * (1 + 1e-6)
    assert norms[1].max() > 0.6
