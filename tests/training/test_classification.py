"""How a classifier did: the figures are scikit-learn's, each example counts once, and the picture bears odd names."""

import json

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from rnnjax.data.batching import Examples
from rnnjax.data.vocabulary import WordVocabulary
from rnnjax.models.classifier import probabilities
from rnnjax.task import Splits
from rnnjax.training.classification import MOST_MISTAKES, Examination
from rnnjax.training.folder import RunFolder
from rnnjax.training.step import Predicted

VOCABULARY = WordVocabulary(["[PAD]", "[UNK]", "good", "bad"])


def examine(labels, predicted, probability, classes, batch_size=8, inputs=None):
    """An examination whose batches are padded, of predictions that devices have padded once more."""
    if inputs is None:
        inputs = np.full((len(labels), 3), 2, np.int32)
    lengths = (inputs > 0).sum(axis=1)
    examples = Examples({"inputs": inputs, "lengths": lengths, "labels": np.asarray(labels, np.int32)})
    batches = examples.evaluation(batch_size)
    predictions = []
    for number in range(len(batches)):
        rows = slice(number * batch_size, (number + 1) * batch_size)
        missing = batch_size + 3 - len(labels[rows])
        padding = [(0, missing)]
        predictions.append(
            Predicted(
                np.pad(np.asarray(predicted[rows], np.int32), padding, constant_values=len(classes) - 1),
                np.pad(np.asarray(probability[rows], np.float32), padding, constant_values=1.0),
            )
        )
    splits = Splits("data", "", None, None, None, {"classes": classes}, VOCABULARY)
    return Examination(splits, batches, predictions)


@pytest.mark.parametrize(("num_classes", "count"), [(2, 51), (5, 100), (46, 333)])
def test_figures_are_those_of_scikit_learn(num_classes, count):
    draw = np.random.default_rng(num_classes)
    labels = draw.integers(num_classes, size=count)
    predicted = np.where(draw.random(count) < 0.6, labels, draw.integers(num_classes, size=count))
    given = examine(labels, predicted, draw.random(count), [f"class {n}" for n in range(num_classes)])
    np.testing.assert_array_equal(given.labels, labels)
    np.testing.assert_array_equal(given.predicted, predicted)
    np.testing.assert_array_equal(given.confusion(), confusion_matrix(labels, predicted, labels=np.arange(num_classes)))
    table = given.table()
    expected = precision_recall_fscore_support(labels, predicted, labels=np.arange(num_classes), zero_division=0)
    for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        assert [figures[name] for figures in table.values()] == pytest.approx(values)
    macro = precision_recall_fscore_support(labels, predicted, average="macro", zero_division=0)[:3]
    assert list(given.macro_means().items()) == [
        (f"macro_{name}", pytest.approx(value))
        for name, value in zip(("precision", "recall", "f1"), macro, strict=True)
    ]


