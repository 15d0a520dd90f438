"""Keras 3's ConvLSTM1D, 2D and 3D with the same weights give the same outputs, final states and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from comparing import Results, assert_same, random_like
from frameworks import import_keras, import_torch

import rnnjax
from rnnjax.interop import from_keras

torch = import_torch()
keras = import_keras()

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

B, T, C, H = 2, 4, 2, 3
MASK = np.asarray([[1, 1, 0, 1], [0, 1, 1, 0]], bool)
FORMS = {
    "1d": ((6,), {"kernel_size": (3,)}, {}),
    "1d valid": ((7,), {"kernel_size": (2,), "strides": 2, "padding": "VALID"}, {"strides": 2, "padding": "valid"}),
    "2d": ((4, 5), {"kernel_size": (3, 2)}, {}),
    "2d dilated": ((5, 4), {"kernel_size": (2, 3), "kernel_dilation": 2}, {"dilation_rate": 2}),
    "3d": ((3, 4, 2), {"kernel_size": (2, 3, 1)}, {}),
}
"""Spatial shape, our options, and Keras's where they have other names."""


@pytest.fixture(autouse=True)
def _no_rounding(monkeypatch):
    from keras.src.backend.common import dtypes

    monkeypatch.setitem(dtypes.BIT64_TO_BIT32_DTYPE, "float64", "float64")


GRID = [*((form, "float64", True) for form in FORMS), ("2d", "float64", False), ("2d", "float32", True)]


@pytest.mark.parametrize(("form", "dtype", "is_masked"), GRID)
def test_values_and_gradients(form, dtype, is_masked, x64):
    shape, options, own = FORMS[form]
    ours = rnnjax.ConvLSTM(H, return_state=True, **options)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((B, T, *shape, C)).astype(dtype)
    mask = MASK if is_masked else None

    settings = {"padding": "same", "return_sequences": True, "return_state": True, "dtype": dtype, **own}
    layer = getattr(keras.layers, f"ConvLSTM{len(shape)}D")(H, options["kernel_size"], **settings)
    layer.build(x.shape)
    weights = random_like(1, layer.get_weights())
    layer.set_weights(weights)
    size = layer.compute_output_shape(x.shape)[1][1:]
    initial = [0.5 * rng.standard_normal((B, *size)).astype(dtype) for _ in range(2)]
    output_weights = rng.standard_normal((B, T, *size)).astype(dtype)
    state_weights = [rng.standard_normal((B, *size)).astype(dtype) for _ in range(2)]
    if mask is not None:
        output_weights = output_weights * mask.reshape(B, T, *(1,) * len(size))

    torch_x, *torch_initial = (torch.tensor(array, requires_grad=True) for array in (x, *initial))
    y, *final = layer(torch_x, mask=None if mask is None else torch.tensor(mask), initial_state=torch_initial)
    loss = (y * torch.tensor(output_weights)).sum()
    loss = loss + sum((s * torch.tensor(w)).sum() for s, w in zip(final, state_weights, strict=True))
    variables = [variable.value for variable in layer.trainable_weights]
    d_x, *rest = (g.numpy() for g in torch.autograd.grad(loss, [torch_x, *variables, *torch_initial]))
    theirs = Results(y.detach().numpy(), [s.detach().numpy() for s in final], d_x, rest[:-2], rest[-2:])

    def our_loss(x, weights, initial):
        variables = {"params": from_keras(ours, weights)}
        final, y = ours.apply(variables, x, initial_state=rnnjax.LSTMState(*initial), mask=mask)
        total = jnp.sum(y * output_weights)
        return total + sum(jnp.sum(s * w) for s, w in zip(final, state_weights, strict=True)), (y, list(final))

    gradients, (y, final) = jax.jit(jax.grad(our_loss, argnums=(0, 1, 2), has_aux=True))(x, weights, initial)
    assert_same(Results(y, final, *gradients), theirs, mask)
