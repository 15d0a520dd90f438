"""Character n-gram models with Witten-Bell smoothing: what a language model has to beat.

    python benchmarks/ngram.py --data-dir DIR      # writes benchmarks/ngram.json

The models count the first 90 % of a text, and are scored, in nats a character, on the last 10 %, each character given
those before it, as `train.py --task char` scores its own. They know the same characters: all of the text.
"""

import argparse
import collections
import json
import math
from collections.abc import Sequence
from pathlib import Path

from rnnjax.tasks import char

PATH = Path(__file__).resolve().parent / "ngram.json"
ORDERS = range(2, 9)
TEXTS = {
    "nietzsche": {"corpus": "nietzsche"},
    "nietzsche, lower-cased": {"corpus": "nietzsche", "lowercase": True},
    "tiny_shakespeare": {},
}
"""Name -> settings of the task that reads the text."""


class NGrams:
    """Interpolated n-gram models of every order up to one (Witten and Bell 1991, method C; Chen and Goodman 1998).

    With c(hw) how often w follows the context h, c(h) how often anything does, and T(h) how many different things do,

        P(w | h) = (c(hw) + T(h) P(w | h')) / (c(h) + T(h))

    where h' is h without its first character, and 1 / V stands below the empty context. A context that was never seen
    leaves P(w | h').
    """

    def __init__(self, text: Sequence, alphabet_size: int, order: int) -> None:
        """Count `text`, of characters or of other tokens, of which there are V = `alphabet_size`."""
        self.alphabet_size = alphabet_size
        self.counts = []
        """For each length of context: (context, token) -> count."""
        self.contexts = []
        """For each length of context: context -> (count, different tokens)."""
        for length in range(order):
            pairs = zip(*(text[start:] for start in range(length + 1)), strict=False)
            counts = collections.Counter(pairs)
            totals: collections.Counter = collections.Counter()
            for gram, count in counts.items():
                totals[gram[:-1]] += count
            types = collections.Counter(gram[:-1] for gram in counts)
            self.counts.append(counts)
            self.contexts.append({context: (total, types[context]) for context, total in totals.items()})

    def probabilities(self, before: Sequence, token: object) -> list[float]:
        """P(token | the last n - 1 of `before`) for each order n from 1 up, as far as `before` goes."""
        found, below = [], 1 / self.alphabet_size
        for length, (counts, contexts) in enumerate(zip(self.counts, self.contexts, strict=True)):
            if length > len(before):
                break
            context = tuple(before[len(before) - length :])
            if context in contexts:
                total, types = contexts[context]
                below = (counts.get((*context, token), 0) + types * below) / (total + types)
            found.append(below)
        return found


def scores(text: str, start: int, most: int) -> dict[int, float]:
    """Mean nats a character of text[start:] by models of order 1 to `most` that counted text[:start]."""
    model = NGrams(text[:start], len(set(text)), most)
    sums = dict.fromkeys(range(1, most + 1), 0.0)
    for place in range(start, len(text)):
        found = model.probabilities(text[max(0, place - most + 1) : place], text[place])
        for order in sums:
            sums[order] -= math.log(found[min(order, len(found)) - 1])
    return {order: value / (len(text) - start) for order, value in sums.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="folder of data sets")
    options = parser.parse_args()
    results = {}
    for name, settings in TEXTS.items():
        dataset, _, text = char.read(char.Config(data_dir=options.data_dir, **settings))
        if dataset == "builtin":
            raise SystemExit(f"{name}: there is none; name the folder of data sets with --data-dir")
        start = len(text) * 9 // 10
        found = scores(text, start, max(ORDERS))
        results[name] = {
            "characters": len(text),
            "distinct": len(set(text)),
            "scored": len(text) - start,
            "nats": {str(order): round(found[order], 4) for order in ORDERS},
        }
        print(name, results[name]["nats"], flush=True)
    PATH.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
