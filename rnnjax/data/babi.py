"""The bAbI question answering tasks (Weston et al. 2016): short stories about people, things and places, and questions.

A file in their format has one numbered sentence or question a line; a number that is not larger than the one before
starts a new story. A question has its answer after a tab and may have, after another, the numbers of the sentences
that tell it:

    1 Mary moved to the bathroom.
    2 John went to the hallway.
    3 Where is Mary? <tab> bathroom <tab> 1
"""

import os
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rnnjax.data import archives
from rnnjax.data.archives import Archive
from rnnjax.data.tfds import data_folder
from rnnjax.errors import InputError

NAMES = (
    "single-supporting-fact",
    "two-supporting-facts",
    "three-supporting-facts",
    "two-arg-relations",
    "three-arg-relations",
    "yes-no-questions",
    "counting",
    "lists-sets",
    "simple-negation",
    "indefinite-knowledge",
    "basic-coreference",
    "conjunction",
    "compound-coreference",
    "time-reasoning",
    "basic-deduction",
    "basic-induction",
    "positional-reasoning",
    "size-reasoning",
    "path-finding",
    "agents-motivations",
)
TRAIN = (
    "c64ba9b1a49bbb111ffc4cd2ae4f129d25c012399dd7ade9679eea464b9afb05",
    "a4978af5bc0dc30191810e7c9949aaa6eae939ed0f6beb9fcb5f4330c2a27860",
    "a6e78019f36a02a7ed71fe6aaded0b563ff09c8deec392931801fcd9c6af4d60",
    "c9370502d85fa382f32d1fea2111e817f81ae9e3e79eb2924a1a5392a90417fa",
    "086cd59c3ca9677bfac3d6a22ca5853c76a5c1fbae3159c7c4a6aef759a74ec0",
    "5a133115ee35d475776df703ff605d145b11effbcdbf7e74861f9d5639246a5a",
    "dca03bd91876951c49f1c971c83c9dd55404de60201b7b6435451cf7ddb4751c",
    "058604df6f9440458317e8ae685d2b7b84261e1a80b4d6410a9140d16f81bf06",
    "0c3b89921af0caea1c4059ee3f7b7f2a88869f924195a428da37820446b8c49f",
    "0b7691689447bab05476c5b48c44999b41e747c3978df69c18fdd87b60d6e8b3",
    "9468de9a1f256f43dfda693a5d07182d21149a82b65f7c2451c64e9cff5eb138",
    "45c2764bb2d3c8f699d35e9d9aa7958fcd96379c6e907116cdf74526c108bb25",
    "533a391edbda743e4c99504de88b40cdded5b1d5ef454d1390f0863f748a4cc9",
    "b7561cbc624205c9c2fdbb8c843cfa8ad90edd65e78bb223fc6dea8113662df8",
    "e856ebfdcce4dd7d617c1d10f985e96a0850c0ca18e9a19a017cb710d135ed3d",
    "20121005137e3d4b061a086eb177a456303d5742b764eb8da2d0e480b6af4d28",
    "20083bf56ff74f0e7cf5e3e2f8c3905cdb8ef09293c3e8cf7a96ed8b45ae2277",
    "18b7dcf52c9a0e87e4e7dd3d65b7e5a630de039645f52a1294197af7481d739d",
    "dcb788352a56effb7bea1449128f31cc9c342c8c327b6df2caeee0e379e6ad3a",
    "29580ad55fb7b4b29ba014696056cc68f8f347dac3be88470fd692ad60150398",
)
TRAIN_10K = (
    "749ea9f7c99070feb2d88c975a254417a0dcc8274add4435ae5ae24c7afc7e9d",
    "d4074c0c5d54f70ce2f538056ce2b6ef6a313da336da4245f1a24f1298e37ef3",
    None,
    "5d11b821d35234988ab907866aa7ce718e6b6d751acf63bdef52262afb59f12c",
    "2506910935b701bac64fc8b1d7ff12bd8d0f47ceefca183454282bec784c12a5",
    "602f379184bf3cb59660d0f7769d9c94ccdc1fc4d82dfe90bd460d985b1ff0c5",
    "4a2508733bef9b38cfce4b3108a91b83cdee378de4a7370e4d32fea2dacd3b7d",
    "9518da2d3aa5d98bec33335e0d5ba3a22c2bd1929ee679085d37eb50a7652e4a",
    "5f8949f6ef7d64516fc4dd5732b12b5932d057b1a614e8ac94e795fb020d4ff0",
    "c5c0788b0446095c07a0442784cad2b59c1d58e875ebe8ad852f5e3f628613f4",
    "edfcd97fecd4a5045af25e1790cf1408856ae362c39521b1b69cd32b88ec0ced",
    "39d58df3564916c66cebc98befb65d605c032181e51208730fd8837a77bc166a",
    "c530fdf122d26617a8a03ba5cdbacee87c22624ba7f50d1f07f9658c900e22d8",
    "c322e0814eef71f088af1aa1334e7ae4b1ee6ca18f2ee94c05e2189226964ed6",
    "0a86673f7fafa484f8ee394048f03de19405bdc40b58f21086969efad2862010",
    "27fef347ce0b25dd148efea2b15f154926e0e9069d4ea6ab9cfca3add492ab35",
    "8a383651e009db50d6c9effed5778b8646c28c55fadb1592b5f4d8d3a187bbce",
    "9e7c15107067d2070170ef12579a8bfe34dfc35a7ac9ebd13f2001dc1a7488f9",
    "6cfdc6f448e3cf0e3d8a390fa3add461935b033f89ede32aeef30812401ec91e",
    "36f20f3baf6bad2297d5b9fd877e633550c36106fe78bc10ddfb7b1eede62573",
)
TEST = (
    "55acf66cef2f6d798e2aa1d056e1ec8f24e910ea9215b639450574321132959b",
    "eff93fb9cd81ba02eb765772cf7cc269769ed44ec71cbbbc19cfb16ee5eba0f6",
    "17795c977100baf8188f386522ae301b62d6c1a13efc01b3aea781e588b4d57f",
    "07f0ca18ddeea9eed4ba6d59e162adcb0ce44815721114b3540d92825509331e",
    "ec825c1c8a76e63a31f0d7a7763cd63740e98332fa9bdf246a19068949bd5f97",
    "b108b16f1eccbd1c24df6dca2649079a7b2f10af7fd12d4c45a3393802de59e3",
    "a74d1f2b91329b2bae814d41cdac2fbdfdf0328562b7d8afa9a0fa576d461e27",
    "362a653c821a580fa315a85243b4f03bfa06fa7e0269b6f8e596f8fe6911646a",
    "63590aff3f89993db409f0e9a9eb39c2a5b9d5efff99b255d800a891b0044d9f",
    "fde8f20ed0b3ba979058ed391a566af34653f23baab5b2793ee37f87ef4e88b7",
    "46f3290d0158ce1285a40cd2d793f5a65f86ae5000226e165cbc85a3dfeb2f6f",
    "6437718f8f9801ce345869e910b896836cdc6fd2d01dc7b4d2df49730703b4b1",
    "76a25b684f23c9cc473d8cd1465506168b9a1ec8891cfc59d0bbd87e6a064990",
    "e3f0b19858ffbec3ed1e49076cc4d1295a89ce146c50318b862f13f202b3caf2",
    "32b77e117fe9acf5f94906684e3b5206de0108e646c76e1da3e022896ec7ee94",
    "4a11e55366f2a5a859b5a81f683ee23801bdbe71ef984e51adb976bd053e8dcf",
    "9e1e0250ed4ec1831757fab26c04138f81ea557ebf6976a220db879cbed04bac",
    "d34f70eb7228a276fcb3a7854174fe562c5634f4fb454a39fc3d1ad9934be3ef",
    "023e391f0d7f79c9e6ae1c46c093e2d0dbd50ab8fbd8965e037a75e3614c20e5",
    "bd3bde3788ac14ba0ae095078f7b820fbd2bfa6a34dba9d1d46a34afde9c2729",
)
TOP = "tasks_1-20_v1-2"
"""Folder of the archive; its sub-folders en and en-10k have 1,000 and 10,000 training questions a task."""
FOLDERS = {"1k": "en", "10k": "en-10k"}


