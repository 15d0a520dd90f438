"""Chunks are those that a plain reading of the rules finds; the readers of characters are what they say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnjax.layers.combinators import Bidirectional
from rnnjax.layers.recurrent import GRU, LSTM
from rnnjax.models.crf import best_path
from rnnjax.models.tagger import CharacterCNN, CharacterLSTM, Tagger, count_chunks

count = jax.jit(count_chunks)
TAGS = ["O", "B-NP", "I-NP", "B-VP", "I-VP"]


def spans(tags):
    """(kind, first, last) of each chunk, word by word, as the comments of conlleval say it."""
    found, kind, first = [], None, 0
    for place, tag in enumerate([*tags, "O"]):
        goes_on = tag[0] == "I" and tag[2:] == kind
        if kind is not None and not goes_on:
            found.append((kind, first, place - 1))
            kind = None
        if tag != "O" and not goes_on:
            kind, first = tag[2:], place
    return set(found)


@st.composite
def batches(draw):
    steps, rows = 7, 4  # of one shape, so that one program serves all
    tags = st.lists(st.integers(0, 4), min_size=steps, max_size=steps)
    several = st.lists(tags, min_size=rows, max_size=rows)
    lengths = draw(st.lists(st.integers(0, steps), min_size=rows, max_size=rows))
    weight = draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=rows, max_size=rows))
    true = np.array(draw(several))
    # What is right most of the time, so that whole chunks are.
    predicted = np.where(np.array(draw(several)) == 1, np.array(draw(several)), true)
    return predicted, true, np.array(lengths), np.array(weight, np.float32)


@given(batches())
def test_counts_of_chunks(batch):
    right = predicted = true = 0
    for given_row, true_row, length, weight in zip(*batch, strict=True):
        if weight:
            a, b = (spans([TAGS[tag] for tag in row[:length]]) for row in (given_row, true_row))
            right, predicted, true = right + len(a & b), predicted + len(a), true + len(b)
    assert tuple(map(float, count(*batch))) == (right, predicted, true)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O B-NP I-NP O", {("NP", 1, 2)}),
        ("I-NP I-NP", {("NP", 0, 1)}),
        ("B-NP B-NP I-VP", {("NP", 0, 0), ("NP", 1, 1), ("VP", 2, 2)}),
        ("O I-VP O I-NP", {("VP", 1, 1), ("NP", 3, 3)}),
        ("O O", set()),
    ],
)
def test_the_rules_of_conlleval(tags, expected):
    tags = tags.split()
    assert spans(tags) == expected
    ids = np.array([[TAGS.index(tag) for tag in tags]])
    found = count_chunks(ids, ids, np.array([len(tags)]), np.ones(1))
    assert tuple(map(float, found)) == (len(expected),) * 3


CHARACTERS = np.array([[[2, 3, 4, 0, 0], [5, 0, 0, 0, 0], [2, 2, 3, 4, 6]], [[6, 5, 4, 3, 0], [0] * 5, [0] * 5]])


def test_convolution_equals_loops():
    reader = CharacterCNN(7, 3, 4)
    variables = reader.init(jax.random.key(0), CHARACTERS)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64) + 0.1, variables["params"])
    found = reader.apply({"params": jax.tree.map(jnp.float32, params)}, CHARACTERS)
    for place in np.ndindex(2, 3):
        word = [c for c in CHARACTERS[place] if c]
        vectors = [np.zeros(3), *(params["embedding"]["embedding"][c] for c in word), np.zeros(3)]
        values = [
            np.tanh(np.concatenate(vectors[i : i + 3]) @ params["kernel"] + params["bias"]) for i in range(len(word))
        ]
        expected = np.max(values, axis=0) if word else np.zeros(4)
        np.testing.assert_allclose(found[place], expected, atol=1e-6)


def test_recurrent_reader_equals_the_layer_on_each_word():
    reader = CharacterLSTM(7, 3, GRU(4))
    variables = reader.init(jax.random.key(0), CHARACTERS)
    found = reader.apply(variables, CHARACTERS)
    params = variables["params"]
    assert found.shape == (2, 3, 8)
    for place in np.ndindex(2, 3):
        word = [c for c in CHARACTERS[place] if c]
        expected = np.zeros(8)
        if word:
            x = params["embedding"]["embedding"][np.array(word)][None]
            layers = [(GRU(4, return_sequences=False), "forward"), (GRU(4, return_sequences=False), "backward")]
            ends = [
                layer.apply({"params": params["recurrent"][name]}, x[:, ::step])
                for (layer, name), step in zip(layers, (1, -1), strict=True)
            ]
            expected = np.concatenate(ends, axis=1)[0]
        np.testing.assert_allclose(found[place], expected, atol=1e-6)


@pytest.mark.parametrize("crf", [False, True])
def test_neighbours_in_the_batch_and_padding_change_nothing(crf):
    reader = CharacterCNN(7, 3, 4)
    model = Tagger(9, 5, 4, Bidirectional(LSTM(6)), reader, num_cases=3, num_pos=4, crf=crf)
    rng = np.random.default_rng(0)
    lengths = np.array([5, 3])
    arrays = {
        "characters": rng.integers(1, 7, (2, 5, 3)),
        "cases": rng.integers(3, size=(2, 5)),
        "pos": rng.integers(4, size=(2, 5)),
    }
    words = rng.integers(9, size=(2, 5))
    params = model.init(jax.random.key(0), words, lengths=lengths, **arrays)["params"]
    params = jax.tree.map(lambda leaf: leaf + 0.1 * rng.normal(size=leaf.shape).astype(np.float32), params)
    both = model.apply({"params": params}, words, lengths=lengths, **arrays)
    for row, length in enumerate(lengths):
        cut = {name: array[row : row + 1, :length] for name, array in arrays.items()}
        alone = model.apply({"params": params}, words[row : row + 1, :length], lengths=lengths[row : row + 1], **cut)
        np.testing.assert_allclose(both.emissions[row, :length], alone.emissions[0], atol=1e-5)
        path = best_path(alone, lengths[row : row + 1])
        np.testing.assert_array_equal(best_path(both, lengths)[row, :length], path[0])
    assert {"characters", "cases", "pos"} < set(params)
    assert ("transitions" in params) == crf


def test_each_input_counts():
    """Each of words, characters, case and part of speech alone changes the scores."""
    model = Tagger(9, 5, 4, Bidirectional(LSTM(6)), CharacterCNN(7, 3, 4), num_cases=3, num_pos=4)
    arrays = {"characters": np.full((1, 2, 3), 2), "cases": np.ones((1, 2), int), "pos": np.ones((1, 2), int)}
    words = np.ones((1, 2), int)
    variables = model.init(jax.random.key(0), words, **arrays)
    before = model.apply(variables, words, **arrays).emissions
    assert not np.allclose(before, model.apply(variables, words + 1, **arrays).emissions)
    for name, array in arrays.items():
        assert not np.allclose(before, model.apply(variables, words, **{**arrays, name: array + 1}).emissions), name
