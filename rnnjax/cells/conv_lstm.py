"""Convolutional LSTM (Shi et al. 2015) over one, two or three spatial axes."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from rnnjax.cells.base import Cell, CellOptions, Constants, Initializer, check_rate, drop
from rnnjax.cells.lstm import GATES, LSTMState
from rnnjax.kernels.sequence import sigmoid

PADDINGS = ("SAME", "VALID")


@dataclasses.dataclass
class ConvLSTMOptions(CellOptions):
    """Options of `ConvLSTMCell` and `ConvLSTM`. `features` is the number of channels of the state."""

    kernel_size: Sequence[int] = dataclasses.field(default=(3, 3), kw_only=True)
    """Of both convolutions, a number a spatial axis: as many as one example has, from 1 to 3."""
    strides: int | Sequence[int] = dataclasses.field(default=1, kw_only=True)
    """Of the inputs' convolution."""
    padding: str = dataclasses.field(default="SAME", kw_only=True)
    """Of the inputs' convolution, "SAME" or "VALID"; the recurrent one keeps its size."""
    kernel_dilation: int | Sequence[int] = dataclasses.field(default=1, kw_only=True)
    """Of the inputs' convolution."""
    forget_bias: float = dataclasses.field(default=1.0, kw_only=True)
    """Added to the forget gate's bias at the start."""
    gate_fn: Callable[[Array], Array] = dataclasses.field(default=sigmoid, kw_only=True)
    """Of the gates."""
    activation_fn: Callable[[Array], Array] = dataclasses.field(default=jnp.tanh, kw_only=True)
    """Of the candidate, and of the cell state where it is put out."""
    cell_zoneout_rate: float = dataclasses.field(default=0.0, kw_only=True)
    """As `zoneout_rate`, of the cell state."""

    def check(self, name: str) -> None:
        """Raise ValueError where an option has no meaning."""
        super().check(name)
        if isinstance(self.kernel_size, int) or not 1 <= len(self.kernel_size) <= 3 or min(self.kernel_size) < 1:
            raise ValueError(f"{name} expects kernel_size, 1 to 3 integers >= 1; got {self.kernel_size!r}.")
        if self.padding not in PADDINGS:
            raise ValueError(f"{name} expects padding to be one of {', '.join(PADDINGS)}; got {self.padding!r}.")
        for option in ("strides", "kernel_dilation"):
            value = getattr(self, option)
            if not isinstance(value, int) and len(value) != len(self.kernel_size):
                raise ValueError(f"{name} expects {option}, an integer or {len(self.kernel_size)}; got {value!r}.")
        check_rate(name, "cell_zoneout_rate", self.cell_zoneout_rate)
        for option in ("layer_norm", "matmul_dtype"):
            if getattr(self, option):
                raise ValueError(f"{name} has no {option}.")


