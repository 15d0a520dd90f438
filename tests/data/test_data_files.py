import csv
import hashlib
import io
import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnjax.data.files import LabelledTexts, fingerprint_labelled, read_labelled, read_text
from rnnjax.errors import InputError

# Everything that UTF-8 can hold, but for NUL, which the readers refuse.
ANY_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
LABEL = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1)


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def message(path: Path, reader=read_labelled) -> str:
    with pytest.raises(InputError) as refusal:
        reader(path)
    text = str(refusal.value)
    assert "\n" not in text
    assert str(path) in text
    return text.removeprefix(str(path))


def test_csv(tmp_path):
    path = write(
        tmp_path / "a.csv",
        '\ufeff\r\nid,label,text,split\r\n1,good,"One, ""two""\nthree",train\r\n\r\n'
        "2, bad ,Ünïcode,test\r\n  \r\n3,bad,four,train\r\n",
    )
    assert read_labelled(path) == LabelledTexts(
        ['One, "two"\nthree', "Ünïcode", "four"], ["good", "bad", "bad"], ["train", "test", "train"]
    )


def test_csv_reads_a_text_beyond_the_usual_limit(tmp_path):
    limit = csv.field_size_limit()
    long = "word " * 100_000
    assert read_labelled(write(tmp_path / "a.csv", f"text,label\n{long},a\nb,b\n")).texts == [long, "b"]
    assert csv.field_size_limit() == limit


def test_jsonl(tmp_path):
    path = write(
        tmp_path / "a.JSONL",
        '{"text": "a\\u2028b\u2028c", "label": 1}\n\n'
        '{"label": true, "text": ""}\r\n{"label": "1", "text": "x", "more": []}\n{"label": 2.0, "text": "y"}',
    )
    assert read_labelled(path) == LabelledTexts(["a\u2028b\u2028c", "", "x", "y"], ["1", "true", "1", "2.0"], None)


def test_folder_of_classes(tmp_path):
    for name, content in {"b/2.txt": "B2\r\n", "b/10.txt": " B10", "a/x.txt": "é", ".git/x.txt": "no"}.items():
        write(tmp_path / name, content)
    write(tmp_path / "README", "not a class")
    write(tmp_path / "a" / "notes.md", "not a text")
    assert read_labelled(tmp_path) == LabelledTexts(["é", "B10", "B2"], ["a", "b", "b"], None)


def test_folder_of_splits_as_in_the_imdb_archive(tmp_path):
    for name in ("train/pos/1.txt", "train/neg/1.txt", "train/unsup/1.txt", "test/pos/1.txt", "train/urls.txt"):
        write(tmp_path / name, name)
    assert read_labelled(tmp_path) == LabelledTexts(
        ["test/pos/1.txt", "train/neg/1.txt", "train/pos/1.txt"], ["pos", "neg", "pos"], ["test", "train", "train"]
    )


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("a.csv", "", ["empty"]),
        ("a.csv", " \n\n", ["empty"]),
        ("a.csv", "text,label\n", ["found none"]),
        ("a.csv", "text,class\na,b\n", ["'label'", "'text', 'class'"]),
        ("a.csv", "text,text,label\na,b,c\n", ["one column named 'text'"]),
        ("a.csv", "text,label\na,b\nc\n", ["line 3", "2 columns", "got 1"]),
        ("a.csv", 'text,label\n"a\nb",b\nc,d,e\n', ["line 4", "got 3", "double quotes"]),
        ("a.csv", "text,label\na,b\nc, \n", ["line 3", "empty"]),
        ("a.csv", 'text,label\na,"b\tc"\nc,d\n', ["line 2", "tabs"]),
        ("a.csv", 'text,label\na,b\n"c,d\n', ["line 3", "not valid CSV"]),
        ("a.csv", "text,label,split\na,b,train\nc,d,dev\n", ["line 3", "'dev'", "train, validation or test"]),
        ("a.csv", "text,label,split\na,b,test\nc,d,test\n", ["split train", "got none"]),
        ("a.csv", "text,label,split\na,b,train\nc,b,train\nc,d,test\n", ["two or more classes", "only 'b'"]),
        ("a.csv", "text,label,split\na,b,train\nc,c,train\nc,d,test\n", ["'d'", "outside split train"]),
        ("a.csv", "text,label\na,b\nc,b\n", ["two or more classes", "only 'b'"]),
        ("a.csv", b"text,label\na,b\xe9\n", ["UTF-8", "0xe9", "offset 14", "save it as UTF-8"]),
        ("a.csv", b"\xef\xbb\xbfab\xff", ["0xff", "offset 5"]),
        ("a.csv", b"text,label\na\0,b\n", ["NUL", "offset 12"]),
        ("a.csv", "text,label\na,b\nc,d\n".encode("utf-16"), ["UTF-8"]),
        ("a.jsonl", "", ["found none"]),
        ("a.jsonl", '{"text": "a", "label": "b"}\n{"text": ', ["line 2", "invalid JSON"]),
        ("a.jsonl", "[" * 100_000, ["line 1", "invalid JSON"]),
        ("a.jsonl", '["a", "b"]', ["line 1", "object"]),
        ("a.jsonl", '{"text": "a", "class": "b"}', ["line 1", "'label'", "'text', 'class'"]),
        ("a.jsonl", "{}", ["line 1", "found none"]),
        ("a.jsonl", '{"text": 1, "label": "b"}', ["line 1", "`text`", "string"]),
        ("a.jsonl", '{"text": "a", "label": null}', ["line 1", "`label`", "null"]),
        ("a.jsonl", '{"text": "a", "label": [1]}', ["line 1", "`label`", "[1]"]),
        ("a.jsonl", '{"text": "a\\ud800", "label": "b"}', ["line 1", "surrogate"]),
        ("a.jsonl", '{"text": "a", "label": ' + "1" * 5000 + "}", ["line 1", "invalid JSON"]),
        ("a.jsonl", '{"text": "a", "label": "b\\u2028c"}', ["line 1", "one line"]),
        ("a.jsonl", '{"text": "a", "label": ""}', ["line 1", "empty"]),
        ("a.jsonl", '{"text": "a", "label": 1, "split": "train"}\n{"text": "a", "label": 2}', ["line 2", "every line"]),
        ("a.tsv", "text\tlabel\n", [".csv", ".jsonl", "'.tsv'"]),
        ("a", "text,label\n", [".csv", "''"]),
    ],
)
def test_refused_with_one_line_that_names_the_place(tmp_path, name, content, parts):
    text = message(write(tmp_path / name, content))
    for part in parts:
        assert part in text


