"""Digits: what is read and held out, models of the examples' sizes, commands from end to end."""

import dataclasses
import json
import logging
import os
from pathlib import Path

import jax
import numpy as np
import PIL.Image
import pytest

from rnnjax.cli import main
from rnnjax.data import images, tfds
from rnnjax.errors import InputError
from rnnjax.models.images import pixel_order
from rnnjax.models.summary import count_parameters
from rnnjax.tasks import mnist
from rnnjax.tasks.mnist import PRESETS, TASK, Config
from rnnjax.training.optimizer import make_optimizer
from rnnjax.training.step import dropout_key, initial_train_state, make_train_step

INFO = {"classes": [str(digit) for digit in range(10)]}
MODELS = ("mlp", "cnn", "irnn", "hierarchical", "lstm", "gru")


@pytest.fixture
def few(monkeypatch):
    """Few drawn digits."""
    monkeypatch.setattr(mnist, "BUILTIN_EXAMPLES", 240)


def lstm_parameters(inputs, units):
    return 4 * units * (inputs + units + 1)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (PRESETS["mlp-article"], 235_146),  # as the article has it
        (PRESETS["cnn-keras"], 320 + 18_496 + 12 * 12 * 64 * 128 + 128 + 1_290),
        (PRESETS["irnn-keras"], 100 + 100 * 100 + 100 + 1_010),
        (
            PRESETS["hierarchical-keras"],
            lstm_parameters(1, 128) + lstm_parameters(128, 128) + 1_290,
        ),
        ({"model": "lstm", "units": 9, "pixels_per_step": 4}, lstm_parameters(4, 9) + 100),
    ],
)
def test_numbers_of_parameters(settings, expected):
    model = mnist.build(Config(**settings), INFO)
    params = jax.eval_shape(model.init, jax.random.key(0), mnist.one_image(INFO)["inputs"])["params"]
    assert count_parameters(params) == expected


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_read_all_pixels(preset):
    config = Config(**PRESETS[preset])
    assert (config.side, config.pixels_per_step) == (28, 1)


def test_an_irnn_starts_as_in_the_paper():
    model = mnist.build(Config(**PRESETS["irnn-keras"]), INFO)
    params = model.init(jax.random.key(0), mnist.one_image(INFO)["inputs"])["params"]["recurrent"]
    (recurrence,) = params.values() if "kernel" not in params else (params,)
    np.testing.assert_array_equal(recurrence["recurrent_kernel"], np.eye(100))
    assert 0.0008 < np.asarray(recurrence["kernel"]).std() < 0.0012


@pytest.mark.parametrize("model", ["mlp", "lstm"])
def test_permuted_pixels_stand_where_the_order_says(model):
    inputs = images.digits(4, seed=0)[0]
    plain, permuted = (mnist.build(Config(model=model, pool=1, units=8, permuted=on), INFO) for on in (False, True))
    params = plain.init(jax.random.key(0), inputs)["params"]
    moved = inputs.reshape(4, 784)[:, list(pixel_order(784, mnist.PERMUTATION_SEED))].reshape(4, 28, 28)
    given = np.asarray(permuted.apply({"params": params}, inputs))
    np.testing.assert_allclose(given, plain.apply({"params": params}, moved), rtol=1e-5, atol=1e-6)
    assert np.abs(given - plain.apply({"params": params}, inputs)).max() > 1e-4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pixels_per_step": 4}, "--pixels-per-step: expected a recurrent --model beside it; got mlp"),
        ({"model": "lstm", "pool": 4, "pixels_per_step": 4}, "expected a divisor of the 49 pixels"),
        ({"model": "hierarchical", "pool": 2, "pixels_per_step": 4}, "expected a divisor of the 14 pixels"),
        ({"pool": 3}, "--pool: expected auto, 1, 2 or 4; got 3"),
        ({"validation_share": 0.0}, "--validation-share: expected"),
    ],
)
def test_settings_that_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Config(**settings)


def test_the_drawn_digits_are_divided_by_the_seed(few):
    splits = [mnist.load(Config(dataset="builtin", seed=seed, validation_share=0.25)) for seed in (0, 0, 1)]
    assert [len(part) for part in (splits[0].train, splits[0].validation, splits[0].test)] == [150, 50, 40]
    same, again, other = ({row.tobytes() for row in split.validation.arrays["inputs"]} for split in splits)
    assert same == again != other
    held_out = [{row.tobytes() for row in part.arrays["inputs"]} for part in (splits[0].train, splits[0].test)]
    assert not same & held_out[0]
    assert not same & held_out[1]
    assert splits[0].fingerprint == splits[2].fingerprint
    assert splits[0].dataset == "builtin"


def test_own_images_without_splits_are_divided_80_10_10(tmp_path):
    pixels, labels = images.digits(50, seed=0)
    names = np.array(["even", "odd"])[labels % 2]
    np.savez(tmp_path / "own.npz", image=pixels, label=names)
    splits = mnist.load(Config(dataset=str(tmp_path / "own.npz")))
    assert splits.info["classes"] == ["even", "odd"]
    parts = (splits.train, splits.validation, splits.test)
    assert [len(part) for part in parts] == [40, 5, 5]
    label_of = {pixels[i].tobytes(): labels[i] % 2 for i in range(50)}
    for part in parts:
        for image, label in zip(part.arrays["inputs"], part.arrays["labels"], strict=True):
            assert label_of[image.tobytes()] == label


def test_no_data_and_no_network(few, tmp_path, monkeypatch, caplog):
    def probe(url):
        raise tfds.NetworkUnavailable(f"{url} cannot be reached")

    monkeypatch.setattr(tfds, "probe", probe)
    with caplog.at_level(logging.WARNING, "rnnjax"):
        assert mnist.load(Config(data_dir=str(tmp_path))).dataset == "builtin"
    assert "BUILT-IN SAMPLE" in caplog.text
    with pytest.raises(InputError, match="--dataset tfds: expected mnist prepared by TFDS"):
        mnist.load(Config(data_dir=str(tmp_path), dataset="tfds"))


