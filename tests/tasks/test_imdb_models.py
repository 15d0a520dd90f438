"""The models of --task imdb other than plain recurrent ones: they learn, answer, explain, and say what they lack."""

import json

import numpy as np
import pytest

from rnnjax.cli import main
from rnnjax.errors import InputError
from rnnjax.models.classifier import Classifier
from rnnjax.models.text import ConvolutionalClassifier, ConvolutionalRecurrentClassifier, FastTextClassifier
from rnnjax.tasks.imdb import PRESETS, TASK, Config
from rnnjax.training.optimizer import make_optimizer
from rnnjax.training.step import dropout_key, initial_train_state, make_train_step

SETTINGS = {
    "cnn": {"filters": 8},
    "cnn_lstm": {"filters": 8, "kernel_size": 2, "pool_size": 2},
    "fasttext": {},
}


@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("model", SETTINGS)
def test_overfits_one_batch(num_classes, model):
    config = Config(
        model=model, units=8, embedding=8, learning_rate=0.05, schedule="constant", clip_norm=0.0, dropout=0.0,
        recurrent_dropout=0.0, **SETTINGS[model],
    )  # fmt: skip
    draw = np.random.default_rng(0)
    batch = {
        "inputs": draw.integers(2, 20, size=(12, 6), dtype=np.int32),
        "lengths": draw.integers(1, 7, size=12, dtype=np.int32),
        "labels": (np.arange(12) % num_classes).astype(np.int32),
        "weight": np.ones(12, np.float32),
    }
    network = TASK.build(config, {"vocabulary_size": 20, "classes": ["x"] * num_classes})
    optimizer = make_optimizer(config, 200)
    state = initial_train_state(network, config, optimizer, batch, stateful=False)
    step = make_train_step(network, TASK, config, optimizer)
    for _ in range(200):
        state, sums = step(state, batch, dropout_key(0))
    assert float(sums["loss"][0] / sums["loss"][1]) < 0.1
    assert float(sums["accuracy"][0]) == 12


def test_presets_are_the_examples():
    info = {"vocabulary_size": 1000, "num_words": 900, "max_length": 400, "classes": ["negative", "positive"]}
    models = {name: TASK.build(Config(**preset), info) for name, preset in PRESETS.items()}
    cnn = models["imdb_cnn"]
    assert isinstance(cnn, ConvolutionalClassifier)
    assert (cnn.embedding_size, cnn.filters, cnn.kernel_size, cnn.hidden_size) == (50, 250, 3, 250)
    assert (cnn.dropout_rate, cnn.output_dropout_rate) == (0.2, 0.2)
    below = models["imdb_cnn_lstm"]
    assert isinstance(below, ConvolutionalRecurrentClassifier)
    assert (below.embedding_size, below.filters, below.kernel_size, below.pool_size) == (128, 64, 5, 4)
    assert (below.encoder.features, below.encoder.dropout_rate, below.encoder.recurrent_dropout_rate) == (70, 0, 0)
    assert (below.dropout_rate, below.output_dropout_rate) == (0.25, 0)
    both = models["imdb_bidirectional"]
    assert isinstance(both, Classifier)
    layer = both.encoder.layer
    assert (layer.features, layer.dropout_rate, layer.recurrent_dropout_rate) == (64, 0, 0)
    assert both.output_dropout_rate == 0.5
    layer = models["imdb_lstm"].encoder
    assert (layer.features, layer.dropout_rate, layer.recurrent_dropout_rate) == (128, 0.2, 0.2)
    for name in ("imdb_fasttext", "imdb_fasttext_bigrams"):
        assert isinstance(models[name], FastTextClassifier)
        assert (models[name].embedding_size, models[name].dropout_rate, models[name].output_dropout_rate) == (50, 0, 0)
    assert Config(**PRESETS["imdb_fasttext_bigrams"]).ngrams == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "cnn", "ngrams": 2}, "--ngrams: expected 1 with --model cnn, whose convolution sees pairs of words"),
        ({"model": "cnn", "cell": "gru"}, "--cell: expected it with a model that has a recurrent layer; got gru with"),
        ({"model": "fasttext", "pooling": "max"}, "--pooling: expected it with a model that has a recurrent layer"),
        ({"model": "fasttext", "ngrams": 3}, "--ngrams: expected a whole number at least 1 and at most 2; got 3"),
        ({"kernel_size": 0}, "--kernel-size: expected a whole number at least 1"),
    ],
)
def test_what_a_model_does_not_have_is_refused(settings, message):
    with pytest.raises(InputError) as raised:
        Config(**settings)
    assert message in str(raised.value)


def test_the_cache_follows_the_bigrams(tmp_path, monkeypatch):
    monkeypatch.setenv("RNNJAX_CACHE_DIR", str(tmp_path / "cache"))
    lines = ["text,label", *(f"not good {i % 3},{i % 2}" for i in range(30))]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    sizes = {}
    for name, settings in {"words": {}, "two": {"ngrams": 2}, "one": {"ngrams": 2, "bigrams": 1}}.items():
        for _ in range(2):  # encoded, and from the cache
            splits = TASK.load(Config(dataset=str(tmp_path / "a.csv"), model="fasttext", **settings))
            sizes.setdefault(name, set()).add((splits.info["vocabulary_size"], splits.train.arrays["lengths"].max()))
    assert sizes == {"words": {(7, 3)}, "two": {(11, 5)}, "one": {(8, 4)}}


@pytest.fixture(scope="module")
def sentences(tmp_path_factory):
    """Texts whose label is told by a pair of words alone, short ones among them."""
    rows = ["text,label"]
    draw = np.random.default_rng(0)
    for _ in range(120):
        first, second = draw.choice(["not", "very"], size=2)
        rows.append(f"it was {first} good {second} {'bad' if first != second else 'bad bad'},{first}")
    rows += ["not,not", "very,very", ",not"]
    path = tmp_path_factory.mktemp("data") / "pairs.csv"
    path.write_text("\n".join(rows))
    return path


