"""The authorship task: what a run of a user's folder holds, and one batch learned by heart."""

import jax
import numpy as np
import pytest

from rnnjax.errors import InputError
from rnnjax.tasks import authorship
from rnnjax.tasks.authorship import Config
from rnnjax.training.optimizer import make_optimizer
from rnnjax.training.step import dropout_key, initial_train_state, make_train_step

SMALL = {"buckets": 1024, "embedding": 8, "units": 8, "passage": 60}


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
    assert splits.info == {"classes": ["Ada", "Ben"], "passage": 60}
    assert splits.dataset == str(folder)
    one = splits.fingerprint
    (folder / "Ada.txt").write_text((folder / "Ada.txt").read_text() + " more")
    assert authorship.load(config).fingerprint != one


def test_a_batch_is_learned_by_heart_and_the_weights_of_features_stay(folder):
    config = Config(dataset=str(folder), dropout=0.0, gram_dropout=0.0, learning_rate=0.02, **SMALL)
    splits = authorship.load(config)
    model, optimizer = authorship.build(config, splits.info), make_optimizer(config, 40, authorship.TASK.frozen(config))
    batch = splits.train.training_epoch(0, 1, 16)[0]
    keywords = authorship.TASK.keywords(batch)
    state = initial_train_state(model, config, optimizer, batch, False, initial=splits.initial, keywords=keywords)
    np.testing.assert_array_equal(state.params["idf"], splits.initial["idf"])
    step = make_train_step(model, authorship.TASK, config, optimizer)
    losses = []
    for _ in range(40):
        state, sums = step(state, batch, dropout_key(0))
        losses.append(float(sums["loss"][0] / sums["loss"][1]))
    assert losses[0] == pytest.approx(np.log(2), abs=0.7)
    assert losses[-1] < 0.01
    np.testing.assert_array_equal(state.params["idf"], splits.initial["idf"])
    prediction = authorship.TASK.prediction
    encoded = prediction.encode(config, splits.info, None, ["engine number 3 plays", "violin number 3 plays", ""])
    logits = model.apply(
        {"params": jax.device_get(state.params)}, encoded["inputs"], **authorship.TASK.keywords(encoded)
    )
    answers = prediction.decode(config, splits.info, None, np.asarray(logits), encoded)
    assert [name for name, _ in answers[:2]] == ["Ada", "Ben"]
    assert all(probability > 0.9 for _, probability in answers[:2])


def test_tfds_is_refused():
    with pytest.raises(InputError, match="TFDS has no such data"):
        authorship.load(Config(dataset="tfds"))
