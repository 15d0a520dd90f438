"""The table of a model's layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import rnnjax
from rnnjax.models.summary import count_parameters


class Tutorial(nn.Module):
    """The model of the Keras tutorial on IMDB: 10,000 words, 128 numbers each, an LSTM of 64."""

    @nn.compact
    def __call__(self, ids, *, lengths=None):
        x = rnnjax.Embedding(10_000, 128, name="embedding")(ids)
        x = rnnjax.LSTM(64, return_sequences=False, dropout_rate=0.2, deterministic=False, name="lstm")(
            x, lengths=lengths
        )
        return nn.Dense(1, name="head")(x)


EXPECTED = """\
Tutorial -> (32, 1)
---------------------------------------
layer      output shape      parameters
---------------------------------------
embedding  (32, 200, 128)     1,280,000
lstm       (32, 64)              49,408
head       (32, 1)                   65
---------------------------------------
1,329,473 parameters"""


@pytest.mark.parametrize("ids", [jax.ShapeDtypeStruct((32, 200), jnp.int32), np.zeros((32, 200), np.int32)])
def test_the_tutorials_model(ids):
    assert [line.split() for line in rnnjax.summary(Tutorial(), ids).splitlines() if not line.startswith("-")] == [
        line.split() for line in EXPECTED.splitlines() if not line.startswith("-")
    ]
    assert rnnjax.summary(Tutorial(), ids, lengths=np.full(32, 7)).endswith("1,329,473 parameters")


def test_columns_stand_under_each_other():
    lines = rnnjax.summary(Tutorial(), jax.ShapeDtypeStruct((32, 200), jnp.int32)).splitlines()
    table = [line for line in lines[1:-1] if not line.startswith("-")]
    assert len({len(line) for line in table}) == 1
    assert len({line.index("(") for line in table[1:]}) == 1


def test_a_layer_that_gives_states_shows_all_its_shapes():
    class Encoder(nn.Module):
        @nn.compact
        def __call__(self, x):
            return rnnjax.Bidirectional(rnnjax.LSTM(5), name="both")(x, return_state=True)

    text = rnnjax.summary(Encoder(), jax.ShapeDtypeStruct((2, 7, 3), jnp.float32))
    row = next(line for line in text.splitlines() if line.startswith("both"))
    assert row.split(maxsplit=1)[1].startswith("(2, 5), (2, 5), (2, 5), (2, 5), (2, 7, 10)")
    assert row.endswith(f"{2 * 4 * (5 * (3 + 5) + 5):,}")


def test_inner_layers_show_what_they_give_and_not_their_states():
    text = rnnjax.summary(rnnjax.Stack([rnnjax.LSTM(5), rnnjax.GRU(3)]), jax.ShapeDtypeStruct((2, 7, 3), jnp.float32))
    assert [line.split("  ")[1] for line in text.splitlines() if line.startswith("layer_")] == [
        "(2, 7, 5)",
        "(2, 7, 3)",
    ]


def test_keywords_may_be_shapes_too():
    ids, lengths = jax.ShapeDtypeStruct((32, 200), jnp.int32), jax.ShapeDtypeStruct((32,), jnp.int32)
    assert rnnjax.summary(Tutorial(), ids, lengths=lengths) == rnnjax.summary(Tutorial(), ids)


def test_count_parameters():
    assert count_parameters({"a": np.zeros((2, 3)), "b": {"c": np.zeros(4), "d": np.zeros(())}}) == 11
    assert count_parameters({}) == 0
