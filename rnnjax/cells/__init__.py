"""Flax modules for one step: parameters and equations."""
