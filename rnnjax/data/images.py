"""Small grey images: drawn digits as a built-in sample, and a user's own images with a label each.

An image is an array of bytes [28, 28]: 0 black, 255 white, digits light on dark as in MNIST.
"""

import hashlib
import io
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.Image
from jaxtyping import Float, Int, UInt8

from rnnjax.data.files import fingerprint_files, read_bytes, refuse, subfolders
from rnnjax.errors import InputError, first_line

SIDE = 28
"""Pixels of a side."""
SPLITS = ("train", "validation", "test")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".pgm", ".webp")
KERAS_NAMES = {"train": ("x_train", "y_train"), "validation": ("x_val", "y_val"), "test": ("x_test", "y_test")}
LAYOUT = (
    "a folder with one sub-folder of images a class, or an .npz file with the arrays image and label, or x_train, "
    "y_train, x_test and y_test"
)

# Five dots wide and seven high.
GLYPHS = """
.###.  ..#..  .###.  .###.  ...#.  #####  ..##.  #####  .###.  .###.
#...#  .##..  #...#  #...#  ..##.  #....  .#...  ....#  #...#  #...#
#..##  ..#..  ....#  ....#  .#.#.  ####.  #....  ...#.  #...#  #...#
#.#.#  ..#..  ...#.  ..##.  #..#.  ....#  ####.  ..#..  .###.  .####
##..#  ..#..  ..#..  ....#  #####  ....#  #...#  ..#..  #...#  ....#
#...#  ..#..  .#...  #...#  ...#.  #...#  #...#  ..#..  #...#  ...#.
.###.  .###.  #####  .###.  ...#.  .###.  .###.  ..#..  .###.  .##..
"""


class Picture(NamedTuple):
    """An image file, read."""

    pixels: UInt8[np.ndarray, "28 28"]
    was: tuple[int, int]
    """Width and height in the file."""


@dataclass(frozen=True)
class LabelledImages:
    """Images with one label each, in the order of the source; `splits` names each one's part, or is None if none do."""

    images: UInt8[np.ndarray, "N 28 28"]
    labels: list[str]
    splits: list[str] | None
    resized: int
    """How many had another size."""


def digits(num_examples: int, seed: int) -> tuple[UInt8[np.ndarray, "N 28 28"], Int[np.ndarray, " N"]]:
    """Draw digits: glyphs of a dot-matrix font, each moved, turned, slanted, scaled, thickened and with noise.

    Returns:
        Images, and the digit of each, every digit as frequent as any other (one more or less).
    """
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(num_examples) % 10).astype(np.int32)
    images = np.empty((num_examples, SIDE, SIDE), np.uint8)
    for begin in range(0, num_examples, 1000):
        rows = slice(begin, begin + 1000)
        images[rows] = _draw(labels[rows], random)
    return images, labels


def _draw(labels: Int[np.ndarray, " N"], random: np.random.Generator) -> UInt8[np.ndarray, "N 28 28"]:
    count = len(labels)

    def drawn(low: float, high: float) -> Float[np.ndarray, "N 1 1"]:
        return random.uniform(low, high, (count, 1, 1))

    # Where each pixel's middle lies in the glyph, whose dots are 1 apart: an inverse affine map.
    y, x = np.meshgrid(np.arange(SIDE) - (SIDE - 1) / 2, np.arange(SIDE) - (SIDE - 1) / 2, indexing="ij")
    x, y = x[None] - drawn(-3, 3), y[None] - drawn(-3, 3)
    angle, slant = drawn(-0.25, 0.25), drawn(-0.3, 0.3)
    x, y = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    x = (x + slant * y) / drawn(2.0, 3.2) + 2
    y = y / drawn(2.2, 3.2) + 3
    dots = np.array([_glyph(digit) for digit in range(10)])[labels]  # [N, 9, 7], a dark border around each
    value = _between(dots, np.clip(y + 1, 0, 8), np.clip(x + 1, 0, 6))
    # What counts as ink decides how thick lines are.
    ink = np.clip((value - drawn(0.25, 0.6)) * 4 + 0.5, 0, 1) * drawn(0.6, 1)
    noise = random.normal(0, 0.08, ink.shape)
    return np.clip(255 * (ink + noise), 0, 255).astype(np.uint8)


