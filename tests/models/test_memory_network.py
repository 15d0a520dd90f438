"""Models that answer questions about stories, held against sums written out in float64."""

import jax
import numpy as np
import pytest

from rnnjax.layers.recurrent import GRU, LSTM
from rnnjax.models.memory_network import MemoryNetwork, WordMatchNetwork, position_weights
from rnnjax.models.story_reader import StoryReader

V, C, D, S, W, Q = 11, 4, 6, 5, 4, 3
rng = np.random.default_rng(0)
STORY = rng.integers(1, V, (3, S, W))
STORY[0, :2] = 0  # two sentences fewer
STORY[1, 3, 2:] = 0  # a short one
STORY[2, :4] = 0
QUESTION = rng.integers(1, V, (3, Q))
QUESTION[1, 2:] = 0


def apply(model, params, *arguments, **keywords):
    """Compiled: step by step these models take seconds."""
    run = jax.jit(lambda params, arguments, arrays: model.apply({"params": params}, *arguments, **arrays))
    return run(params, arguments, keywords)


def initial(model):
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), STORY, question=QUESTION))["params"]
    keys = iter(jax.random.split(jax.random.key(1), 50))
    return jax.tree.map(lambda leaf: 0.7 * jax.random.normal(next(keys), leaf.shape), shapes)


def read(layer, params, steps):
    """What a layer gives after these steps, right-padded to one shape."""
    length = len(steps)
    steps = np.pad(steps, ((0, S * W - length), (0, 0))).astype(np.float32)
    return np.asarray(apply(layer, params, steps[None], lengths=np.array([length]))[0], np.float64)


def double(tree):
    """Parameters in float64."""
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def softmax(x):
    powers = np.exp(x - x.max())
    return powers / powers.sum()


def sentence(table, ids):
    """The weighted sum of section 4.1, word by word."""
    words = [word for word in ids if word]
    total = np.zeros(table.shape[1])
    for j, word in enumerate(words, start=1):
        for k in range(1, table.shape[1] + 1):
            weight = (1 - j / len(words)) - (k / table.shape[1]) * (1 - 2 * j / len(words))
            total[k - 1] += weight * table[word, k - 1]
    return total


def test_weights_of_positions_by_hand():
    weights = position_weights(np.array([[True, True, False], [False, False, False]]), 2)
    # j = 1 of 2: 1/2 - (k / 2) 0; j = 2 of 2: 0 - (k / 2) (-1)
    np.testing.assert_allclose(weights, [[[0.5, 0.5], [0.5, 1.0], [0, 0]], np.zeros((3, 2))])


@pytest.mark.parametrize("hops", [2])
def test_memory_network_by_hand(hops):
    model = MemoryNetwork(V, C, D, hops)
    params = initial(model)
    logits, sown = model.apply({"params": params}, STORY, question=QUESTION, mutable="intermediates")
    looks = np.asarray(sown["intermediates"]["weights"][0])
    exact = double(params)
    tables = np.split(exact["embedding"]["embedding"], hops + 1, axis=1)
    ago = np.split(exact["ago"], hops + 1, axis=1)
    for row in range(3):
        state = sentence(tables[0], QUESTION[row])
        for hop in range(hops):
            there = [i for i in range(S) if STORY[row, i].any()]
            memory = [sentence(tables[hop], STORY[row, i]) + ago[hop][i] for i in there]
            output = [sentence(tables[hop + 1], STORY[row, i]) + ago[hop + 1][i] for i in there]
            weights = softmax(np.array([state @ m for m in memory]))
            state = state + sum(p * c for p, c in zip(weights, output, strict=True))
            np.testing.assert_allclose(looks[row, hop][there], weights, atol=1e-5)
            assert looks[row, hop].sum() == pytest.approx(1, abs=1e-5)
        by_hand = state @ exact["output"]["kernel"] + exact["output"]["bias"]
        np.testing.assert_allclose(logits[row], by_hand, rtol=1e-4, atol=1e-4)


def test_word_match_network_by_hand():
    model = WordMatchNetwork(V, C, D, LSTM(5, return_sequences=False))
    params = initial(model)
    logits = apply(model, params, STORY, question=QUESTION)
    exact = double(params)
    a, b, c = (exact[name]["embedding"] for name in ("match", "question", "answer"))
    for row in range(3):
        asked = [word for word in QUESTION[row] if word]
        x = np.zeros((len(asked), S * W + D))
        for t, word in enumerate(STORY[row].ravel()):
            if word:
                x[:, t] = softmax(np.array([a[word] @ b[other] for other in asked])) + c[word, : len(asked)]
        x[:, S * W :] = b[asked]
        last = read(LSTM(5, return_sequences=False), params["recurrent"], x)
        by_hand = last @ exact["output"]["kernel"] + exact["output"]["bias"]
        np.testing.assert_allclose(logits[row], by_hand, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("merge", "by_sentence", "readings"), [("end", False, 1), ("add", True, 1), ("product", True, 2)]
)
def test_story_reader_by_hand(merge, by_sentence, readings):
    layers = [GRU(5, return_sequences=False), GRU(D, return_sequences=False)]
    model = StoryReader(V, C, D, *layers, merge, readings, by_sentence)
    params = initial(model)
    logits = apply(model, params, STORY, question=QUESTION)
    exact = double(params)
    table = exact["embedding"]["embedding"]
    for row in range(3):
        q = read(layers[1], params["asked"], table[[word for word in QUESTION[row] if word]])
        if by_sentence:
            x = np.stack([sentence(table, ids) for ids in STORY[row] if ids.any()])
        else:
            x = table[[word for word in STORY[row].ravel() if word]]
        for number in range(1, readings + 1):
            steps = {"end": x, "add": x + q, "product": np.concatenate([x, x * q], axis=1)}[merge]
            last = read(layers[0], params[f"reading_{number}"], steps)
            if number < readings:
                q = q + last @ exact["question_2"]["kernel"] + exact["question_2"]["bias"]
        last = np.concatenate([last, q]) if merge == "end" else last
        by_hand = last @ exact["output"]["kernel"] + exact["output"]["bias"]
        np.testing.assert_allclose(logits[row], by_hand, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "model",
    [
        MemoryNetwork(V, C, D, 2),
        WordMatchNetwork(V, C, D, LSTM(5, return_sequences=False)),
        StoryReader(V, C, D, GRU(5, return_sequences=False), GRU(D, return_sequences=False)),
    ],
    ids=lambda model: type(model).__name__,
)
def test_dropout_and_finite_gradients(model):
    model = model.clone(dropout_rate=0.5)
    params = initial(model)

    @jax.jit
    def run(key, params=params):
        options = {"deterministic": False, "rngs": {"dropout": jax.random.key(key)}}
        return model.apply({"params": params}, STORY, question=QUESTION, **options)

    assert np.abs(run(0) - run(1)).max() > 1e-3
    np.testing.assert_array_equal(run(0), run(0))
    gradients = jax.jit(jax.grad(lambda params: run(0, params).sum()))(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    padding = jax.tree.leaves({k: v for k, v in gradients.items() if k in ("embedding", "match", "question", "answer")})
    assert all(not leaf[0].any() for leaf in padding), "padding takes no part"
