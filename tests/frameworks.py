"""The other frameworks that tests compare with, imported only where a test needs them."""

import os
from typing import Any

import pytest

WANTED = "compares with {}, which is not installed (pip install -c constraints.txt -e '.[dev,parity]')"


def import_torch() -> Any:
    """PyTorch, on one thread, as each of pytest's workers has a core; a module that asks in vain is skipped."""
    # MKL sums in another order on each kind of processor: enough to be the whole tolerance at the tutorial's size.
    os.environ["MKL_ENABLE_INSTRUCTIONS"] = "AVX2"
    torch = pytest.importorskip("torch", reason=WANTED.format("PyTorch"))
    torch.set_num_threads(1)
    return torch


def import_keras() -> Any:
    """Keras 3 upon PyTorch; a module that asks in vain is skipped.

    Not upon TensorFlow, which is large and no use here; nor upon JAX: PyTorch is there anyway, runs a loop without
    compiling it, and its derivatives are none of JAX's.
    """
    os.environ["KERAS_BACKEND"] = "torch"
    import_torch()
    return pytest.importorskip("keras", reason=WANTED.format("Keras"))
