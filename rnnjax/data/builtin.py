"""Samples for a machine with no network: composed reviews, and Python's own sources as text.

The reviews come from the small grammar below. In each, one or two remarks pass the verdict; another sentence says
nothing about it. A remark may negate ("hardly a masterpiece"), weigh one opinion against another (the clause after
"but" decides, the clause after "although" does not), or report what others think and agree or disagree. So the words
alone say little, and their order decides.
"""

import importlib.util
import random
import re

from rnnjax.errors import RunError

NEGATIVE, POSITIVE = "negative", "positive"

ADJECTIVES = {
    POSITIVE: "brilliant moving charming clever gripping funny touching wonderful superb delightful fresh witty",
    NEGATIVE: "dull clumsy boring silly tedious awful bland dreadful lifeless shallow predictable messy",
}
NOUNS = {
    POSITIVE: "masterpiece triumph treat gem delight success",
    NEGATIVE: "mess failure disaster bore letdown mistake",
}
TOPICS = [
    "the film",
    "the movie",
    "the story",
    "the acting",
    "the script",
    "the ending",
    "the music",
    "the dialogue",
    "the plot",
    "the opening",
    "the camera work",
    "the editing",
    "the final act",
    "the lead performance",
    "the love story",
    "the second half",
]
DEGREES = ["", "very ", "quite ", "really ", "truly ", "rather "]

# Each clause means what its adjective or noun means.
ASSERTIONS = (
    "{topic} is {degree}{adjective}",
    "{topic} was {degree}{adjective} from start to finish",
    "I found {topic} {degree}{adjective}",
    "{topic} turned out to be a {noun}",
    "I would call {topic} a {noun}",
    "what a {noun} {topic} is",
    "there is something {degree}{adjective} about {topic}",
)
# The same words, and the clause means the opposite.
NEGATIONS = (
    "{topic} is not {degree}{adjective} at all",
    "{topic} was never {degree}{adjective}",
    "I did not find {topic} {degree}{adjective}",
    "{topic} is hardly a {noun}",
    "nobody would call {topic} a {noun}",
    "{topic} is far from {adjective}",
    "{topic} is anything but {adjective}",
    "there is nothing {adjective} about {topic}",
)
# {verdict} decides; {concession} says the opposite and is outweighed.
CONTRASTS = (
    "{concession} , but {verdict}",
    "{concession} , yet {verdict}",
    "{concession} ; however , {verdict}",
    "although {concession} , {verdict}",
    "{verdict} , although {concession}",
    "{verdict} , even though {concession}",
)
PEOPLE = [
    "my brother",
    "my sister",
    "a friend of mine",
    "the critic of our paper",
    "my neighbour",
    "the man next to me",
    "my aunt",
]
AGREEMENTS = (
    "{people} says that {claim} , and I agree",
    "{people} told me that {claim} , which is quite true",
    "{people} thinks that {claim} , and that is right",
)
REJECTIONS = (
    "{people} says that {claim} , and I disagree",
    "{people} told me that {claim} , which is quite untrue",
    "{people} thinks that {claim} , and that is wrong",
)
IRRELEVANT = (
    "we saw it on a rainy {day} with {people}",
    "it runs for about {number} minutes",
    "the story is set in {place}",
    "I had read the book many years ago",
    "the cinema near {place} was half empty",
    "we left the house at {number} past seven",
    "{people} bought the tickets on {day}",
    "the director was born in {place}",
    "it was shown on {day} in the small hall",
    "most of it was shot in {place} in {number} days",
)
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
PLACES = [
    "Paris",
    "London",
    "Vienna",
    "a small village",
    "the mountains",
    "a port in the north",
    "Chicago",
    "an old hotel",
    "Lisbon",
]
NUMBERS = ["ten", "twenty", "ninety", "thirty", "eighty", "forty", "one hundred"]

NEGATED_SHARE = 0.15
REMARKS = ("plain", "contrast", "report")
REMARK_WEIGHTS = (6, 2, 2)


