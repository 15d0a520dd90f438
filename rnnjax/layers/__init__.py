"""Flax modules over whole sequences."""
