"""Newswires of Reuters-21578, Distribution 1.0 (Lewis 1997), and a few composed ones for machines without them."""

import html
import random
import re
import tarfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rnnjax.data import archives
from rnnjax.errors import InputError


def unpack(downloaded: Path, folder: Path) -> None:
    """Take the newswires out of the archive."""
    with tarfile.open(downloaded, "r:gz") as members:
        for member in members:
            name = Path(member.name).name
            file = members.extractfile(member) if name in ARCHIVE.files else None
            if file is not None:
                (folder / name).write_bytes(file.read())


ARCHIVE = archives.Archive(
    "reuters21578",
    "http://www.daviddlewis.com/resources/testcollections/reuters21578/reuters21578.tar.gz",
    {
        "reut2-000.sgm": "0ec53cda8f6d605a3ba710df14be7f00fc02f0c222a14748101df22326afe0f6",
        "reut2-001.sgm": "1528e7e82d110d88d0234eb9619eadb7f9fd805711971df05975b92277dfdf4d",
        "reut2-002.sgm": "99f18068d0518952987dedd78c622e5c2a584e357d264d3754696c815f3e6628",
        "reut2-003.sgm": "78a3a8d7e04bc9d42c4614d5d5c60a4293dbe3f708df6fb5a71d9ef31f4b3fa3",
        "reut2-004.sgm": "726342c19a65873330b412378cd6a3f0d512035f5223146ddd60930c62eb6ff0",
        "reut2-005.sgm": "d09de619b6dd2d047d5124681f6df90550abaf592020d1c1ce338ae9b91522e7",
        "reut2-006.sgm": "b5535c0d66b01f4976f84621a4a795afbc00d2c4bd0a1b7ae426df6630fb361d",
        "reut2-007.sgm": "aa706007ec84a03537a3921ca976d60e11b3f99e4b9e9b2d5c81dd384d2c2062",
        "reut2-008.sgm": "a3994583694a00b7c744097c1d7eabfcf90f2e6650cc21663e46828035a336cb",
        "reut2-009.sgm": "29995f606dd1a9bdf907eacc9d879846c716860d9d9141676979474aaea39c7d",
        "reut2-010.sgm": "996df6008089bd09fa5b28a4d2eb0ee5f7b9d4601cde566fed3926ac82960fa3",
        "reut2-011.sgm": "d3a2782015247d9c2bffb8926267827fdd449c70d619435ef01a25a1c56a53ca",
        "reut2-012.sgm": "da31035d483851f2aebce5b66d779e5e2c0ac9dcfe098596c6d544e81c5604ab",
        "reut2-013.sgm": "8f7700bc0455fac3fcc12377ced4807b7df8aba1f21ecad059b9cc2b1cf0b8be",
        "reut2-014.sgm": "ef936bd3e0f36cf722afa9a6957563549775af32e9e28b4f539c8737ceda83ab",
        "reut2-015.sgm": "6d3bcec73eff871b8a5403588af814c4e50a0de6bc25707480522ab836f74026",
        "reut2-016.sgm": "be2f03a185fff70131f3b4fdbd6229b7ee2be077eba9691eaa597c8cfbda8812",
        "reut2-017.sgm": "f370e610b4b1342e41a98e0c426a08541044bd1d7e539674f32372a6060b73b5",
        "reut2-018.sgm": "a5f971bf25448e915781962309e669359a35fbcaf3017a806eca0590897f209a",
        "reut2-019.sgm": "d3b07097fba2633d130b4914aceba671645985248943ce9e39c289315339dffb",
        "reut2-020.sgm": "f6ad1b724125c202566c63b35ea0b5ee23881f8b7ed47a32829d5af05d8e860d",
        "reut2-021.sgm": "3f5196d32869723c9042aa5756805b4e90360f1f45ea17f4594fa0e2b3630b18",
    },
    unpack,
)
LEAST_DOCUMENTS = 14
"""A topic with fewer newswires is none of the classes."""

