"""Newswires are read as they stand in the files of Reuters-21578."""

import gzip
from collections import Counter

import pytest

from rnnjax.data import reuters
from rnnjax.errors import InputError

FILE = """<!DOCTYPE lewis SYSTEM "lewis.dtd">
<REUTERS TOPICS="YES" LEWISSPLIT="TRAIN" CGISPLIT="TRAINING-SET" OLDID="5" NEWID="1">
<TOPICS><D>grain</D><D>wheat</D></TOPICS>
<UNKNOWN>&#5;&#5;F f0772 reute</UNKNOWN>
<TEXT>&#2;
<TITLE>GRAIN &lt;GRN> UP</TITLE>
<DATELINE>    CHICAGO, Feb 26 - </DATELINE><BODY>Wheat rose &amp; corn fell.
 Reuter
&#3;</BODY></TEXT>
</REUTERS>
<REUTERS TOPICS="YES" LEWISSPLIT="TEST" OLDID="6" NEWID="2">
<TOPICS></TOPICS><TEXT><TITLE>NO TOPIC</TITLE><BODY>Nothing.</BODY></TEXT>
</REUTERS>
<REUTERS TOPICS="NO" LEWISSPLIT="TEST" OLDID="7" NEWID="3">
<TOPICS><D>earn</D></TOPICS>
<TEXT TYPE="UNPROC">&#2;
<TITLE></TITLE>
Shr 34 cts
</TEXT>
</REUTERS>
"""


def test_title_body_first_topic_and_split():
    first, second = reuters.parse(FILE)
    assert (first.topic, first.split) == ("grain", "TRAIN")
    assert first.text.startswith("GRAIN <GRN> UP\nWheat rose & corn fell.")
    assert "CHICAGO" not in first.text
    assert (second.topic, second.split, second.text.split()[-3:]) == ("earn", "TEST", ["Shr", "34", "cts"])


def test_rare_topics_are_left_out():
    newswires = [reuters.Newswire("a", "common", "TRAIN")] * 3 + [reuters.Newswire("b", "rare", "TRAIN")] * 2
    assert {newswire.topic for newswire in reuters.with_frequent_topics(newswires, 3)} == {"common"}


def test_a_missing_file_is_named(tmp_path):
    names = list(reuters.ARCHIVE.files)
    for name in names[:-1]:
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(FILE.encode()))
    with pytest.raises(InputError, match=rf"{names[-1]} is missing"):
        reuters.read(tmp_path)


def test_a_torn_file_is_named(tmp_path):
    for name in reuters.ARCHIVE.files:
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(FILE.encode())[:-9])
    with pytest.raises(InputError, match=r"reut2-000\.sgm\.gz: cannot be read"):
        reuters.read(tmp_path)


def test_the_archive_is_unpacked(tmp_path):
    import io
    import tarfile

    with tarfile.open(tmp_path / "archive.tar.gz", "w:gz") as archive:
        for name in ("reut2-000.sgm", "README.txt"):
            entry = tarfile.TarInfo(name)
            entry.size = len(FILE)
            archive.addfile(entry, io.BytesIO(FILE.encode()))
    (tmp_path / "files").mkdir()
    reuters.unpack(tmp_path / "archive.tar.gz", tmp_path / "files")
    assert [path.name for path in (tmp_path / "files").iterdir()] == ["reut2-000.sgm"]
    assert (tmp_path / "files" / "reut2-000.sgm").read_text() == FILE


def test_composed_newswires_say_what_they_are_about():
    texts, topics = reuters.compose(300, seed=0)
    assert reuters.compose(300, seed=0) == (texts, topics)
    for text, topic in zip(texts, topics, strict=True):
        assert any(subject in text for subject in reuters.SUBJECTS[topic].split("|"))
        assert "{n}" not in text


@pytest.mark.real_data("reuters21578")
def test_the_newswires_of_keras(data_set):
    newswires = reuters.read(data_set("reuters21578"))
    counts = Counter(newswire.topic for newswire in newswires)
    assert (len(newswires), len(counts)) == (11_228, 46)  # Keras's documentation
    assert counts.most_common(3) == [("earn", 3972), ("acq", 2423), ("money-fx", 682)]  # of Keras's labels
