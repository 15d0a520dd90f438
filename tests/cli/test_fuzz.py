"""Whatever bytes a file holds, it is read or refused in one line: arbitrary ones, and those of good files, changed.

Files of word vectors are in tests/data/test_vectors.py.
"""

import copy
import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rnnjax.cli.runs import load_model
from rnnjax.cli.train import resumed_config
from rnnjax.data.vocabulary import CharacterVocabulary, WordVocabulary, load_vocabulary
from rnnjax.errors import InputError, RunError
from rnnjax.tasks import char, imdb
from rnnjax.training import checkpoint
from rnnjax.training.folder import RunFolder

many = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
some = settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])

ROWS = [("it was fine", "good"), ('so "poor",\nreally', "bad"), ("größer — 猫", "good"), ("", "bad"), ("x" * 40, "1")]
CSV = "text,label,split\r\n" + "".join(
    '"' + text.replace('"', '""') + f'",{label},train\r\n' for text, label in [*ROWS, *ROWS]
)
JSONL = "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in [*ROWS, *ROWS])
TEXT = "Die Katze läßt das Mausen nicht — 猫は鼠を捕る!\n" * 3

PIECES = st.sampled_from(
    [b"", b"\0", b"\xff", b"\xef\xbb\xbf", b"\r", b"\n", b'"', b'""', b",", b"{", b"}", b"[" * 2000, b"null", b"NaN",
     b"1e999", b"-1", b"\\ud800", b"\\u0000", b"\xe2\x80\xa8", b"\x1f\x8b", b"9" * 5000, b"true", b"\t"]
)  # fmt: skip
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, 1, -1, 2**31, 2**63, 10**400, "\ud800", "\0", "auto", "a\nb"])
    | st.floats()
    | st.text(max_size=8),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=4), children, max_size=3),
    max_leaves=5,
)


