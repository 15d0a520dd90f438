"""The classification task on texts of one's own: what is loaded, what is held out, and that it learns."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.data import tfds
from rnnjax.data.vocabulary import UNKNOWN_ID
from rnnjax.errors import InputError
from rnnjax.tasks import imdb
from rnnjax.tasks.imdb import TASK, Config
from rnnjax.training.optimizer import make_optimizer
from rnnjax.training.step import dropout_key, initial_train_state, make_train_step

LABELS = ["très bon", "悪い", "so so"]


def jsonl(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(path)


def load(path, **settings):
    return TASK.load(Config(dataset=str(path), **settings))


def texts_of(splits, source):
    """The texts of a split, as its ids say them, with their labels' names."""
    words = splits.vocabulary.words
    arrays = source.arrays
    return [
        (" ".join(words[i] for i in row[:length]), splits.info["classes"][label])
        for row, length, label in zip(arrays["inputs"], arrays["lengths"], arrays["labels"], strict=True)
    ]


def test_divided_80_10_10_by_the_seed(tmp_path):
    rows = [{"text": f"text{i % 40} common", "label": LABELS[i % 3]} for i in range(60)]
    path = jsonl(tmp_path / "a.jsonl", rows)
    splits = load(path, max_length="auto")
    parts = [splits.train, splits.validation, splits.test]
    assert [len(part) for part in parts] == [48, 6, 6]
    assert splits.info["classes"] == sorted(LABELS)
    assert splits.dataset == path
    (train, validation, test) = [arrays.arrays["labels"].tolist() for arrays in parts]
    assert sorted(train + validation + test) == [0] * 20 + [1] * 20 + [2] * 20
    known = {f"text{i}" for i in range(40)} & set(splits.vocabulary.words)
    trained = {text.split()[0] for text, _ in texts_of(splits, splits.train)}
    assert known == trained, "words of the training texts, and of no others"
    held_out = texts_of(splits, splits.validation) + texts_of(splits, splits.test)
    assert len(known) < 40
    assert any(text.startswith("[UNK]") for text, _ in held_out)
    for text, label in texts_of(splits, splits.train):
        assert (text, label) in {(row["text"], row["label"]) for row in rows}
    again, other = load(path), load(path, seed=1)
    assert texts_of(again, again.test) == texts_of(splits, splits.test)
    assert texts_of(other, other.train) != texts_of(splits, splits.train)
    assert again.fingerprint == other.fingerprint == splits.fingerprint


def test_split_column(tmp_path):
    lines = ["text,label,split"]
    lines += [f"train{i},{'ab'[i % 2]},train" for i in range(20)]
    lines += [f"validation{i},{'ab'[i % 2]},validation" for i in range(3)] + ["test0,a,test"]
    (tmp_path / "a.csv").write_text("\n".join(lines), encoding="utf-8")
    splits = load(tmp_path / "a.csv")
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [20, 3, 1]
    assert {word for word in splits.vocabulary.words if word[0] != "["} == {f"train{i}" for i in range(20)}
    assert (splits.validation.arrays["inputs"][:, 0] == UNKNOWN_ID).all()
    assert splits.validation.arrays["labels"].tolist() == [0, 1, 0]
    assert splits.test.arrays["labels"].tolist() == [0]

    (tmp_path / "b.csv").write_text("\n".join(line for line in lines if ",validation" not in line), encoding="utf-8")
    splits = load(tmp_path / "b.csv")
    train = [text for text, _ in texts_of(splits, splits.train)]
    assert (len(train), len(splits.validation), len(splits.test)) == (16, 4, 1)
    assert set(train) == set(splits.vocabulary.words[2:])
    assert len({*train}) == 16, "held out, not used twice"
    (tmp_path / "c.csv").write_text("\n".join(line for line in lines if ",test" not in line), encoding="utf-8")
    assert load(tmp_path / "c.csv").test is None


