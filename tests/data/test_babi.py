"""bAbI's files: what is read, what is refused, and that composed stories have the answers that they tell."""

import gzip
import hashlib
import io
import os
import re
import tarfile
from pathlib import Path

import pytest

from rnnjax.data import archives, babi, tfds
from rnnjax.data.babi import Question
from rnnjax.errors import InputError

TEXT = """\
1 Mary moved to the bathroom.
2 John went to the hallway.
3 Where is Mary? \tbathroom\t1
4 Mary got the milk.
5 What has she? \tmilk,nothing\t1 4
1 Ann left.
2 Who left?\tAnn
"""
NAMES = [babi.file_name(1, "1k", split) for split in ("train", "test")]


def test_stories_grow_and_begin_anew():
    first = ("Mary moved to the bathroom.", "John went to the hallway.")
    assert babi.parse(TEXT, "here") == [
        Question(first, "Where is Mary?", "bathroom", (0,), 1),
        Question((*first, "Mary got the milk."), "What has she?", "milk,nothing", (0, 2), 1),
        Question(("Ann left.",), "Who left?", "Ann", (), 2),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Mary moved.\n", "here, line 1: expected a number and a sentence"),
        ("1 Mary moved.\n2 Where?\tx\ty\n", "here, line 2: expected a number and a sentence"),
        ("1 Mary moved.\n\n2 Where?\t \t1\n", "here, line 3: expected an answer after the tab"),
        ("1 Where is Mary?\tattic\n", "here, line 1: expected a sentence before the first question"),
        ("1 Mary moved.\n1 Where is Mary?\tattic\n", "here, line 2: expected a sentence before"),
        ("1 Mary moved.\n", "here: expected questions"),
        ("", "here: expected questions"),
    ],
)
def test_what_is_no_story_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        babi.parse(text, "here")


def test_files_plain_and_gzipped(tmp_path):
    plain, packed, latin = tmp_path / "a.txt", tmp_path / "b.txt.gz", tmp_path / "c.txt"
    plain.write_text(TEXT)
    packed.write_bytes(gzip.compress(TEXT.encode()))
    latin.write_bytes("1 Hélène left.\n2 Who left?\tHélène\n".encode("latin-1"))
    assert babi.read(plain) == babi.read(packed) == babi.parse(TEXT, "")
    with pytest.raises(InputError, match="expected UTF-8, got byte 0xe9"):
        babi.read(latin)


def test_files_of_the_users_own(tmp_path):
    for name in ("qa1_one_train.txt", "qa1_one_test.txt.gz", "qa12_two_train.txt", "train.txt", "notes.md"):
        (tmp_path / name).touch()
    assert babi.own_files(tmp_path, 1) == (tmp_path / "qa1_one_train.txt", tmp_path / "qa1_one_test.txt.gz")
    assert babi.own_files(tmp_path / "train.txt", 1) == (tmp_path / "train.txt", None)
    with pytest.raises(InputError, match="start with qa3; found 3 and 1"):
        babi.own_files(tmp_path, 3)
    with pytest.raises(InputError, match="there is no such file or folder"):
        babi.own_files(tmp_path / "absent", 1)


def test_the_folder_of_data_sets(tmp_path, monkeypatch):
    def unreachable(url):
        raise tfds.NetworkUnavailable(f"{url} cannot be reached")

    monkeypatch.setattr(tfds, "probe", unreachable)
    with pytest.raises(tfds.NetworkUnavailable):
        babi.find_task(1, "1k", tmp_path)
    train, test = (tmp_path / "babi" / name for name in (f"{NAMES[0]}.gz", NAMES[1]))
    train.parent.mkdir(parents=True)
    train.touch()
    with pytest.raises(InputError, match=r"qa1_single-supporting-fact_test\.txt: there is no such file, nor one end"):
        babi.find_task(1, "1k", tmp_path)
    test.touch()
    assert babi.find_task(1, "1k", tmp_path) == (train, test)


