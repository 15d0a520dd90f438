"""Read a user's own texts: labelled ones from CSV, JSONL or a folder per class, and plain text. All in UTF-8."""

import csv
import hashlib
import io
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from rnnjax.errors import InputError

SPLITS = ("train", "validation", "test")
LAYOUT = "a .csv or .jsonl file with `text` and `label`, or a folder with one sub-folder of .txt files a class"


@dataclass(frozen=True)
class LabelledTexts:
    """Texts with one label each, in the order of the source; `splits` names each one's part, or is None if none do."""

    texts: list[str]
    labels: list[str]
    splits: list[str] | None


def read_labelled(path: str | os.PathLike[str]) -> LabelledTexts:
    """Read labelled texts.

    Args:
        path: One of
            - a .csv file with the columns `text`, `label` and, if it likes, `split`; others are ignored;
            - a .jsonl file with one object a line and the same keys; a label is a string, a number or a boolean;
            - a folder with one sub-folder a class, each holding .txt files, read in sorted order; or such folders under
              train/, validation/ and test/ (the IMDB archive's layout; its `unsup` folder is left out).

    Raises:
        InputError: the file or folder is missing, empty, unreadable, not UTF-8 or laid out otherwise; a label is
            missing or empty; a split is unknown; there are fewer than two classes; nothing is for training.
    """
    path = Path(path)
    rows = list(_reader(path)(path))
    if not rows:
        raise InputError(f"{path}: expected labelled texts, found none; expected {LAYOUT}")
    texts, labels, splits = (list(column) for column in zip(*rows, strict=True))
    has_splits = splits[0] is not None
    trained = [label for label, split in zip(labels, splits, strict=True) if split in (None, "train")]
    if not trained:
        raise InputError(
            f"{path}: expected some rows with split train, got none; mark the rows to train on, or leave out `split`"
        )
    if len(set(trained)) < 2:
        raise InputError(
            f"{path}: expected two or more classes to tell apart{' in split train' if has_splits else ''}, "
            f"got only {trained[0]!r}; add examples of another"
        )
    unknown = sorted(set(labels) - set(trained))
    if unknown:
        raise InputError(f"{path}: label {unknown[0]!r} occurs outside split train only; add training examples of it")
    return LabelledTexts(texts, labels, splits if has_splits else None)


def read_text(path: str | os.PathLike[str]) -> str:
    r"""Read a plain text file in UTF-8, exactly but for a byte-order mark (dropped) and "\r\n" (made "\n").

    Raises:
        InputError: the file is missing, a folder, empty, unreadable, not UTF-8, or holds NUL characters.
    """
    path = Path(path)
    if _is_folder(path):
        raise InputError(f"{path}: expected a plain text file, got a folder; name a file in it")
    text = _decoded(path).replace("\r\n", "\n")
    if not text:
        raise InputError(f"{path}: expected text, but the file is empty; name a file with text in it")
    return text


def fingerprint_labelled(path: str | os.PathLike[str]) -> str:
    """SHA-256 (hex) over what `read_labelled` reads: the file's bytes, or the names and bytes of a folder's texts.

    Raises:
        InputError: something there cannot be read, or there is nothing of the kind.
    """
    path = Path(path)
    if _reader(path) is not _folder_rows:
        return hashlib.sha256(read_bytes(path)).hexdigest()
    return fingerprint_files(path, (file for file, _, _ in _folder_files(path)))


def fingerprint_files(folder: Path, files: Iterable[Path]) -> str:
    """SHA-256 (hex) over the names within a folder, and the bytes, of files there.

    Raises:
        InputError: one cannot be read.
    """
    digest = hashlib.sha256()
    for file in files:
        content = read_bytes(file)
        # The lengths keep apart what lies next to each other: names from contents, one file from the next.
        name = file.relative_to(folder).as_posix().encode("utf-8", "surrogateescape")
        digest.update(b"%d %d " % (len(name), len(content)) + name + content)
    return digest.hexdigest()


def _reader(path: Path) -> Callable[[Path], Iterator["Row"]]:
    """The function below that reads labelled texts from what stands at `path`."""
    suffix = path.suffix.lower()
    readers: dict[str, Callable[[Path], Iterator[Row]]] = {".csv": _csv_rows, ".jsonl": _jsonl_rows}
    if _is_folder(path):
        if suffix in readers:
            raise InputError(
                f"{path}: expected a {suffix} file, got a folder; name the file in it, or rename the folder"
            )
        return _folder_rows
    if suffix not in readers:
        raise InputError(f"{path}: expected {LAYOUT}; got a file ending in {suffix!r}; convert or rename it")
    return readers[suffix]


# Each reader below yields rows (text, label, split); split is None in all rows or in none.
Row = tuple[str, str, str | None]


def _csv_rows(path: Path) -> Iterator[Row]:
    content = _decoded(path)
    if not content.strip():
        raise InputError(f"{path}: expected a header line with `text` and `label`, but the file is empty")
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    field_limit = csv.field_size_limit(len(content) + 1)  # the default refuses a text of more than 131,072 characters
    try:
        header = [name.strip() for name in next(filter(None, reader), [])]  # past blank lines
        for name in ("text", "label"):
            if header.count(name) != 1:
                found = ", ".join(repr(column) for column in header)
                raise InputError(
                    f"{path}: expected one column named {name!r} in the header, found {found}; rename or add it"
                )
        while True:
            line = reader.line_num + 1
            values = next(reader, None)
            if values is None:
                return
            if not "".join(values).strip() and len(values) < 2:  # a blank line
                continue
            if len(values) != len(header):
                raise InputError(
                    f"{path}, line {line}: expected {len(header)} columns as in the header, got {len(values)}; "
                    "put a text that holds commas in double quotes"
                )
            row = dict(zip(header, values, strict=True))
            split = _split(row["split"], path, line) if "split" in row else None
            yield row["text"], _label(row["label"], f"{path}, line {line}"), split
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num}: not valid CSV ({error}); write it again with a CSV library"
        ) from None
    finally:
        csv.field_size_limit(field_limit)