@pytest.mark.parametrize("model", MODELS)
def test_one_batch_is_learned_by_heart(few, model):
    small = {"units": 32, "pool": 4, "dropout": 0.0, "learning_rate": 0.01}
    if model in mnist.PIXEL_MODELS:
        small["pixels_per_step"] = 7
    config = Config(dataset="builtin", model=model, batch_size=16, **small)
    splits = mnist.load(config)
    net = mnist.build(config, splits.info)
    batch = splits.train.training_epoch(0, 1, 16)[0]
    state = initial_train_state(net, config, make_optimizer(config, 400), batch, stateful=False)
    step = make_train_step(net, TASK, config, make_optimizer(config, 400))
    for _ in range(400):
        state, sums = step(state, batch, dropout_key(0))
    assert float(sums["accuracy"][0]) == 16
    assert float(sums["loss"][0]) / 16 < 0.1


def test_the_picture_shows_the_surest_mistakes_first(few):
    config = Config(dataset="builtin", units=4, batch_size=32)
    splits = mnist.load(config)
    model = mnist.build(config, splits.info)
    params = model.init(jax.random.key(0), splits.test.arrays["inputs"][:1])["params"]
    figure = mnist.pictures(config, splits, model, params)["mistakes"]
    rows = np.asarray(jax.nn.softmax(model.apply({"params": params}, splits.test.arrays["inputs"])))
    wrong = np.flatnonzero(rows.argmax(axis=1) != splits.test.arrays["labels"])
    order = wrong[np.argsort(-rows[wrong].max(axis=1), kind="stable")]
    for axes, row in zip(figure.axes, order, strict=False):
        (shown,) = axes.images
        np.testing.assert_array_equal(shown.get_array(), splits.test.arrays["inputs"][row])
        guess, label = rows[row].argmax(), splits.test.arrays["labels"][row]
        assert axes.get_title() == f"{guess} ({rows[row].max():.2f})\nis {label}"
    assert figure.get_suptitle().startswith(f"{len(wrong)} of 40 images")


def test_training_goes_on_and_the_run_predicts(few, tmp_path, capsys, monkeypatch):
    run = tmp_path / "run"
    monkeypatch.setattr(mnist, "BUILTIN_EXAMPLES", 900)
    train = ["train", "--task", "mnist", "--dataset", "builtin", "--epochs", "10", "--batch-size", "32"]
    train += ["--learning-rate", "5e-3"]
    assert main([*train, "--workdir", str(run)]) == 0
    results = json.loads((run / "results.json").read_text())
    assert results["test_accuracy"] > 0.5
    assert (run / "confusion.png").exists()
    assert (run / "pictures" / "mistakes.png").exists()
    assert main(["train", "--task", "mnist", "--workdir", str(run), "--resume"]) == 0
    assert json.loads((run / "results.json").read_text()) == results

    pixels, labels = images.digits(12, seed=5)
    names = [str(tmp_path / f"{number}.png") for number in range(12)]
    for name, image in zip(names, pixels, strict=True):
        PIL.Image.fromarray(image).save(name)
    (tmp_path / "lines").write_text("\n".join(names) + "\n")
    capsys.readouterr()
    with (tmp_path / "lines").open() as lines:
        monkeypatch.setattr("sys.stdin", lines)
        assert main(["predict", "--workdir", str(run)]) == 0
    answers = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [len(answer) for answer in answers] == [2] * 12
    assert np.mean([answer[0] == str(label) for answer, label in zip(answers, labels, strict=True)]) > 0.4
    assert all(0.1 <= float(answer[1]) <= 1 for answer in answers)

    PIL.Image.fromarray(pixels[0]).resize((56, 40)).save(tmp_path / "large.png")
    assert main(["predict", "--workdir", str(run), "--text", str(tmp_path / "large.png")]) == 0
    assert "large.png: resized from 56 x 40 to 28 x 28 pixels" in capsys.readouterr().err
    (tmp_path / "words.png").write_text("words")
    for text, message in [
        (str(tmp_path / "words.png"), "words.png: expected an image"),
        ("none.png", "none.png: there is no such file"),
        ("", "line 1: expected the name of an image file"),
    ]:
        assert main(["predict", "--workdir", str(run), "--text", text]) == 2
        ended = capsys.readouterr()
        assert message in ended.err
        assert (ended.out, ended.err.count("\n")) == ("", 1)


def test_a_model_from_a_run_has_the_answers_of_the_data(few):
    config = Config(dataset="builtin", epochs=1)
    assert mnist.best_classes(config, INFO, None, np.log(np.array([[0.1] * 8 + [0.15, 0.05]])), {}) == [
        ("8", pytest.approx(0.15))
    ]
    assert dataclasses.replace(config, model="cnn").side == 28


@pytest.mark.real_data("mnist")
def test_the_real_digits(tfds_dir: Path):
    splits = mnist.load(Config(data_dir=os.fspath(tfds_dir)))
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [54_000, 6_000, 10_000]
    labels = np.concatenate([splits.train.arrays["labels"], splits.validation.arrays["labels"]])
    # Known of the original files: how often each digit occurs.
    assert np.bincount(labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    counts = np.bincount(splits.test.arrays["labels"]).tolist()
    assert counts == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    pixels = np.concatenate([splits.train.arrays["inputs"], splits.validation.arrays["inputs"]])
    assert abs(pixels.mean() / 255 - 0.1307) < 1e-4
    assert abs(pixels.std() / 255 - 0.3081) < 1e-4
