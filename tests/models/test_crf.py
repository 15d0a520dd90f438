"""The conditional random field against sums and maxima over all sequences of tags, one by one, in 64 bits."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.models.crf import TagScores, Transitions, best_path, log_likelihood, log_partition, path_score

LENGTHS = np.array([5, 3, 1, 0, 4])
COUNT = 3


def draw(with_transitions=True, seed=0):
    rng = np.random.default_rng(seed)
    batch, steps = len(LENGTHS), int(LENGTHS.max())
    emissions = 2 * rng.normal(size=(batch, steps, COUNT))
    if not with_transitions:
        return TagScores(emissions)
    return TagScores(
        emissions,
        2 * rng.normal(size=(batch, COUNT, COUNT)),
        2 * rng.normal(size=(batch, COUNT)),
        2 * rng.normal(size=(batch, COUNT)),
    )


def score_by_hand(scores, example, tags):
    total = sum(scores.emissions[example, t, tag] for t, tag in enumerate(tags))
    if scores.between is not None and tags:
        total += scores.start[example, tags[0]] + scores.end[example, tags[-1]]
        total += sum(scores.between[example, a, b] for a, b in itertools.pairwise(tags))
    return total


def all_paths(scores, example):
    paths = list(itertools.product(range(COUNT), repeat=int(LENGTHS[example])))
    return paths, np.array([score_by_hand(scores, example, path) for path in paths])


def padded(paths):
    return np.array([[*path, *[0] * (int(LENGTHS.max()) - len(path))] for path in paths])


@pytest.mark.parametrize("with_transitions", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_all_sequences_one_by_one(with_transitions, seed, x64):
    scores = draw(with_transitions, seed)
    found = jax.jit(log_partition)(scores, LENGTHS)
    assert found.dtype == jnp.float64
    best, chosen = [], []
    for example in range(len(LENGTHS)):
        paths, values = all_paths(scores, example)
        assert float(found[example]) == pytest.approx(np.log(np.exp(values).sum()), rel=1e-12, abs=1e-12)
        best.append(paths[values.argmax()])
        chosen.append(paths[(7 * seed + example) % len(paths)])
    np.testing.assert_array_equal(jax.jit(best_path)(scores, LENGTHS), padded(best))
    expected = [score_by_hand(scores, example, path) for example, path in enumerate(chosen)]
    tags = padded(chosen)
    np.testing.assert_allclose(path_score(scores, tags, LENGTHS), expected, rtol=1e-12, atol=1e-12)
    likelihood = log_likelihood(scores, tags, LENGTHS)
    np.testing.assert_allclose(likelihood, np.array(expected) - found, rtol=1e-12, atol=1e-12)


def test_probabilities_of_all_sequences_sum_to_one(x64):
    scores = draw()
    one = jax.tree.map(lambda leaf: leaf[:1], scores)
    paths, _ = all_paths(scores, 0)
    many = jax.tree.map(lambda leaf: jnp.repeat(leaf, len(paths), axis=0), one)
    likelihoods = log_likelihood(many, np.array(paths), np.full(len(paths), LENGTHS[0]))
    assert float(jnp.exp(likelihoods).sum()) == pytest.approx(1, rel=1e-12)


def test_gradient_of_log_partition_is_the_share_of_each_tag(x64):
    """The derivative by an emission is the probability of that tag there, by a transition the expected count."""
    scores = draw()
    gradients = jax.grad(lambda scores: log_partition(scores, LENGTHS).sum())(scores)
    for example, length in enumerate(LENGTHS):
        paths, values = all_paths(scores, example)
        shares = np.exp(values - values.max())
        shares /= shares.sum()
        expected = jax.tree.map(lambda leaf, example=example: np.zeros_like(leaf[example]), scores)
        for path, share in zip(paths, shares, strict=True):
            for t, tag in enumerate(path):
                expected.emissions[t, tag] += share
            for a, b in itertools.pairwise(path):
                expected.between[a, b] += share
            if length:
                expected.start[path[0]] += share
                expected.end[path[-1]] += share
        for part, right in zip(gradients, expected, strict=True):
            np.testing.assert_allclose(part[example], right, atol=1e-12)


@pytest.mark.parametrize("with_transitions", [True, False])
def test_what_stands_in_padding_reaches_nothing(with_transitions):
    scores = draw(with_transitions)
    scores = jax.tree.map(lambda leaf: leaf.astype(np.float32), scores)
    tags = np.random.default_rng(1).integers(COUNT, size=scores.emissions.shape[:2])
    is_real = np.arange(tags.shape[1]) < LENGTHS[:, None]
    dirty = scores._replace(emissions=np.where(is_real[..., None], scores.emissions, np.nan))

    def total(scores, tags):
        return log_likelihood(scores, tags, LENGTHS).sum()

    for compute in (jax.value_and_grad(total), lambda scores, _: best_path(scores, LENGTHS)):
        clean_result = compute(scores, tags)
        jax.tree.map(np.testing.assert_array_equal, clean_result, compute(dirty, np.where(is_real, tags, 2)))


def test_without_transitions_it_is_a_softmax_at_each_token():
    """Transitions of zero change nothing, and give what no transitions give."""
    plain = draw(with_transitions=False)
    module = Transitions()
    variables = module.init(jax.random.key(0), plain.emissions)
    assert {name: leaf.shape for name, leaf in variables["params"].items()} == {
        "between": (COUNT, COUNT),
        "start": (COUNT,),
        "end": (COUNT,),
    }
    zero = module.apply(variables, plain.emissions.astype(np.float32))
    tags = np.random.default_rng(2).integers(COUNT, size=plain.emissions.shape[:2])
    softmax = np.exp(plain.emissions) / np.exp(plain.emissions).sum(axis=-1, keepdims=True)
    expected = [
        sum(np.log(softmax[example, t, tags[example, t]]) for t in range(length))
        for example, length in enumerate(LENGTHS)
    ]
    np.testing.assert_allclose(log_likelihood(zero, tags, LENGTHS), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(log_likelihood(plain, tags, LENGTHS), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(best_path(zero, LENGTHS), best_path(plain, LENGTHS))


def test_large_scores_do_not_overflow():
    scores = jax.tree.map(lambda leaf: (1e3 * leaf).astype(np.float32), draw())
    path = best_path(scores, LENGTHS)
    likelihood, gradient = jax.value_and_grad(lambda s: log_likelihood(s, path, LENGTHS).sum())(scores)
    assert float(likelihood) == pytest.approx(0, abs=1e-2)  # nothing comes near to the best
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
