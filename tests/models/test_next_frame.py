"""The model of next frames against NumPy, and that nothing of later frames or other films reaches an answer."""

import jax
import numpy as np
import pytest

import rnnjax
from rnnjax.models.next_frame import NextFrame

MODEL = NextFrame((3, 2))


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(0)
    frames = rng.random((2, 5, 4, 3, 1), np.float32)
    params = MODEL.init(jax.random.key(0), frames)["params"]
    params = jax.tree.map(lambda leaf: leaf + 0.3 * rng.standard_normal(leaf.shape).astype(np.float32), params)
    return frames, params, jax.jit(lambda frames: MODEL.apply({"params": params}, frames))


def test_layers_norms_and_the_last_convolution(case):
    frames, params, apply = case
    x = frames
    for number, features in enumerate((3, 2)):
        layer = rnnjax.ConvLSTM(features, kernel_size=(3, 3))
        x = np.asarray(layer.apply({"params": params[f"recurrent_{number}"]}, x), float)
        norm = params[f"norm_{number}"]
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        x = x * np.asarray(norm["scale"]) + np.asarray(norm["bias"])
    kernel = np.asarray(params["output"]["kernel"], float)  # [3, 3, 3, 2, 1]
    padded = np.pad(x, ((0, 0), (2, 0), (1, 1), (1, 1), (0, 0)))
    want = np.zeros(frames.shape)
    for t, i, j in np.ndindex(5, 4, 3):
        want[:, t, i, j] = np.tensordot(padded[:, t : t + 3, i : i + 3, j : j + 3], kernel, axes=4)
    np.testing.assert_allclose(apply(frames), want + np.asarray(params["output"]["bias"]), atol=3e-4)


def test_later_frames_and_other_films_reach_nothing(case):
    frames, _, apply = case
    before = np.asarray(apply(frames))
    changed = frames.copy()
    changed[:, 3:] = 1 - changed[:, 3:]
    after = np.asarray(apply(changed))
    np.testing.assert_array_equal(after[:, :3], before[:, :3])
    assert np.abs(after[:, 3:] - before[:, 3:]).max() > 0.01
    changed = frames.copy()
    changed[1] = 0
    np.testing.assert_array_equal(np.asarray(apply(changed))[0], before[0])
