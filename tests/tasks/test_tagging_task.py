"""The tagger from files to predictions, and its figures against chunks that are counted word by word."""

import dataclasses
import io
import json
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from rnnjax.cli import main, runs
from rnnjax.data.vocabulary import TokenVocabulary, load_vocabulary
from rnnjax.errors import InputError
from rnnjax.metrics import means, merge
from rnnjax.models.crf import TagScores
from rnnjax.tasks import tagging
from rnnjax.tasks.tagging import TASK, Config
from rnnjax.training.optimizer import make_optimizer
from rnnjax.training.step import dropout_key, initial_train_state, make_train_step

SMALL = {"units": 8, "embedding": 8}


@pytest.fixture(autouse=True)
def few_sentences(monkeypatch):
    monkeypatch.setattr(tagging, "BUILTIN_SENTENCES", 150)
    monkeypatch.setattr(tagging, "likely_widths", lambda lengths: [64])  # one program
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")


def spans(tags):
    """(kind, first, last) of each chunk."""
    found, kind, first = [], None, 0
    for place, tag in enumerate([*tags, "O"]):
        goes_on = tag[0] == "I" and tag[2:] == kind
        if kind is not None and not goes_on:
            found.append((kind, first, place - 1))
            kind = None
        if tag != "O" and not goes_on:
            kind, first = tag[2:], place
    return set(found)


def predict(monkeypatch, capfdbinary, folder, text):
    stdin = SimpleNamespace(buffer=io.BytesIO(text.encode()), isatty=lambda: False)
    monkeypatch.setattr(sys, "stdin", stdin)
    capfdbinary.readouterr()
    assert main(["predict", "--workdir", str(folder)]) == 0
    return [line.split("\t") for line in capfdbinary.readouterr().out.decode().splitlines()]


@pytest.mark.parametrize(
    "options",
    [
        ["--crf", "--pos-features"],
        ["--no-crf", "--labels", "pos", "--characters", "lstm"],
    ],
    ids=" ".join,
)
def test_trains_resumes_and_predicts(options, tmp_path, monkeypatch, capfdbinary):
    folder, epochs = tmp_path / "run", "1" if "pos" in options else "2"
    arguments = ["train", "--task", "tagging", "--dataset", "builtin", "--units", "8", "--embedding", "8", *options]
    assert main([*arguments, "--epochs", epochs, "--learning-rate", "0.02", "--workdir", str(folder)]) == 0
    results = (folder / "results.json").read_bytes()
    assert main(["train", "--resume", "--workdir", str(folder)]) == 0
    assert (folder / "results.json").read_bytes() == results
    figures = json.loads(results)
    assert {path.name for path in (folder / "pictures").iterdir()} == {"confusion.png", "sentences.png"}

    # The figures of results.json, from what predict.py says of the same sentences, without a batch or a mask.
    config = Config(**json.loads((folder / "config.json").read_text())["config"])
    corpus = tagging.find_corpus(config)
    test = tagging.divide(corpus, config.seed)["test"]
    column = 1 if "pos" in options else -1
    joined = [" ".join("/".join(row[:2]) if config.pos_features else row[0] for row in text) for text in test]
    answers = predict(monkeypatch, capfdbinary, folder, "\n".join(joined) + "\n\n")
    assert answers.pop() == ["", "1.0000"]  # of the empty line
    assert all(0 <= float(probability) <= 1 for _, probability in answers)
    given = [tags.split() for tags, _ in answers]
    right = [[row[column] for row in text] for text in test]
    pairs = [(a, b) for row in zip(given, right, strict=True) for a, b in zip(*row, strict=True)]
    assert figures["test_accuracy"] == pytest.approx(np.mean([a == b for a, b in pairs]))
    if "pos" in options:
        assert figures["test_f1"] == figures["test_accuracy"]
        assert "test_precision" not in figures
        return
    hits = sum(len(spans(a) & spans(b)) for a, b in zip(given, right, strict=True))
    found, true = (sum(len(spans(tags)) for tags in rows) for rows in (given, right))
    assert figures["test_precision"] == pytest.approx(hits / found)
    assert figures["test_recall"] == pytest.approx(hits / true)
    assert figures["test_f1"] == pytest.approx(2 * hits / (found + true))
    assert predict(monkeypatch, capfdbinary, folder, "The/DT plan/NN") != answers[:1]
    capfdbinary.readouterr()
    assert main(["predict", "--workdir", str(folder), "--text", "The plan/NN"]) == 2
    assert "line 1: expected word/PART-OF-SPEECH, as He/PRP; got 'The'" in capfdbinary.readouterr().err.decode()


