"""The authorship task: what a run of a user's folder holds, and one batch learned by heart."""

import jax
import numpy as np
import pytest

from rnnjax.errors import InputError
from rnnjax.tasks import authorship
from rnnjax.tasks.authorship import Config
from rnnjax.training.optimizer import make_optimizer
from rnnjax.training.step import dropout_key, initial_train_state, make_train_step

SMALL = {"embedding": 8, "units": 16, "passage": 60}


@pytest.fixture
def folder(tmp_path):
    """Two authors, who use other words."""
    for name, word in (("Ada", "engine"), ("Ben", "violin")):
        text = " ".join(f"{word} number {number % 7} plays on" for number in range(200))
        (tmp_path / f"{name}.txt").write_text(text)
    return tmp_path


def test_a_folder_of_authors(folder):
    config = Config(dataset=str(folder), **SMALL)
    splits = authorship.load(config)
    characters = "".join(sorted(set("\0engine violin number plays on 0123456")))
    assert splits.vocabulary.characters == characters
    assert splits.info == {"classes": ["Ada", "Ben"], "passage": 60, "vocabulary_size": len(characters)}
    assert splits.dataset == str(folder)
    one = splits.fingerprint
    (folder / "Ada.txt").write_text((folder / "Ada.txt").read_text() + " more")
    assert authorship.load(config).fingerprint != one


def test_a_batch_is_learned_by_heart(folder):
    config = Config(dataset=str(folder), dropout=0.0, recurrent_dropout=0.0, learning_rate=0.02, **SMALL)
    splits = authorship.load(config)
    model, optimizer = authorship.build(config, splits.info), make_optimizer(config, 120)
    batch = splits.train.training_epoch(0, 1, 16)[0]
    state = initial_train_state(model, config, optimizer, batch, False)
    step = make_train_step(model, authorship.TASK, config, optimizer)
    losses = []
    for _ in range(120):
        state, sums = step(state, batch, dropout_key(0))
        losses.append(float(sums["loss"][0] / sums["loss"][1]))
    assert losses[0] == pytest.approx(np.log(len(splits.vocabulary)), abs=0.3)
    assert losses[-1] < 0.3
    prediction = authorship.TASK.prediction
    texts = ["engine number 3 plays", "violin number 3 plays", "", " "]
    encoded = prediction.encode(config, splits.info, splits.vocabulary, texts)
    nats = model.apply({"params": jax.device_get(state.params)}, encoded["inputs"])
    answers = prediction.decode(config, splits.info, splits.vocabulary, np.asarray(nats), encoded)
    assert [name for name, _ in answers[:2]] == ["Ada", "Ben"]
    assert all(probability > 0.9 for _, probability in answers[:2])
    assert [probability for _, probability in answers[2:]] == pytest.approx([0.5, 0.5])


def test_the_loss_is_of_the_true_author_by_characters():
    nats = np.array([[-6.0, -9.0], [-2.0, -1.0], [np.nan, np.nan]], np.float32)
    inputs = np.array([[1, 2, 3, 4], [1, 2, 0, 0], [1, 1, 1, 1]], np.int32)
    batch = {"inputs": inputs, "labels": np.array([1, 1, 0]), "weight": np.array([1, 1, 0], np.float32)}
    sums = authorship.loss(nats, batch)
    assert [float(value) for value in sums["loss"]] == [10.0, 4.0]
    assert [float(value) for value in sums["accuracy"]] == [1.0, 2.0]


def test_tfds_is_refused():
    with pytest.raises(InputError, match="TFDS has no such data"):
        authorship.load(Config(dataset="tfds"))
