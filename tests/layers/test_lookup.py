"""A layer that multiplies a table of vectors instead of the vectors gives the same, values and gradients."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_layer import FORMS, LAYERS, WEIGHTS, B, H, T, assert_trees_close, objective, variables

import rnnjax
from rnnjax.layers.embedding import Lookup

V = 4
IDS = np.random.default_rng(0).integers(V, size=(B, T))
TABLE = np.random.default_rng(1).standard_normal((V, H))
NAMES = [name for name in LAYERS if not name.startswith("conv")]


def results(layer, variables, table, looked_up, **options):
    """Values, and gradients of parameters and table, of vectors that the layer looks up itself or is given."""

    def loss(variables, table):
        x = Lookup(table, jnp.asarray(IDS)) if looked_up else table[IDS]
        final, outputs = layer.apply(variables, x, return_state=True, **options)
        return objective(final, outputs, WEIGHTS), (final, outputs)

    return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(variables, table)


@pytest.mark.parametrize(("name", "form"), [(name, form) for name, form in FORMS if name in NAMES])
def test_values_and_gradients(name, form, x64):
    layer = LAYERS[name](implementation=form, reverse=name == "gru")
    options = {"lengths": jnp.asarray([T, 2, 0])} if form != "parallel" else {}
    found, expected = (results(layer, variables(name), TABLE, looked_up, **options) for looked_up in (True, False))
    assert_trees_close(found, expected)
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(found[1]))


@pytest.mark.parametrize(
    "make",
    [
        lambda layer: rnnjax.Bidirectional(layer(return_state=True)),
        lambda layer: rnnjax.Stack([layer(), layer()], return_state=True, residual=True),
    ],
    ids=["bidirectional", "stack"],
)
def test_inside_other_layers(make, x64):
    layer = make(LAYERS["lstm"])
    given = jax.tree.map(lambda leaf: leaf + 0.1, layer.init(jax.random.key(0), TABLE[IDS]))
    assert_trees_close(*(results(layer, given, TABLE, looked_up) for looked_up in (True, False)))


@pytest.mark.parametrize(
    "options", [{"dropout_rate": 0.5, "deterministic": False}, {"recurrent_dropout_rate": 0.5, "deterministic": False}]
)
def test_dropout_masks_are_the_same(options, x64):
    layer = LAYERS["gru"](**options)
    rngs = {"dropout": jax.random.key(3)}
    assert_trees_close(*(results(layer, variables("gru"), TABLE, found, rngs=rngs) for found in (True, False)))


def test_chunks(x64):
    layer = LAYERS["lstm"](chunk_size=4)
    assert_trees_close(*(results(layer, variables("lstm"), TABLE, looked_up) for looked_up in (True, False)))


def shapes_of_products(ids_shape: tuple[int, ...], **options) -> set[str]:
    """Shapes of all products of a layer's forward pass over a table of V rows."""
    layer, ids = LAYERS["lstm"](**options), jnp.zeros(ids_shape, jnp.int32)
    rngs = {"dropout": jax.random.key(0)}
    program = str(jax.make_jaxpr(lambda table: layer.apply(variables("lstm"), Lookup(table, ids), rngs=rngs))(TABLE))
    return set(re.findall(r":f32\[([\d,]+)\] = dot_general", program))


def test_the_table_is_multiplied_where_it_has_fewer_rows():
    recurrent = f"{B},{4 * H}"
    assert shapes_of_products((B, 3)) >= {recurrent, f"{V},{4 * H}"}
    assert f"{V},{4 * H}" not in shapes_of_products((B, 2))
    assert f"{V},{4 * H}" not in shapes_of_products((B, 3), dropout_rate=0.5, deterministic=False)


def test_an_embedding_gives_vectors_where_it_drops_words():
    embedding = rnnjax.Embedding(V, H, word_dropout_rate=0.5)
    given = {"params": {"embedding": TABLE.astype(np.float32)}}
    options = {"deterministic": False, "rngs": {"dropout": jax.random.key(0)}}
    vectors = embedding.apply(given, IDS, method="lookup", **options)
    np.testing.assert_array_equal(vectors, embedding.apply(given, IDS, **options))
    later = embedding.apply(given, jnp.asarray(IDS), method="lookup")
    assert isinstance(later, Lookup)
    assert (later.shape, later.ndim) == ((B, T, H), 3)
    np.testing.assert_array_equal(later.vectors(), TABLE.astype(np.float32)[IDS])
