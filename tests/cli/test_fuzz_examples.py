"""As test_fuzz.py has it, for the files that only some of the examples read."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_fuzz import any_bytes, changed_json, many, survives

from rnnjax.data import images, reuters
from rnnjax.data.vocabulary import TextVocabulary, TokenVocabulary, load_vocabulary
from rnnjax.tasks import authorship, babi, mnist, tagging

COLUMNS = "He PRP B-NP\nreckons VBZ B-VP\n. . O\n\nIt PRP B-NP\nis VBZ B-VP\n\nNo DT B-NP\nway NN I-NP\n"
CONLLU = "# text = He is\n1\tHe\the\tPRON\t_\t_\t0\troot\t_\t_\n2\tis\tbe\tAUX\t_\t_\t1\tcop\t_\t_\n\n" * 4
STORIES = "1 Mary moved to the hall.\n2 Where is Mary? \thall\t1\n3 John went home.\n4 Where is John? \thome\t3\n" * 4
NEWSWIRE = (
    '<REUTERS TOPICS="YES" LEWISSPLIT="TRAIN"><TOPICS><D>grain</D></TOPICS><TEXT>&#2;<TITLE>A &lt;B></TITLE>'
    "<BODY>Wheat &amp; corn.\n&#3;</BODY></TEXT></REUTERS>\n"
)


def encoded(save: Any) -> bytes:
    file = io.BytesIO()
    save(file)
    return file.getvalue()


PICTURE = encoded(lambda file: Image.new("LA", (5, 7), (200, 90)).save(file, "PNG"))
ARRAYS = encoded(
    lambda file: np.savez(file, image=np.arange(10 * 9, dtype=np.uint8).reshape(10, 3, 3), label=np.arange(10) % 2)
)


@many
@given(content=any_bytes(COLUMNS) | any_bytes(CONLLU), is_conllu=st.booleans())
def test_sentences(content: bytes, is_conllu: bool, tmp_path: Path) -> None:
    path = tmp_path / ("data.conllu" if is_conllu else "data.txt")
    path.write_bytes(content)
    splits = survives(lambda: tagging.load(tagging.Config(dataset=str(path))))
    if splits is not None:
        (batch, *_) = splits.train.evaluation(4)
        assert batch["inputs"].max() < splits.info["vocabulary_size"]
        tags = batch["chunks"] if splits.info["labels"] == "chunks" else batch["tags"]
        assert tags.max() < len(splits.info["tags"])


@many
@given(content=any_bytes(STORIES))
def test_stories(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "stories.txt"
    path.write_bytes(content)
    splits = survives(lambda: babi.load(babi.Config(dataset=str(path))))
    if splits is not None:
        (batch, *_) = splits.train.evaluation(4)
        assert batch["inputs"].max() < splits.info["vocabulary_size"]
        assert batch["labels"].max() < len(splits.info["classes"])


@many
@given(content=any_bytes(NEWSWIRE * 2))
def test_newswires(content: bytes) -> None:
    for newswire in survives(lambda: reuters.parse(content.decode("latin-1"))):
        assert newswire.topic in content.decode("latin-1")


@many
@given(content=any_bytes(PICTURE))
@pytest.mark.filterwarnings("ignore")  # Pillow's, of pictures that are broken
def test_pictures(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "digit.png"
    path.write_bytes(content)
    picture = survives(lambda: images.read_image(str(path)))
    if picture is not None:
        assert picture.pixels.shape == (28, 28)


@many
@given(content=any_bytes(ARRAYS))
def test_arrays_of_pictures(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "digits.npz"
    path.write_bytes(content)
    splits = survives(lambda: mnist.load(mnist.Config(dataset=str(path))))
    if splits is not None:
        (batch, *_) = splits.train.evaluation(4)
        assert batch["labels"].max() < len(splits.info["classes"])


@many
@given(first=any_bytes("Slowly, he went. " * 40), second=any_bytes("She ran; " * 60))
def test_texts_of_authors(first: bytes, second: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("authors")
    (folder / "Ada.txt").write_bytes(first)
    (folder / "Ben.txt").write_bytes(second)
    splits = survives(lambda: authorship.load(authorship.Config(dataset=str(folder), passage=20)))
    if splits is not None:
        (batch, *_) = splits.train.training_epoch(0, 1, 4)
        assert batch["inputs"].max() < splits.info["vocabulary_size"]
    shutil.rmtree(folder)


TOKENS_JSON = {"model": {"type": "Tokens", "words": ["a", "größe"], "characters": ["a", "猫"]}}
TEXT_JSON = {"model": {"type": "Text", "tokens": ["[UNK]", "a", "@,@", "\n"]}}


@many
@given(
    content=any_bytes(json.dumps(TOKENS_JSON))
    | any_bytes(json.dumps(TEXT_JSON))
    | changed_json(TOKENS_JSON)
    | changed_json(TEXT_JSON)
)
def test_tokenizers(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    vocabulary = survives(lambda: load_vocabulary(path))
    if isinstance(vocabulary, TokenVocabulary):
        assert vocabulary.decode(list(range(2, len(vocabulary)))) == " ".join(vocabulary.words[2:])
    elif isinstance(vocabulary, TextVocabulary):
        vocabulary.decode(list(range(len(vocabulary))))
        assert vocabulary.ids(["a, but", "a"]).max() < len(vocabulary)
