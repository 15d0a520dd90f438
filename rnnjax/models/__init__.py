"""Whole models, built of layers."""