class Question(NamedTuple):
    """A question, and what has been told in its story until then."""

    story: tuple[str, ...]
    """Sentences, the oldest first; one or more."""
    text: str
    answer: str
    """One word, or several joined by commas."""
    facts: tuple[int, ...]
    """Places in `story` of the sentences that tell the answer, where the file names them."""
    story_number: int
    """Counts the stories of a file; several questions are asked about one."""


def file_name(task: int, examples: str, split: str) -> str:
    """Path within the data set of a task's questions, 1 to 20; `examples` 1k or 10k, `split` train or test."""
    return f"{TOP}/{FOLDERS[examples]}/qa{task}_{NAMES[task - 1]}_{split}.txt"


def _checksums() -> dict[str, str]:
    """SHA-256 of the archive's files that are read. The test questions of 1k and 10k are the same."""
    found: dict[str, str] = {}
    for examples, sums in (("1k", TRAIN), ("10k", TRAIN_10K)):
        for split, of_split in (("train", sums), ("test", TEST)):
            found |= {
                file_name(task, examples, split): expected
                for task, expected in enumerate(of_split, start=1)
                if expected is not None
            }
    return found


def _unpack(downloaded: Path, folder: Path) -> None:
    with tarfile.open(downloaded) as archive:
        parts = tuple(f"{TOP}/{name}/" for name in FOLDERS.values())
        archive.extractall(folder, [m for m in archive if m.name.startswith(parts)], filter="data")