def test_missing_and_misplaced(tmp_path):
    assert "no such file" in message(tmp_path / "none.csv")
    assert "no such file" in message(write(tmp_path / "file", "x") / "below.csv")
    (tmp_path / "folder.csv").mkdir()
    assert "got a folder" in message(tmp_path / "folder.csv")
    (tmp_path / "empty").mkdir()
    assert "no sub-folder" in message(tmp_path / "empty")
    (tmp_path / "classes" / "a").mkdir(parents=True)
    with pytest.raises(InputError, match=r"classes.a: expected \.txt files"):
        read_labelled(tmp_path / "classes")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may read everything")
def test_unreadable(tmp_path):
    path = write(tmp_path / "a.csv", "text,label\n")
    path.chmod(0)
    assert "permissions" in message(path)
    assert "permissions" in message(path, read_text)
    assert "permissions" in message(path, fingerprint_labelled)


@given(rows=st.lists(st.tuples(ANY_TEXT, LABEL), min_size=2, unique_by=lambda row: row[1]))
def test_what_the_csv_and_json_libraries_write_is_read_back(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("rows")
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows([("text", "label"), *rows])
    expected = LabelledTexts([text for text, _ in rows], [label for _, label in rows], None)
    assert read_labelled(write(folder / "a.csv", buffer.getvalue())) == expected
    for ensure_ascii in (True, False):
        lines = (json.dumps({"text": text, "label": label}, ensure_ascii=ensure_ascii) for text, label in rows)
        assert read_labelled(write(folder / "a.jsonl", "\n".join(lines))) == expected


def test_plain_text(tmp_path):
    assert read_text(write(tmp_path / "a", "\ufeffa\r\nb\rc\n\tä \u2028")) == "a\nb\rc\n\tä \u2028"
    assert "empty" in message(write(tmp_path / "b", ""), read_text)
    assert "folder" in message(tmp_path, read_text)
    assert "no such file" in message(tmp_path / "c", read_text)
    assert "save it as UTF-8" in message(write(tmp_path / "d", b"abc\xff"), read_text)
    assert "NUL" in message(write(tmp_path / "e", b"abc\0"), read_text)


def test_fingerprint(tmp_path):
    path = write(tmp_path / "f.csv", "abc")
    assert fingerprint_labelled(path) == hashlib.sha256(b"abc").hexdigest()
    folder = tmp_path / "f"
    path = write(folder / "x" / "a.txt", "abc")
    seen = [fingerprint_labelled(folder)]
    assert seen == [fingerprint_labelled(folder)]
    write(path, "abd")
    seen.append(fingerprint_labelled(folder))
    path.rename(path.with_name("b.txt"))
    seen.append(fingerprint_labelled(folder))
    write(folder / "y" / "c.txt", "")
    seen.append(fingerprint_labelled(folder))
    (folder / "y").rename(folder / "z")
    seen.append(fingerprint_labelled(folder))
    assert len(set(seen)) == 5
    for name in (".DS_Store", "x/.DS_Store", "notes.md", "x/b.pdf", ".git/a.txt"):  # which no reader reads
        write(folder / name, "anything")
    assert fingerprint_labelled(folder) == seen[-1]
    message(tmp_path / "none", fingerprint_labelled)
    message(write(tmp_path / "a.txt", "abc"), fingerprint_labelled)


def test_fingerprint_of_linked_folders(tmp_path):
    for name, text in (("one", "fine"), ("two", "poor")):
        for label in ("a", "b"):
            write(tmp_path / "texts" / name / label / "1.txt", text)
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / label).symlink_to(tmp_path / "texts" / name / label)
    assert read_labelled(tmp_path / "one").texts == ["fine", "fine"]
    direct = [fingerprint_labelled(tmp_path / "texts" / name) for name in ("one", "two")]
    assert [fingerprint_labelled(tmp_path / name) for name in ("one", "two")] == direct
    assert direct[0] != direct[1]


@pytest.mark.skipif(sys.platform != "linux", reason="file systems elsewhere refuse such names")
def test_a_class_whose_name_is_not_utf8(tmp_path):
    for name in (b"\xff\xfe", b"good"):
        write(tmp_path / os.fsdecode(name) / "1.txt", "text")
    with pytest.raises(InputError, match="expected a label in UTF-8") as refusal:
        read_labelled(tmp_path)
    str(refusal.value).encode()  # it can be shown
