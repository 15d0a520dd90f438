"""IMDB, tiny_shakespeare and MNIST through TensorFlow Datasets (TFDS), without TensorFlow.

Prepared data is read where it lies. What is not prepared is downloaded, checked and prepared by
`rnnjax.data.tfds_builders` in the folders in which TFDS would put it, so that either reads what the other wrote.
"""

import contextlib
import hashlib
import logging
import os
import signal
import sys
import tarfile
import tempfile
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from rnnjax.errors import InputError, Interrupted, RunError, first_line

PROBE_SECONDS = 5.0


class NetworkUnavailable(Exception):
    """The data is not prepared, and its server cannot be reached; the caller may take the built-in sample."""


@dataclass(frozen=True)
class Source:
    """Where a file is downloaded from, and what must arrive: its size in bytes and its SHA-256 in hex."""

    url: str
    size: int
    sha256: str


# The sums are those that TFDS ships.
IMDB_SOURCE = Source(
    "http://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",
    84_125_825,
    "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe",
)
SHAKESPEARE_SOURCE = Source(
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
    1_115_394,
    "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
)
MNIST_HOME = "https://storage.googleapis.com/cvdf-datasets/mnist/"
MNIST_SOURCES = (
    Source(
        f"{MNIST_HOME}train-images-idx3-ubyte.gz",
        9_912_422,
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    ),
    Source(
        f"{MNIST_HOME}train-labels-idx1-ubyte.gz",
        28_881,
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    ),
    Source(
        f"{MNIST_HOME}t10k-images-idx3-ubyte.gz",
        1_648_877,
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    ),
    Source(
        f"{MNIST_HOME}t10k-labels-idx1-ubyte.gz",
        4_542,
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
)
"""Images and labels to train on, and images and labels of the test."""


def prepare_imdb(data_dir: str | os.PathLike[str] | None = None, source: Source = IMDB_SOURCE) -> Path:
    """Return the folder of the prepared IMDB reviews; download and prepare them first where they are not.

    Args:
        data_dir: TFDS's folder of data sets; None takes TFDS_DATA_DIR, and without that ~/tensorflow_datasets.
        source: the archive to download.

    Raises:
        NetworkUnavailable: a download is needed, and the server cannot be reached.
        InputError: a download is needed, and the folder cannot be written.
        RunError: the download broke off, or what arrived is not what was published.
    """
    return _prepared("imdb_reviews/plain_text/1.0.0", data_dir, source)


def prepare_tiny_shakespeare(
    data_dir: str | os.PathLike[str] | None = None, source: Source = SHAKESPEARE_SOURCE
) -> Path:
    """Return the folder of the prepared tiny Shakespeare; arguments and errors as for `prepare_imdb`."""
    return _prepared("tiny_shakespeare/1.0.0", data_dir, source)


def prepare_mnist(data_dir: str | os.PathLike[str] | None = None, sources: tuple[Source, ...] = MNIST_SOURCES) -> Path:
    """Return the folder of the prepared MNIST digits; arguments and errors as for `prepare_imdb`."""
    return _prepared("mnist/3.0.1", data_dir, *sources)


def read_imdb(folder: Path) -> dict[str, tuple[list[str], Int[np.ndarray, " N"]]]:
    """Read what `prepare_imdb` found.

    Raises:
        InputError: the prepared data is broken, or in a format that only TensorFlow reads.
    """
    parts = {}
    for split in ("train", "test"):
        examples = _examples(folder, split)
        texts = [example["text"].decode("utf-8") for example in examples]
        parts[split] = (texts, np.array([example["label"] for example in examples], np.int32))
    return parts


def read_tiny_shakespeare(folder: Path) -> str:
    """Read what `prepare_tiny_shakespeare` found, its three parts joined in order; errors as for `read_imdb`."""
    splits = ("train", "validation", "test")
    return "".join(example["text"].decode("utf-8") for split in splits for example in _examples(folder, split))


def read_mnist(folder: Path) -> dict[str, tuple[UInt8[np.ndarray, "N 28 28"], Int[np.ndarray, " N"]]]:
    """Read what `prepare_mnist` found: images and labels of the splits train and test; errors as for `read_imdb`."""
    parts = {}
    for split in ("train", "test"):
        with _without_advice():
            examples = _examples(folder, split)
        images = np.stack([example["image"][:, :, 0] for example in examples])
        parts[split] = (images, np.array([example["label"] for example in examples], np.int32))
    return parts


def fingerprint(folder: Path) -> str:
    """SHA-256 (hex) of a prepared data set: over its descriptions and its shards' names and sizes (not contents).

    Raises:
        InputError: something there cannot be read.
    """
    digest = hashlib.sha256()
    try:
        for file in sorted(folder.iterdir()):
            digest.update(f"{file.name} {file.stat().st_size}\n".encode())
            if file.suffix == ".json":
                digest.update(file.read_bytes())
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror}); check its permissions") from None
    return digest.hexdigest()