_DOCUMENT = re.compile(r"<REUTERS ([^>]*)>(.*?)</REUTERS>", re.DOTALL)
_SPLIT = re.compile(r'LEWISSPLIT="([^"]*)"')
_TOPICS = re.compile(r"<TOPICS>(.*?)</TOPICS>", re.DOTALL)
_TOPIC = re.compile(r"<D>(.*?)</D>")
_TEXT = re.compile(r"<TEXT[^>]*>(.*?)</TEXT>", re.DOTALL)
_TITLE = re.compile(r"<TITLE>(.*?)</TITLE>", re.DOTALL)
_BODY = re.compile(r"<BODY>(.*?)</BODY>", re.DOTALL)


@dataclass(frozen=True)
class Newswire:
    """A text, the topic it was given first, and the part of ModApte that it belongs to."""

    text: str
    topic: str
    split: str
    """TRAIN, TEST or NOT-USED: the attribute LEWISSPLIT."""


def read(folder: Path) -> list[Newswire]:
    """The newswires with a topic that has `LEAST_DOCUMENTS` or more, in the order of the files.

    A newswire's class is the first of its topics. Of Reuters-21578 that leaves 11,228 newswires and 46 classes: the
    very numbers of Keras's `reuters` data set, whose 46 topics these are.

    Raises:
        InputError: a file is missing, or holds no such newswires.
    """
    found: list[Newswire] = []
    for name in ARCHIVE.files:
        path = archives.find(folder, name)
        if path is None:
            raise InputError(f"{folder}: expected the 22 files of Reuters-21578; {name} is missing. Name their folder.")
        found += parse(archives.read(path).decode("latin-1"))  # it has control characters of a news service
    if not found:
        raise InputError(f"{folder}: expected newswires with topics; found none. Name another folder.")
    return with_frequent_topics(found)


def parse(content: str) -> list[Newswire]:
    """The newswires of a file that have a topic: title and body, without the news service's codes."""
    found = []
    for attributes, document in _DOCUMENT.findall(content):
        topics = _first(_TOPICS, document)
        if topic := _TOPIC.search(topics):
            text = _first(_TEXT, document)
            title, body = _first(_TITLE, text), _first(_BODY, text)
            whole = f"{title}\n{body}" if title or body else re.sub(r"<[^>]*>", " ", text)
            split = _SPLIT.search(attributes)
            found.append(Newswire(html.unescape(whole).strip(), topic[1], split[1] if split else "NOT-USED"))
    return found


def with_frequent_topics(newswires: Iterable[Newswire], least: int = LEAST_DOCUMENTS) -> list[Newswire]:
    """Those whose topic `least` or more of them have."""
    newswires = list(newswires)
    counts = Counter(newswire.topic for newswire in newswires)
    return [newswire for newswire in newswires if counts[newswire.topic] >= least]


def _first(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return found[1] if found else ""


SUBJECTS = {
    "coffee": "coffee growers|the coffee exporters|coffee roasters",
    "crude": "the oil company|refiners|OPEC ministers",
    "earn": "the company|the bank|the retailer",
    "gold": "the mining company|gold producers|the mint",
    "interest": "the central bank|bankers|the treasury",
}
VERBS = {
    "coffee": "expect a crop of {n} mln bags|lifted the export quota by {n} pct|reported frost damage",
    "crude": "raised posted prices by {n} cts a barrel|cut output to {n} mln barrels a day|shut a pipeline",
    "earn": "reported a net profit of {n} mln dlrs|declared a dividend of {n} cts|had a loss of {n} mln dlrs",
    "gold": "poured {n} ounces|found ore of {n} grams a tonne|sold {n} coins",
    "interest": "cut the discount rate to {n} pct|left the prime rate at {n} pct|lent {n} mln overnight",
}
ENDINGS = (
    "analysts had expected it|a spokesman said|it gave no details|traders were surprised|compared with {n} a year ago"
)


def compose(count: int, seed: int) -> tuple[list[str], list[str]]:
    """Short newswires of five topics, each with a sentence of its topic and one of any: texts and topics."""
    draw = random.Random(seed)
    topics = list(SUBJECTS)

    def newswire(topic: str) -> str:
        subject, verb = (draw.choice(table[topic].split("|")) for table in (SUBJECTS, VERBS))
        endings = draw.sample(ENDINGS.split("|"), 2)
        text = f"{subject} {verb}, {endings[0]} . last week {endings[1]} ."
        return re.sub(r"\{n\}", lambda _: str(draw.randint(1, 99)), text)

    labels = [draw.choice(topics) for _ in range(count)]
    return [newswire(label) for label in labels], labels
