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
    variables = jax.jit(reader.init)(jax.random.key(0), CHARACTERS)
    found = jax.jit(reader.apply)(variables, CHARACTERS)
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


def test_neighbours_in_the_batch_and_padding_change_nothing():
    reader = CharacterCNN(7, 3, 4)
    model = Tagger(9, 5, 4, Bidirectional(LSTM(6)), reader, num_cases=3, num_pos=4, crf=True)
    rng = np.random.default_rng(0)
    lengths = np.array([5, 3])

    def draw():
        return {
            "words": rng.integers(9, size=(2, 5)),
            "characters": rng.integers(1, 7, (2, 5, 3)),
            "cases": rng.integers(3, size=(2, 5)),
            "pos": rng.integers(4, size=(2, 5)),
        }

    arrays = draw()
    params = jax.jit(model.init)(jax.random.key(0), **arrays, lengths=lengths)["params"]
    params = jax.tree.map(lambda leaf: leaf + 0.1 * rng.normal(size=leaf.shape).astype(np.float32), params)

    @jax.jit
    def answer(arrays):
        scores = model.apply({"params": params}, **arrays, lengths=lengths)
        return scores.emissions, best_path(scores, lengths)

    expected = answer(arrays)
    for row, length in enumerate(lengths):
        others = draw()
        for name, array in arrays.items():
            others[name][row, :length] = array[row, :length]
        found = answer(others)
        for before, after in zip(expected, found, strict=True):
            np.testing.assert_allclose(before[row, :length], after[row, :length], atol=1e-6)
        assert not np.allclose(expected[0][1 - row], found[0][1 - row])


def test_each_input_counts():
    """Each of words, characters, case and part of speech alone changes the scores."""
    model = Tagger(9, 5, 4, Bidirectional(LSTM(6)), CharacterCNN(7, 3, 4), num_cases=3, num_pos=4)
    arrays = {"characters": np.full((1, 2, 3), 2), "cases": np.ones((1, 2), int), "pos": np.ones((1, 2), int)}
    words = np.ones((1, 2), int)
    variables = jax.jit(model.init)(jax.random.key(0), words, **arrays)
    apply = jax.jit(model.apply)
    before = apply(variables, words, **arrays).emissions
    assert not np.allclose(before, apply(variables, words + 1, **arrays).emissions)
    for name, array in arrays.items():
        assert not np.allclose(before, apply(variables, words, **{**arrays, name: array + 1}).emissions), name