def test_unpacking_takes_the_english_files(tmp_path):
    with tarfile.open(tmp_path / "all.tar.gz", "w:gz") as archive:
        for name in (NAMES[0], f"{babi.TOP}/hn/qa1_x_train.txt", f"{babi.TOP}/README.txt"):
            member = tarfile.TarInfo(name)
            member.size = len(TEXT)
            archive.addfile(member, io.BytesIO(TEXT.encode()))
    babi.ARCHIVE.unpack(tmp_path / "all.tar.gz", tmp_path / "out")
    found = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert found == [tmp_path / "out" / NAMES[0]]
    assert babi.read(found[0]) == babi.parse(TEXT, "")


def test_lines_of_text():
    line = "Mary moved to the bathroom. John went out . Where is Mary?  "
    assert babi.split_line(line) == (["Mary moved to the bathroom.", "John went out ."], "Where is Mary?")
    assert [babi.split_line(other) for other in ("", "Where is Mary?", "Mary left. Where is Mary", "Mary left.")] == [
        None,
        None,
        None,
        None,
    ]


def solve(story, question):
    """Answer by keeping a list of who is where and has what."""
    where, owner, lying = {}, {}, {}
    for sentence in story:
        person, *_, last = sentence.rstrip(".").split()
        if any(f" {verb} the " in sentence for verb in babi.MOVES):
            where[person] = last
        elif any(f" {verb} the " in sentence for verb in babi.TAKES):
            assert last not in owner
            assert lying.pop(last, where[person]) == where[person], "things are taken where they lie"
            owner[last] = person
        else:
            assert any(f" {verb} the " in sentence for verb in babi.DROPS)
            assert owner.pop(last) == person
            lying[last] = where[person]
    asked = re.fullmatch(r"Where is (?:the )?(\w+)\?", question)[1]
    return where.get(asked) or (where[owner[asked]] if asked in owner else lying[asked])


@pytest.mark.parametrize("task", babi.COMPOSED)
def test_composed_stories_tell_their_answers(task):
    questions = babi.compose(task, 60, seed=0)
    assert questions == babi.compose(task, 60, seed=0) != babi.compose(task, 60, seed=1)
    assert [q.story_number for q in questions] == [number for number in range(1, 61) for _ in range(5)]
    for question in questions:
        assert solve(question.story, question.text) == question.answer
        told = [question.story[fact] for fact in question.facts]
        assert len(set(told)) == task
        assert question.answer in told[-1]
        if task == 1:
            assert not any(told[0].split()[0] in sentence for sentence in question.story[question.facts[0] + 1 :])
    counts = {place: sum(q.answer == place for q in questions) for place in babi.PLACES}
    assert min(counts.values()) > 0.08 * len(questions), "no answer is a good guess"
    if task == 2:
        assert any("dropped" in sentence for question in questions for sentence in question.story)


def real_folder():
    root = Path(os.environ["TFDS_DATA_DIR"])
    for folder in (root / "babi", root.parent / "babi"):
        if (folder / babi.TOP).is_dir():
            return folder
    pytest.skip("no bAbI tasks in TFDS_DATA_DIR")


@pytest.mark.real_data
def test_the_published_files():
    folder, found = real_folder(), 0
    for name, expected in babi.ARCHIVE.files.items():
        path = archives.find(folder, name)
        if path is None:
            continue
        found += 1
        content = archives.read(path)
        assert hashlib.sha256(content).hexdigest() == expected
        questions = babi.parse(content.decode(), name)
        # Task 5 has more; in task 3 some files have fewer than there should be.
        assert len(questions) >= (9_900 if "10k/" in name and "train" in name else 990), name
    assert found >= 40


@pytest.mark.real_data
def test_who_went_last_to_which_place():
    for question in babi.read(archives.find(real_folder(), NAMES[1])):
        person = question.text.split()[-1].rstrip("?")
        (last,) = [sentence for sentence in question.story if sentence.startswith(person)][-1:]
        assert last.rstrip(".").split()[-1] == question.answer
        assert question.story[question.facts[0]] == last


@pytest.mark.parametrize("line", ["{} Where is Mary?\thall", "2 Where is Mary?\thall\t{}"])
def test_a_number_too_long_to_be_one_is_refused(line):
    text = "1 Mary moved to the hall.\n" + line.format("9" * 5000)
    with pytest.raises(InputError, match="line 2: expected a number and a sentence"):
        babi.parse(text, "stories.txt")
