"""The adding problem: what is generated, that a network learns it, and that a run goes as other tasks' do."""

import json

import jax
import numpy as np
import pytest

from rnnjax.errors import InputError
from rnnjax.tasks import adding
from rnnjax.tasks.adding import TASK, Config
from rnnjax.training.optimizer import make_optimizer
from rnnjax.training.step import dropout_key, initial_train_state, make_train_step


@pytest.fixture(autouse=True)
def _few(monkeypatch):
    monkeypatch.setattr(adding, "TRAIN_EXAMPLES", 40)
    monkeypatch.setattr(adding, "HELD_OUT", {"validation": 21, "test": 35})


def test_two_marks_and_their_sum():
    examples = adding.generate(np.random.default_rng(0), 4000, 6)
    numbers, marks = examples["inputs"][..., 0], examples["inputs"][..., 1]
    assert set(np.unique(marks)) == {0, 1}
    assert (marks.sum(axis=1) == 2).all()
    np.testing.assert_allclose(examples["targets"], (numbers * marks).sum(axis=1), rtol=1e-6)
    assert 0 <= numbers.min() < 0.01 < 0.99 < numbers.max() < 1
    np.testing.assert_allclose(marks.mean(axis=0), 2 / 6, atol=0.03)  # each step alike
    assert np.mean((examples["targets"] - 1) ** 2) == pytest.approx(1 / 6, abs=0.01)


def test_symbols_are_asked_for_after_the_pause():
    examples = adding.generate_copy(np.random.default_rng(0), 3000, 7)
    inputs, targets = examples["inputs"], examples["targets"]
    assert inputs.shape == targets.shape == (3000, 27)
    np.testing.assert_allclose(np.bincount(inputs[:, :10].ravel()) / 30_000, np.full(8, 1 / 8), atol=0.01)
    assert (inputs[:, 10:16] == 8).all()  # T - 1 blanks
    assert (inputs[:, 16] == 9).all()
    assert (inputs[:, 17:] == 8).all()
    assert (targets[:, :17] == 8).all()
    np.testing.assert_array_equal(targets[:, 17:], inputs[:, :10])


def test_loss_of_copies_without_a_memory():
    """Blanks that are sure, and all symbols alike at the end: 10 ln 8 / (T + 20), an eighth of the symbols right."""
    examples = adding.generate_copy(np.random.default_rng(0), 2000, 30)
    logits = np.zeros((2000, 50, 10), np.float32)
    logits[:, :40, 8] = 100
    logits[:, 40:, 8:] = -100
    logits[-1] = np.nan
    weight = np.ones(2000, np.float32)
    weight[-1] = 0
    sums = TASK.loss(logits, {**examples, "weight": weight})
    assert float(sums["loss"][0] / sums["loss"][1]) == pytest.approx(10 * np.log(8) / 50, rel=1e-5)
    assert float(sums["accuracy"][0] / sums["accuracy"][1]) == pytest.approx(1 / 8, abs=0.01)
    assert float(sums["loss"][1]) == 1999


def test_a_network_learns_to_copy():
    config = Config(problem="copy", length=3, units=32, learning_rate=0.01, schedule="constant")
    batch = {**adding.generate_copy(np.random.default_rng(0), 8, 3), "weight": np.ones(8, np.float32)}
    model, optimizer = TASK.build(config, {}), make_optimizer(config, 500)
    state = initial_train_state(model, config, optimizer, batch, stateful=False)
    step = make_train_step(model, TASK, config, optimizer)
    for _ in range(500):
        state, sums = step(state, batch, dropout_key(0))
    assert float(sums["accuracy"][0] / sums["accuracy"][1]) > 0.9


def test_data_are_those_of_the_seed():
    first, again, other = (TASK.load(Config(length=9, seed=seed)) for seed in (3, 3, 4))
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert TASK.load(Config(length=8, seed=3)).fingerprint != first.fingerprint
    assert TASK.load(Config(length=9, seed=3, problem="copy")).fingerprint != first.fingerprint
    assert first.dataset == "builtin"
    assert (len(first.validation), len(first.test)) == (21, 35)
    one, same = (source.train.training_epoch(3, 2, 16) for source in (first, again))
    assert len(one) == 2
    np.testing.assert_array_equal(one[1]["inputs"], same[1]["inputs"])
    batches = [*one, *first.train.training_epoch(3, 1, 16), first.validation.evaluation(16)[0]]
    numbers = [batch["inputs"][0, 0, 0] for batch in batches]
    assert len(set(numbers)) == len(numbers), "no example twice"
    assert len(first.train.training_epoch(3, 1, 64)) == 1


