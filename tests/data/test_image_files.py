"""Images from files, folders and arrays, and drawn ones."""

import numpy as np
import PIL.Image
import pytest

from rnnjax.data import images
from rnnjax.errors import InputError


def noise(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(array).save(path)


def test_a_png_is_read_as_it_is(tmp_path):
    pixels = noise(0, 28, 28)
    save(tmp_path / "a.png", pixels)
    picture = images.read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(picture.pixels, pixels)
    assert picture.was == (28, 28)


def test_colours_become_grey_and_other_sizes_28(tmp_path):
    save(tmp_path / "a.png", np.full((10, 20, 3), (255, 0, 0), np.uint8))
    picture = images.read_image(tmp_path / "a.png")
    assert picture.was == (20, 10)
    np.testing.assert_array_equal(picture.pixels, np.full((28, 28), round(0.299 * 255)))


def test_what_is_transparent_becomes_black(tmp_path):
    pixels = np.zeros((28, 28, 4), np.uint8)
    pixels[..., :3] = 255
    pixels[:14, :, 3] = 255
    save(tmp_path / "a.png", pixels)
    expected = np.repeat([255, 0], 14)[:, None] * np.ones((1, 28))
    np.testing.assert_array_equal(images.read_image(tmp_path / "a.png").pixels, expected)


def test_sixteen_bits_are_scaled_not_cut_off(tmp_path):
    pixels = (np.arange(784).reshape(28, 28) * 83).astype(np.uint16)
    save(tmp_path / "a.png", pixels)
    expected = pixels / pixels.max() * 255
    assert np.abs(images.read_image(tmp_path / "a.png").pixels - expected).max() <= 1


def test_what_is_no_image_is_refused(tmp_path):
    (tmp_path / "a.png").write_text("no image")
    save(tmp_path / "b.png", noise(0, 28, 28))
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:200])
    for name, message in [
        ("a.png", "expected an image"),
        ("b.png", "cannot be read"),
        ("none.png", "no such file"),
        (".", "cannot be read"),
        ("\0", "cannot be read"),
    ]:
        with pytest.raises(InputError, match=message):
            images.read_image(tmp_path / name)


def test_a_folder_of_classes(tmp_path):
    for label in ("cat", "dog"):
        for number in range(2):
            save(tmp_path / label / f"{number}.png", noise(number, 28, 28))
    (tmp_path / "cat" / "notes.txt").write_text("not read")
    data = images.read_labelled_images(tmp_path)
    assert (data.labels, data.splits, data.resized) == (["cat", "cat", "dog", "dog"], None, 0)
    np.testing.assert_array_equal(data.images, np.stack([noise(n, 28, 28) for n in (0, 1, 0, 1)]))
    before = images.fingerprint_images(tmp_path)
    assert images.fingerprint_images(tmp_path) == before
    (tmp_path / "cat" / "0.png").rename(tmp_path / "cat" / "3.png")
    assert images.fingerprint_images(tmp_path) != before


def test_folders_of_splits(tmp_path):
    for split, size in (("train", 28), ("test", 14)):
        for label in "01":
            save(tmp_path / split / label / "a.png", noise(int(label), size, size))
    data = images.read_labelled_images(tmp_path)
    assert data.labels == ["0", "1", "0", "1"]
    assert data.splits == ["test", "test", "train", "train"]
    assert data.resized == 2


def test_arrays(tmp_path):
    pixels, labels = noise(0, 5, 28, 28), np.array([3, 1, 3, 1, 2])
    np.savez(tmp_path / "own.npz", image=pixels[..., None], label=labels)
    data = images.read_labelled_images(tmp_path / "own.npz")
    np.testing.assert_array_equal(data.images, pixels)
    assert (data.labels, data.splits) == (["3", "1", "3", "1", "2"], None)


def test_arrays_as_keras_has_them(tmp_path):
    pixels = noise(0, 6, 28, 28)
    np.savez(tmp_path / "m.npz", x_train=pixels[:4], y_train=[0, 1, 0, 1], x_test=pixels[4:], y_test=[1, 0])
    data = images.read_labelled_images(tmp_path / "m.npz")
    np.testing.assert_array_equal(data.images, pixels)
    assert data.labels == ["0", "1", "0", "1", "1", "0"]
    assert data.splits == ["train"] * 4 + ["test"] * 2


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pixels": noise(0, 2, 3, 3)}, "expected the arrays image and label, or x_train and y_train; found pixels"),
        ({"image": np.zeros((2, 3, 3)), "label": [0, 1]}, r"expected image as bytes .* got float64 \(2, 3, 3\)"),
        ({"image": noise(0, 2, 3, 3, 4), "label": [0, 1]}, "expected image as bytes"),
        ({"image": noise(0, 2, 3, 3), "label": [0, 1, 2]}, "expected label as 2 whole numbers or names"),
        ({"image": noise(0, 2, 0, 3), "label": [0, 1]}, "expected images with pixels"),
        ({"image": noise(0, 2, 3, 3), "label": [1, 1]}, "expected images of two or more classes to train on, got 1"),
        ({"image": noise(0, 0, 3, 3), "label": np.zeros(0, int)}, "expected labelled images, found none"),
        (
            {"x_train": noise(0, 2, 3, 3), "y_train": [0, 1], "x_test": noise(0, 1, 3, 3), "y_test": [7]},
            "class '7' occurs outside train only",
        ),
    ],
)
def test_arrays_that_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "own.npz", **arrays)
    with pytest.raises(InputError, match=rf"own\.npz: {message}"):
        images.read_labelled_images(tmp_path / "own.npz")


def test_what_is_no_data_is_refused(tmp_path):
    (tmp_path / "broken.npz").write_bytes(b"PK\3\4 not really")
    (tmp_path / "words.csv").write_text("text,label\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "hollow" / "a").mkdir(parents=True)
    for name, message in [
        ("broken.npz", "cannot be read"),
        ("words.csv", r"expected a folder .* got a file ending in '.csv'"),
        ("empty", "found no sub-folder"),
        ("hollow", "expected image files"),
        ("none", "no such file or folder"),
        ("none.npz", "no such file or folder"),
    ]:
        with pytest.raises(InputError, match=message):
            images.read_labelled_images(tmp_path / name)


def test_drawn_digits():
    pictures, labels = images.digits(1205, seed=1)
    assert pictures.shape == (1205, 28, 28)
    assert set(np.bincount(labels)) == {120, 121}
    again, _ = images.digits(1205, seed=1)
    np.testing.assert_array_equal(pictures, again)
    assert len({picture.tobytes() for picture in pictures}) == 1205
    assert 15 < pictures.mean() < 60  # light on dark, as in MNIST
    # The nearest of a thousand others is of the same digit for most, and not for all.
    flat = pictures.reshape(1205, -1).astype(np.float64)
    seen, asked = flat[:1000], flat[1000:]
    distances = (asked**2).sum(1)[:, None] - 2 * asked @ seen.T + (seen**2).sum(1)[None]
    right = np.mean(labels[:1000][distances.argmin(axis=1)] == labels[1000:])
    assert 0.5 < right < 1