@st.composite
def changed(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes with one to four changes: something put in, taken out, said twice, or cut off."""
    for _ in range(draw(st.integers(1, 4))):
        begin, end = sorted((draw(st.integers(0, len(content))), draw(st.integers(0, len(content)))))
        rest = draw(st.sampled_from([content[end:], content[begin:], content[begin:end] + content[begin:], b""]))
        content = content[:begin] + draw(PIECES | st.binary(max_size=3)) + rest
    return content


def any_bytes(content: str | bytes) -> st.SearchStrategy[bytes]:
    return st.binary(max_size=80) | changed(content if isinstance(content, bytes) else content.encode())


@st.composite
def changed_json(draw: st.DrawFn, value: Any) -> bytes:
    """JSON of which one value, however deep, is another or gone."""
    value = copy.deepcopy(value)
    place = value
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = draw(st.sampled_from(keys))
        if isinstance(place[key], dict | list) and place[key] and draw(st.booleans()):
            place = place[key]
            continue
        if draw(st.integers(0, 4)):
            place[key] = draw(JSON)
        else:
            del place[key]
        return json.dumps(value).encode()


def survives(call: Callable[[], Any], one_line: bool = True) -> Any:
    """What comes of it, None where it is refused; the command itself joins messages that hold names of two lines."""
    try:
        return call()
    except (InputError, RunError) as error:
        message = str(error)
    if not message or (one_line and "\n" in message):
        pytest.fail(f"expected one line; got {message!r}")
    return None


@pytest.fixture(autouse=True)
def _no_cache(_surrounded: None, no_cache: None) -> None:
    """Nothing encoded is kept."""


def load_imdb(path: Path) -> None:
    splits = survives(lambda: imdb.load(imdb.Config(dataset=str(path), max_length="auto")))
    if splits is not None:
        assert len(splits.train) >= 1
        assert len(splits.info["classes"]) >= 2
        for source in filter(None, (splits.train, splits.validation, splits.test)):
            (batch, *_) = source.evaluation(4)
            assert batch["inputs"].max() < splits.info["vocabulary_size"]
            assert batch["labels"].max() < len(splits.info["classes"])


@many
@given(content=any_bytes(CSV))
def test_csv(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(content)
    load_imdb(path)


@many
@given(content=any_bytes(JSONL) | st.lists(changed_json({"text": "it was", "label": "good"})).map(b"\n".join))
def test_jsonl(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(content)
    load_imdb(path)


NAME = (
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=9).filter(
        lambda name: name not in (".", "..")
    )
    | st.sampled_from(["train", "test", "validation", "unsup", "pos", "neg", ".git", "a.txt", "\udcff", "a\tb", " "])
)  # fmt: skip


@many
@given(
    files=st.dictionaries(
        st.tuples(NAME, NAME) | st.tuples(NAME, NAME, NAME),
        any_bytes("fine\n"),
        max_size=6,
    ),
    endings=st.booleans(),
)
def test_folder_of_classes(
    files: dict[tuple[str, ...], bytes], endings: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("classes")
    for parts, content in files.items():
        path = folder.joinpath(*parts[:-1], parts[-1] + ".txt" * endings)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except OSError:  # a folder of this name, or a name that this disk does not take
            continue
    # Names of folders are the user's own, and may have two lines: the command shows them in one.
    survives(lambda: imdb.load(imdb.Config(dataset=str(folder))), one_line=False)
    shutil.rmtree(folder)


@many
@given(content=any_bytes(TEXT))
def test_plain_text(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "data.txt"
    path.write_bytes(content)
    splits = survives(lambda: char.load(char.Config(dataset=str(path), window=4)))
    if splits is not None:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
        assert splits.vocabulary.characters == "".join(sorted(set(text)))


WORDS, CHARACTERS = WordVocabulary(["[PAD]", "[UNK]", "a", "größe"]), CharacterVocabulary("\n a猫")
WORDS_JSON = json.loads(WORDS.to_json())
CHARACTERS_JSON = {"model": {"type": "Characters", "characters": CHARACTERS.characters}}


@many
@given(
    content=any_bytes(json.dumps(WORDS_JSON))
    | any_bytes(json.dumps(CHARACTERS_JSON))
    | changed_json(WORDS_JSON)
    | changed_json(CHARACTERS_JSON)
)
def test_tokenizer_json(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    vocabulary = survives(lambda: load_vocabulary(path))
    if isinstance(vocabulary, WordVocabulary):
        ids, _ = vocabulary.encode(["a größe, b"], 5)
        assert ids.max() < len(vocabulary)
    elif vocabulary is not None:
        assert vocabulary.decode(vocabulary.encode(vocabulary.characters)) == vocabulary.characters


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """A copy of a run, the same for all tests here, whose files are put back by each."""
    folder = tmp_path_factory.mktemp("copies")

    def copied(original: Path) -> Path:
        if not (folder / original.name).exists():
            shutil.copytree(original, folder / original.name)
        return folder / original.name

    return copied


def config_of(path: Path) -> dict[str, Any]:
    return json.loads((path / "config.json").read_text())


@some
@given(data=st.data())
@pytest.mark.parametrize("kind", ["classifier", "language model"])
def test_config_json(kind: str, data: st.DataObject, run: Any, imdb_run: Path, char_run: Path) -> None:
    original = imdb_run if kind == "classifier" else char_run
    good = config_of(original)
    content = data.draw(any_bytes((original / "config.json").read_bytes()) | changed_json(good))
    copied = run(original)
    (copied / "config.json").write_bytes(content)
    trained = survives(lambda: load_model(str(copied), kind, lambda notice: None), one_line=False)
    if trained is not None:
        if kind == "classifier":
            trained.vocabulary.encode(["it was fine"], trained.info["max_length"])
        else:
            assert 0 <= trained.info["first"] < len(trained.vocabulary)

    def resume() -> None:
        folder = RunFolder(copied)
        settings = folder.read_config()
        task = imdb.TASK if kind == "classifier" else char.TASK
        config = resumed_config(task, {}, settings, folder)
        if config.dataset == good["config"]["dataset"] or config.dataset not in ("auto", "tfds", "builtin"):
            task.load(dataclasses.replace(config, vectors=None) if kind == "classifier" else config)

    survives(resume, one_line=False)
    shutil.copy(original / "config.json", copied / "config.json")


LINES = [{"step": step, "epoch": step // 2, "split": "train", "loss": 1 / 3, "seconds": 0.1} for step in (2, 4, 6)]
METRICS = "".join(json.dumps(line) + "\n" for line in LINES)


@many
@given(content=any_bytes(METRICS) | changed_json(LINES[0]), step=st.integers(0, 8))
def test_metrics_jsonl(content: bytes, step: int, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.metrics.write_bytes(content)
    folder.cut_metrics(step)
    kept = folder.metrics.read_bytes().split(b"\n")[:-1]
    assert all(json.loads(line)["step"] <= step for line in kept)
    good = [line for line in METRICS.encode().splitlines() if json.loads(line)["step"] <= step]
    # Lines that are as they were written come through as they are.
    assert [line for line in kept if line in good] == [line for line in content.split(b"\n") if line in good]


@many
@given(content=any_bytes('{"task": "imdb", "seed": 0}'))
def test_results_json(content: bytes, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.results.write_bytes(content)
    assert folder.is_finished in (True, False)


@some
@given(data=st.data())
@pytest.mark.parametrize("name", ["manifest.json", "progress.json", "shapes.json"])
def test_files_of_a_checkpoint(name: str, data: st.DataObject, run: Any, char_run: Path) -> None:
    copied = run(char_run)
    newest = copied / "checkpoints" / f"{checkpoint.steps(copied / 'checkpoints')[-1]:08d}"
    good = (newest / name).read_bytes()
    content = data.draw(any_bytes(good) | changed_json(json.loads(good)))
    (newest / name).write_bytes(content)
    fault = checkpoint.find_fault(newest)
    if fault is None:  # another form of the same
        assert json.loads(content) == json.loads(good)
    else:
        assert "\n" not in fault
        found = checkpoint.newest_whole(copied / "checkpoints", lambda notice: None)
        assert found is None or found.name < newest.name
    (newest / name).write_bytes(good)
