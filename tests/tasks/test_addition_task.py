"""The questions are right and no two the same; the model is what it says; one batch is learned by heart."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.data.batching import Examples
from rnnjax.data.vocabulary import CharacterVocabulary
from rnnjax.errors import InputError
from rnnjax.layers.recurrent import GRU
from rnnjax.models.seq2seq import Seq2Seq
from rnnjax.tasks import addition
from rnnjax.tasks.addition import CHARACTERS, Config
from rnnjax.training.optimizer import make_optimizer
from rnnjax.training.step import dropout_key, initial_train_state, make_train_step

VOCABULARY = CharacterVocabulary(CHARACTERS)


def texts(source, name):
    return [VOCABULARY.decode(row) for row in source.arrays[name]]


@pytest.mark.parametrize(("digits", "examples", "reverse"), [(1, 55, True), (2, 5000, True), (3, 4000, False)])
def test_questions_and_answers(digits, examples, reverse):
    splits = addition.load(Config(digits=digits, examples=examples, reverse=reverse))
    seen = set()
    for source in (splits.train, splits.validation, splits.test):
        for question, answer in zip(texts(source, "inputs"), texts(source, "answers"), strict=True):
            assert (len(question), len(answer)) == (2 * digits + 1, digits + 1)
            a, b = (question[::-1] if reverse else question).strip().split("+")
            assert int(a) + int(b) == int(answer)
            seen.add(frozenset((int(a), int(b))) if a != b else (int(a),))
    assert len(seen) == examples
    assert len(splits.validation) == len(splits.test) == max(1, round(0.05 * examples))
    same, other = (addition.load(Config(digits=digits, examples=examples, reverse=reverse, seed=n)) for n in (0, 1))
    assert (same.fingerprint == splits.fingerprint, other.fingerprint == splits.fingerprint) == (True, examples == 0)


def test_short_numbers_are_as_frequent_as_long_ones():
    pairs = addition.draw_pairs(3000, 5, seed=0)
    lengths = np.array([[len(str(number)) for number in pair] for pair in pairs])
    shares = np.bincount(lengths.ravel(), minlength=6)[1:] / lengths.size
    # A number of n drawn digits may start with zeros; one in ten is shorter.
    np.testing.assert_allclose(shares, [0.22, 0.2, 0.2, 0.2, 0.18], atol=0.04)


def test_short_questions_are_in_all_splits():
    splits = addition.load(Config(digits=3, examples=20_000))
    short = [np.mean(source.arrays["inputs"][:, :3] == 0) for source in (splits.train, splits.validation, splits.test)]
    np.testing.assert_allclose(short, short[0], atol=0.02)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dataset": "sums.txt"}, "--dataset: expected auto or builtin"),
        ({"digits": 1, "examples": 56}, "--examples: expected 3 to 55, as many as there are of --digits 1; got 56"),
    ],
)
def test_refused(settings, message):
    with pytest.raises(InputError, match=message):
        addition.load(Config(**settings))


def test_attention_equals_sums_by_hand():
    rng = np.random.default_rng(0)
    tokens, lengths = rng.integers(0, 12, (3, 6)), jnp.array([6, 4, 1])
    model = Seq2Seq(12, 4, GRU(5), GRU(5), attention=True)
    variables = model.init(jax.random.key(0), tokens, lengths=lengths)
    params = jax.tree.map(np.asarray, variables["params"])
    x = jax.nn.one_hot(tokens, 12)
    state, encoded = GRU(5).apply({"params": params["encoding"]}, x, lengths=lengths, return_state=True)
    repeated = np.repeat(np.asarray(state.h)[:, None], 4, axis=1)
    y = np.asarray(GRU(5).apply({"params": params["decoding"]}, repeated, initial_state=state), np.float64)
    logits, sown = model.apply(variables, tokens, lengths=lengths, mutable=["intermediates"])
    (weights,) = sown["intermediates"]["weights"]
    for example, length in enumerate(lengths.tolist()):
        keys = np.asarray(encoded[example, :length], np.float64)
        scores = y[example] @ np.asarray(params["attention"]["kernel"], np.float64) @ keys.T  # [A, T]
        expected = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(weights[example, :, :length], expected, atol=1e-5)
        assert not np.asarray(weights[example, :, length:]).any()
        combined = np.tanh(np.concatenate([expected @ keys, y[example]], axis=1) @ params["combination"]["kernel"])
        by_hand = combined @ params["output"]["kernel"] + params["output"]["bias"]
        np.testing.assert_allclose(logits[example], by_hand, atol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"attention": True, "cell": "gru"}], ids=str)
def test_one_batch_is_learned_by_heart(settings):
    config = Config(digits=2, units=32, learning_rate=0.01, schedule="constant", **settings)
    splits = addition.load(dataclasses.replace(config, examples=200))
    model = addition.build(config, splits.info)
    batch = splits.train.training_epoch(0, 1, 32)[0]
    optimizer = make_optimizer(config, 300)
    state = initial_train_state(model, config, optimizer, batch, stateful=False)
    step = make_train_step(model, addition.TASK, config, optimizer)
    for _ in range(300):
        state, sums = step(state, batch, dropout_key(0))
    assert float(sums["exact"][0]) == 32
    assert float(sums["accuracy"][1]) == 32 * 3
    assert float(sums["loss"][0] / sums["loss"][1]) < 0.05


def test_what_is_shown():
    config = Config(digits=2)
    batch = {
        "inputs": VOCABULARY.encode("7+53 43+21").reshape(2, 5)[:, ::-1],
        "answers": VOCABULARY.encode("60 64 ").reshape(2, 3),
        "weight": np.ones(2),
    }
    given = np.asarray(jax.nn.one_hot(VOCABULARY.encode("60 74 ").reshape(2, 3), 12))
    assert addition.samples(config, {}, VOCABULARY, given, batch) == [
        "  7+53 = 60  (right)",
        "  43+21 = 74  (wrong, 64)",
    ]


def test_predict_answers_with_the_likeliest_characters_and_their_probability():
    config = Config(digits=2, examples=200, units=8)
    splits = addition.load(config)
    model = addition.build(config, splits.info)
    prediction = addition.TASK.prediction
    batch = prediction.encode(config, splits.info, splits.vocabulary, ["53+61", " 7+8"])
    assert texts(Examples(batch), "inputs") == ["16+35", "  8+7"]
    params = model.init(jax.random.key(0), batch["inputs"])["params"]
    logits = np.asarray(model.apply({"params": params}, batch["inputs"]), np.float64)

    answers = prediction.decode(config, splits.info, splits.vocabulary, logits, batch)

    each = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)  # [2, 3, 12]
    for (answer, probability), row in zip(answers, each, strict=True):
        assert answer == "".join(CHARACTERS[i] for i in row.argmax(axis=-1)).strip()
        assert probability == pytest.approx(np.prod([characters.max() for characters in row]))


@pytest.mark.parametrize("line", ["", "12", "1+2+3", "123+4", "a+b", "1 + 2", "-1+2"])
def test_predict_refuses_what_is_no_sum(line):
    config = Config(digits=2, examples=200)
    with pytest.raises(InputError, match="line 2: expected a sum of two numbers of up to 2 digits"):
        addition.TASK.prediction.encode(config, {}, VOCABULARY, ["1+2", line])


def test_the_attention_that_is_drawn_is_a_mean_over_the_question():
    config = Config(digits=2, examples=200, units=8, attention=True)
    splits = addition.load(config)
    model = addition.build(config, splits.info)
    params = model.init(jax.random.key(0), splits.train.arrays["inputs"][:1])["params"]

    figure = addition.pictures(config, splits, model, params)["attention"]

    drawn = [axes.images[0].get_array() for axes in figure.axes[: addition.DRAWN]]
    np.testing.assert_allclose(np.sum(drawn, axis=-1), np.ones((addition.DRAWN, 3)), rtol=1e-6)
    assert addition.pictures(dataclasses.replace(config, attention=False), splits, model, params) == {}