def _glyph(digit: int) -> Float[np.ndarray, "9 7"]:
    rows = [line.split()[digit] for line in GLYPHS.strip().splitlines()]
    return np.pad(np.array([[dot == "#" for dot in row] for row in rows], np.float64), 1)


def _between(
    dots: Float[np.ndarray, "N R C"], y: Float[np.ndarray, "N S S"], x: Float[np.ndarray, "N S S"]
) -> Float[np.ndarray, "N S S"]:
    """Values at fractions of rows and columns, between the four nearest dots along lines."""
    top = np.minimum(y.astype(int), dots.shape[1] - 2)
    left = np.minimum(x.astype(int), dots.shape[2] - 2)
    down, right = y - top, x - left
    example = np.arange(len(dots))[:, None, None]
    upper = dots[example, top, left] * (1 - right) + dots[example, top, left + 1] * right
    lower = dots[example, top + 1, left] * (1 - right) + dots[example, top + 1, left + 1] * right
    return upper * (1 - down) + lower * down


def read_image(path: str | os.PathLike[str]) -> Picture:
    """Read an image file of any format that Pillow knows, as grey of 28 x 28 pixels.

    Raises:
        InputError: there is no such file, or it holds no image.
    """
    try:
        with PIL.Image.open(path) as image:
            image.load()
            return Picture(_fitted(image), image.size)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file; check the name") from None
    except PIL.UnidentifiedImageError:
        raise InputError(f"{path}: expected an image, such as a PNG file; got a file of another kind") from None
    # A broken image shows as any of half a dozen types, a name of NUL characters as a ValueError.
    except (OSError, ValueError, SyntaxError, EOFError, PIL.Image.DecompressionBombError) as error:
        raise InputError(f"{path}: expected an image; it cannot be read ({first_line(error)})") from None


