"""Data sets of other homes: a server of this machine stands for them."""

import functools
import gzip
import hashlib
import http.server
import threading
from pathlib import Path

import pytest

from rnnjax.data import archives
from rnnjax.data.tfds import NetworkUnavailable
from rnnjax.errors import RunError

CONTENT = b"He PRP B-NP\nreckons VBZ B-VP\n"
FILES = {"train.txt": CONTENT, "dev.conllu": CONTENT.lower()}


def gunzip(downloaded: Path, folder: Path) -> None:
    (folder / "train.txt").write_bytes(gzip.decompress(downloaded.read_bytes()))


@pytest.fixture
def home(tmp_path):
    """A folder that is served, and its address."""
    served = tmp_path / "served"
    served.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(served))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield served, f"http://127.0.0.1:{server.server_address[1]}/train.txt.gz"
        server.shutdown()
        thread.join()


def archive(url: str, content: bytes = CONTENT) -> archives.Archive:
    return archives.Archive("conll2000", url, {"train.txt": hashlib.sha256(content).hexdigest()}, gunzip)


def test_a_data_set_is_downloaded_once_and_found_again(home, tmp_path):
    served, url = home
    (served / "train.txt.gz").write_bytes(gzip.compress(CONTENT))

    folder = archives.prepare(archive(url), tmp_path / "data")
    (served / "train.txt.gz").unlink()
    again = archives.prepare(archive(url), tmp_path / "data")

    assert folder == again == tmp_path / "data" / "conll2000"
    assert (folder / "train.txt").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["conll2000"]


def test_several_files_each_from_its_own_address(home, tmp_path):
    served, url = home
    (served / "train.txt.gz").write_bytes(gzip.compress(CONTENT))
    (served / "dev.conllu").write_bytes(CONTENT.lower())
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
    urls = (url, url.replace("train.txt.gz", "dev.conllu"))

    folder = archives.prepare(archives.Archive("two", urls, sums, archives.unpack_file), tmp_path / "data")

    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
    (served / "dev.conllu").unlink()
    with pytest.raises(RunError, match=r"dev\.conllu: the download broke off"):
        archives.prepare(archives.Archive("again", urls, sums, archives.unpack_file), tmp_path / "data")
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["two"]


@pytest.mark.parametrize(
    ("arrives", "says"),
    [
        (gzip.compress(CONTENT.lower()), "not the published file"),
        (gzip.compress(CONTENT)[:-9], "cannot be unpacked"),
        (b"<html>moved</html>", "cannot be unpacked"),
    ],
)
def test_what_is_not_the_published_file_is_not_kept(home, tmp_path, arrives, says):
    served, url = home
    (served / "train.txt.gz").write_bytes(arrives)

    with pytest.raises(RunError, match=says):
        archives.prepare(archive(url), tmp_path / "data")

    assert list((tmp_path / "data").iterdir()) == []


def test_without_a_network_the_message_says_what_to_do_by_hand(tmp_path):
    with pytest.raises(NetworkUnavailable, match=r"put train\.txt into .*conll2000"):
        archives.prepare(archive("http://127.0.0.1:9/train.txt.gz"), tmp_path / "data")

    assert not (tmp_path / "data").exists()
