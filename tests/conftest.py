"""What every test shares."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")

# The same examples on every run, none of them kept on disk.
hypothesis.settings.register_profile("rnnjax", deadline=None, derandomize=True, database=None, max_examples=20)
hypothesis.settings.load_profile("rnnjax")

DATA_SETS = ("imdb_reviews", "tiny_shakespeare")
TFDS_SETS = (*DATA_SETS, "mnist")


QUICK = (
    "kernels", "cells", "layers", "interop", "parity", "tasks", "training",
    "benchmarks", "test_interpret.py", "test_public_face.py", "test_regularizers.py", "test_reference.py",
)  # fmt: skip
"""Folders and files whose tests run many small programs once: there the time goes into compilation."""


@pytest.fixture(autouse=True)
def quick_compilation(request: pytest.FixtureRequest) -> Iterator[None]:
    """Compile without most optimizations in `QUICK`."""
    jax.config.update(
        "jax_disable_most_optimizations", bool({request.path.parent.name, request.path.name} & set(QUICK))
    )
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """No encoded data kept between tests."""
    monkeypatch.setenv("RNNJAX_CACHE_DIR", "")


@pytest.fixture
def x64() -> Iterator[None]:
    """64-bit numbers within one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def tfds_dir() -> Path:
    """The folder of prepared TFDS data sets, for tests marked `real_data`."""
    return Path(os.environ["TFDS_DATA_DIR"])


def find_data_set(name: str) -> Path | None:
    """The folder of a data set in TFDS_DATA_DIR, or of one that TFDS does not have, beside it."""
    folder = Path(os.environ["TFDS_DATA_DIR"])
    beside = [folder / name, folder.parent / name, *folder.parent.glob(f"*/{name}")]
    return next((path for path in beside if path.is_dir()), None)


@pytest.fixture
def data_set() -> Callable[[str], Path]:
    """Gives the folder of a data set by its name, for tests marked `real_data("name")`."""

    def find(name: str) -> Path:
        found = find_data_set(name)
        assert found is not None
        return found

    return find


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test marked `real_data`, or `real_data("imdb_reviews")`, where the data sets it needs are absent."""
    for marker in item.iter_markers("real_data"):
        folder = os.environ.get("TFDS_DATA_DIR")
        if not folder:
            pytest.skip("TFDS_DATA_DIR is not set")
        for name in marker.args or DATA_SETS:
            if name in TFDS_SETS and not any(Path(folder, name).glob("**/dataset_info.json")):
                pytest.skip(f"no prepared {name} in TFDS_DATA_DIR")
            if find_data_set(name) is None:
                pytest.skip(f"no {name} in TFDS_DATA_DIR or beside it")