def _jsonl_rows(path: Path) -> Iterator[Row]:
    has_split = None
    for line, content in enumerate(_decoded(path).split("\n"), start=1):
        if not content.strip():
            continue
        try:
            row = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}, line {line}: expected one JSON object, got invalid JSON ({error})") from None
        if not isinstance(row, dict):
            raise InputError(
                f"{path}, line {line}: expected a JSON object with `text` and `label`, got {_shown(content)}"
            )
        for key in ("text", "label"):
            if key not in row:
                found = ", ".join(repr(name) for name in row) or "none"
                raise InputError(f"{path}, line {line}: expected the key {key!r}, found {found}; rename or add it")
        if not isinstance(row["text"], str):
            raise InputError(
                f"{path}, line {line}: expected `text` to be a string, got {_shown(json.dumps(row['text']))}"
            )
        if not isinstance(row["label"], str | int | float):
            raise InputError(
                f"{path}, line {line}: expected `label` to be a string, a number or a boolean, "
                f"got {_shown(json.dumps(row['label']))}"
            )
        has_split = "split" in row if has_split is None else has_split
        if ("split" in row) != has_split:
            raise InputError(
                f"{path}, line {line}: expected `split` in every line or in none; add it here or leave it out"
            )
        label = row["label"] if isinstance(row["label"], str) else json.dumps(row["label"])  # true, not True
        split = _split(str(row["split"]), path, line) if has_split else None
        try:
            f"{row['text']}{label}".encode()
        except UnicodeEncodeError:
            raise InputError(
                f"{path}, line {line}: expected Unicode text, got half a surrogate pair (\\ud800 to \\udfff); "
                "write the character itself"
            ) from None
        yield row["text"], _label(label, f"{path}, line {line}"), split


def _folder_rows(path: Path) -> Iterator[Row]:
    for file, label, split in _folder_files(path):
        yield _decoded(file).replace("\r\n", "\n").strip(), label, split


def _folder_files(path: Path) -> Iterator[tuple[Path, str, str | None]]:
    """The text files of a folder, each with its label and split."""
    folders = subfolders(path)
    if not folders:
        raise InputError(f"{path}: expected one sub-folder of .txt files a class, found no sub-folder")
    has_splits = {folder.name for folder in folders} <= set(SPLITS)
    for folder in folders:
        if not has_splits:
            yield from ((file, label, None) for file, label in _class_files(folder))
            continue
        # "unsup" holds the unlabelled texts of the IMDB archive.
        for class_folder in (entry for entry in subfolders(folder) if entry.name != "unsup"):
            yield from ((file, label, folder.name) for file, label in _class_files(class_folder))


def _class_files(folder: Path) -> Iterator[tuple[Path, str]]:
    files = [file for file in _entries(folder) if file.suffix.lower() == ".txt" and file.is_file()]
    if not files:
        raise InputError(f"{folder}: expected .txt files, one a text, found none; add some or remove the folder")
    label = _label(folder.name, str(folder))
    return ((file, label) for file in files)


def subfolders(path: Path) -> list[Path]:
    """The folders in a folder, sorted, but for hidden ones.

    Raises:
        InputError: it cannot be read.
    """
    return [entry for entry in _entries(path) if entry.is_dir() and not entry.name.startswith(".")]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        refuse(folder, error)


def _label(label: str, where: str) -> str:
    label = label.strip()
    if not label:
        raise InputError(f"{where}: expected a label, got an empty one; fill it in or drop the line")
    try:
        label.encode()
    except UnicodeEncodeError:  # as Python shows the bytes of a folder's name that are not UTF-8
        raise InputError(f"{ascii(where)[1:-1]}: expected a label in UTF-8, got {label!a}; rename it") from None
    if "\t" in label or len(label.splitlines()) > 1:
        # A prediction is printed as label, tab, probability on one line.
        raise InputError(f"{where}: expected a label of one line without tabs, got {_shown(label)}; rename it")
    return label


def _split(split: str, path: Path, line: int) -> str:
    split = split.strip()
    if split not in SPLITS:
        raise InputError(
            f"{path}, line {line}: expected split train, validation or test, got {_shown(split)}; rename it"
        )
    return split


def _decoded(path: Path) -> str:
    content = read_bytes(path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # The codec leaves the byte-order mark out of its count.
        offset = error.start + len(content) - len(error.object)
        byte = error.object[error.start]
        raise InputError(
            f"{path}: expected UTF-8, got byte 0x{byte:02x} at offset {offset}; save it as UTF-8"
        ) from None
    if "\0" in text:
        offset = content.index(b"\0")
        raise InputError(f"{path}: expected text in UTF-8, got a NUL byte at offset {offset}; save it as UTF-8 text")
    return text


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (OSError, ValueError) as error:  # a name of NUL characters is no name
        refuse(path, error)


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        InputError: it is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # a name of NUL characters is no name
        refuse(path, error)


def refuse(path: Path, error: OSError | ValueError) -> NoReturn:
    """Raise the InputError of a file or folder that is missing or cannot be read."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        raise InputError(f"{path}: there is no such file or folder; check the name") from None
    reason = getattr(error, "strerror", None) or error
    raise InputError(f"{path}: cannot be read ({reason}); check its permissions") from None


def _shown(value: str) -> str:
    return repr(value if len(value) <= 60 else value[:57] + "...")
