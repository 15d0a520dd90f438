import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnjax.data.batching import Examples, Streams, holdout, split_indices
from rnnjax.errors import InputError

SMALL = st.integers(1, 40)


@given(n=st.integers(0, 40), batch_size=SMALL, seed=st.integers(0, 2**40), epoch=st.integers(0, 5))
def test_each_example_once(n, batch_size, seed, epoch):
    ids = np.arange(n, dtype=np.int32)
    examples = Examples({"ids": ids, "pairs": np.stack([ids, -ids], axis=1)})
    for batches in (examples.training_epoch(seed, epoch, batch_size), examples.evaluation(batch_size)):
        seen = []
        for batch in batches:
            assert batch["ids"].shape == batch["weight"].shape == (batch_size,)
            np.testing.assert_array_equal(batch["pairs"], np.stack([batch["ids"], -batch["ids"]], axis=1))
            assert set(batch["weight"]) <= {0.0, 1.0}
            seen.extend(batch["ids"][batch["weight"] == 1])
        assert sorted(seen) == list(range(n))
        assert len(batches) == -(-n // batch_size)
    assert seen == list(range(n))  # an evaluation keeps the order


def test_the_order_depends_on_seed_and_epoch_alone():
    examples = Examples({"ids": np.arange(100)})

    def order(seed, epoch, start=0):
        batches = examples.training_epoch(seed, epoch, 7)
        return [list(batches[i]["ids"]) for i in range(start, len(batches))]

    assert order(1, 2) == order(1, 2)
    assert order(1, 2)[4:] == order(1, 2, start=4)
    orders = [order(seed, epoch) for seed in (0, 1, 2) for epoch in (0, 1, 2)]
    assert all(a != b for i, a in enumerate(orders) for b in orders[:i])


def test_examples_padding_and_indexing():
    batches = Examples({"ids": np.array([5, 6, 7])}).evaluation(2)
    np.testing.assert_array_equal(batches[-1]["ids"], [7, 7])
    np.testing.assert_array_equal(batches[1]["weight"], [1, 0])
    assert batches[0]["weight"].dtype == np.float32
    with pytest.raises(IndexError):
        batches[2]


@pytest.mark.parametrize("arrays", [{}, {"a": np.zeros(2), "b": np.zeros(3)}, {"weight": np.zeros(2)}])
def test_examples_refuses(arrays):
    with pytest.raises(ValueError, match="one length"):
        Examples(arrays)


def rows_of(batches):
    """Lay the windows of each row end to end: name -> [B, T * windows]."""
    return {name: np.concatenate([batch[name] for batch in batches], axis=1) for name in batches[0]}


@given(
    n=st.integers(2, 60), window=st.integers(1, 12), batch_size=SMALL, seed=st.integers(0, 100), epoch=st.integers(0, 3)
)
def test_streams_in_training(n, window, batch_size, seed, epoch):
    tokens = np.arange(100, 100 + n, dtype=np.int32)  # a token tells its place
    streams = Streams(tokens, window, context=np.array([7]))
    batches = streams.training_epoch(seed, epoch, batch_size)
    rows = rows_of(batches)
    assert len(rows["inputs"]) == streams.num_streams(batch_size) <= batch_size
    counted = rows["weight"] == 1
    # Each token once a target, but for the first, which stands after nothing.
    assert sorted(rows["targets"][counted]) == list(range(101, 100 + n))
    np.testing.assert_array_equal(rows["inputs"][counted] + 1, rows["targets"][counted])
    np.testing.assert_array_equal(rows["position"], np.where(counted, rows["targets"] - 100, 0))
    read = rows["targets"] > 0
    for row in range(len(read)):
        length = read[row].sum()
        assert read[row, :length].all()  # padding at the end only
        # A row goes on over window after window, round the ring.
        np.testing.assert_array_equal(rows["inputs"][row, 1:length], rows["targets"][row, : length - 1])
        np.testing.assert_array_equal((np.diff(rows["targets"][row, :length]) - 1) % n, 0)
    assert read.sum() == n
    assert read.sum(axis=1).max() - read.sum(axis=1).min() <= 1
    assert not rows["inputs"][~read].any()


@given(
    n=st.integers(1, 60),
    m=st.integers(0, 9),
    window=st.integers(1, 12),
    batch_size=SMALL,
    warmup=st.integers(0, 20),
)
def test_streams_in_evaluation(n, m, window, batch_size, warmup):
    if n + m < 2:
        return
    text = np.arange(100, 100 + m + n, dtype=np.int32)
    rows = rows_of(Streams(text[m:], window, context=text[:m]).evaluation(batch_size, warmup))
    counted = rows["weight"] == 1
    first = 100 + max(m, 1)  # without context, the first token stands after nothing
    assert list(rows["targets"][counted]) == list(range(first, 100 + m + n))  # once each, row after row
    np.testing.assert_array_equal(rows["position"], np.where(counted, rows["targets"] - 100 - m, 0))
    for row in range(len(counted)):
        read = rows["targets"][row] > 0
        length = read.sum()
        assert read[:length].all()
        np.testing.assert_array_equal(np.diff(rows["targets"][row, :length]), 1)
        np.testing.assert_array_equal(rows["inputs"][row, :length] + 1, rows["targets"][row, :length])
        start = rows["targets"][row][counted[row]].min(initial=10**6)
        if start < 10**6:
            # As much warm-up as was asked for and as there is; place 0 of the text is an input, never a target.
            assert (read & ~counted[row]).sum() == min(warmup, start - 101)


def test_streams_by_hand():
    streams = Streams(np.array([10, 11, 12, 13, 14]), 2, context=np.array([8, 9]))
    first, second = streams.evaluation(2, warmup=1)
    np.testing.assert_array_equal(first["inputs"], [[8, 9], [10, 11]])
    np.testing.assert_array_equal(first["targets"], [[9, 10], [11, 12]])
    np.testing.assert_array_equal(first["weight"], [[0, 1], [0, 1]])
    np.testing.assert_array_equal(first["position"], [[0, 0], [0, 2]])
    np.testing.assert_array_equal(second["inputs"], [[10, 0], [12, 13]])
    np.testing.assert_array_equal(second["targets"], [[11, 0], [13, 14]])
    np.testing.assert_array_equal(second["weight"], [[1, 0], [1, 1]])
    np.testing.assert_array_equal(second["position"], [[1, 0], [3, 4]])
    assert {name: array.dtype.name for name, array in first.items()} == {
        "inputs": "int32",
        "targets": "int32",
        "weight": "float32",
        "position": "int32",
    }


def test_streams_restart_now_and_then():
    tokens = np.arange(4_000, dtype=np.int32)
    plain, streams = Streams(tokens, 5), Streams(tokens, 5, restart_rate=0.1)
    batches = streams.training_epoch(3, 1, 8)
    restarts = np.array([batch["restart"] for batch in batches])  # [100, 8]
    assert restarts.shape == (100, 8)
    assert 0.06 < restarts.mean() < 0.14
    assert len({tuple(row) for row in restarts.T.tolist()}) == 8  # each row by itself
    for batch, other, again in zip(
        batches, plain.training_epoch(3, 1, 8), streams.training_epoch(3, 1, 8), strict=True
    ):
        assert "restart" not in other
        np.testing.assert_array_equal(batch["restart"], again["restart"])
        np.testing.assert_array_equal(batch["inputs"], other["inputs"])
    assert "restart" not in streams.evaluation(8)[0]


def test_streams_order_depends_on_seed_and_epoch_alone():
    streams = Streams(np.arange(1000), 10)

    def start(seed, epoch):
        return streams.training_epoch(seed, epoch, 4)[3]["inputs"].tolist()

    assert start(3, 1) == start(3, 1)
    assert start(3, 1) != start(3, 2) != start(4, 2)


def test_short_texts_have_fewer_rows():
    assert Streams(np.arange(1000), 10).num_streams(32) == 32
    assert Streams(np.arange(1000), 100).num_streams(32) == 10
    assert Streams(np.arange(2), 100).num_streams(32) == 1
    with pytest.raises(InputError, match="2 or more"):
        Streams(np.arange(1), 10)
    with pytest.raises(InputError, match="2 or more"):
        Streams(np.arange(0), 10, context=np.arange(5))
    with pytest.raises(ValueError, match="window"):
        Streams(np.arange(5), 0)


@given(n=st.integers(3, 200), seed=st.integers(0, 1000), part=st.sampled_from([0.0, 0.1, 0.3, 0.5]))
def test_splits_divide(n, seed, part):
    parts = split_indices(n, seed, (1 - 2 * part, part, part))
    assert list(parts) == ["train", "validation", "test"]
    assert all(len(indices) and (np.diff(indices) > 0).all() for indices in parts.values())
    assert sorted(np.concatenate(list(parts.values()))) == list(range(n))
    rest, held = holdout(n, part, seed)
    assert sorted(np.concatenate([rest, held])) == list(range(n))
    assert len(held) == max(1, round(n * part))
    assert (np.diff(rest) > 0).all()


def test_split_sizes_and_seeds():
    parts = split_indices(1000, 0)
    assert [len(indices) for indices in parts.values()] == [800, 100, 100]
    assert (split_indices(1000, 0)["test"] == parts["test"]).all()
    assert (split_indices(1000, 1)["test"] != parts["test"]).any()
    assert (holdout(100, 0.2, 0)[1] != holdout(100, 0.2, 1)[1]).any()
    with pytest.raises(InputError, match="3 or more"):
        split_indices(2, 0)
    with pytest.raises(InputError, match="2 or more"):
        holdout(1, 0.1, 0)
