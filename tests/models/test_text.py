"""The classifiers of windows and bags of words against NumPy, and that padding reaches nothing."""

import jax
import numpy as np
import pytest

import rnnjax
from rnnjax.models.text import (
    ConvolutionalClassifier,
    ConvolutionalRecurrentClassifier,
    FastTextClassifier,
    RecurrentBagClassifier,
)

V, E = 9, 5
SIZES = (V, 2, E)
MODELS = {
    "cnn": lambda *sizes: ConvolutionalClassifier(*sizes, filters=6, kernel_size=3, hidden_size=4),
    "cnn_lstm": lambda *sizes: ConvolutionalRecurrentClassifier(
        *sizes, rnnjax.LSTM(4, return_sequences=False), filters=6, kernel_size=2, pool_size=2
    ),
    "cnn_gru_pooled": lambda *sizes: ConvolutionalRecurrentClassifier(
        *sizes, rnnjax.GRU(4), rnnjax.MaxPooling(), filters=6, kernel_size=2, pool_size=2
    ),
    "fasttext": lambda *sizes: FastTextClassifier(*sizes),
    "gru_bag": lambda *sizes: RecurrentBagClassifier(
        *sizes, rnnjax.GRU(4, return_sequences=False), None, num_words=V, max_length=8
    ),
}
TOKENS = np.random.default_rng(0).integers(V, size=(4, 8), dtype=np.int32)
LENGTHS = np.array([8, 1, 0, 5], np.int32)


def started(model):
    """Parameters of a size that shows differences."""
    params = jax.jit(model.init)(jax.random.key(0), TOKENS)["params"]
    params = {**jax.tree.map(lambda leaf: leaf * 2, params), "embedding": {"embedding": 20 * table(params)}}
    if "ratios" in params:
        params["ratios"] = jax.random.normal(jax.random.key(1), params["ratios"].shape)
    return params


def table(params):
    return params["embedding"]["embedding"]


def dense(params, x):
    return x @ np.asarray(params["kernel"], np.float64) + np.asarray(params["bias"], np.float64)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("num_classes", [2, 3])
def test_padding_reaches_nothing(name, num_classes):
    model = MODELS[name](V, num_classes, E)
    params = started(model)
    logits = model.apply({"params": params}, TOKENS, lengths=LENGTHS)
    assert logits.shape == (4, 1 if num_classes == 2 else 3)
    other = np.where(np.arange(8) < LENGTHS[:, None], TOKENS, (TOKENS + 1) % V)
    np.testing.assert_array_equal(model.apply({"params": params}, other, lengths=LENGTHS), logits)
    for row, length in enumerate(LENGTHS):
        if length:
            alone = model.apply({"params": params}, TOKENS[row : row + 1, :length])
            np.testing.assert_allclose(logits[row : row + 1], alone, rtol=1e-5, atol=1e-5)
    assert np.isfinite(logits).all()
    assert abs(logits[0] - logits[1]).max() > 1e-3
    vectors = np.asarray(table(params))[TOKENS]
    vectors = np.where((np.arange(8) < LENGTHS[:, None])[..., None], vectors, np.nan)
    np.testing.assert_allclose(
        model.apply({"params": params}, TOKENS, lengths=LENGTHS, vectors=vectors), logits, rtol=1e-5, atol=1e-5
    )


def test_fasttext_is_the_mean_of_the_vectors():
    model = FastTextClassifier(*SIZES)
    params = started(model)
    vectors = np.asarray(table(params), np.float64)
    means = [vectors[row[:length]].mean(axis=0) for row, length in zip(TOKENS[:2], LENGTHS[:2], strict=True)]
    expected = dense(params["output"], np.array(means))
    np.testing.assert_allclose(
        model.apply({"params": params}, TOKENS[:2], lengths=LENGTHS[:2]), expected, rtol=1e-5, atol=1e-5
    )


def test_cnn_is_the_largest_of_each_filter_and_two_dense_layers():
    model = MODELS["cnn"](*SIZES)
    params = started(model)
    x = np.asarray(table(params), np.float64)[TOKENS[3, :5]]
    kernel, bias = (np.asarray(params["convolution"][name], np.float64) for name in ("kernel", "bias"))
    windows = [np.maximum(sum(x[t + i] @ kernel[i] for i in range(3)) + bias, 0) for t in range(3)]
    hidden = np.maximum(dense(params["hidden"], np.max(windows, axis=0)), 0)
    expected = dense(params["output"], hidden)
    np.testing.assert_allclose(
        model.apply({"params": params}, TOKENS, lengths=LENGTHS)[3], expected, rtol=1e-5, atol=1e-5
    )