class ConvLSTMCell(ConvLSTMOptions, Cell):
    """One step of an LSTM whose products are convolutions: inputs `[B, *S, C]`, state and output `[B, *S', H]`.

        i = sigmoid(Wi * x + Ui * h + bi)        input gate
        f = sigmoid(Wf * x + Uf * h + bf)        forget gate
        g = tanh(Wg * x + Ug * h + bg)           candidate
        c' = f . c + i . g
        o = sigmoid(Wo * x + Uo * h + bo)        output gate
        h' = o . tanh(c')

    where * is a convolution and . a product element by element. As in Keras it has no peepholes, which the paper has.

    Parameters, with blocks in the order of `rnnjax.cells.lstm.GATES`: `kernel [*K, C, 4H]`,
    `recurrent_kernel [*K, H, 4H]`, `bias [4H]`.
    """

    num_blocks = 4

    @property
    def input_rank(self) -> int:
        """Spatial axes and channels."""
        return len(self.kernel_size) + 1

    @property
    def recurrent_parameters(self) -> Mapping[str, tuple[Initializer, tuple[int, ...]]]:
        """The recurrent kernel."""
        shape = (*self.kernel_size, self.features, len(GATES) * self.features)
        return {"recurrent_kernel": (self.recurrent_kernel_init, shape)}

    @property
    def zoneout_rates(self) -> tuple[float, ...]:
        """Of h and of c."""
        return self.zoneout_rate, self.cell_zoneout_rate

    @nn.nowrap
    def initial_state(self, batch_size: int | tuple[int, ...], dtype: Any = None) -> LSTMState:
        """Zeros, as arrays `[*B, *S', H]`: `batch_size` is the shape before the channels, such as `(8, 64, 64)`.

        Raises:
            ValueError: the shape has no place for the spatial axes.
        """
        shape = (batch_size,) if isinstance(batch_size, int) else tuple(batch_size)
        if len(shape) < self.input_rank:
            raise ValueError(
                f"{type(self).__name__} expects the shape of a batch and its {self.input_rank - 1} spatial axes, "
                f"such as {(8, 64, 64, 64)[: self.input_rank]}; got {batch_size}."
            )
        zeros = self.zeros(shape, dtype)
        return LSTMState(zeros, zeros)

    @nn.nowrap
    def initial_bias(self, key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        """Raise the forget gate's bias by `forget_bias`."""
        start = GATES.index("forget") * self.features
        return self.bias_init(key, shape, dtype).at[start : start + self.features].add(self.forget_bias)

    @nn.nowrap
    def kernel_shape(self, input_size: int) -> tuple[int, ...]:
        """Shape of the inputs' kernel."""
        return *self.kernel_size, input_size, len(GATES) * self.features

    @nn.nowrap
    def input_product(self, x: Float[Array, "... C"], kernel: Float[Array, "*K C 4H"]) -> Float[Array, "... 4H"]:
        """The inputs' convolution, of one step or of all."""
        z = convolve(x.reshape(-1, *x.shape[-self.input_rank :]), kernel, *self._window())
        return z.reshape(*x.shape[: -self.input_rank], *z.shape[1:])

    @nn.nowrap
    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """`(B, *S', H)` from `(B, *S, C)`."""
        x, kernel = jnp.zeros((1, *input_shape[1:-1], 1)), jnp.zeros((*self.kernel_size, 1, 1))
        size = jax.eval_shape(lambda: convolve(x, kernel, *self._window())).shape[1:-1]
        return input_shape[0], *size, self.features

    @nn.nowrap
    def _window(self) -> tuple[tuple[int, ...], str, tuple[int, ...]]:
        """Strides, padding and dilation of the inputs' convolution."""

        def each(value: int | Sequence[int]) -> tuple[int, ...]:
            return (value,) * len(self.kernel_size) if isinstance(value, int) else tuple(value)

        return each(self.strides), self.padding, each(self.kernel_dilation)

    def step(
        self, state: LSTMState, z: Float[Array, "B *S 4H"], constants: Constants
    ) -> tuple[LSTMState, Float[Array, "B *S H"]]:
        """One step from the inputs' convolution."""
        ones = (1,) * len(self.kernel_size)
        kernel = self.recurrent_kernel(constants, z.dtype)
        z = z + convolve(drop(state.h, constants.recurrent_mask), kernel, ones, "SAME", ones)
        i, f, o, g = jnp.split(z, len(GATES), axis=-1)
        c = self.gate_fn(f) * state.c + self.gate_fn(i) * self.activation_fn(g)
        h = self.gate_fn(o) * self.activation_fn(c)
        return LSTMState(h, c), h


def convolve(
    x: Float[Array, "B *S C"],
    kernel: Float[Array, "*K C G"],
    strides: Sequence[int],
    padding: str,
    dilation: Sequence[int],
) -> Float[Array, "B *S G"]:
    """Convolution with channels last, as neural networks have it (a correlation)."""
    axes = "XYZ"[: kernel.ndim - 2]
    layout = (f"N{axes}C", f"{axes}IO", f"N{axes}C")
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, rhs_dilation=dilation, dimension_numbers=layout)