def reviews(num_examples: int, seed: int) -> tuple[list[str], list[str]]:
    """Compose labelled reviews of some 10 to 50 words, half of them negative (one more where the number is odd).

    All texts of one call differ, so parts cut from one call share none.

    Returns:
        The texts, and a label "negative" or "positive" for each, in an order drawn from the seed.
    """
    draw = random.Random(seed)
    labels = [(NEGATIVE, POSITIVE)[i % 2] for i in range(num_examples)]
    draw.shuffle(labels)
    seen: set[str] = set()
    texts = []
    for label in labels:
        text = _review(draw, label)
        while text in seen:
            text = _review(draw, label)
        seen.add(text)
        texts.append(text)
    return texts, labels


def _review(draw: random.Random, label: str) -> str:
    sentences = [*(_remark(draw, label) for _ in range(draw.choice((1, 2)))), _irrelevant(draw)]
    draw.shuffle(sentences)
    text = " . ".join(sentences) + " ."
    for mark in ".,;":
        text = text.replace(f" {mark}", mark)
    return text


def _remark(draw: random.Random, label: str) -> str:
    opposite = POSITIVE if label == NEGATIVE else NEGATIVE
    kind = draw.choices(REMARKS, REMARK_WEIGHTS)[0]
    if kind == "plain":
        return _clause(draw, label)
    if kind == "contrast":
        template = draw.choice(CONTRASTS)
        return template.format(verdict=_clause(draw, label), concession=_clause(draw, opposite))
    if draw.random() < 0.5:
        return draw.choice(AGREEMENTS).format(people=draw.choice(PEOPLE), claim=_clause(draw, label))
    return draw.choice(REJECTIONS).format(people=draw.choice(PEOPLE), claim=_clause(draw, opposite))


def _clause(draw: random.Random, meaning: str) -> str:
    opposite = POSITIVE if meaning == NEGATIVE else NEGATIVE
    if draw.random() < NEGATED_SHARE:
        template, words = draw.choice(NEGATIONS), opposite
    else:
        template, words = draw.choice(ASSERTIONS), meaning
    return template.format(
        topic=draw.choice(TOPICS),
        degree=draw.choice(DEGREES),
        adjective=draw.choice(ADJECTIVES[words].split()),
        noun=draw.choice(NOUNS[words].split()),
    )


def _irrelevant(draw: random.Random) -> str:
    return draw.choice(IRRELEVANT).format(
        day=draw.choice(DAYS), people=draw.choice(PEOPLE), number=draw.choice(NUMBERS), place=draw.choice(PLACES)
    )


# fmt: off
# In every supported Python on every system. None is frozen into the interpreter, which would keep its source away.
SOURCE_MODULES = [
    "argparse", "calendar", "configparser", "csv", "dataclasses", "difflib", "enum", "fractions", "functools",
    "gettext", "heapq", "inspect", "ipaddress", "optparse", "pdb", "pprint", "random", "shutil", "string", "textwrap",
    "threading", "typing",
]
# fmt: on
MIN_CHARACTERS = 100_000


def python_source() -> str:
    """Return about a million characters of Python: modules of this interpreter's standard library, in a fixed order.

    Only printable ASCII, space and newline, so that the vocabulary is small. The text differs between Python versions.

    Raises:
        RunError: this Python was installed without its sources.
    """
    sources = [_source(name) for name in SOURCE_MODULES]
    text = re.sub(r"[^\n -~]", "", "".join(sources))
    if len(text) < MIN_CHARACTERS:
        raise RunError("This Python has no sources of its standard library to learn from; name a text with --text FILE")
    return text


def _source(name: str) -> str:
    spec = importlib.util.find_spec(name)  # finds without importing; the loader reads from zip archives too
    loader = None if spec is None else spec.loader
    if loader is None or not hasattr(loader, "get_source"):
        return ""
    try:
        return loader.get_source(name) or ""
    except ImportError:  # only compiled files are installed
        return ""
