"""Classifiers of small grey images: dense, convolutional, and recurrent ones that read pixel by pixel or row by row.

All take images `[B, S, S]` as bytes, 0 to 255, and give logits `[B, C]`.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, UInt8

from rnnjax.models.output import dense, output_layer


@dataclasses.dataclass(frozen=True)
class Pixels:
    """Images as numbers from 0 to 1: averaged over squares, and perhaps with their pixels in another order."""

    pool: int = 1
    """Side of the squares of pixels of which each becomes one, their mean; it has to divide the image's side."""
    order: tuple[int, ...] | None = None
    """Which pixel stands at each place, counted row by row after averaging; by default its own."""

    shift: int = 0
    """Move each image up to so many pixels up or down and left or right in training; what comes in is black."""

    def __call__(self, images: UInt8[Array, "B S S"], key: Array | None = None) -> Float[Array, "B Q Q"]:
        """Pixels, Q = S / pool of them a side; with a key, of moved images."""
        if key is not None:
            images = moved(jnp.asarray(images), key, self.shift)
        x = jnp.asarray(images, jnp.float32) / 255
        batch, side = len(x), x.shape[1] // self.pool
        if self.pool > 1:
            x = x.reshape(batch, side, self.pool, side, self.pool).mean(axis=(2, 4))  # [B, Q, Q]
        if self.order is not None:
            x = x.reshape(batch, side * side)[:, jnp.asarray(self.order)].reshape(batch, side, side)
        return x


class DenseClassifier(nn.Module):
    """Dense layers with ReLU over all pixels, each followed by dropout, and one dense layer."""

    num_classes: int
    features: Sequence[int]
    """Width of each layer."""
    dropout_rates: Sequence[float]
    """Share of each layer's outputs that is dropped."""
    pixels: Pixels
    matmul_dtype: Any = None
    """Type to which the operands of products are rounded."""

    @nn.compact
    def __call__(self, images: UInt8[Array, "B S S"], *, deterministic: bool = True) -> Float[Array, "B C"]:
        """Logits."""
        x = read(self, images, deterministic)
        x = x.reshape(len(x), -1)  # [B, Q Q]
        for number, (features, rate) in enumerate(zip(self.features, self.dropout_rates, strict=True)):
            x = nn.relu(dense(features, f"dense_{number}", self.matmul_dtype)(x))
            x = nn.Dropout(rate, deterministic=deterministic)(x)
        logits: Float[Array, "B C"] = output_layer(self.num_classes, self.matmul_dtype)(x)
        return logits


class ConvolutionalClassifier(nn.Module):
    """Two convolutions of 3 x 3 with ReLU, max-pooling, dropout, a dense layer with ReLU, dropout, a dense layer."""

    num_classes: int
    channels: tuple[int, int]
    """Of the two convolutions."""
    features: int
    """Width of the dense layer."""
    dropout_rates: tuple[float, float]
    """Share of the values dropped before and after the dense layer."""
    pixels: Pixels
    matmul_dtype: Any = None
    """Type to which the operands of products and convolutions are rounded."""

    @nn.compact
    def __call__(self, images: UInt8[Array, "B S S"], *, deterministic: bool = True) -> Float[Array, "B C"]:
        """Logits."""
        x = read(self, images, deterministic)[..., None]  # [B, Q, Q, 1]
        for number, channels in enumerate(self.channels):
            x = nn.relu(self._convolution(channels, f"convolution_{number}")(x))  # [B, Q - 2, Q - 2, channels]
        x = nn.max_pool(x, (2, 2), (2, 2))
        x = x.reshape(len(x), -1)
        x = nn.Dropout(self.dropout_rates[0], deterministic=deterministic)(x)
        x = nn.relu(dense(self.features, "dense", self.matmul_dtype)(x))
        x = nn.Dropout(self.dropout_rates[1], deterministic=deterministic)(x)
        logits: Float[Array, "B C"] = output_layer(self.num_classes, self.matmul_dtype)(x)
        return logits

    def _convolution(self, channels: int, name: str) -> nn.Conv:
        def convolve(x: Array, kernel: Array, *arguments: Any, **keywords: Any) -> Array:
            if self.matmul_dtype is not None:
                # Rounded and widened again, since a convolution's gradient has the type of its operands.
                x, kernel = (part.astype(self.matmul_dtype).astype(part.dtype) for part in (x, kernel))
            return jax.lax.conv_general_dilated(x, kernel, *arguments, **keywords)

        kernel_init = nn.initializers.glorot_uniform()
        return nn.Conv(
            channels, (3, 3), padding="VALID", kernel_init=kernel_init, conv_general_dilated=convolve, name=name
        )


