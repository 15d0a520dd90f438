"""The comparison of LSTM variants: each builds with the parameters it should have, and a tiny one learns."""

import json
import sys

import greff
import jax
import numpy as np
import pytest


@pytest.mark.parametrize("name", greff.VARIANTS)
def test_parameters(name):
    """A gate less is a block less of every kernel, and a row less of peepholes."""
    width, vocabulary = 6, 5
    blocks = 3 if name in ("NIG", "NFG", "NOG", "CIFG") else 4
    expected = blocks * width * (vocabulary + width + 1)
    if name != "NP":
        expected += (blocks - 1) * width
    if name == "FGR":
        expected += (3 * width) ** 2
    model = greff.Model(vocabulary, width, greff.VARIANTS[name][1])
    params = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 2), int))["params"]
    assert greff.count_parameters(params["LSTM_0"]) == expected


def test_windows_follow_one_another():
    examples = greff.windows(np.arange(10), 3)
    np.testing.assert_array_equal(examples, [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]])


def test_a_tiny_form_learns():
    settings = greff.Settings(units=8, window=8, batch_size=8, epochs=2, learning_rate=5e-2, seeds=(0, 1))
    result = greff.measure("CIFG", "abcd" * 800, settings)
    assert len(set(result["values"])) == 2  # seeds differ
    assert max(result["values"]) < 0.5 * np.log(4)  # the first character of a window is known, all else follows
    assert result["parameters"] == 3 * 8 * (4 + 8 + 1) + 2 * 8
    assert result["options"] == ["peephole=True", "coupled_gates=True"]
    json.dumps(result)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """The script's files in another folder, its training replaced by a note of the name."""
    monkeypatch.setattr(greff, "RESULTS", tmp_path / "greff.json")
    monkeypatch.setattr(greff, "PAGE", tmp_path / "page.md")
    greff.PAGE.write_text("before\n<!-- greff: begin -->\nold\n<!-- greff: end -->\nafter\n")
    trained: list[str] = []

    def measure(name, text, settings):
        trained.append(name)
        if name == "NOG":
            raise KeyboardInterrupt
        numbers = {"mean": 2.0, "deviation": 0.1, "values": [1.9, 2.1], "parameters": 7, "minutes": 0.5}
        return {"options": [], **numbers}

    monkeypatch.setattr(greff, "measure", measure)
    monkeypatch.setattr(greff, "read", lambda data_dir: "text")
    return trained


def test_finished_variants_are_kept(elsewhere, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["greff.py"])
    with pytest.raises(KeyboardInterrupt):
        greff.main()
    assert list(json.loads(greff.RESULTS.read_text())) == ["V", "NIG", "NFG"]
    with pytest.raises(KeyboardInterrupt):
        greff.main()
    assert elsewhere == ["V", "NIG", "NFG", "NOG", "NOG"]
    monkeypatch.setattr(sys, "argv", ["greff.py", "--table"])
    greff.main()
    page = greff.PAGE.read_text()
    assert page.startswith("before\n<!-- greff: begin -->\n| variant |")
    assert page.endswith("<!-- greff: end -->\nafter\n")
    assert page.count("unmeasured") == 6
    assert page.count("2.0000") == 3


def test_a_variant_that_is_not_there(elsewhere, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["greff.py", "NGI"])
    with pytest.raises(SystemExit, match="2"):
        greff.main()
    assert "expected variants from V, NIG" in capsys.readouterr().err
    assert elsewhere == []
