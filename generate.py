"""Continue a text with a trained model: `python generate.py --temperature 0.6`. The same as `rnnjax generate`."""

import sys

from rnnjax.cli import main

if __name__ == "__main__":
    sys.exit(main(["generate", *sys.argv[1:]]))