class PixelClassifier(nn.Module):
    """Read an image pixel by pixel, row by row from the top left, and classify it by the last output of a layer."""

    num_classes: int
    encoder: nn.Module
    """A layer that gives one vector a sequence: `LSTM(128, return_sequences=False)`, ..."""
    pixels: Pixels
    pixels_per_step: int = 1
    """How many pixels are read at once."""
    matmul_dtype: Any = None
    """Type to which the operands of the output layer's products are rounded; those of the encoder are its own."""

    @nn.compact
    def __call__(self, images: UInt8[Array, "B S S"], *, deterministic: bool = True) -> Float[Array, "B C"]:
        """Logits."""
        x = read(self, images, deterministic)
        x = x.reshape(len(x), -1, self.pixels_per_step)  # [B, T, pixels of a step]
        x = self.encoder.clone(parent=self, name="recurrent", deterministic=deterministic)(x)  # [B, H]
        logits: Float[Array, "B C"] = output_layer(self.num_classes, self.matmul_dtype)(x)
        return logits


class HierarchicalClassifier(nn.Module):
    """Read each row pixel by pixel with one layer, and what it makes of the rows with another (Li et al. 2015)."""

    num_classes: int
    row_encoder: nn.Module
    """A layer that gives one vector a sequence, of the pixels of a row."""
    encoder: nn.Module
    """A layer that gives one vector a sequence, of the rows' vectors."""
    pixels: Pixels
    pixels_per_step: int = 1
    """How many pixels of a row are read at once."""
    matmul_dtype: Any = None
    """Type to which the operands of the output layer's products are rounded; those of the encoders are their own."""

    @nn.compact
    def __call__(self, images: UInt8[Array, "B S S"], *, deterministic: bool = True) -> Float[Array, "B C"]:
        """Logits."""
        x = read(self, images, deterministic)
        x = x.reshape(*x.shape[:2], -1, self.pixels_per_step)  # [B, Q, T, pixels of a step]
        x = self.row_encoder.clone(parent=self, name="rows", deterministic=deterministic)(x)  # [B, Q, H]
        x = self.encoder.clone(parent=self, name="recurrent", deterministic=deterministic)(x)  # [B, H]
        logits: Float[Array, "B C"] = output_layer(self.num_classes, self.matmul_dtype)(x)
        return logits


def read(module: Any, images: UInt8[Array, "B S S"], deterministic: bool) -> Float[Array, "B Q Q"]:
    """The pixels that a model with `pixels` sees."""
    is_moved = module.pixels.shift > 0 and not deterministic
    pixels: Float[Array, "B Q Q"] = module.pixels(images, module.make_rng("dropout") if is_moved else None)
    return pixels


def moved(images: UInt8[Array, "B S S"], key: Array, most: int) -> UInt8[Array, "B S S"]:
    """Each image moved by its own draw of -`most` to `most` pixels along both axes."""
    edge = (most, most)
    padded = jnp.pad(images, ((0, 0), edge, edge))
    corners = jax.random.randint(key, (len(images), 2), 0, 2 * most + 1)
    size = images.shape[1:]
    return jax.vmap(lambda image, corner: jax.lax.dynamic_slice(image, corner, size))(padded, corners)


def pixel_order(count: int, seed: int) -> tuple[int, ...]:
    """The pixels of an image in an order that is drawn from a seed, the same for all images."""
    # NumPy promises that this older generator draws the same in all versions.
    return tuple(np.random.RandomState(seed).permutation(count).tolist())
