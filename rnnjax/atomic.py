"""Write a file whole or not at all."""

import contextlib
import os
import re
import uuid
from pathlib import Path


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Put `content` at `path` in one step: whoever reads sees the old file or the new one, also after a crash.

    Raises:
        OSError: the folder is missing or cannot be written, or the disk is full; what stood at `path` is untouched.
    """
    path = Path(path)
    # In the same folder, since a rename is atomic only within one file system.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.filename is None:  # a full disk names no file
            error.filename = str(path)
        raise


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Put `text` at `path` as UTF-8 with line ends as they are, in one step (see `write_bytes`)."""
    write_bytes(path, text.encode("utf-8"))


def remove_leftovers(folder: str | os.PathLike[str]) -> None:
    """Remove what a killed process left of files that it was writing in this folder; no other may be writing there."""
    for path in Path(folder).iterdir():
        if re.fullmatch(r"\..+\.[0-9a-f]{32}\.tmp", path.name):
            path.unlink(missing_ok=True)
