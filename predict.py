"""Classify texts with a trained model: `python predict.py --text "..."`. The same as `rnnjax predict`."""

import sys

from rnnjax.cli import main

if __name__ == "__main__":
    sys.exit(main(["predict", *sys.argv[1:]]))