def data_folder(data_dir: str | os.PathLike[str] | None) -> Path:
    """The folder of all data sets: the one that is named, TFDS_DATA_DIR, or TFDS's own."""
    return Path(data_dir or os.environ.get("TFDS_DATA_DIR") or Path("~", "tensorflow_datasets")).expanduser()


def _prepared(name: str, data_dir: str | os.PathLike[str] | None, *sources: Source) -> Path:
    root = data_folder(data_dir)
    folder = root / name
    if not _is_prepared(folder):
        probe(sources[0].url)
        _prepare(name, root, sources)
    return folder


def _is_prepared(folder: Path) -> bool:
    # TFDS prepares in a folder of another name and renames it at the end, so an interrupted attempt never counts.
    return os.path.exists(folder / "dataset_info.json")


def probe(url: str) -> None:
    """Ask the server once, since TFDS would repeat a vain request for minutes.

    In a thread, since no time-out of the library covers a name server that does not answer.

    Raises:
        NetworkUnavailable: it does not answer, or not as it should.
    """
    import requests

    outcome = [f"no answer within {PROBE_SECONDS:g} seconds"]

    def ask() -> None:
        try:
            with requests.get(url, stream=True, timeout=PROBE_SECONDS) as response:
                outcome[0] = "" if response.ok else f"status {response.status_code}"
        except requests.RequestException as error:
            outcome[0] = type(error).__name__

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS + 1)
    if outcome[0]:
        raise NetworkUnavailable(f"{url} cannot be reached ({outcome[0]})")


def _prepare(name: str, root: Path, sources: tuple[Source, ...]) -> None:
    import requests
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download import download_manager, util

    from rnnjax.data import tfds_builders

    downloads = download_folder(root)
    # The download is removed at the end, whatever happens: a refused file must not be found by the next run.
    with (
        interruptible(),
        downloads,
        contextlib.redirect_stdout(sys.stderr),
    ):  # TFDS prints its notices to standard output
        try:
            tfds_builders.BUILDERS[name](root, *sources).download_and_prepare(
                download_dir=downloads.name,
                download_config=tfds.download.DownloadConfig(try_download_gcs=False),
                file_format="array_record",  # the default, TFRecord, can be read by TensorFlow only
            )
        except download_manager.NonMatchingChecksumError as error:
            source = _meant(error, sources)
            raise RunError(
                f"{source.url}: what arrived is not the published file of {source.size:,} bytes with SHA-256 "
                f"{source.sha256[:16]}...; nothing was kept; try again, or on another network"
            ) from None
        except (requests.RequestException, util.DownloadError) as error:
            raise RunError(
                f"{_meant(error, sources).url}: the download broke off ({type(error).__name__}); run the command again"
            ) from None
        except (tarfile.TarError, EOFError, zlib.error, UnicodeDecodeError) as error:
            raise RunError(
                f"{_meant(error, sources).url}: what arrived cannot be unpacked ({first_line(error)}); nothing was kept"
            ) from None
        except OSError as error:
            if not _is_prepared(root / name):  # otherwise another process has prepared it in the meantime
                raise RunError(f"{root / name}: the data set cannot be prepared ({first_line(error)})") from None


def download_folder(root: Path) -> tempfile.TemporaryDirectory[str]:
    """A folder for downloads within that of all data sets, which is made where it is not there.

    Raises:
        InputError: it cannot be written.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix="rnnjax-download-", dir=root)
    except OSError as error:
        raise InputError(
            f"{root}: expected a folder to write the data set to, but it cannot be written ({error.strerror}); "
            "pass another with --data-dir"
        ) from None


def _meant(error: Exception, sources: tuple[Source, ...]) -> Source:
    """The source that an error names, the first if none."""
    return next((source for source in sources if source.url in str(error)), sources[0])


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Within, SIGINT and SIGTERM raise Interrupted, so that the download is removed."""

    def interrupt(number: int, frame: object) -> None:
        raise Interrupted(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """Within, TFDS does not recommend OpenCV for decoding images."""
    import tensorflow_datasets  # noqa: F401  # it sets the level when it is imported

    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _examples(folder: Path, split: str) -> list[dict[str, Any]]:
    import tensorflow_datasets as tfds

    try:
        data = tfds.builder_from_directory(folder).as_data_source(split)
        examples = data.__getitems__(range(len(data)))
        # Of a shard that is cut short, some records come as nothing at all rather than as an error.
        if len(examples) != len(data) or any(value is None for example in examples for value in example.values()):
            raise ValueError("records are missing")
        return examples
    except NotImplementedError:
        raise InputError(
            f"{folder}: expected a data set in array_record format, got one that only TensorFlow reads; "
            "pass another folder with --data-dir, and it is prepared there"
        ) from None
    except Exception as error:  # a broken description or shard shows as any of half a dozen types
        raise InputError(
            f"{folder}: expected a prepared data set, but split {split!r} is broken ({first_line(error)}); "
            "remove the folder, and it is prepared anew"
        ) from error