def test_one_batch_is_learned_by_heart():
    config = Config(dataset="builtin", dropout=0.0, learning_rate=0.02, schedule="constant", **SMALL)
    splits = tagging.load(config)
    model = tagging.build(config, splits.info)
    batch = splits.train.training_epoch(0, 1, 8)[0]
    optimizer = make_optimizer(config, 60)
    state = initial_train_state(model, config, optimizer, batch, stateful=False, keywords=TASK.keywords(batch))
    step = make_train_step(model, TASK, config, optimizer)
    for _ in range(60):
        state, sums = step(state, batch, dropout_key(0))
    figures = means(merge({}, dict(sums)))
    assert figures["accuracy"] == figures["precision"] == figures["recall"] == 1
    assert sums["loss"][1] == batch["lengths"].sum()
    assert figures["loss"] < 0.05


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ({"accuracy": 0.5, "precision": 0.5, "recall": 0.25}, 1 / 3),
        ({"accuracy": 0.5, "recall": 0.0}, 0),
        ({"accuracy": 0.5, "precision": 0.0, "recall": 0.0}, 0),
        ({"accuracy": 0.5}, 0.5),
    ],
)
def test_f1(metrics, expected):
    assert tagging.f1(metrics) == {"f1": pytest.approx(expected)}


def test_numbers_of_tags():
    assert tagging.numbered_tags({"I-VP", "O", "B-NP"}, "chunks") == ["O", "B-NP", "I-NP", "B-VP", "I-VP"]
    assert tagging.numbered_tags({"VB", "NN"}, "pos") == ["NN", "VB"]


@pytest.mark.parametrize(
    ("settings", "content", "message"),
    [
        ({"labels": "chunks"}, "He PRP\n\nshe PRP\n\nit PRP\n", "--labels chunks: expected tags O, B-... and I-..."),
        ({"pos_features": True}, "He O\n\nshe O\n\nit O\n", "--pos-features: expected chunks to learn and parts of"),
        (
            {"labels": "pos", "pos_features": True},
            "He PRP O\n",
            "--pos-features: .* has 3 columns, and --labels is pos",
        ),
        ({}, "He PRP\n\nshe PRP\n", "Expected 3 or more examples"),
    ],
)
def test_refused(settings, content, message, tmp_path):
    (tmp_path / "a.txt").write_text(content)
    with pytest.raises(InputError, match=message):
        tagging.load(Config(dataset=str(tmp_path / "a.txt"), **settings))


def test_own_folder_with_tags_that_training_lacks(tmp_path):
    """They count as wrong, and nothing of the other parts is learned from."""
    (tmp_path / "train.txt").write_text("the DT B-NP\ndog NN I-NP\n\n" * 9 + "Dogs NNS B-NP\n")
    (tmp_path / "test.txt").write_text("cats NNS B-NP\nRun4 VBP B-VP\n")
    splits = tagging.load(Config(dataset=str(tmp_path), unknown_rate=0.0))
    assert splits.info["tags"] == ["O", "B-NP", "I-NP", "B-VP", "I-VP"]
    assert splits.vocabulary.decode([2, 3, 4][: len(splits.vocabulary) - 2]).split()[:2] == ["dog", "the"]
    batch = splits.test.evaluation(1)[0]
    assert batch["inputs"][0, :2].tolist() == [1, 1]
    assert batch["chunks"][0, :2].tolist() == [1, 3]
    assert (len(splits.train), len(splits.validation)) == (9, 1)