def _fitted(image: PIL.Image.Image) -> UInt8[np.ndarray, "28 28"]:
    """As grey of 28 x 28 pixels; what is transparent becomes black."""
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        # Pillow would cut these off at 255 instead of scaling them.
        values = np.asarray(image, np.float64)
        image = PIL.Image.fromarray((values * (255 / max(values.max(), 255))).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = PIL.Image.alpha_composite(PIL.Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    image = image.convert("L")
    if image.size != (SIDE, SIDE):
        image = image.resize((SIDE, SIDE), PIL.Image.Resampling.BILINEAR)
    return np.array(image)


def read_labelled_images(path: str | os.PathLike[str]) -> LabelledImages:
    """Read labelled images, as grey of 28 x 28 pixels.

    Args:
        path: One of
            - a folder with one sub-folder a class, each holding image files, read in sorted order; or such folders
              under train/, validation/ and test/;
            - an .npz file with the arrays `image` of bytes [N, H, W], [N, H, W, 1] or [N, H, W, 3] and `label` [N], of
              whole numbers or names; or `x_train`, `y_train`, `x_test` and `y_test` of this form, as Keras has them,
              and `x_val` and `y_val` where there are such.

    Raises:
        InputError: the file or folder is missing, empty, unreadable or laid out otherwise; there are fewer than two
            classes; nothing is for training.
    """
    path = Path(path)
    found = _read_folder(path) if path.is_dir() else _read_npz(path)
    if not found.labels:
        raise InputError(f"{path}: expected labelled images, found none; expected {LAYOUT}")
    splits = found.splits or ["train"] * len(found.labels)
    trained = sorted({label for label, split in zip(found.labels, splits, strict=True) if split == "train"})
    if len(trained) < 2:
        raise InputError(
            f"{path}: expected images of two or more classes to train on, got {', '.join(trained) or 'none'}; add some"
        )
    unknown = sorted(set(found.labels) - set(trained))
    if unknown:
        raise InputError(f"{path}: class {unknown[0]!r} occurs outside train only; add images of it to train on")
    return found


def fingerprint_images(path: str | os.PathLike[str]) -> str:
    """SHA-256 (hex) over what `read_labelled_images` reads: the file's bytes, or a folder's names and bytes.

    Raises:
        InputError: something there cannot be read, or there is nothing of the kind.
    """
    path = Path(path)
    if not path.is_dir():
        return hashlib.sha256(read_bytes(path)).hexdigest()
    return fingerprint_files(path, (file for file, _, _ in _folder_files(path)))


def _read_folder(path: Path) -> LabelledImages:
    rows = [(read_image(file), label, split) for file, label, split in _folder_files(path)]
    images = np.stack([picture.pixels for picture, _, _ in rows])
    splits = [split for _, _, split in rows if split is not None]
    resized = sum(picture.was != (SIDE, SIDE) for picture, _, _ in rows)
    return LabelledImages(images, [label for _, label, _ in rows], splits or None, resized)


def _folder_files(path: Path) -> Iterator[tuple[Path, str, str | None]]:
    """The image files of a folder, each with its label and split."""
    folders = subfolders(path)
    if not folders:
        raise InputError(f"{path}: expected {LAYOUT}; found no sub-folder")
    if not {folder.name for folder in folders} <= set(SPLITS):
        yield from ((file, folder.name, None) for folder in folders for file in _class_files(folder))
        return
    for split in folders:
        yield from ((file, folder.name, split.name) for folder in subfolders(split) for file in _class_files(folder))


def _class_files(folder: Path) -> list[Path]:
    try:
        files = [file for file in sorted(folder.iterdir()) if file.suffix.lower() in SUFFIXES and file.is_file()]
    except OSError as error:
        refuse(folder, error)
    if not files:
        raise InputError(f"{folder}: expected image files, such as .png, found none; add some or remove the folder")
    return files


def _read_npz(path: Path) -> LabelledImages:
    if path.suffix.lower() != ".npz":
        read_bytes(path)  # a name that means nothing is the likelier mistake
        raise InputError(f"{path}: expected {LAYOUT}; got a file ending in {path.suffix!r}")
    try:
        with np.load(io.BytesIO(read_bytes(path)), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, NotImplementedError) as error:
        raise InputError(f"{path}: expected an .npz file of arrays; it cannot be read ({first_line(error)})") from None
    if {"image", "label"} <= set(arrays):
        images, labels = _labelled(path, arrays, "image", "label")
        return LabelledImages(images, labels, None, _is_other(arrays["image"]))
    present = {split: names for split, names in KERAS_NAMES.items() if set(names) <= set(arrays)}
    if "train" not in present:
        found = ", ".join(arrays) or "none"
        raise InputError(f"{path}: expected the arrays image and label, or x_train and y_train; found {found}")
    parts = [(split, *_labelled(path, arrays, *names)) for split, names in present.items()]
    return LabelledImages(
        np.concatenate([images for _, images, _ in parts]),
        [label for _, _, labels in parts for label in labels],
        [split for split, _, labels in parts for _ in labels],
        sum(_is_other(arrays[KERAS_NAMES[split][0]]) for split, _, _ in parts),
    )


def _is_other(images: np.ndarray) -> int:
    """How many images have another size than 28 x 28."""
    return 0 if images.shape[1:3] == (SIDE, SIDE) else len(images)


def _labelled(
    path: Path, arrays: dict[str, np.ndarray], images_name: str, labels_name: str
) -> tuple[np.ndarray, list[str]]:
    images, labels = arrays[images_name], arrays[labels_name]
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or images.shape[3:] not in ((), (1,), (3,)):
        raise InputError(
            f"{path}: expected {images_name} as bytes [N, H, W], [N, H, W, 1] or [N, H, W, 3]; "
            f"got {images.dtype} {images.shape}"
        )
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iuU":
        raise InputError(
            f"{path}: expected {labels_name} as {len(images)} whole numbers or names; got {labels.dtype} {labels.shape}"
        )
    if 0 in images.shape[1:3]:
        raise InputError(f"{path}: expected images with pixels in {images_name}; got {images.shape}")
    if images.shape[3:] == (1,):
        images = images[..., 0]
    if images.shape[1:] != (SIDE, SIDE):
        images = np.array([_fitted(PIL.Image.fromarray(image)) for image in images]).reshape(-1, SIDE, SIDE)
    return images, [str(label) for label in labels.tolist()]