@pytest.mark.parametrize(
    ("model", "more"),
    [
        ("cnn", ["--filters", "8"]),
        ("cnn_lstm", ["--filters", "8", "--pool-size", "2", "--cell", "gru", "--pooling", "attention"]),
        ("fasttext", ["--ngrams", "2", "--bigrams", "6"]),
        ("bidirectional", ["--pooling", "attention", "--output-dropout", "0.5"]),
        ("single", ["--ngrams", "2", "--pooling", "max", "--word-dropout", "0.2"]),
    ],
)
def test_train_resume_predict_explain(model, more, sentences, tmp_path, capsys):
    workdir = str(tmp_path / "run")
    options = ["--task", "imdb", "--model", model, "--dataset", str(sentences), "--units", "8", "--embedding", "8"]
    options += ["--max-length", "6", "--epochs", "3", "--batch-size", "16", "--learning-rate", "0.05", *more]
    assert main(["train", *options, "--workdir", workdir]) == 0
    results = (tmp_path / "run" / "results.json").read_bytes()
    assert json.loads(results)["model"] == model
    assert main(["train", "--task", "imdb", "--workdir", workdir, "--resume"]) == 0
    assert (tmp_path / "run" / "results.json").read_bytes() == results
    capsys.readouterr()
    text = "so it was not good very bad"
    assert main(["predict", "--workdir", workdir, "--text", text]) == 0
    answer = capsys.readouterr().out
    label, probability = answer.split("\t")
    assert label in ("not", "very")
    assert 0.5 <= float(probability) <= 1
    assert main(["predict", "--workdir", workdir, "--text", text, "--explain"]) == 0
    ended = capsys.readouterr()
    first, *rows = ended.out.splitlines()
    assert f"{first}\n" == answer
    assert "contributions sum" not in ended.err
    assert [row.split("\t")[0] for row in rows] == text.split()
    assert rows[0] == "so\t+0.0000\tcut"
    assert max(abs(float(row.split("\t")[1])) for row in rows) > 0.01
    for short in ("not", "", "..."):
        assert main(["predict", "--workdir", workdir, "--text", short, "--explain"]) == 0
    assert "nan" not in capsys.readouterr().out


def test_explained_bigrams_sum_to_the_change_of_the_logit(sentences, tmp_path, capsys):
    from rnnjax.cli import explain, runs

    workdir = str(tmp_path / "run")
    options = ["--task", "imdb", "--model", "fasttext", "--ngrams", "2", "--dataset", str(sentences), "--epochs", "4"]
    assert main(["train", *options, "--learning-rate", "0.05", "--workdir", workdir]) == 0
    trained = runs.load_model(workdir, "classifier", print)
    text = "it was not good at all, very bad"
    (found,) = explain.explain(trained, [text], [("very", 0.5)])
    inputs, lengths = trained.vocabulary.encode([text], 200)
    assert lengths[0] > 8
    score = float(trained.model.apply({"params": trained.params}, inputs, lengths=lengths)[0, 0])
    assert found.score == pytest.approx(score, abs=1e-4)
    table = np.asarray(trained.params["embedding"]["embedding"], np.float64)
    kernel = np.asarray(trained.params["output"]["kernel"], np.float64)[:, 0]
    added = dict(zip(inputs[0].tolist(), table[inputs[0]] @ kernel / lengths[0], strict=True))  # of the mean: linear
    number = {word: i for i, word in enumerate(trained.vocabulary.words)}
    expected = added[number["not"]] + (added[number["was not"]] + added[number["not good"]]) / 2
    (of_not,) = [piece.value for piece in found.pieces if piece.text == "not"]
    assert of_not == pytest.approx(expected, abs=1e-4)
    assert sum(piece.value or 0 for piece in found.pieces) == pytest.approx(found.score - found.baseline, abs=1e-3)


def test_a_recurrent_layer_beside_bags_is_explained_and_takes_vectors(sentences, tmp_path, capsys):
    from rnnjax.cli import explain, runs

    (tmp_path / "vectors.txt").write_text("good 1 2 3\nbad -1 0 2\n")
    workdir = str(tmp_path / "run")
    options = ["--task", "imdb", "--cell", "gru", "--ngrams", "2", "--dataset", str(sentences), "--epochs", "2"]
    options += ["--vectors", str(tmp_path / "vectors.txt"), "--units", "4", "--learning-rate", "0.05"]
    assert main(["train", *options, "--freeze-vectors", "--workdir", workdir]) == 0
    trained = runs.load_model(workdir, "classifier", print)
    (row,) = (i for i, word in enumerate(trained.vocabulary.words) if word == "good")
    np.testing.assert_allclose(trained.params["embedding"]["embedding"][row], [1, 2, 3, 0.4], rtol=1e-6)
    splits = TASK.load(trained.config)
    np.testing.assert_array_equal(trained.params["ratios"], splits.initial["ratios"])
    not_, very = (splits.initial["ratios"][trained.vocabulary.words.index(word), 0] for word in ("not", "very"))
    assert not_ < 0 < very  # classes are in alphabetical order
    (found,) = explain.explain(trained, ["it was not good at all, very bad"], [("very", 0.5)])
    inputs, lengths = trained.vocabulary.encode(["it was not good at all, very bad"], 200)
    score = float(trained.model.apply({"params": trained.params}, inputs, lengths=lengths)[0, 0])
    assert found.score == pytest.approx(score, abs=1e-4)
    assert sum(piece.value or 0 for piece in found.pieces) == pytest.approx(found.score - found.baseline, abs=1e-2)
