"""Pooling against NumPy over the real steps alone; padding reaches nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax

B, T, H, A = 4, 5, 3, 2
LENGTHS = np.array([5, 0, 3, 1], np.int32)
MASK = np.array([[1, 0, 1, 1, 0], [0, 0, 0, 0, 0], [0, 1, 0, 0, 1], [0, 0, 0, 0, 1]], bool)
X = np.random.default_rng(0).standard_normal((B, T, H))


def attend(params, steps):
    """The equations of the docstring, in float64."""
    hidden = np.tanh(steps @ params["kernel"] + params["bias"])
    weights = np.exp(hidden @ params["query"])
    return (weights / weights.sum()) @ steps


def random_params(draw):
    return {
        "kernel": draw.standard_normal((H, A)),
        "bias": draw.standard_normal(A),
        "query": 3 * draw.standard_normal(A),
    }


POOLINGS = {
    "mean": (rnnjax.MeanPooling(), {}, lambda params, steps: steps.mean(axis=0)),
    "max": (rnnjax.MaxPooling(), {}, lambda params, steps: steps.max(axis=0)),
    "attention": (rnnjax.AttentionPooling(A), random_params(np.random.default_rng(1)), attend),
}


def expected_of(name, mask):
    _, params, pool = POOLINGS[name]
    rows = [pool(params, x[m]) if m.any() else np.zeros(H) for x, m in zip(X, mask, strict=True)]
    return np.stack(rows)


@pytest.mark.parametrize("name", POOLINGS)
def test_the_real_steps_alone(name, x64):
    layer, params, _ = POOLINGS[name]
    variables = {"params": params}
    real = np.arange(T)[None, :] < LENGTHS[:, None]
    for keywords, mask in [
        ({}, np.ones((B, T), bool)),
        ({"lengths": LENGTHS}, real),
        ({"mask": real}, real),
        ({"mask": MASK}, MASK),
    ]:
        poisoned = np.where(mask[..., None], X, np.nan)
        y = layer.apply(variables, poisoned, **keywords)
        np.testing.assert_allclose(y, expected_of(name, mask), rtol=0, atol=1e-12)
    jitted = jax.jit(layer.apply)(variables, poisoned, mask=MASK)
    np.testing.assert_allclose(jitted, y, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", POOLINGS)
def test_gradients_of_real_steps_and_none_of_padding(name, x64):
    layer, params, pool = POOLINGS[name]
    weight = np.random.default_rng(2).standard_normal((B, H))

    def value(params, x):
        return jnp.sum(weight * layer.apply({"params": params}, x, mask=MASK))

    gradient = jax.grad(value, argnums=(0, 1))(params, np.where(MASK[..., None], X, np.nan))
    (of_params, of_x) = jax.tree.map(np.asarray, gradient)
    np.testing.assert_array_equal(of_x[~MASK], 0)

    def numeric(leaf, compute):
        slope = np.zeros_like(leaf)
        for place in np.ndindex(leaf.shape):
            before, step = leaf[place], 1e-6
            ends = []
            for sign in (1, -1):
                leaf[place] = before + sign * step
                ends.append(compute())
            leaf[place] = before
            slope[place] = (ends[0] - ends[1]) / (2 * step)
        return slope

    x, params = X.copy(), {key: leaf.copy() for key, leaf in params.items()}

    def compute():
        rows = [pool(params, x[b][MASK[b]]) if MASK[b].any() else np.zeros(H) for b in range(B)]
        return np.sum(weight * np.stack(rows))

    np.testing.assert_allclose(of_x, numeric(x, compute), rtol=0, atol=1e-7)
    for key in params:
        np.testing.assert_allclose(of_params[key], numeric(params[key], compute), rtol=0, atol=1e-7)
        assert np.abs(of_params[key]).max() > 1e-3


@pytest.mark.parametrize("name", POOLINGS)
def test_any_number_of_leading_axes(name, x64):
    layer, params, _ = POOLINGS[name]
    variables = {"params": params}
    whole = layer.apply(variables, X, mask=MASK)
    np.testing.assert_allclose(
        layer.apply(variables, X.reshape(2, 2, T, H), mask=MASK.reshape(2, 2, T)),
        np.asarray(whole).reshape(2, 2, H),
        rtol=0, atol=1e-14,
    )  # fmt: skip
    np.testing.assert_allclose(layer.apply(variables, X[0], mask=MASK[0]), whole[0], rtol=0, atol=1e-14)
    padded = layer.apply(variables, X, lengths=LENGTHS)
    np.testing.assert_allclose(
        layer.apply(variables, X.reshape(2, 2, T, H), lengths=LENGTHS.reshape(2, 2)),
        np.asarray(padded).reshape(2, 2, H),
        rtol=0, atol=1e-14,
    )  # fmt: skip
    np.testing.assert_allclose(layer.apply(variables, X[2], lengths=LENGTHS[2]), padded[2], rtol=0, atol=1e-14)


def test_attention_weights_are_sown_and_large_scores_do_not_overflow(x64):
    params = {"kernel": np.eye(H), "bias": np.zeros(H), "query": np.array([1e4, 0, 0])}
    x = np.zeros((1, T, H))
    x[0, 3, 0] = 1  # scores 0 and 1e4 * tanh(1)
    y, state = rnnjax.AttentionPooling().apply({"params": params}, x, lengths=np.array([4]), mutable=["intermediates"])
    np.testing.assert_array_equal(state["intermediates"]["weights"][0], [[0, 0, 0, 1, 0]])
    np.testing.assert_array_equal(y, [[1, 0, 0]])
    without = {"kernel": np.eye(H), "query": np.zeros(H)}
    y = rnnjax.AttentionPooling(use_bias=False).apply({"params": without}, X, mask=MASK)
    np.testing.assert_allclose(y, expected_of("mean", MASK), atol=1e-14)  # no preference: the mean


def test_rounded_operands():
    _, params, _ = POOLINGS["attention"]
    x, params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), (X, params))

    def rounded(array):
        return array.astype(jnp.bfloat16).astype(jnp.float32)

    hidden = jnp.tanh(rounded(x) @ rounded(params["kernel"]) + params["bias"].reshape(1, 1, A))
    expected = jnp.einsum("bt,bth->bh", jax.nn.softmax(hidden @ params["query"], axis=-1), x)
    y = rnnjax.AttentionPooling(A, matmul_dtype=jnp.bfloat16).apply({"params": params}, x)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-6)
    assert np.abs(y - rnnjax.AttentionPooling(A).apply({"params": params}, x)).max() > 1e-5


def test_initial_parameters():
    params = rnnjax.AttentionPooling(7).init(jax.random.key(0), jnp.zeros((2, 4, 3)))["params"]
    assert {name: leaf.shape for name, leaf in params.items()} == {"kernel": (3, 7), "bias": (7,), "query": (7,)}
    assert np.abs(params["query"]).max() > 0
    assert "params" not in rnnjax.MeanPooling().init(jax.random.key(0), jnp.zeros((2, 4, 3)))


@pytest.mark.parametrize("name", POOLINGS)
def test_wrong_arguments_are_named(name):
    layer, params, _ = POOLINGS[name]
    kind = type(layer).__name__
    with pytest.raises(ValueError, match=rf"{kind} expects inputs \[..., T, H\]; got \(3,\)"):
        layer.apply({"params": params}, jnp.zeros(3))
    with pytest.raises(ValueError, match=f"{kind} expects lengths or mask; got both"):
        layer.apply({"params": params}, X, lengths=LENGTHS, mask=MASK)
    with pytest.raises(ValueError, match=f"{kind} expects mask as booleans"):
        layer.apply({"params": params}, X, mask=MASK[:, 1:])
    with pytest.raises(ValueError, match="AttentionPooling expects features"):
        rnnjax.AttentionPooling(0)
