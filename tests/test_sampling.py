"""Sampling from carried state equals full passes, and draws from the right sets with the right odds."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax
from rnnjax import sampling
from rnnjax.models.language_model import LanguageModel
from rnnjax.sampling import PROMPT_CHUNK, Sampler, argmax, choose

V = 7


@pytest.fixture(autouse=True)
def quick(quick_compilation):
    """Compile without most optimizations."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module", params=["lstm", "gru"])
def trained(request):
    """A model of two layers with weights so large that it has opinions."""
    layer = {"lstm": rnnjax.LSTM, "gru": rnnjax.GRU}[request.param]
    model = LanguageModel(V, 5, rnnjax.Stack([layer(6), layer(4)]), dropout_rate=0.5)
    params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 1), jnp.int32))["params"]
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    return model, jax.tree.unflatten(
        structure, [3 * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    )


def tokens(seed: int, length: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(V, size=length, dtype=np.int32)


def drawn(sampler: Sampler, prompt: np.ndarray, length: int, **options) -> np.ndarray:
    return np.concatenate(list(sampler.sample(prompt, length, **options)), axis=1)  # [S, N]


def full_logits(trained, text: np.ndarray) -> np.ndarray:
    model, params = trained
    return np.asarray(model.apply({"params": params}, text[None]))[0]  # [T, V]


def test_greedy_text_is_the_choice_of_a_full_pass(trained):
    sampler, seen = Sampler(*trained, temperature=0), set()
    for seed in range(6):
        prompt = tokens(seed, 5)
        (text,) = drawn(sampler, prompt, 40, chunk=16)
        logits = full_logits(trained, np.concatenate([prompt, text]))[len(prompt) - 1 : -1]
        np.testing.assert_array_equal(text, logits.argmax(axis=1))
        seen |= set(text.tolist())
    assert len(seen) > 1


def test_drawn_text_is_the_choice_of_a_full_pass_with_the_same_keys(trained):
    prompt = tokens(1, 3)
    samples = drawn(Sampler(*trained, temperature=0.8, top_k=5), prompt, 40, seed=4, num_samples=3)
    for number, text in enumerate(samples):
        logits = full_logits(trained, np.concatenate([prompt, text]))[len(prompt) - 1 : -1]
        key = jax.random.fold_in(jax.random.key(4), number)
        for position in range(40):
            row = jnp.asarray(logits[position])
            kept = jnp.where(row >= jnp.sort(row)[-5], row, -jnp.inf)
            chosen = jax.random.categorical(jax.random.fold_in(key, position), kept / 0.8)
            assert int(chosen) == text[position]
    assert len({tuple(text) for text in samples}) == 3


def test_text_does_not_depend_on_chunks_or_company(trained):
    prompt = tokens(2, 4)
    sampler = Sampler(*trained, temperature=1.3)
    whole = drawn(sampler, prompt, 50, seed=1, num_samples=4, chunk=64)
    assert whole.shape == (4, 50)
    for chunk in (7, 50):
        np.testing.assert_array_equal(drawn(sampler, prompt, 50, seed=1, num_samples=4, chunk=chunk), whole)
    np.testing.assert_array_equal(drawn(sampler, prompt, 50, seed=1, num_samples=2, chunk=64), whole[:2])
    np.testing.assert_array_equal(drawn(sampler, prompt, 20, seed=1, num_samples=4, chunk=7), whole[:, :20])
    assert (drawn(sampler, prompt, 50, seed=2, num_samples=4, chunk=64) != whole).any()


def test_text_does_not_depend_on_what_is_made_ahead(trained, monkeypatch):
    """Neither noise that is drawn step by step, nor what the first layer makes of a token, are other ones."""
    options = {"seed": 3, "num_samples": 2, "chunk": 16}
    ahead = drawn(Sampler(*trained, temperature=1.1), tokens(2, 4), 40, **options)
    monkeypatch.setattr(sampling, "MOST_NOISE", 0)
    sampler = Sampler(*trained, temperature=1.1)
    monkeypatch.setattr(sampler, "_project", lambda variables: variables)
    np.testing.assert_array_equal(drawn(sampler, tokens(2, 4), 40, **options), ahead)


def test_argmax_is_the_first_of_the_largest():
    scores = np.random.default_rng(0).integers(4, size=(50, 9)).astype(np.float32)
    np.testing.assert_array_equal(argmax(scores), scores.argmax(axis=1))
    scores[:, 3] = np.nan
    assert np.all(argmax(scores) == 8)


@pytest.mark.parametrize("length", [1, PROMPT_CHUNK, PROMPT_CHUNK + 1, 2 * PROMPT_CHUNK + 17])
def test_a_prompt_in_pieces_is_read_as_in_one_pass(trained, length):
    model, params = trained
    prompt = tokens(3, length)
    state, logits = Sampler(model, params).read(prompt)
    expected_state, expected = model.apply({"params": params}, prompt[None], return_state=True)
    np.testing.assert_allclose(logits, expected[:, -1], rtol=1e-3, atol=1e-3)
    for leaf, expected_leaf in zip(jax.tree.leaves(state), jax.tree.leaves(expected_state), strict=True):
        np.testing.assert_allclose(leaf, expected_leaf, rtol=1e-3, atol=1e-3)


def test_nothing_compiles_anew_for_other_lengths(trained):
    sampler = Sampler(*trained, temperature=0)
    for prompt_length, length in ((3, 5), (9, 40), (PROMPT_CHUNK + 3, 33)):
        drawn(sampler, tokens(0, prompt_length), length, chunk=32)
    assert sampler._read._cache_size() == 1
    assert sampler._draw._cache_size() == 1


def allowed(logits: np.ndarray, temperature: float, top_k: int | None, top_p: float | None) -> set[int]:
    """Tokens that may be drawn, after Holtzman et al.: top-k first, then the fewest that reach p of what is left."""
    order = sorted(range(len(logits)), key=lambda token: (-logits[token], token))
    order = order[: top_k or len(order)]
    scaled = np.exp((logits[order] - logits.max()).astype(np.float64) / temperature)
    probabilities = scaled / scaled.sum()
    kept, reached = set(), 0.0
    for token, probability in zip(order, probabilities, strict=True):
        if top_p is not None and kept and reached >= top_p:
            break
        kept.add(token)
        reached += probability
    return kept


def draws(logits: np.ndarray, count: int, **options) -> np.ndarray:
    """How often each token is drawn."""
    (counts,) = draws_of_each(np.asarray(logits)[None], count, **options)
    return counts


def draws_of_each(logits: np.ndarray, count: int, **options) -> list[np.ndarray]:
    """How often each token is drawn from each row of logits [N, V]."""
    pick = functools.partial(choose, **{"temperature": 1.0, "top_k": None, "top_p": None, **options})
    noise = jax.random.gumbel(jax.random.key(0), (count, logits.shape[1]))
    over_noise = jax.vmap(pick, in_axes=(None, 0))
    chosen = jax.jit(jax.vmap(over_noise, in_axes=(0, None)))(jnp.asarray(logits, jnp.float32), noise)
    return [np.bincount(row, minlength=logits.shape[1]) for row in np.asarray(chosen)]


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [
        (1.0, 1, None),
        (1.0, 3, None),
        (0.5, 20, None),
        (1.0, None, 0.3),
        (2.0, None, 0.8),
        (0.7, 4, 0.6),
        (1.0, None, 1.0),
    ],
)
def test_only_the_right_tokens_are_drawn(temperature, top_k, top_p):
    logits = 0.6 * np.random.default_rng(0).standard_normal((5, 9)).astype(np.float32)
    counts = draws_of_each(logits, 4000, temperature=temperature, top_k=top_k, top_p=top_p)
    for row, row_counts in zip(logits, counts, strict=True):
        assert set(np.flatnonzero(row_counts)) == allowed(row, temperature, top_k, top_p)


def test_ties_keep_the_first_tokens():
    counts = draws(np.zeros(6), 500, top_k=2)
    assert set(np.flatnonzero(counts)) == {0, 1}
    assert set(np.flatnonzero(draws(np.zeros(4), 500, top_p=0.5))) == {0, 1}


@pytest.mark.parametrize(
    ("probabilities", "top_p", "kept"),
    [
        ([0.5, 0.3, 0.2], 0.5, {0}),
        ([0.5, 0.3, 0.2], 0.8, {0, 1}),
        ([0.05, 0.5, 0.15, 0.3], 0.8, {1, 3}),
        ([1 / 3] * 3, 2 / 3, {0, 1}),
        ([0.5, 0.3, 0.2], 1e-9, {0}),
    ],
)
def test_a_probability_that_is_reached_exactly_needs_no_further_token(probabilities, top_p, kept):
    assert set(np.flatnonzero(draws(np.log(probabilities), 500, top_p=top_p))) == kept


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_odds(temperature):
    logits = np.array([1.0, 0.0, -1.0, 0.5, -0.3])
    count = 20_000
    expected = count * np.exp(logits / temperature) / np.exp(logits / temperature).sum()
    observed = draws(logits, count, temperature=temperature)
    # 18.47 is passed once in a thousand by a chi-square of four degrees of freedom; the draws are the same each time.
    assert ((observed - expected) ** 2 / expected).sum() < 18.47


@pytest.mark.parametrize("temperature", [0.0, 1e-45, 1e-30])
def test_next_to_no_temperature_is_greedy(temperature):
    logits = np.array([0.1, 0.2, 5.0, 4.99, -1.0])
    assert draws(logits, 50, temperature=temperature).tolist() == [0, 0, 50, 0, 0]
    assert draws(logits, 50, temperature=temperature, top_k=2, top_p=0.5).tolist() == [0, 0, 50, 0, 0]


def test_options_are_checked(trained):
    for options in (
        {"temperature": -0.1}, {"temperature": float("nan")}, {"temperature": float("inf")},
        {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.5}, {"top_p": float("nan")},
    ):  # fmt: skip
        (name,) = options
        with pytest.raises(ValueError, match=name):
            Sampler(*trained, **options)
    with pytest.raises(ValueError, match="one token or more"):
        next(Sampler(*trained).sample(np.zeros(0, np.int32), 3))