def test_vectors_to_start_from(tmp_path):
    (tmp_path / "v.txt").write_text("the 1 2 3\nPlan 4 5 6\n")
    splits = tagging.load(Config(dataset="builtin", vectors=str(tmp_path / "v.txt")))
    table = splits.initial[tagging.VECTORS]
    ids = splits.vocabulary.word_ids
    np.testing.assert_array_equal(table[[ids["the"], ids["plan"]]], [[1, 2, 3], [4, 5, 6]])
    assert tagging.build(Config(), splits.info).embedding_size == 3
    assert splits.fingerprint != tagging.load(Config(dataset="builtin")).fingerprint


def test_pictures():
    """Tags that occur, each with its number of tokens; words with wrong tags in red."""
    matrix = np.array([[5, 0, 1], [0, 0, 0], [2, 0, 7]])
    (axes,) = tagging.confusion_picture("x", ["O", "B-X", "I-X"], matrix).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["O", "I-X"]
    assert {(*text.get_position(), text.get_text()) for text in axes.texts} == {
        (0, 0, "5"),
        (1, 0, "1"),
        (0, 1, "2"),
        (1, 1, "7"),
    }
    (axes,) = tagging.sentences_picture("x", [[("$5_$", "O", "O"), ("b", "O", "B-X")], [("c", "I-X", "O")]]).axes
    shown = [(text.get_text(), text.get_color()) for text in axes.texts]
    assert shown[:4] == [("$5_$", "black"), ("O", "grey"), ("b", "black"), ("O, not B-X", "red")]
    assert [text.get_position() for text in axes.texts][4] == (0, 1)
    tagging.sentences_picture("x", []).savefig(io.BytesIO())


def test_probability_is_of_the_whole_sentence():
    """Without a CRF the product of the tokens' probabilities; the padding's are not in it."""
    rng = np.random.default_rng(0)
    scores = TagScores(rng.normal(size=(3, 4, 3)).astype(np.float32))
    lengths = np.array([4, 2, 0])
    batch = {"inputs": np.zeros((3, 4)), "lengths": lengths}
    found = tagging.answers(Config(), {"tags": ["O", "B-X", "I-X"]}, None, scores, batch)
    shares = np.exp(scores.emissions) / np.exp(scores.emissions).sum(axis=-1, keepdims=True)
    for (tags, probability), row, length in zip(found, shares, lengths, strict=True):
        assert tags.split() == [["O", "B-X", "I-X"][i] for i in row[:length].argmax(axis=-1)]
        assert probability == pytest.approx(row[:length].max(axis=-1).prod(), rel=1e-5)


def test_the_vocabulary_comes_back(tmp_path):
    vocabulary = TokenVocabulary(["the", "[PAD]", "é"], ["t", "é"])
    vocabulary.save(tmp_path / "tokenizer.json")
    again = load_vocabulary(tmp_path / "tokenizer.json")
    assert (again.words, again.characters) == (vocabulary.words, vocabulary.characters)
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "Tokens", "words": ["a", "a"], "characters": []}}')
    with pytest.raises(InputError, match="expected a vocabulary of tokens written by rnnjax"):
        load_vocabulary(tmp_path / "tokenizer.json")


def test_example_gives_the_shapes_of_all_parameters():
    config = Config(dataset="builtin", pos_features=True, crf=True, **SMALL)
    splits = tagging.load(config)
    model = tagging.build(config, splits.info)
    shapes = []
    for batch in (TASK.example(splits.info), splits.train.training_epoch(0, 1, 4)[0]):
        made = jax.eval_shape(
            lambda batch: model.init(jax.random.key(0), batch["inputs"], **TASK.keywords(batch)), batch
        )
        shapes.append(jax.tree.map(lambda leaf: leaf.shape, made))
    assert shapes[0] == shapes[1]
    assert dataclasses.asdict(config)["crf"] is True
    assert runs.get_task("tagging") is TASK
