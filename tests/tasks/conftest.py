"""No cache, and quick compilation."""

import pytest


@pytest.fixture(autouse=True)
def _no_cache(no_cache: None) -> None:
    """For all tests of this folder."""
