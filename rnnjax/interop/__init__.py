"""Models and weights from and to Keras 3 and PyTorch."""

from rnnjax.interop.arrays import from_keras as from_keras
from rnnjax.interop.arrays import from_torch as from_torch
from rnnjax.interop.arrays import to_keras as to_keras
from rnnjax.interop.arrays import to_torch as to_torch
from rnnjax.interop.files import load as load
from rnnjax.interop.files import save as save
from rnnjax.interop.sequential import Sequential as Sequential
