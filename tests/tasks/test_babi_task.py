"""Stories are encoded and divided as they should be; the models learn by heart; predict.py and pictures agree."""

import dataclasses
import re

import jax
import numpy as np
import pytest

from rnnjax.data import babi as files
from rnnjax.data import tfds
from rnnjax.data.batching import Examples
from rnnjax.errors import InputError
from rnnjax.tasks import babi
from rnnjax.tasks.babi import Config
from rnnjax.training.optimizer import make_optimizer
from rnnjax.training.step import dropout_key, initial_train_state, make_train_step

TENSOR = r"tensor<(?:\d+x)*([a-z]+\d+)>"
PRODUCT = re.compile(rf"stablehlo\.dot_general .* : \({TENSOR}, {TENSOR}\) -> {TENSOR}")
SMALL = {"dataset": "builtin", "examples": "1k", "units": 16, "embedding": 16}


@pytest.fixture(scope="module")
def splits():
    return babi.load(Config(**SMALL))


def told(splits, source, row):
    """Story, question and answer of a row, as text."""
    arrays = source.arrays
    story = [splits.vocabulary.decode(ids) for ids in arrays["inputs"][row]]
    asked = splits.vocabulary.decode(arrays["question"][row])
    return story, asked, splits.info["classes"][arrays["labels"][row]]


def test_what_is_encoded_is_what_was_told(splits):
    questions = files.compose(1, babi.BUILTIN_STORIES["1k"], seed=0)
    expected = {
        (tuple(text.lower().rstrip(".") for text in q.story), q.text.lower().replace("?", " ?"), q.answer)
        for q in questions
    }
    found = set()
    for source in (splits.train, splits.validation, splits.test):
        for row in range(len(source)):
            story, asked, answer = told(splits, source, row)
            sentences = [sentence for sentence in story if sentence]
            assert story == [""] * (len(story) - len(sentences)) + sentences, "the last sentence stands last"
            found.add((tuple(sentences), asked, answer))
            (fact,) = np.flatnonzero(source.arrays["facts"][row])
            assert answer in story[fact]
    assert found == expected
    assert [len(source) for source in (splits.train, splits.validation, splits.test)] == [1000, 125, 125]


def test_questions_about_one_story_stay_together():
    questions = files.compose(1, 40, seed=0)
    parts = babi.with_validation({"train": questions, "test": questions[:5]}, seed=3)
    numbers = {split: {q.story_number for q in parts[split]} for split in ("train", "validation")}
    assert not numbers["train"] & numbers["validation"]
    assert (len(numbers["train"]), len(numbers["validation"]), len(parts["test"])) == (36, 4, 5)
    other = babi.with_validation({"train": questions}, seed=4)
    assert {q.story_number for q in other["validation"]} != numbers["validation"]


def test_long_stories_keep_their_end(splits):
    short = babi.load(Config(**SMALL, max_sentences=3))
    for row in range(0, 1000, 50):
        np.testing.assert_array_equal(short.train.arrays["inputs"][row], splits.train.arrays["inputs"][row, -3:])
        np.testing.assert_array_equal(short.train.arrays["facts"][row], splits.train.arrays["facts"][row, -3:])


def test_a_file_of_the_users_own(tmp_path):
    text = "".join(f"1 Ann went {w}.\n2 Where is Ann?\t{w}\n" for w in ("up", "down", "out", "up"))
    path = tmp_path / "stories.txt"
    path.write_text(text)
    found = babi.load(Config(dataset=str(path)))
    assert [len(source) for source in (found.train, found.validation, found.test)] == [2, 1, 1]
    assert found.info["classes"] == ["down", "out", "up"]
    path.write_text(text[: len(text) // 2])
    with pytest.raises(InputError, match="expected 3 or more stories"):
        babi.load(Config(dataset=str(path)))


def test_where_there_is_neither_data_nor_network(monkeypatch, tmp_path, caplog):
    def unreachable(url):
        raise tfds.NetworkUnavailable(f"{url} cannot be reached")

    monkeypatch.setattr(tfds, "probe", unreachable)
    found = babi.load(Config(data_dir=str(tmp_path), examples="1k", qa=2))
    assert found.dataset == "builtin"
    assert "NO BABI TASKS AND NO NETWORK" in caplog.text
    for settings in ({"qa": 3}, {"dataset": "tfds"}):
        with pytest.raises(InputError, match="expected the bAbI tasks in the folder of data sets"):
            babi.load(Config(data_dir=str(tmp_path), **settings))
    with pytest.raises(InputError, match="--qa: expected 1 or 2"):
        babi.load(Config(dataset="builtin", qa=3))


def test_dropout_where_there_are_few_questions(splits):
    for questions, expected in ((4999, 0.3), (5000, 0.0)):
        assert babi.build(Config(), {**splits.info, "questions": questions}).dropout_rate == expected
    assert babi.build(Config(dropout=0.1), splits.info).dropout_rate == 0.1


def test_several_readings_need_a_question():
    with pytest.raises(InputError, match="--readings: expected 1 with --merge end"):
        Config(merge="end", readings=2)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"cell": "lstm", "story": "words", "merge": "end", "readings": 1},
        {"cell": "lstm", "merge": "add"},
        {"model": "memnn"},
        {"model": "memnn-words"},
    ],
    ids=str,
)
def test_one_batch_is_learned_by_heart(splits, settings):
    config = Config(**SMALL, learning_rate=0.02, schedule="constant", dropout=0.0)
    config = dataclasses.replace(config, **settings)
    model = babi.build(config, splits.info)
    batch = splits.train.training_epoch(0, 1, 16)[0]
    optimizer = make_optimizer(config, 200)
    state = initial_train_state(model, config, optimizer, batch, False, keywords=babi.TASK.keywords(batch))
    step = make_train_step(model, babi.TASK, config, optimizer)
    for _ in range(200):
        state, sums = step(state, batch, dropout_key(0))
    assert float(sums["accuracy"][0]) == float(sums["accuracy"][1]) == 16
    assert float(sums["loss"][0] / sums["loss"][1]) < 0.1