def test_classes_that_do_not_occur_are_in_no_mean():
    """Nothing is of class c, or taken for it; a is never predicted, and nothing is d but one is taken for it."""
    labels, predicted = np.array([0, 1, 1, 1]), np.array([1, 1, 1, 3])
    given = examine(labels, predicted, np.ones(4), ["a", "b", "c", "d"])
    table = given.table()
    assert table["c"] == {"precision": None, "recall": None, "f1": None, "support": 0}
    assert table["a"] == {"precision": 0, "recall": 0, "f1": 0, "support": 1}
    assert table["b"] == {"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "support": 3}
    assert table["d"] == {"precision": 0, "recall": 0, "f1": 0, "support": 0}
    expected = precision_recall_fscore_support(labels, predicted, average="macro", zero_division=0)
    assert given.macro_means()["macro_f1"] == pytest.approx(expected[2]) == pytest.approx(2 / 9)


def test_mistakes_come_by_their_confidence_with_what_the_model_read():
    count = 60
    draw = np.random.default_rng(0)
    labels = draw.integers(2, size=count)
    predicted = np.where(np.arange(count) % 2, labels, 1 - labels)
    probability = draw.permutation(count) / count
    inputs = np.zeros((count, 7), np.int32)
    inputs[:, :5] = [[2 + (row >> bit) % 2 for bit in range(5)] for row in range(count)]
    inputs[::3, 4] = 1
    given = examine(labels, predicted, probability, ["no", "yes"], inputs=inputs).mistakes()
    assert len(given) == MOST_MISTAKES
    order = sorted(range(0, count, 2), key=lambda row: -probability[row])[:MOST_MISTAKES]
    names = ["[PAD]", "[UNK]", "good", "bad"]
    for mistake, row in zip(given, order, strict=True):
        assert mistake == {
            "label": ["no", "yes"][labels[row]],
            "predicted": ["no", "yes"][1 - labels[row]],
            "probability": pytest.approx(probability[row]),
            "text": " ".join(names[number] for number in inputs[row, :5]),
        }


@pytest.mark.parametrize("num_classes", [2, 3, 46, 150])
def test_files_of_odd_names(tmp_path, num_classes):
    odd = ["très bon", "$1$ \\frac", "悪い\n2", "\udc80", "", "a very long name indeed, which takes many lines " * 3]
    classes = [*odd, *(f"class {n}" for n in range(num_classes))][:num_classes]
    draw = np.random.default_rng(0)
    labels, predicted = draw.integers(num_classes, size=(2, 400))
    probability = draw.random(400)
    labels[0], predicted[0], probability[0] = min(3, num_classes - 1), 0, 1.0
    predicted[1], labels[1], probability[1] = min(2, num_classes - 1), 0, 1.0
    examination = examine(labels, predicted, probability, classes)
    examination.write(RunFolder(tmp_path), "imdb on $odd_ \udc80: test split")
    assert (tmp_path / "confusion.png").read_bytes().startswith(b"\x89PNG")
    lines = (tmp_path / "mistakes.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == examination.mistakes()
    assert (
        lines[1].endswith('"predicted": "悪い\\n2", "probability": 1.0, "text": "good good good"}') or num_classes == 2
    )
    assert lines[0].startswith(r'{"label": "\udc80", "predicted": "très bon"') or num_classes < 4
    assert {path.name for path in tmp_path.iterdir()} == {"confusion.png", "mistakes.jsonl"}


def test_with_very_many_classes_there_is_no_picture(tmp_path):
    examine([0, 1], [1, 1], [0.5, 0.5], [str(n) for n in range(100_000)]).write(RunFolder(tmp_path), "many")
    assert {path.name for path in tmp_path.iterdir()} == {"mistakes.jsonl"}


def test_the_end_of_a_run(make_run, stop_after):
    """All figures again from the parameters that were kept."""
    run = make_run("imdb", epochs=3)
    results = run.train(stop_after(run, None))
    arrays = run.splits.test.arrays
    logits = run.model.apply({"params": run.best}, arrays["inputs"], lengths=arrays["lengths"])
    rows = np.asarray(probabilities(logits))
    macro = precision_recall_fscore_support(arrays["labels"], rows.argmax(axis=1), average="macro", zero_division=0)
    given = [results[f"test_macro_{name}"] for name in ("precision", "recall", "f1")]
    assert given == pytest.approx(macro[:3])
    assert list(results["classes"]) == ["even", "odd"]
    assert [figures["support"] for figures in results["classes"].values()] == np.bincount(arrays["labels"]).tolist()
    mistakes = [json.loads(line) for line in run.folder.mistakes.read_text().splitlines()]
    wrong = np.flatnonzero(rows.argmax(axis=1) != arrays["labels"])
    assert results["test_accuracy"] == pytest.approx(1 - len(wrong) / len(rows))
    assert sorted(m["probability"] for m in mistakes) == pytest.approx(sorted(rows[wrong].max(axis=1)), rel=1e-5)
    assert {m["text"] for m in mistakes} == {
        run.splits.vocabulary.decode(arrays["inputs"][row, : arrays["lengths"][row]]) for row in wrong
    }
    assert run.folder.confusion.exists()


def test_a_language_model_has_its_loss_in_other_units(make_run, stop_after):
    run = make_run("char", epochs=2)
    results = run.train(stop_after(run, None))
    lines = [json.loads(line) for line in run.folder.metrics.read_text().splitlines()]
    for prefix, figures in [("val_", results), ("test_", results), *(("", line) for line in lines)]:
        assert figures[f"{prefix}perplexity"] == pytest.approx(np.exp(figures[f"{prefix}loss"]))
        assert figures[f"{prefix}bits"] == pytest.approx(np.log2(np.exp(figures[f"{prefix}loss"])))
    assert "classes" not in results
    assert not run.folder.confusion.exists()