def test_folder_of_folders_and_last_words(tmp_path):
    for label in ("yes", "no"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for i in range(10):
            text = f"beginning of it {label} Ünï{i} end"
            (tmp_path / "data" / label / f"{i}.txt").write_text(text, encoding="utf-8")
    splits = load(tmp_path / "data", max_length=2)
    assert splits.info["classes"] == ["no", "yes"]
    assert splits.train.arrays["inputs"].shape == (16, 2)
    assert all(text.endswith(" end") and text.startswith("ünï") for text, _ in texts_of(splits, splits.train))


def test_texts_keep_their_words_where_training_texts_are_shorter(tmp_path):
    lines = ["text,label,split", *(f"word{i % 3} here,{i % 3},train" for i in range(9))]
    lines += ["word1 one two three four here,1,validation", "word2 one two three four five six here,2,test"]
    (tmp_path / "a.csv").write_text("\n".join(lines), encoding="utf-8")
    splits = load(tmp_path / "a.csv", max_length=7)
    assert splits.info["max_length"] == 7
    assert splits.train.arrays["inputs"].shape[1] == 2
    assert splits.validation.arrays["inputs"].shape[1] == 6
    assert texts_of(splits, splits.validation)[0][0].startswith("word1 ")
    assert splits.test.arrays["inputs"].shape[1] == 7
    assert not texts_of(splits, splits.test)[0][0].startswith("word2 ")


def test_cached_data_does_not_hide_a_wrong_file(tmp_path, monkeypatch):
    monkeypatch.setenv("RNNJAX_CACHE_DIR", str(tmp_path / "cache"))
    text = "text,label\n" + "".join(f"a{i},{i % 2}\n" for i in range(9))
    (tmp_path / "a.csv").write_text(text)
    (tmp_path / "a.txt").write_text(text)
    load(tmp_path / "a.csv")
    with pytest.raises(InputError, match=r"expected a \.csv or \.jsonl file"):
        load(tmp_path / "a.txt")


def test_cached_data_is_the_same_and_follows_the_settings(tmp_path, monkeypatch):
    monkeypatch.setenv("RNNJAX_CACHE_DIR", str(tmp_path / "cache"))
    path = jsonl(
        tmp_path / "a.jsonl", [{"text": f"a{i} b", "label": LABELS[i % 3] + "\0" * (i % 3)} for i in range(30)]
    )
    first = load(path)
    monkeypatch.setattr(imdb.files, "read_labelled", lambda path: pytest.fail("read again"))
    second = load(path)
    assert second.info == first.info
    assert len(second.info["classes"]) == 3
    for name, array in first.train.arrays.items():
        np.testing.assert_array_equal(second.train.arrays[name], array)
    monkeypatch.undo()
    monkeypatch.setenv("RNNJAX_CACHE_DIR", str(tmp_path / "cache"))
    assert load(path, vocab_size=5).info["vocabulary_size"] == 5


def test_builtin_is_one_sample_for_every_seed(monkeypatch):
    monkeypatch.setattr(imdb, "BUILTIN_EXAMPLES", 200)
    splits, other = load("builtin"), load("builtin", seed=5)
    assert splits.dataset == "builtin"
    assert splits.info["classes"] == ["negative", "positive"]
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [160, 20, 20]
    np.testing.assert_array_equal(splits.test.arrays["inputs"], other.test.arrays["inputs"])


def test_without_network_auto_takes_the_sample_and_tfds_refuses(monkeypatch, tmp_path, caplog):
    def unavailable(folder):
        raise tfds.NetworkUnavailable("no network")

    monkeypatch.setattr(tfds, "prepare_imdb", unavailable)
    monkeypatch.setattr(imdb, "BUILTIN_EXAMPLES", 50)
    assert load("auto").dataset == "builtin"
    assert "BUILT-IN SAMPLE" in caplog.text
    with pytest.raises(InputError, match=r"--dataset tfds.*no network"):
        load("tfds")


def test_prepared_reviews_hold_a_fifth_out_of_training(monkeypatch, tmp_path):
    reviews = {
        "train": ([f"train{i}" for i in range(50)], np.arange(50, dtype=np.int32) % 2),
        "test": ([f"test{i}" for i in range(7)], np.ones(7, np.int32)),
    }
    monkeypatch.setattr(tfds, "prepare_imdb", lambda folder: tmp_path)
    monkeypatch.setattr(tfds, "read_imdb", lambda folder: reviews)
    splits = load("auto")
    assert splits.dataset == "imdb_reviews"
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [40, 10, 7]
    assert len(set(splits.vocabulary.words[2:])) == 40
    assert (splits.validation.arrays["inputs"] == UNKNOWN_ID).all()
    assert (splits.test.arrays["labels"] == 1).all()


@pytest.mark.parametrize(
    ("num_classes", "settings"),
    [
        (2, {}),
        (3, {"model": "stacked", "cell": "gru"}),
        (2, {"model": "bidirectional", "cell": "simple", "optimizer": "rmsprop"}),
    ],
)
def test_overfits_one_batch(num_classes, settings):
    config = Config(
        units=8, embedding=8, learning_rate=0.02, schedule="constant", clip_norm=0.0, dropout=0.0,
        recurrent_dropout=0.0, **settings,
    )  # fmt: skip
    draw = np.random.default_rng(0)
    batch = {
        "inputs": draw.integers(2, 20, size=(12, 6), dtype=np.int32),
        "lengths": draw.integers(1, 7, size=12, dtype=np.int32),
        "labels": (np.arange(12) % num_classes).astype(np.int32),
        "weight": np.ones(12, np.float32),
    }
    model = TASK.build(config, {"vocabulary_size": 20, "classes": ["x"] * num_classes})
    optimizer = make_optimizer(config, 200)
    state = initial_train_state(model, config, optimizer, batch, stateful=False)
    step = make_train_step(model, TASK, config, optimizer)
    for _ in range(200):
        state, sums = step(state, batch, dropout_key(0))
    assert float(sums["loss"][0] / sums["loss"][1]) < 0.05
    assert float(sums["accuracy"][0]) == 12


def test_loss_by_hand():
    batch = {"labels": np.array([0, 1, 1]), "weight": np.array([1.0, 1.0, 0.0], np.float32)}
    sums = TASK.loss(jnp.array([[0.5], [2.0], [jnp.nan]]), batch)
    assert float(sums["loss"][0]) == pytest.approx(math.log(1 + math.exp(0.5)) + math.log(1 + math.exp(-2)), rel=1e-6)
    assert [float(value) for value in sums["accuracy"]] == [1, 2]
    logits = jnp.array([[0.0, 1.0, 2.0], [3.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    sums = TASK.loss(logits, {**batch, "labels": np.array([2, 1, 0])})
    expected = -jax.nn.log_softmax(logits)[0, 2] - jax.nn.log_softmax(logits)[1, 1]
    assert float(sums["loss"][0]) == pytest.approx(float(expected), rel=1e-6)
    assert [float(value) for value in sums["accuracy"]] == [1, 2]
