"""Continue a text with a trained model: `python generate.py --temperature 0.6`. The same as `rnnjax generate`."""

from rnnjax.cli import script

if __name__ == "__main__":
    script("generate")
