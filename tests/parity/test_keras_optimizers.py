"""Keras 3's optimizers make the same updates, with the same small print."""

import jax.numpy as jnp
import numpy as np
import pytest
from frameworks import import_keras, import_torch

from rnnjax.task import TrainConfig
from rnnjax.training.optimizer import make_optimizer

torch = import_torch()
keras = import_keras()

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

CASES = {
    "adam": ("Adam", {}),
    "adamw": ("AdamW", {}),
    "rmsprop": ("RMSprop", {}),
    "sgd": ("SGD", {}),
    "sgd, momentum": ("SGD", {"momentum": 0.9}),
    "sgd, clipped by value": ("SGD", {"clipvalue": 0.5}),
    "adam, clipped by norm": ("Adam", {"global_clipnorm": 0.5}),
    "adadelta": ("Adadelta", {}),
    "adagrad": ("Adagrad", {}),
}
SETTINGS = {"momentum": "momentum", "clipvalue": "clip_value", "global_clipnorm": "clip_norm"}


@pytest.mark.parametrize("case", CASES)
def test_ten_updates(case):
    name, options = CASES[case]
    theirs = getattr(keras.optimizers, name)(learning_rate=0.02, **options)
    settings = {SETTINGS[key]: value for key, value in options.items()}
    ours = make_optimizer(TrainConfig(optimizer=name.lower(), learning_rate=0.02, **settings), 10)
    random = np.random.default_rng(0)
    start = random.normal(size=(3, 4)).astype(np.float32)
    variable = keras.Variable(start)
    params = {"kernel": jnp.asarray(start)}
    state = ours.init(params)
    for _ in range(10):
        gradient = random.normal(size=(3, 4)).astype(np.float32)
        theirs.apply([keras.ops.convert_to_tensor(gradient)], [variable])
        updates, state = ours.update({"kernel": jnp.asarray(gradient)}, state, params)
        params = {"kernel": params["kernel"] + updates["kernel"]}
    # Keras's Adam adds epsilon before it corrects the bias of the second moment, where it weighs more: up to 6e-5 here.
    np.testing.assert_allclose(params["kernel"], keras.ops.convert_to_numpy(variable), rtol=1e-4, atol=1e-6)