def test_cnn_lstm_reads_the_largest_of_each_block():
    model = MODELS["cnn_lstm"](*SIZES)
    params = started(model)
    x = np.asarray(table(params), np.float64)[TOKENS[3, :5]]
    kernel, bias = (np.asarray(params["convolution"][name], np.float64) for name in ("kernel", "bias"))
    windows = np.array([np.maximum(x[t] @ kernel[0] + x[t + 1] @ kernel[1] + bias, 0) for t in range(4)])
    blocks = windows.reshape(2, 2, 6).max(axis=1)  # 4 windows are 2 blocks
    last = rnnjax.LSTM(4).apply({"params": params["recurrent"]}, blocks[None].astype(np.float32))[0, -1]
    expected = dense(params["output"], np.asarray(last, np.float64))
    np.testing.assert_allclose(
        model.apply({"params": params}, TOKENS, lengths=LENGTHS)[3], expected, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("pooling", [None, rnnjax.MaxPooling()])
def test_a_recurrent_layer_reads_words_and_bags_all(pooling, num_classes):
    layer = rnnjax.GRU(4, return_sequences=pooling is not None)
    model = RecurrentBagClassifier(V, num_classes, E, layer, pooling, num_words=6, max_length=4)
    tokens = np.array([[2, 3, 2, 5, 8, 7, 8, 8], [3, 2, 6, 8, 8, 8, 8, 8]], np.int32)  # ids from 6 on are bigrams
    lengths = np.array([7, 3], np.int32)
    params = started(model)
    logits = model.apply({"params": params}, tokens, lengths=lengths)
    for row, (words, bigrams) in enumerate([([2, 3, 2, 5], [8, 7, 8]), ([3, 2], [6])]):
        vectors, weights = np.split(np.asarray(table(params), np.float64), [E], axis=1)
        x = vectors[words].astype(np.float32)
        read = np.asarray(rnnjax.GRU(4).apply({"params": params["recurrent"]}, x[None])[0], np.float64)
        read = read[-1] if pooling is None else read.max(axis=0)
        bag = vectors[words + bigrams].mean(axis=0)
        expected = dense(params["output"], np.concatenate([read, bag]))
        present = sorted({*words, *bigrams})
        expected += (weights[present] * np.asarray(params["ratios"])[present]).sum(axis=0) / 10
        np.testing.assert_allclose(logits[row], expected, rtol=1e-4, atol=1e-4)


def test_the_recurrent_bag_starts_as_naive_bayes():
    model = MODELS["gru_bag"](*SIZES)
    params = jax.jit(model.init)(jax.random.key(0), TOKENS)["params"]
    np.testing.assert_array_equal(table(params)[:, E:], np.full((V, 1), 0.4, np.float32))
    assert np.abs(table(params)[:, :E]).max() <= 0.05
    assert not params["ratios"].any()
    params = jax.tree.map(np.zeros_like, params) | {"embedding": params["embedding"]}
    params["ratios"] = np.random.default_rng(0).normal(size=(V, 1)).astype(np.float32)
    expected = [0.04 * params["ratios"][np.unique(row)].sum() for row in TOKENS]
    np.testing.assert_allclose(model.apply({"params": params}, TOKENS)[:, 0], expected, rtol=1e-4, atol=1e-6)


def test_dropped_words_are_dropped_wherever_they_stand():
    model = FastTextClassifier(*SIZES, word_dropout_rate=0.5)
    params = started(model)
    tokens = np.arange(V, dtype=np.int32)[:, None]  # a word a text
    run = model.apply({"params": params}, tokens, deterministic=False, rngs={"dropout": jax.random.key(1)})
    vectors = np.asarray(table(params), np.float64)
    dropped = np.isclose(np.asarray(run), np.asarray(params["output"]["bias"]), atol=1e-6).ravel()
    assert 0 < dropped.sum() < V
    expected = dense(params["output"], np.where(dropped[:, None], 0, 2 * vectors))
    np.testing.assert_allclose(run, expected, rtol=1e-4, atol=1e-4)
    plain = FastTextClassifier(*SIZES).apply({"params": params}, tokens)
    np.testing.assert_array_equal(model.apply({"params": params}, tokens), plain)


def test_dropout_is_of_each_value_by_itself_and_of_the_outputs():
    vectors = np.ones((2, 400, E), np.float32)
    tokens = np.ones((2, 400), np.int32)
    model = FastTextClassifier(*SIZES, dropout_rate=0.5)
    params = jax.tree.map(np.ones_like, jax.jit(model.init)(jax.random.key(0), TOKENS)["params"])

    def run(model, seed):
        return np.asarray(
            model.apply({"params": params}, tokens, vectors=vectors, deterministic=False, rngs={"dropout": seed})
        )

    first, second = (run(model, jax.random.key(seed)) for seed in (0, 1))
    assert np.abs(first - second).max() > 1e-3
    assert np.abs(first - (E + 1)).max() < 1  # the mean of 400 values of which each is 0 or 2
    kept = run(FastTextClassifier(*SIZES, output_dropout_rate=0.5), jax.random.key(0)) - 1
    assert set(np.round(kept.ravel(), 4)) <= {0, 2, 4, 6, 8, 10}
    np.testing.assert_allclose(model.apply({"params": params}, tokens, vectors=vectors), E + 1, rtol=1e-5)
