"""`python -m rnnjax.cli`."""

from rnnjax.cli import script

script()