ARCHIVE = Archive(
    "babi",
    "http://www.thespermwhale.com/jaseweston/babi/tasks_1-20_v1-2.tar.gz",
    _checksums(),
    _unpack,
)


def find_task(task: int, examples: str, data_dir: str | os.PathLike[str] | None = None) -> tuple[Path, Path]:
    """A task's files of training and of test questions in the folder of data sets, downloaded where they are not there.

    Raises:
        NetworkUnavailable: nothing of the data set is there, and its server cannot be reached.
        InputError: the data set is there without these files; or as `archives.prepare`.
        RunError: as `archives.prepare`.
    """
    names = [file_name(task, examples, split) for split in ("train", "test")]
    folder = data_folder(data_dir) / ARCHIVE.name
    missing = [name for name in names if archives.find(folder, name) is None]
    if not (missing and (folder / TOP).is_dir()):
        folder = archives.prepare(ARCHIVE, data_dir, names)
        missing = [name for name in names if archives.find(folder, name) is None]
    if missing:
        raise InputError(
            f"{folder / missing[0]}: there is no such file, nor one ending in .gz, though other tasks are there. Take "
            f"it out of {ARCHIVE.url}, or name another task or size with --qa and --examples."
        )
    train, test = (archives.find(folder, name) for name in names)
    assert train is not None
    assert test is not None
    return train, test


def own_files(path: str | os.PathLike[str], task: int) -> tuple[Path, Path | None]:
    """The files of training and of test questions that a user's path means.

    A file has training questions. In a folder it is the file whose name has `train` in it and ends in .txt or .txt.gz,
    and for the test `test`; where several have, those that start with qa and the number of the task, as in the archive.

    Raises:
        InputError: there is nothing of the kind, or too much of it.
    """
    path = Path(path)
    if path.is_file():
        return path, None
    if not path.is_dir():
        raise InputError(f"{path}: there is no such file or folder; check the name.")
    try:
        files = sorted(file for file in path.iterdir() if re.search(r"\.txt(\.gz)?$", file.name))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its permissions.") from None
    numbered = [file for file in files if re.match(rf"qa{task}(?!\d)", file.name)]
    train, test = (
        [file for file in numbered if split in file.name] or [file for file in files if split in file.name]
        for split in ("train", "test")
    )
    if len(train) != 1 or len(test) > 1:
        raise InputError(
            f"{path}: expected one file named *train*.txt and at most one *test*.txt, or such files that start with "
            f"qa{task}; found {len(train)} and {len(test)}. Rename them, or choose another with --qa."
        )
    return train[0], test[0] if test else None


