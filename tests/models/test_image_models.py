"""Models of images against their equations, written out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.layers.recurrent import GRU, IRNN, LSTM
from rnnjax.models.images import (
    ConvolutionalClassifier,
    DenseClassifier,
    HierarchicalClassifier,
    PixelClassifier,
    Pixels,
    moved,
    pixel_order,
)

PLAIN = Pixels()


def make_images(count=3, side=8):
    return np.random.default_rng(0).integers(0, 256, (count, side, side), dtype=np.uint8)


def started(model, inputs):
    """Parameters with biases that are not zero, so that a forgotten one shows."""
    params = jax.jit(model.init)(jax.random.key(0), inputs)["params"]
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    shifted = [leaf + 0.1 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, shifted)


def float64(params):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)


def affine(params, x):
    return x @ params["kernel"] + params["bias"]


def test_pixels_are_means_of_squares_in_the_given_order():
    images = make_images(2, 6)
    order = (5, 0, 3, 1, 8, 2, 7, 6, 4)
    given = np.asarray(Pixels(2, order)(images))
    for b in range(2):
        means = [images[b, 2 * r : 2 * r + 2, 2 * c : 2 * c + 2].mean() / 255 for r in range(3) for c in range(3)]
        np.testing.assert_allclose(given[b].ravel(), [means[place] for place in order], rtol=1e-6)
    np.testing.assert_allclose(Pixels()(images), images / 255, rtol=1e-6)


def test_moved_images():
    images = make_images(60, 6)
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2)))
    given = np.asarray(moved(images, jax.random.key(0), 2))
    corners = []
    for image, wide in zip(given, padded, strict=True):
        places = [(r, c) for r in range(5) for c in range(5) if (wide[r : r + 6, c : c + 6] == image).all()]
        assert len(places) == 1
        corners += places
    assert {r for r, _ in corners} == {c for _, c in corners} == set(range(5))


def test_images_are_moved_in_training_only():
    images = make_images(3, 6)
    model = DenseClassifier(4, (6, 5), (0.0, 0.0), Pixels(shift=2))
    params = started(model, images)
    key = jax.random.key(3)
    trained = np.asarray(model.apply({"params": params}, images, deterministic=False, rngs={"dropout": key}))
    still = model.clone(pixels=PLAIN)
    np.testing.assert_array_equal(model.apply({"params": params}, images), still.apply({"params": params}, images))
    assert np.abs(trained - still.apply({"params": params}, images)).max() > 1e-3


def test_the_order_is_the_same_for_ever():
    assert pixel_order(8, 0) == (6, 2, 1, 7, 3, 0, 5, 4)  # what NumPy's RandomState(0) draws in every version
    assert sorted(pixel_order(784, 0)) == list(range(784))


def test_dense_layers_by_hand():
    images = make_images()
    model = DenseClassifier(4, (6, 5), (0.5, 0.5), PLAIN)
    params = started(model, images)
    p, x = float64(params), images.reshape(3, -1) / 255
    for name in ("dense_0", "dense_1"):
        x = np.maximum(affine(p[name], x), 0)
    np.testing.assert_allclose(model.apply({"params": params}, images), affine(p["output"], x), rtol=1e-4, atol=1e-5)


def test_dropout_follows_each_dense_layer():
    images = make_images()
    params = started(DenseClassifier(4, (6, 5), (0.0, 0.0), PLAIN), images)

    def logits(rates, **options):
        return np.asarray(DenseClassifier(4, (6, 5), rates, PLAIN).apply({"params": params}, images, **options))

    plain = logits((0.0, 0.0))
    for rates in ((0.5, 0.0), (0.0, 0.5)):
        np.testing.assert_array_equal(logits(rates), plain)
        dropped = logits(rates, deterministic=False, rngs={"dropout": jax.random.key(3)})
        assert np.abs(dropped - plain).max() > 1e-3


def test_convolutions_by_hand():
    images = make_images(2, 8)
    model = ConvolutionalClassifier(4, (2, 3), 5, (0.25, 0.5), PLAIN)
    params = started(model, images)
    p, x = float64(params), images[..., None] / 255
    for name in ("convolution_0", "convolution_1"):
        kernel = p[name]["kernel"]
        size = x.shape[1] - 2
        y = np.zeros((2, size, size, kernel.shape[3]))
        for row in range(size):
            for column in range(size):
                window = x[:, row : row + 3, column : column + 3]  # [B, 3, 3, C]
                y[:, row, column] = np.einsum("bijc,ijcg->bg", window, kernel) + p[name]["bias"]
        x = np.maximum(y, 0)
    x = np.stack([x[:, r : r + 2, c : c + 2].max(axis=(1, 2)) for r in (0, 2) for c in (0, 2)], axis=1)  # [B, 4, C]
    x = np.maximum(affine(p["dense"], x.reshape(2, -1)), 0)
    np.testing.assert_allclose(model.apply({"params": params}, images), affine(p["output"], x), rtol=1e-4, atol=1e-5)


def test_an_irnn_reads_pixel_by_pixel():
    images = make_images(3, 4)
    model = PixelClassifier(4, IRNN(5, return_sequences=False), Pixels(1, pixel_order(16, 0)), pixels_per_step=2)
    params = started(model, images)
    p = float64(params)
    sequence = (images.reshape(3, 16) / 255)[:, list(pixel_order(16, 0))]
    cell = p["recurrent"]["recurrence"] if "recurrence" in p["recurrent"] else p["recurrent"]
    h = np.zeros((3, 5))
    for t in range(8):
        x = sequence[:, 2 * t : 2 * t + 2]
        h = np.maximum(x @ cell["kernel"] + h @ cell["recurrent_kernel"] + cell["bias"], 0)
    np.testing.assert_allclose(model.apply({"params": params}, images), affine(p["output"], h), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pixels_per_step", [1, 4])
def test_rows_are_read_one_by_one_and_then_together(pixels_per_step):
    images = make_images()
    rows, whole = GRU(5, return_sequences=False), LSTM(6, return_sequences=False)
    model = HierarchicalClassifier(4, rows, whole, PLAIN, pixels_per_step)
    params = started(model, images)
    read = []
    for number in range(8):
        row = jnp.asarray(images[:, number] / 255, jnp.float32).reshape(3, -1, pixels_per_step)
        read.append(np.asarray(rows.apply({"params": params["rows"]}, row)))
    last = np.asarray(whole.apply({"params": params["recurrent"]}, np.stack(read, axis=1)))
    expected = affine(float64(params["output"]), last)
    np.testing.assert_allclose(model.apply({"params": params}, images), expected, rtol=1e-4, atol=1e-5)


def test_bfloat16_rounds_operands():
    images = make_images()
    wide = ConvolutionalClassifier(4, (2, 3), 5, (0.0, 0.0), PLAIN)
    narrow = wide.clone(matmul_dtype="bfloat16")
    params = started(wide, images)

    logits, rounded = (np.asarray(model.apply({"params": params}, images)) for model in (wide, narrow))
    assert rounded.dtype == np.float32
    assert 1e-4 < np.abs(rounded - logits).max() / np.abs(logits).max() < 2**-5
    gradient = jax.grad(lambda params: narrow.apply({"params": params}, images).sum())(params)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {jnp.dtype("float32")}
