"""Data sets that TFDS does not have: downloaded once from their homes, checked, and kept beside TFDS's."""

import gzip
import hashlib
import os
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rnnjax.data import tfds
from rnnjax.data.tfds import NetworkUnavailable
from rnnjax.errors import InputError, RunError, first_line


@dataclass(frozen=True)
class Archive:
    """A data set: where it is downloaded from, and what has to come of it."""

    name: str
    """Its folder within that of all data sets."""
    url: str | tuple[str, ...]
    """Of the file, or of each of several."""
    files: Mapping[str, str]
    """Files of the folder -> their SHA-256 in hex."""
    unpack: Callable[[Path, Path], None]
    """Makes these files in a folder out of a downloaded file, which is called as at home: (downloaded, folder).
    Called for each."""

    @property
    def urls(self) -> tuple[str, ...]:
        """Of all files."""
        return (self.url,) if isinstance(self.url, str) else self.url


def prepare(
    archive: Archive, data_dir: str | os.PathLike[str] | None = None, needed: Collection[str] | None = None
) -> Path:
    """Return the folder of a data set; download, unpack and check it first where it is not there.

    Args:
        archive: which.
        data_dir: folder of data sets; None takes TFDS_DATA_DIR, and without that ~/tensorflow_datasets.
        needed: the files that have to be there, all by default; each may be gzipped, as NAME.gz (`read`).

    Raises:
        NetworkUnavailable: a download is needed, and the server cannot be reached; the message says what to do by hand.
        InputError: a download is needed, and the folder cannot be written.
        RunError: the download broke off, or what arrived is not what was published.
    """
    root = tfds.data_folder(data_dir)
    folder = root / archive.name
    if all(find(folder, name) for name in needed or archive.files):
        return folder
    try:
        tfds.probe(archive.urls[0])
    except NetworkUnavailable as error:
        raise NetworkUnavailable(
            f"{error}; or else download {' and '.join(archive.urls)} on another machine and put "
            f"{', '.join(sample(archive.files))} into {folder}"
        ) from None
    import pooch
    import requests

    work = tfds.download_folder(root)
    with tfds.interruptible(), work as place:
        made = Path(place, "files")
        made.mkdir()
        for url in archive.urls:
            try:
                # What is unpacked is checked, file by file: archives are packed anew at times, their contents stay.
                downloaded = pooch.retrieve(url, known_hash=None, path=place, fname=url.rpartition("/")[2])
                archive.unpack(Path(downloaded), made)
            except requests.RequestException as error:
                raise RunError(f"{url}: the download broke off ({type(error).__name__}); run it again") from None
            except Exception as error:  # a broken archive shows as any of a dozen types
                raise RunError(f"{url}: what arrived cannot be unpacked ({first_line(error)})") from None
        for name, expected in archive.files.items():
            if not (made / name).is_file() or sha256(made / name) != expected:
                raise RunError(
                    f"{' and '.join(archive.urls)}: {name} is not the published file with SHA-256 {expected[:16]}...; "
                    "nothing was kept"
                )
        try:
            made.rename(folder)
        except OSError as error:
            if not folder.is_dir():  # otherwise another process has made it in the meantime
                raise RunError(f"{folder}: cannot be made ({error.strerror})") from None
    return folder


def unpack_file(downloaded: Path, folder: Path) -> None:
    """Put a downloaded file into a folder, unpacked where its name ends in .gz: for `Archive.unpack`."""
    content = downloaded.read_bytes()
    is_packed = downloaded.suffix == ".gz"
    (folder / (downloaded.stem if is_packed else downloaded.name)).write_bytes(
        gzip.decompress(content) if is_packed else content
    )


def find(folder: Path, name: str) -> Path | None:
    """A file of a folder, as it is or gzipped."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def read(path: Path) -> bytes:
    """The content of a file, unpacked where its name ends in .gz.

    Raises:
        InputError: it cannot be read.
    """
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read ({first_line(error)}); remove it, and it is fetched anew") from None


def fingerprint(folder: Path, names: Iterable[str]) -> str:
    """SHA-256 (hex) over the contents of files of a folder, gzipped or not; those that are missing do not count."""
    digest = hashlib.sha256()
    for name in names:
        path = find(folder, name)
        if path is not None:
            digest.update(name.encode())
            digest.update(read(path))
    return digest.hexdigest()


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sample(names: Mapping[str, str], most: int = 3) -> list[str]:
    """Some names, to stand for all."""
    some = list(names)
    return some if len(some) <= most else [*some[:most], "..."]