def read(path: Path) -> list[Question]:
    """Read a file in bAbI's format, plain or gzipped.

    Raises:
        InputError: it cannot be read, is not UTF-8, has a line of another form, or has no question.
    """
    content = archives.read(path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected UTF-8, got byte 0x{content[error.start]:02x}; save it as UTF-8.") from None
    return parse(text, str(path))


def parse(text: str, where: str) -> list[Question]:
    """The questions of a text in bAbI's format; `where` names it in errors.

    Raises:
        InputError: a line has another form, a question comes before any sentence, or there is none.
    """
    questions: list[Question] = []
    story: list[str] = []
    places: dict[int, int] = {}  # number of a line -> place of its sentence in the story
    last, count = 0, 0
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        # Numbers of up to nine digits: Python refuses to read one of thousands.
        found = re.fullmatch(r"\s*(\d{1,9})\s+(\S[^\t]*)(?:\t([^\t]*)(?:\t((?:\s*\b\d{1,9}\b)*\s*))?)?", line)
        if found is None:
            raise InputError(
                f"{where}, line {number}: expected a number and a sentence, or a number, a question, a tab, its answer "
                f"and perhaps a tab and numbers of sentences; got {line[:60]!r}."
            )
        place, sentence, answer, facts = int(found[1]), found[2].strip(), found[3], found[4] or ""
        if place <= last or not count:
            story, places, count = [], {}, count + 1
        last = place
        if answer is None:
            places[place] = len(story)
            story.append(sentence)
            continue
        if not answer.strip():
            raise InputError(f"{where}, line {number}: expected an answer after the tab, got none; add it.")
        if not story:
            raise InputError(
                f"{where}, line {number}: expected a sentence before the first question of a story; got {line[:60]!r}."
            )
        told = tuple(places[int(fact)] for fact in facts.split() if int(fact) in places)
        questions.append(Question(tuple(story), sentence, answer.strip(), told, count))
    if not questions:
        raise InputError(f"{where}: expected questions, which have a tab and an answer at their end; found none.")
    return questions


def split_line(line: str) -> tuple[list[str], str] | None:
    """Sentences and the question of one line of text, "Mary moved to the bathroom. Where is Mary?"; None of others."""
    parts = [part.strip() for part in re.findall(r"[^.?]+[.?]?", line) if part.strip()]
    if len(parts) < 2 or not parts[-1].endswith("?"):
        return None
    return parts[:-1], parts[-1]


PEOPLE = ("Anna", "Ben", "Clara", "David")
PLACES = ("attic", "cellar", "library", "park", "school", "workshop")
THINGS = ("ball", "book", "cup")
MOVES = ("walked to", "ran to", "went to", "returned to")
TAKES = ("took", "picked up", "grabbed")
DROPS = ("dropped", "put down")
COMPOSED = (1, 2)
"""Tasks of which there is a composed form."""


def compose(task: int, stories: int, seed: int) -> list[Question]:
    """Made-up questions in the manner of tasks 1 and 2, five to a story, each after two more sentences or so.

    In 1, people go to places: "Where is Anna?" In 2 they also take things, carry them about and drop them: "Where is
    the cup?", which is asked of things that somebody has held.

    Raises:
        ValueError: another task.
    """
    if task not in COMPOSED:
        raise ValueError(f"Expected task 1 or 2; got {task}.")
    rng = np.random.default_rng([seed, task])

    def choose(some: Sequence[str]) -> str:
        return some[int(rng.integers(len(some)))]

    questions = []
    for number in range(1, stories + 1):
        story: list[str] = []
        moved: dict[str, int] = {}  # person -> place in the story of the last sentence of where it went
        held: dict[str, tuple[str, int]] = {}  # thing -> who has it, and the sentence that says so
        lying: dict[str, tuple[str, tuple[int, ...]]] = {}  # dropped thing -> where, and the sentences that tell it
        where: dict[str, str] = {}
        for _ in range(5):
            told = len(story)
            while len(story) < told + 2 or (task == 2 and not (held or lying)):
                person = choose(PEOPLE)
                action = rng.random() if task == 2 and person in where else 0.0
                here = [
                    thing
                    for thing in THINGS
                    if thing not in held and (thing not in lying or lying[thing][0] == where.get(person))
                ]
                own = [thing for thing, (owner, _) in held.items() if owner == person]
                if action > 0.6 and here:
                    thing = choose(here)
                    story.append(f"{person} {choose(TAKES)} the {thing}.")
                    held[thing] = person, len(story) - 1
                    lying.pop(thing, None)
                elif action > 0.45 and own:
                    thing = choose(own)
                    story.append(f"{person} {choose(DROPS)} the {thing}.")
                    del held[thing]
                    lying[thing] = where[person], (len(story) - 1, moved[person])
                else:
                    place = choose([name for name in PLACES if name != where.get(person)])
                    story.append(f"{person} {choose(MOVES)} the {place}.")
                    where[person], moved[person] = place, len(story) - 1
            if task == 1:
                person = choose(list(where))
                question = Question(tuple(story), f"Where is {person}?", where[person], (moved[person],), number)
            else:
                thing = choose([*held, *lying])
                answer, facts = lying.get(thing, ("", ()))
                if thing in held:
                    owner, taken = held[thing]
                    answer, facts = where[owner], (taken, moved[owner])
                question = Question(tuple(story), f"Where is the {thing}?", answer, facts, number)
            questions.append(question)
    return questions