def test_other_data_are_refused():
    for name in ("tfds", "numbers.csv"):
        with pytest.raises(InputError, match=r"--dataset: expected auto or builtin, .*; got"):
            TASK.load(Config(dataset=name))
    with pytest.raises(InputError, match="--length"):
        Config(length=1)


def test_loss_by_hand():
    batch = {"targets": np.array([1.0, 0.5, 2.0], np.float32), "weight": np.array([1, 1, 0], np.float32)}
    sums = TASK.loss(np.array([1.03, 0.7, np.nan], np.float32), batch)
    assert [float(value) for value in sums["loss"]] == pytest.approx([0.03**2 + 0.2**2, 2], rel=1e-4)
    assert [float(value) for value in sums["accuracy"]] == [1, 2]


@pytest.mark.parametrize("cell", ["lstm", "gru", "simple", "irnn"])
def test_overfits_one_batch(cell):
    config = Config(length=6, units=16, cell=cell, learning_rate=0.02, schedule="constant")
    batch = {**adding.generate(np.random.default_rng(0), 8, 6), "weight": np.ones(8, np.float32)}
    model, optimizer = TASK.build(config, {}), make_optimizer(config, 300)
    state = initial_train_state(model, config, optimizer, batch, stateful=False)
    step = make_train_step(model, TASK, config, optimizer)
    for _ in range(300):
        state, sums = step(state, batch, dropout_key(0))
    assert float(sums["loss"][0] / sums["loss"][1]) < 0.005


def test_gates_start_by_remembering():
    """Forget gate 1 - 1/u and input gate 1/u for u between 1 and T - 1; GRU: update gate 1 - 1/(T + 1)."""
    batch = {"inputs": np.zeros((1, 100, 2), np.float32)}
    config = Config(length=100, units=50)
    params = TASK.build(config, {}).init(jax.random.key(0), batch["inputs"])["params"]["recurrent"]["recurrence"]
    i, f, *rest = np.split(np.asarray(params["bias"]), 4)
    np.testing.assert_array_equal(i, -f)
    assert 0 <= f.min() < np.log(30) < np.log(80) < f.max() <= np.log(99)
    np.testing.assert_array_equal(rest, 0)
    config = Config(length=100, units=50, cell="gru")
    params = TASK.build(config, {}).init(jax.random.key(0), batch["inputs"])["params"]["recurrent"]["recurrence"]
    np.testing.assert_allclose(params["bias"][:50], np.log(100), rtol=1e-6)
    np.testing.assert_array_equal(params["recurrent_bias"], 0)


def test_a_run_on_the_command_line(tmp_path, capsys, monkeypatch):
    from rnnjax.cli import main

    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    run = tmp_path / "run"
    line = ["train", "--task", "adding", "--length", "5", "--units", "4", "--epochs", "2", "--batch-size", "16"]
    assert main([*line, "--workdir", str(run), "--diagnose"]) == 0
    results = json.loads((run / "results.json").read_text())
    assert (results["task"], results["model"], results["dataset"]) == ("adding", "lstm", "builtin")
    assert {"test_loss", "test_accuracy", "val_loss", "val_accuracy"} <= results.keys()
    assert not (run / "tokenizer.json").exists()
    assert len((run / "diagnosis.jsonl").read_text().splitlines()) == 2
    capsys.readouterr()
    assert main([*line, "--workdir", str(run), "--resume"]) == 0
    for command, kind in [
        (["predict", "--text", "x"], "classifier"),
        (["generate"], "language model"),
        (["convert", str(tmp_path / "model.keras")], "classifier or language model"),
    ]:
        capsys.readouterr()
        name, *rest = command
        arguments = [name, str(run), *rest] if name == "convert" else [name, *rest, "--workdir", str(run)]
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1
        assert f"expected a {'run of a ' if name != 'convert' else ''}{kind}" in error
        assert "; it holds a run of adding." in error
    copy = ["--problem", "copy", "--workdir", str(tmp_path / "copy")]
    assert main([*line, *copy]) == 0
    assert main([*line, *copy, "--resume"]) == 0
    assert main([*line, "--workdir", str(tmp_path / "other"), "--dataset", "tfds"]) == 2
    assert not (tmp_path / "other").exists()
