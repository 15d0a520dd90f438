"""Sentences whose tokens have tags: data sets, and files of columns and of CoNLL-U."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from rnnjax.data import archives
from rnnjax.data.archives import Archive, unpack_file
from rnnjax.data.files import read_text
from rnnjax.errors import InputError

Row = tuple[str, ...]
"""A token: its word and what else its line says."""

LAYOUT = (
    "a token a line, its word first and its tag last, and a blank line between sentences; a .conllu file; or a folder "
    "with such files whose names hold train, dev or valid, and test"
)
LONGEST_SENTENCE = 1_000
"""Tokens; a file with longer ones most likely lacks its blank lines."""
DOCUMENT = "-DOCSTART-"
"""The only token of a sentence that marks where a document begins (CoNLL-2003)."""
PARTS = {"train": ("train",), "validation": ("dev", "valid", "testa"), "test": ("test",)}
"""What the name of a part's file holds; the first that fits."""

CONLL2000 = Archive(
    "conll2000",
    (
        "https://www.clips.uantwerpen.be/conll2000/chunking/train.txt.gz",
        "https://www.clips.uantwerpen.be/conll2000/chunking/test.txt.gz",
    ),
    {
        "train.txt": "82033cd7a72b209923a98007793e8f9de3abc1c8b79d646c50648eb949b87cea",
        "test.txt": "73b7b1e565fa75a1e22fe52ecdf41b6624d6f59dacb591d44252bf4d692b1628",
    },
    unpack_file,
)


def treebank(name: str, repository: str, release: str, sums: Mapping[str, str]) -> Archive:
    """A treebank of Universal Dependencies, by the sums of its parts train, dev and test."""
    home = f"https://raw.githubusercontent.com/UniversalDependencies/{repository}/{release}"
    files = {f"{name.replace('ud_english_', 'en_')}-ud-{part}.conllu": sums[part] for part in sums}
    return Archive(name, tuple(f"{home}/{file}" for file in files), files, unpack_file)


LINES = treebank(
    "ud_english_lines",
    "UD_English-LinES",
    "r2.17",
    {
        "train": "27609ded288bf3704def21f18d227e3f40957b4981174411f6bed34acf3025b6",
        "dev": "3aabd1f843517fb615c8760c316a76125af2fff01c59b9a4049fe7c393891d2b",
        "test": "14c56b50da6d8876ce1fdaa9b19c2845dfff73ff57766ddc2f812d88612ce3a8",
    },
)
PARTUT = treebank(
    "ud_english_partut",
    "UD_English-ParTUT",
    "r2.16",
    {
        "train": "d7f3fa31fd8a6536e5c1ddcf37911621e77b6d37e20e73dbad1f8fc65e56ef84",
        "dev": "f52fe2eeedcbb916516a7cabaeda89a618e3832ade19750e30b4f514865cdb86",
        "test": "fdc9c5a5fd95f9b426b98cbe43fecad011cd4c33f9bf211d4673d060ee9d0e96",
    },
)


def read_tagged(path: str | os.PathLike[str]) -> dict[str, list[list[Row]]]:
    """Read sentences of tokens; of a folder its parts, and of a file one part, "all".

    Args:
        path: One of
            - a file of columns: a token a line, its word first and what is known of it after it, all lines with as
              many columns; blank lines between sentences. Columns are apart by tabs in lines that have some, otherwise
              by white space. A sentence of one token -DOCSTART- is left out.
            - a .conllu file (https://universaldependencies.org/format.html): columns here are word and UPOS.
            - a folder with such files: one whose name holds "train", and perhaps one with "dev" or "valid", and one
              with "test".

    Returns:
        "train", "validation" and "test", as far as there are such files, or "all" -> sentences.

    Raises:
        InputError: something is missing, unreadable, empty or laid out otherwise.
    """
    path = Path(path)
    if not path.is_dir():
        return {"all": _sentences(path)}
    found: dict[str, Path] = {}
    for file in sorted(entry for entry in path.iterdir() if entry.is_file() and not entry.name.startswith(".")):
        part = next((part for part, words in PARTS.items() if any(word in file.name.lower() for word in words)), None)
        if part is None:
            continue
        if part in found:
            raise InputError(f"{path}: expected one file to {part}; got {found[part].name} and {file.name}. Move one.")
        found[part] = file
    if "train" not in found:
        raise InputError(f"{path}: expected a file whose name holds `train`, found none; expected {LAYOUT}")
    parts = {part: _sentences(found[part]) for part in PARTS if part in found}
    widths = {part: len(sentences[0][0]) for part, sentences in parts.items()}
    if len(set(widths.values())) > 1:
        raise InputError(f"{path}: expected as many columns in all files; got {widths}. Leave some out.")
    return parts


def fingerprint(parts: Mapping[str, list[list[Row]]]) -> str:
    """SHA-256 (hex) of what was read."""
    return hashlib.sha256(json.dumps(parts).encode("utf-8", "surrogatepass")).hexdigest()


def _sentences(path: Path) -> list[list[Row]]:
    name, text = path.name.lower(), ""
    if name.endswith(".gz"):
        name = name.removesuffix(".gz")
        try:
            text = archives.read(path).decode()
        except UnicodeDecodeError:
            raise InputError(f"{path}: expected UTF-8, got other bytes; save it as UTF-8") from None
    else:
        text = read_text(path)
    sentences: list[list[Row]] = []
    rows: list[Row] = []
    width = 0
    for number, line in enumerate([*text.split("\n"), ""], start=1):
        where = f"{path}, line {number}"
        if line.strip():
            row = _conllu_row(where, line) if name.endswith(".conllu") else _row(line)
            if row is None:
                continue
            width = width or len(row)
            if len(row) != width or width < 2 or not all(row):
                raise InputError(
                    f"{where}: expected a word and its tag, in as many columns as in the lines before; got {line!r:.80}"
                )
            rows.append(row)
            continue
        if rows and [row[0] for row in rows] != [DOCUMENT]:
            sentences.append(rows)
        if len(rows) > LONGEST_SENTENCE:
            raise InputError(
                f"{where}: expected sentences of at most {LONGEST_SENTENCE} tokens; got one of {len(rows)}. Put blank "
                "lines between sentences."
            )
        rows = []
    if not sentences:
        raise InputError(f"{path}: expected sentences, found none; expected {LAYOUT}")
    return sentences


def _row(line: str) -> Row:
    return tuple(cell.strip() for cell in line.rstrip().split("\t")) if "\t" in line else tuple(line.split())


def _conllu_row(where: str, line: str) -> Row | None:
    """Word and UPOS; None of a comment, of a token that the next lines take apart, and of one that is only implied."""
    if line.startswith("#"):
        return None
    cells = line.split("\t")
    if len(cells) != 10:
        raise InputError(f"{where}: expected ten columns that tabs part, as in CoNLL-U; got {len(cells)}")
    return (cells[1], cells[3]) if cells[0].isdigit() else None
