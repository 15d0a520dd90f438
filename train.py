"""Train a model: `python train.py --task imdb`. The same as `rnnjax train`."""

from rnnjax.cli import script

if __name__ == "__main__":
    script("train")
