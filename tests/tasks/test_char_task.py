"""The character model's task: how a text is cut, what is predicted, and that it learns."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.data import archives, tfds
from rnnjax.errors import InputError
from rnnjax.tasks import char
from rnnjax.tasks.char import TASK, Config
from rnnjax.training.optimizer import make_optimizer
from rnnjax.training.step import dropout_key, initial_train_state, make_train_step

TEXT = "".join(f"Zeile {i}: 猫は{i * i}\r\n" for i in range(40))


def counted(batches):
    """Place -> (token before, target) of all that counts, each seen once."""
    seen = {}
    for batch in batches:
        for place, before, target in zip(
            *(batch[name][batch["weight"] > 0].tolist() for name in ("position", "inputs", "targets")), strict=True
        ):
            assert place not in seen
            seen[place] = (before, target)
    return seen


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(TEXT.encode())
    return Config(dataset=str(path), window=16, batch_size=3)


def test_a_text_is_cut_in_order_80_10_10(own):
    splits = TASK.load(own)
    text = TEXT.replace("\r\n", "\n")
    parts = [splits.vocabulary.decode(part.tokens) for part in (splits.train, splits.validation, splits.test)]
    assert "".join(parts) == text
    assert [len(part) for part in parts] == [
        len(text) * 8 // 10, len(text) * 9 // 10 - len(text) * 8 // 10, len(text) - len(text) * 9 // 10
    ]  # fmt: skip
    assert splits.vocabulary.decode([splits.info["first"]]) == "Z"
    assert splits.info["vocabulary_size"] == len(set(text))
    context = splits.vocabulary.decode(splits.validation.context)
    assert (parts[0] + parts[1]).endswith(context + parts[1])
    assert len(context) == char.WARMUP


def test_every_character_is_predicted_from_the_one_before(own):
    splits = TASK.load(own)
    text = splits.vocabulary.encode(TEXT.replace("\r\n", "\n"))
    start = len(splits.train.tokens)
    seen = counted(splits.validation.evaluation(own.batch_size))
    count = len(splits.validation.tokens)
    assert seen == {place: (text[start + place - 1], text[start + place]) for place in range(count)}
    seen = counted(splits.train.training_epoch(0, 1, own.batch_size))
    assert seen == {place: (text[place - 1], text[place]) for place in range(1, start)}


def test_tiny_shakespeare_is_validated_on_its_last_tenth(monkeypatch, tmp_path):
    text = "".join(chr(97 + i * i % 23) for i in range(1000))
    monkeypatch.setattr(tfds, "prepare_tiny_shakespeare", lambda folder: tmp_path)
    monkeypatch.setattr(tfds, "read_tiny_shakespeare", lambda folder: text)
    splits = TASK.load(Config())
    assert splits.dataset == "tiny_shakespeare"
    assert splits.test is None
    assert splits.vocabulary.decode(splits.train.tokens) == text[:900]
    assert splits.vocabulary.decode(splits.validation.tokens) == text[900:]
    batches = list(splits.validation.evaluation(2))
    late = np.concatenate([batch["late"].ravel() for batch in batches])
    place = np.concatenate([batch["position"].ravel() for batch in batches])
    np.testing.assert_array_equal(late, place >= 50)
    assert 0 < late.sum() < late.size


def test_the_test_figure_is_chosen_on_the_other_half():
    epochs = [
        {"loss": 2.0, "first_half_loss": 1.9, "last_half_loss": 2.1},
        {"loss": 1.6, "first_half_loss": 1.4, "last_half_loss": 1.8},
        {"loss": 1.5, "first_half_loss": 1.5, "last_half_loss": 1.5},
    ]
    assert TASK.results(epochs) == {"loss": 1.8}


def test_loss_by_hand():
    logits = jnp.array([[[0.0, 1.0], [2.0, 0.0], [jnp.nan, 0.0]]])
    batch = {"targets": np.array([[1, 1, 0]]), "weight": np.array([[1.0, 1.0, 0.0]], np.float32)}
    losses = [math.log(1 + math.exp(-1)), math.log(1 + math.exp(2))]
    sums = TASK.loss(logits, batch)
    assert sums.keys() == {"loss"}
    assert [float(value) for value in sums["loss"]] == pytest.approx([sum(losses), 2])
    sums = TASK.loss(logits, {**batch, "late": np.array([[False, True, False]])})
    assert [float(value) for value in sums["first_half_loss"]] == pytest.approx([losses[0], 1])
    assert [float(value) for value in sums["last_half_loss"]] == pytest.approx([losses[1], 1])


def test_builtin_text_and_no_network(monkeypatch, caplog):
    def unavailable(folder):
        raise tfds.NetworkUnavailable("no network")

    monkeypatch.setattr(tfds, "prepare_tiny_shakespeare", unavailable)
    splits = TASK.load(Config())
    assert splits.dataset == "builtin"
    assert "BUILT-IN TEXT" in caplog.text
    assert splits.fingerprint == TASK.load(Config(dataset="builtin")).fingerprint
    assert len(splits.train.tokens) > 100_000
    with pytest.raises(InputError, match=r"--dataset tfds.*no network"):
        TASK.load(Config(dataset="tfds"))


def test_nietzsche_is_validated_on_its_last_tenth(monkeypatch, tmp_path):
    text = "".join(chr((65, 97)[i % 2] + i * i % 23) for i in range(1000))
    (tmp_path / "nietzsche.txt").write_text(text, encoding="utf-8")
    monkeypatch.setattr(archives, "prepare", lambda archive, folder: tmp_path)
    splits = TASK.load(Config(corpus="nietzsche"))
    assert (splits.dataset, splits.test) == ("nietzsche", None)
    assert splits.vocabulary.decode(splits.train.tokens) == text[:900]
    assert splits.vocabulary.decode(splits.validation.tokens) == text[900:]
    small = TASK.load(Config(corpus="nietzsche", lowercase=True))
    assert small.vocabulary.decode(small.validation.tokens) == text[900:].lower()
    assert small.fingerprint != splits.fingerprint
    with pytest.raises(InputError, match="--dataset tfds: expected a text that TFDS has"):
        TASK.load(Config(corpus="nietzsche", dataset="tfds"))


def test_words_are_those_of_the_training_part(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("one two, two. " * 20 + "later words\n" * 10, encoding="utf-8")
    splits = TASK.load(Config(dataset=str(path), level="word", vocab_size=4))
    assert splits.vocabulary.tokens == ["[UNK]", "two", "@, ", "@. "]
    assert splits.vocabulary.decode(splits.train.tokens[:5]) == "[UNK] two, two."
    assert set(splits.test.tokens.tolist()) == {0}
    assert splits.info == {"vocabulary_size": 4, "first": 0}


def test_recurrent_dropout_needs_recurrent_connections():
    assert Config(cell="mingru").recurrent_dropout == "auto"
    with pytest.raises(InputError, match="--recurrent-dropout: expected 0 with --cell minlstm"):
        Config(cell="minlstm", recurrent_dropout=0.1)


@pytest.mark.parametrize("settings", [{}, {"cell": "gru", "layers": 2}, {"cell": "minlstm", "layers": 2}])
def test_overfits_one_batch(settings):
    config = Config(units=24, embedding=8, learning_rate=0.02, schedule="constant", dropout=0.0, **settings)
    draw = np.random.default_rng(0)
    tokens = draw.integers(6, size=(3, 9), dtype=np.int32)
    batch = {"inputs": tokens[:, :-1], "targets": tokens[:, 1:], "weight": np.ones((3, 8), np.float32)}
    model = TASK.build(config, {"vocabulary_size": 6})
    optimizer = make_optimizer(config, 200)
    state = initial_train_state(model, config, optimizer, batch, stateful=True)
    step = make_train_step(model, TASK, config, optimizer)
    start = model.initial_state(3)
    for _ in range(300):
        state, sums = step(state._replace(carry=jax.tree.map(jnp.array, start)), batch, dropout_key(0))
    assert float(sums["loss"][0] / sums["loss"][1]) < 0.05


def test_restarts_are_in_the_batches_to_train_on_alone(tmp_path):
    (tmp_path / "text.txt").write_text("to be or not to be " * 100)
    config = Config(dataset=str(tmp_path / "text.txt"), restart=0.9, window=8)
    splits = char.load(config)
    restarts = np.concatenate([batch["restart"] for batch in splits.train.training_epoch(0, 1, 4)])
    assert 0.75 < restarts.mean() < 1
    assert "restart" not in splits.validation.evaluation(4)[0]
    splits = char.load(dataclasses.replace(config, restart=0.0))
    assert "restart" not in splits.train.training_epoch(0, 1, 4)[0]
    assert Config(**char.PRESETS["quick"]).restart == 0.01
