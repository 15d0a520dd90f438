"""Train a model: `python train.py --task imdb`. The same as `rnnjax train`."""

import sys

from rnnjax.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
