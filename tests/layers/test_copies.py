"""The fused recurrence passes over its arrays once: no step copies one that holds all steps."""

import re

import jax
import jax.numpy as jnp
import pytest

import rnnjax

B, T, D, H = 4, 23, 3, 5
LAYERS = {
    "lstm": rnnjax.LSTM,
    "gru": rnnjax.GRU,
    "gru_before": lambda *args, **options: rnnjax.GRU(*args, reset_after=False, **options),
    "simple": rnnjax.SimpleRNN,
    "irnn": rnnjax.IRNN,
}
CASES = {
    "plain": ({}, {}),
    "last": ({"return_sequences": False}, {}),
    "reverse": ({"reverse": True}, {}),
    "bfloat16": ({"matmul_dtype": "bfloat16"}, {}),
    "dropout": ({"dropout_rate": 0.5, "recurrent_dropout_rate": 0.5, "deterministic": False}, {}),
    "lengths": ({}, {"lengths": jnp.asarray([T, 5, 0, 1])}),
    "resets": ({}, {"resets": jnp.zeros((B, T), bool).at[0, 2].set(True)}),
}


def copies_of_all_steps(layer, **inputs) -> list[str]:
    """Lines of the compiled gradient that copy an array of T steps inside a loop."""
    x = jnp.ones((B, T, D), jnp.float32)
    variables = layer.init({"params": jax.random.key(0), "dropout": jax.random.key(0)}, x)

    def loss(variables, x, key):
        return layer.apply(variables, x, rngs={"dropout": key}, **inputs).sum()

    program = jax.jit(jax.grad(loss, (0, 1))).lower(variables, x, jax.random.key(1)).compile().as_text()
    bodies = {
        name: re.search(rf"^%{re.escape(name)} .*?^}}", program, re.MULTILINE | re.DOTALL)[0]
        for name in re.findall(r"body=%([^,\s]+)", program)
    }
    assert len(bodies) >= 2  # forward, back, and those of a random generator
    return [
        line for body in bodies.values() for line in re.findall(rf"^.*= \w+\[{T},[\d,]*\]\S* copy\(.*$", body, re.M)
    ]


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="arrays change places on CPU only")
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", LAYERS)
def test_no_step_copies_all_steps(name, case):
    options, inputs = CASES[case]
    assert not copies_of_all_steps(LAYERS[name](H, **options), **inputs)
