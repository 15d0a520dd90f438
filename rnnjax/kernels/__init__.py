"""Functions on arrays that recurrences are made of: pure JAX, no Flax."""
