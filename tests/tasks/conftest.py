"""No cache, and quick compilation."""

from collections.abc import Iterator

import jax
import pytest


@pytest.fixture(autouse=True)
def quick(quick_compilation: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compile without most optimizations, and cache nothing."""
    monkeypatch.setenv("RNNJAX_CACHE_DIR", "")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
