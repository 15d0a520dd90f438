"""The next frame of a film, at every step: convolutional LSTMs and one convolution."""

from collections.abc import Sequence

from flax import linen as nn
from jaxtyping import Array, Float

from rnnjax.layers.recurrent import ConvLSTM


class NextFrame(nn.Module):
    """Predict each next frame from those up to now: layers of ConvLSTM, each normalised, and one convolution.

    The outputs of each layer are normalised over the channels of each pixel (Ba et al. 2016), so that neither other
    films nor later frames come in. The last convolution reads the step itself and the `depth - 1` before it.
    """

    layers: Sequence[int]
    """Channels of each layer, the first one first."""
    kernel_size: tuple[int, int] = (3, 3)
    """Of all convolutions."""
    depth: int = 3
    """Steps that the last convolution reads."""

    @nn.compact
    def __call__(self, frames: Float[Array, "B T X Y C"], *, deterministic: bool = True) -> Float[Array, "B T X Y C"]:
        """Logits of the pixels of the frame after each."""
        x = frames
        for number, features in enumerate(self.layers):
            layer = ConvLSTM(features, kernel_size=self.kernel_size, name=f"recurrent_{number}")
            x = nn.LayerNorm(name=f"norm_{number}")(layer(x, deterministic=deterministic))  # [B, T, X, Y, H]
        rows, columns = self.kernel_size
        output = nn.Conv(
            frames.shape[-1],
            (self.depth, rows, columns),
            padding=[(self.depth - 1, 0), *(((size - 1) // 2, size // 2) for size in (rows, columns))],
            kernel_init=nn.initializers.glorot_uniform(),
            name="output",
        )
        logits: Float[Array, "B T X Y C"] = output(x)
        return logits
