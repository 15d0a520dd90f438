"""Who speaks? Our authorship model beside a logistic regression of character n-grams, on a play.

    python benchmarks/authorship.py tinyshakespeare.txt

The text is a play in the form of tiny_shakespeare: a line `NAME:`, and the lines that are spoken below it. What each of
the speakers with the most text says, names taken away, is one author's file. `train.py --task authorship` cuts it into
passages and divides them; the baseline sees the very same passages: scikit-learn's TF-IDF of the 1- to 5-grams of
characters (sublinear counts, lower-cased) and logistic regression, whose C is the best on the validation passages.
Since a tenth of so little text is few passages, this is done several times: each time every speaker's text is turned
round by a further fifth of it, so that another part of it is held out. Writes benchmarks/authorship.json.
"""

import argparse
import datetime
import json
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from scores import ROOT

RESULTS = ROOT / "benchmarks" / "authorship.json"
STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
"""Values of C that the baseline chooses from."""


def speeches(play: str) -> dict[str, str]:
    """What each speaker of a play says, one speech after another."""
    found: dict[str, list[str]] = {}
    for block in play.split("\n\n"):
        name, _, words = block.partition(":\n")
        if words and re.fullmatch(r"[A-Z][A-Za-z' ]*", name):
            found.setdefault(name.title(), []).append(words)
    return {name: "\n".join(said) + "\n" for name, said in found.items()}


def baseline(folder: Path, passage: int) -> dict[str, Any]:
    """Test accuracy and macro F1 of the n-gram model with the best C."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score

    from rnnjax.data import authors

    parts = authors.divide(authors.read_authors(folder), passage)
    begun = time.perf_counter()
    grams = TfidfVectorizer(analyzer="char", ngram_range=(1, 5), sublinear_tf=True, lowercase=True)
    features = {
        split: (grams.fit_transform if split == "train" else grams.transform)(part.texts)
        for split, part in parts.items()
    }
    models = {
        c: LogisticRegression(C=c, max_iter=2000).fit(features["train"], parts["train"].labels) for c in STRENGTHS
    }
    validation = {
        c: float(model.score(features["validation"], parts["validation"].labels)) for c, model in models.items()
    }
    best = max(validation, key=lambda c: validation[c])
    predicted = models[best].predict(features["test"])
    return {
        "C": best,
        "val_accuracy": validation[best],
        "test_accuracy": float((predicted == parts["test"].labels).mean()),
        "test_macro_f1": float(f1_score(parts["test"].labels, predicted, average="macro")),
        "passages": {split: len(part.texts) for split, part in parts.items()},
        "minutes": round((time.perf_counter() - begun) / 60, 2),
    }


def ours(folder: Path, seed: int, options: list[str]) -> dict[str, Any]:
    """The results of a run of train.py."""
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "train.py", "--task", "authorship", "--dataset", str(folder), *options]
        command += ["--workdir", f"{place}/run", "--seed", str(seed)]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
        if run.returncode:
            sys.exit(run.stderr)
        results = json.loads(Path(place, "run", "results.json").read_text(encoding="utf-8"))
    kept = ("val_accuracy", "test_accuracy", "test_macro_f1", "parameters", "epochs_run", "best_epoch")
    return {**{name: results[name] for name in kept}, "minutes": round(results["train_seconds"] / 60, 2)}


def turned(text: str, share: float) -> str:
    """A text that begins at this share of its words, and goes on with those before."""
    words = text.split()
    start = round(share * len(words))
    return " ".join([*words[start:], *words[:start]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("play", type=Path)
    parser.add_argument("--speakers", type=int, default=8, help="those with the most text")
    parser.add_argument("--passage", type=int, default=200, help="most characters of a passage")
    parser.add_argument("--turns", type=int, default=5, help="parts of the text that are held out in turn")
    options, more = parser.parse_known_args()
    said = speeches(options.play.read_text(encoding="utf-8"))
    speakers = sorted(said, key=lambda name: -len(said[name]))[: options.speakers]
    turns = []
    for turn in range(options.turns):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place, "speakers")
            folder.mkdir()
            for name in speakers:
                (folder / f"{name}.txt").write_text(turned(said[name], turn / options.turns), encoding="utf-8")
            theirs = baseline(folder, options.passage)
            turns.append({"baseline": theirs, "ours": ours(folder, turn, ["--passage", str(options.passage), *more])})
        print(turns[-1], flush=True)
    means = {
        who: {name: statistics.mean(turn[who][name] for turn in turns) for name in ("test_accuracy", "test_macro_f1")}
        for who in ("baseline", "ours")
    }
    found = {
        "speakers": {name: len(said[name]) for name in speakers},
        "passage": options.passage,
        "options": more,
        "test_passages": sum(turn["baseline"]["passages"]["test"] for turn in turns),
        "means": means,
        "turns": turns,
        "machine": f"{platform.machine()}, {platform.processor() or platform.system()}",
        "date": datetime.date.today().isoformat(),
    }
    print(means)
    RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
