"""The classification task from pre-trained word vectors, and with its poolings."""

import gzip
import logging

import jax
import numpy as np
import pytest

from rnnjax.errors import InputError
from rnnjax.interop.sequential import as_sequential
from rnnjax.tasks.imdb import TASK, Config
from rnnjax.training.optimizer import make_optimizer
from rnnjax.training.step import dropout_key, initial_train_state, make_train_step

VECTORS = "fine 1 2 3\nit -1 -2 -3\nPoor 0.5 0.25 0.125\nelsewhere 9 9 9\n"


@pytest.fixture
def data(tmp_path):
    """Texts of the words it, was, fine and poor, 30 each but for the last two, which share."""
    lines = [f"it was {'fine' if i % 2 else 'poor'},{'good' if i % 2 else 'bad'}" for i in range(30)]
    (tmp_path / "a.csv").write_text("\n".join(["text,label", *lines]), encoding="utf-8")
    (tmp_path / "vectors.txt").write_text(VECTORS, encoding="utf-8")
    return tmp_path


def load(data, vectors="vectors.txt", **settings):
    config = Config(dataset=str(data / "a.csv"), vectors=vectors and str(data / vectors), **settings)
    return config, TASK.load(config)


def test_the_table_the_width_and_the_notice(data, caplog):
    with caplog.at_level(logging.INFO, "rnnjax"):
        config, splits = load(data, seed=3)
    assert splits.info["embedding"] == 3
    (name,) = splits.initial
    table, words = splits.initial[name], splits.vocabulary.words
    for word, vector in {"fine": [1, 2, 3], "it": [-1, -2, -3], "poor": [0.5, 0.25, 0.125], "[PAD]": [0, 0, 0]}.items():
        np.testing.assert_array_equal(table[words.index(word)], vector)
    assert (np.abs(table[words.index("was")]) < 0.05).all()
    # 3 of the 4 words; of the words of each text 2 of 3.
    assert f"{config.vectors}: vectors of width 3 for 75.0 % of the vocabulary, 66.7 % of the words" in caplog.text

    model = TASK.build(config, splits.info)
    batch = splits.train.training_epoch(0, 1, 4)[0]
    state = initial_train_state(model, config, make_optimizer(config, 1), batch, False, initial=splits.initial)
    np.testing.assert_array_equal(state.params["embedding"]["embedding"], table)
    assert TASK.frozen(config) == ()
    assert TASK.frozen(Config(vectors="x", freeze_vectors=True)) == (name,)


def test_without_vectors_all_is_as_it_was(data):
    config, splits = load(data, None)
    assert splits.initial == {}
    assert "embedding" not in splits.info
    assert TASK.build(config, splits.info).embedding_size == 128
    assert TASK.build(Config(embedding=7), splits.info).embedding_size == 7


def test_the_fingerprint_follows_both_files(data):
    def fingerprint(*arguments):
        return load(data, *arguments)[1].fingerprint

    first = fingerprint()
    assert first == fingerprint()
    assert first != fingerprint(None)
    (data / "more.txt").write_text(VECTORS + "another 1 1 1\n", encoding="utf-8")
    assert first != fingerprint("more.txt")
    with (data / "a.csv").open("a") as file:
        file.write("\nit was good,good")
    assert first != fingerprint()


def test_cached_vectors_are_the_same_and_follow_file_and_seed(data, monkeypatch):
    monkeypatch.setenv("RNNJAX_CACHE_DIR", str(data / "cache"))
    first, again, other = (next(iter(load(data, seed=seed)[1].initial.values())) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    (data / "packed.gz").write_bytes(gzip.compress(VECTORS.replace("fine 1", "fine 7").encode()))
    changed = next(iter(load(data, "packed.gz")[1].initial.values()))
    assert 7 in changed
    (data / "vectors.txt").write_text("broken\n")
    with pytest.raises(InputError, match=r"vectors\.txt, line 1"):
        load(data)


def test_wrong_settings_are_refused(data):
    assert load(data, embedding=3)[1].info["embedding"] == 3
    with pytest.raises(InputError, match=r"--embedding: expected 3, the width of the vectors in .*vectors.txt; got 4"):
        load(data, embedding=4)
    with pytest.raises(InputError, match="--freeze-vectors: expected --vectors FILE"):
        Config(freeze_vectors=True)
    with pytest.raises(InputError, match="no such file"):
        load(data, "absent.txt")


@pytest.mark.parametrize(
    ("pooling", "settings"),
    [
        ("mean", {"model": "stacked", "cell": "simple"}),
        ("max", {"model": "bidirectional", "cell": "gru"}),
        ("attention", {}),
    ],
)
def test_with_a_pooling_it_overfits_one_batch_and_padding_reaches_nothing(pooling, settings):
    config = Config(
        units=8, embedding=8, learning_rate=0.02, schedule="constant", clip_norm=0.0, dropout=0.0,
        recurrent_dropout=0.0, pooling=pooling, **settings,
    )  # fmt: skip
    draw = np.random.default_rng(0)
    batch = {
        "inputs": draw.integers(2, 20, size=(12, 6), dtype=np.int32),
        "lengths": draw.integers(1, 7, size=12, dtype=np.int32),
        "labels": (np.arange(12) % 2).astype(np.int32),
        "weight": np.ones(12, np.float32),
    }
    model = TASK.build(config, {"vocabulary_size": 20, "classes": ["a", "b"]})
    optimizer = make_optimizer(config, 100)
    state = initial_train_state(model, config, optimizer, batch, stateful=False)
    step = make_train_step(model, TASK, config, optimizer)
    for _ in range(100):
        state, sums = step(state, batch, dropout_key(0))
    assert float(sums["loss"][0] / sums["loss"][1]) < 0.1
    apply = jax.jit(model.apply)
    logits = apply({"params": state.params}, batch["inputs"], lengths=batch["lengths"])
    other = np.where(np.arange(6) < batch["lengths"][:, None], batch["inputs"], 0)
    np.testing.assert_array_equal(apply({"params": state.params}, other, lengths=batch["lengths"]), logits)
    assert np.abs(apply({"params": state.params}, batch["inputs"]) - logits).max() > 1e-3


def test_a_model_that_pools_is_not_converted_as_if_it_did_not():
    model = TASK.build(Config(units=4, embedding=4, pooling="mean"), {"vocabulary_size": 9, "classes": ["a", "b"]})
    with pytest.raises(ValueError, match="expected a Classifier without pooling; got one with MeanPooling"):
        as_sequential(model, {})
