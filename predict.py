"""Classify texts with a trained model: `python predict.py --text "..."`. The same as `rnnjax predict`."""

from rnnjax.cli import script

if __name__ == "__main__":
    script("predict")
