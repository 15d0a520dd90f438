"""Newswires are divided as the settings say, and one batch of them is learned by heart."""

import jax
import numpy as np
import pytest

from rnnjax.data.reuters import Newswire
from rnnjax.errors import InputError
from rnnjax.tasks import reuters
from rnnjax.tasks.reuters import Config, encode
from rnnjax.training.optimizer import make_optimizer
from rnnjax.training.step import dropout_key, initial_train_state, make_train_step


def newswires(count: int) -> list[Newswire]:
    parts = ("TRAIN", "TRAIN", "TEST", "NOT-USED")
    return [Newswire(f"word{number} common", f"topic{number % 3}", parts[number % 4]) for number in range(count)]


def words(arrays, split):
    vocabulary = reuters.WordVocabulary.from_json(arrays["vocabulary"].tobytes().decode())
    return {vocabulary.decode(row) for row in arrays[f"{split}_inputs"]}


def test_the_random_test_part_is_the_same_for_every_seed():
    one, other = (encode(newswires(100), True, Config(seed=seed, vocab_size=500)) for seed in (0, 1))
    for arrays in (one, other):
        sizes = [len(arrays[f"{split}_labels"]) for split in ("train", "validation", "test")]
        assert sizes == [72, 8, 20]
    np.testing.assert_array_equal(one["test_labels"], other["test_labels"])
    assert words(one, "train") != words(other, "train")


def test_modapte_takes_the_marked_newswires_and_leaves_the_unused():
    arrays = encode(newswires(100), False, Config(vocab_size=500))
    known = words(arrays, "train") | words(arrays, "validation")
    assert len(arrays["train_labels"]) + len(arrays["validation_labels"]) == 50
    assert len(arrays["test_labels"]) == 25
    assert not any(f"word{number} common" in known for number in range(100) if number % 4 > 1)
    with pytest.raises(InputError, match="--split modapte"):
        encode(newswires(2), False, Config())


def test_labels_are_the_numbers_of_the_topics_in_alphabetical_order():
    arrays = encode(newswires(30), True, Config(vocab_size=100))
    for split in ("train", "validation"):
        vocabulary = reuters.WordVocabulary.from_json(arrays["vocabulary"].tobytes().decode())
        for row, label in zip(arrays[f"{split}_inputs"], arrays[f"{split}_labels"], strict=True):
            number = vocabulary.decode(row).split()[0]
            if number != "[UNK]":
                assert int(number.removeprefix("word")) % 3 == label


def test_tfds_is_refused():
    with pytest.raises(InputError, match="TFDS does not have Reuters"):
        reuters.load(Config(dataset="tfds"))


@pytest.mark.parametrize("name", ["mlp", "lstm", "bidirectional"])
def test_a_batch_is_learned_by_heart(name):
    config = Config(dataset="builtin", model=name, units=16, embedding=16, dropout=0.0, learning_rate=0.03)
    splits = reuters.load(config)
    model, optimizer = reuters.build(config, splits.info), make_optimizer(config, 60)
    batch = splits.train.training_epoch(0, 1, 16)[0]
    state = initial_train_state(model, config, optimizer, batch, stateful=False)
    step = make_train_step(model, reuters.TASK, config, optimizer)
    losses = []
    for _ in range(60):
        state, sums = step(state, batch, dropout_key(0))
        losses.append(float(sums["loss"][0] / sums["loss"][1]))
    assert losses[0] == pytest.approx(np.log(5), abs=0.5)
    assert losses[-1] < 0.05
    logits = model.apply({"params": jax.device_get(state.params)}, batch["inputs"], lengths=batch["lengths"])
    assert (np.asarray(logits).argmax(axis=1) == batch["labels"]).all()