@pytest.mark.parametrize("settings", [{}, {"model": "memnn"}, {"model": "memnn-words", "cell": "lstm"}], ids=str)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_operands_of_every_product(splits, settings, precision):
    config = Config(**SMALL, precision=precision, **settings)
    model, optimizer = babi.build(config, splits.info), make_optimizer(config, 9)
    batch = splits.train.training_epoch(0, 1, 4)[0]
    keywords = babi.TASK.keywords(batch)
    state = jax.eval_shape(lambda: initial_train_state(model, config, optimizer, batch, False, keywords=keywords))
    text = make_train_step(model, babi.TASK, config, optimizer).lower(state, batch, dropout_key(0)).as_text()
    short = {"float32": "f32", "bfloat16": "bf16"}[precision]
    products = PRODUCT.findall(text)
    assert len(products) == text.count("stablehlo.dot_general") > 0
    assert set(products) == {(short, short, "f32")}


def test_predict_gives_the_likeliest_answer_and_its_probability(splits):
    config = Config(**SMALL)
    model, prediction = babi.build(config, splits.info), babi.TASK.prediction
    source = splits.test
    lines = []
    for row in range(5):
        story, asked, _ = told(splits, source, row)
        lines.append(". ".join([sentence for sentence in story if sentence] + [asked.replace(" ?", "?")]))

    batch = prediction.encode(config, splits.info, splits.vocabulary, lines)

    np.testing.assert_array_equal(batch["inputs"], source.arrays["inputs"][:5])
    np.testing.assert_array_equal(batch["question"], source.arrays["question"][:5])
    params = model.init(jax.random.key(0), batch["inputs"], question=batch["question"])["params"]
    logits = np.asarray(model.apply({"params": params}, batch["inputs"], question=batch["question"]), np.float64)
    each = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    answers = prediction.decode(config, splits.info, splits.vocabulary, logits, batch)
    for (answer, probability), row in zip(answers, each, strict=True):
        assert answer == splits.info["classes"][row.argmax()]
        assert probability == pytest.approx(row.max())
    assert len(Examples(prediction.encode(config, splits.info, splits.vocabulary, []))) == 0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "line 2: expected sentences and then a question"),
        ("Where is Anna?", "line 2: expected sentences and then a question"),
        ("Anna went to the park. Where is Anna", "line 2: expected sentences and then a question"),
        ("Anna went to the park. ... ?", "line 2: expected sentences and then a question"),
        ("Anna flew to the moon. Where is Anna?", "line 2: expected words of the stories .*got 'flew', 'moon'"),
    ],
)
def test_predict_refuses_what_it_cannot_read(splits, line, message):
    fine = "Anna went to the park. Where is Anna?"
    with pytest.raises(InputError, match=message):
        babi.encode_lines(Config(**SMALL), splits.info, splits.vocabulary, [fine, line])


def test_what_is_shown(splits):
    batch = splits.validation.evaluation(2)[0]
    right = batch["labels"]
    given = np.eye(len(splits.info["classes"]))[[right[0], (right[1] + 1) % 6]]
    lines = babi.samples(Config(**SMALL), splits.info, splits.vocabulary, given, batch)
    classes = splits.info["classes"]
    asked = [splits.vocabulary.decode(row) for row in batch["question"]]
    assert lines == [
        f"  {asked[0]} {classes[right[0]]}  (right)",
        f"  {asked[1]} {classes[(right[1] + 1) % 6]}  (wrong, {classes[right[1]]})",
    ]


@pytest.mark.parametrize(("model", "name"), [("memnn", "attention"), ("rnn", "reading"), ("memnn-words", "reading")])
def test_pictures_show_shares_of_one(splits, model, name):
    config = dataclasses.replace(Config(**SMALL), model=model)
    batch = splits.validation.evaluation(babi.DRAWN)[0]
    network = babi.build(config, splits.info)
    params = network.init(jax.random.key(0), batch["inputs"], question=batch["question"])["params"]
    figure = babi.pictures(config, splits, network, params)[name]
    for row, axes in enumerate(figure.axes[: babi.DRAWN]):
        drawn = np.ma.filled(axes.images[0].get_array().astype(float), np.nan)
        if name == "attention":
            np.testing.assert_allclose(drawn.sum(axis=0), 1, rtol=1e-5)
        else:
            logits = network.apply({"params": params}, batch["inputs"], question=batch["question"])
            np.testing.assert_allclose(drawn[-1], jax.nn.softmax(logits[row]), rtol=1e-4)
            there = (batch["inputs"][row, -len(drawn) :] != 0).any(axis=-1)
            np.testing.assert_array_equal(np.isnan(drawn).any(axis=1), ~there)
        starred = [label.get_text().startswith("* ") for label in axes.get_yticklabels()]
        np.testing.assert_array_equal(starred, batch["facts"][row, -len(starred) :])
