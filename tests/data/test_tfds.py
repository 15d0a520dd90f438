import contextlib
import functools
import gzip
import hashlib
import http.server
import importlib.util
import io
import itertools
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from rnnjax.data import tfds
from rnnjax.data.tfds import NetworkUnavailable, Source
from rnnjax.errors import InputError, RunError


def read_imdb(data_dir=None, source=tfds.IMDB_SOURCE):
    return tfds.read_imdb(tfds.prepare_imdb(data_dir, source))


def read_tiny_shakespeare(data_dir=None, source=tfds.SHAKESPEARE_SOURCE):
    return tfds.read_tiny_shakespeare(tfds.prepare_tiny_shakespeare(data_dir, source))


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("datasets/imdb_reviews/checksums.tsv", tfds.IMDB_SOURCE),
        ("datasets/tiny_shakespeare/checksums.tsv", tfds.SHAKESPEARE_SOURCE),
        *(("url_checksums/mnist.txt", source) for source in tfds.MNIST_SOURCES),
    ],
)
def test_the_checksums_are_those_that_tfds_ships(name, source):
    package = Path(importlib.util.find_spec("tensorflow_datasets").submodule_search_locations[0])
    rows = [line.split("\t") for line in (package / name).read_text().splitlines()]
    assert [source.url, str(source.size), source.sha256] in [row[:3] for row in rows]


PLAY = "First Citizen:\nBefore we proceed any further, hear me speak.\n\nAll:\nSpeak, speak.\n"


def review(part: str, folder: str, number: int) -> str:
    return f"The {part} {folder} {number} café.<br />Done."


def archive(parts=("train", "test")) -> bytes:
    """A small archive in the layout of the real one."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as members:

        def add(name: str, content: bytes) -> None:
            member = tarfile.TarInfo(f"aclImdb/{name}")
            member.size = len(content)
            members.addfile(member, io.BytesIO(content))

        folder = tarfile.TarInfo("aclImdb/train/pos")
        folder.type = tarfile.DIRTYPE
        members.addfile(folder)
        add("README", b"not a review")
        for part in parts:
            add(f"{part}/urls_pos.txt", b"not a review")
            for name in ("neg", "pos", "unsup") if part == "train" else ("neg", "pos"):
                for number in range(6):
                    add(f"{part}/{name}/{number}_7.txt", f" {review(part, name, number)} \n".encode())
    return buffer.getvalue()


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A folder served from 127.0.0.1: .put(name, content) -> Source; .stop() takes it off the network."""
    folder = tmp_path / "served"
    folder.mkdir()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *args):  # the probe hangs up before the end
            pass

        def put(self, name: str, content: bytes) -> Source:
            (folder / name).write_bytes(content)
            url = f"http://127.0.0.1:{self.server_port}/{name}"
            return Source(url, len(content), hashlib.sha256(content).hexdigest())

        def stop(self):
            self.shutdown()
            self.server_close()

    running = Server(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield running
    running.stop()


def assert_is_the_archive(parts):
    assert list(parts) == ["train", "test"]
    for part, (texts, labels) in parts.items():
        assert labels.dtype == np.int32
        expected = {(review(part, name, i), label) for name, label in (("neg", 0), ("pos", 1)) for i in range(6)}
        assert set(zip(texts, labels.tolist(), strict=True)) == expected
        assert len(texts) == 12


def assert_nothing_is_prepared(data_dir):
    assert not list(data_dir.rglob("dataset_info.json"))
    assert not list(data_dir.rglob("*array_record*"))
    assert not list(data_dir.glob("rnnjax-download-*"))


def test_imdb_is_downloaded_once_and_read_by_tfds_itself(server, tmp_path, capsys):
    source = server.put("reviews.tar.gz", archive())
    data_dir = tmp_path / "new" / "data"
    assert_is_the_archive(read_imdb(data_dir, source))
    assert capsys.readouterr().out == ""
    assert not list(data_dir.glob("rnnjax-download-*"))
    server.stop()
    first = read_imdb(data_dir, source)
    assert_is_the_archive(first)
    assert "tensorflow" not in sys.modules

    import tensorflow_datasets

    own = tensorflow_datasets.data_source("imdb_reviews", data_dir=str(data_dir))
    assert {split: len(examples) for split, examples in own.items()} == {"train": 12, "test": 12, "unsupervised": 6}
    assert [example["text"].decode() for example in own["train"]] == first["train"][0]
    assert {example["label"] for example in own["unsupervised"]} == {-1}


def test_tiny_shakespeare_is_downloaded_once(server, tmp_path, monkeypatch):
    source = server.put("input.txt", PLAY.encode())
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    assert read_tiny_shakespeare(source=source) == PLAY
    server.stop()
    assert read_tiny_shakespeare(source=source) == PLAY

    import tensorflow_datasets

    own = tensorflow_datasets.data_source("tiny_shakespeare", data_dir=str(tmp_path / "data"))
    assert own["train"][0]["text"].decode() == PLAY[: int(len(PLAY) * 0.9)]


def idx(array: np.ndarray) -> bytes:
    """An array of bytes as a file of the original MNIST."""
    shape = b"".join(length.to_bytes(4, "big") for length in array.shape)
    return gzip.compress(b"\0\0\x08" + bytes([array.ndim]) + shape + array.tobytes())


def some_digits():
    """Images and labels to train on, and images and labels of a test."""
    draw = np.random.default_rng(0)
    sizes = {"train": 7, "t10k": 3}
    return [
        draw.integers(0, most, shape, dtype=np.uint8)
        for count in sizes.values()
        for most, shape in ((256, (count, 28, 28)), (10, count))
    ]


def test_mnist_is_downloaded_once_and_read_by_tfds_itself(server, tmp_path):
    arrays = some_digits()
    sources = tuple(server.put(f"{number}.gz", idx(array)) for number, array in enumerate(arrays))
    for _ in range(2):
        parts = tfds.read_mnist(tfds.prepare_mnist(tmp_path, sources))
        for split, images, labels in (("train", *arrays[:2]), ("test", *arrays[2:])):
            order = [parts[split][0].tolist().index(image) for image in images.tolist()]  # TFDS shuffles
            assert sorted(order) == list(range(len(images)))
            np.testing.assert_array_equal(parts[split][1][order], labels)
        if _ == 0:
            server.stop()
    assert "tensorflow" not in sys.modules

    import tensorflow_datasets

    own = tensorflow_datasets.data_source("mnist", data_dir=str(tmp_path))
    assert [example["label"] for example in own["test"]] == parts["test"][1].tolist()
    np.testing.assert_array_equal(np.stack([example["image"][..., 0] for example in own["test"]]), parts["test"][0])


@pytest.mark.parametrize(
    ("number", "content", "message"),
    [
        (0, b"not an archive", "cannot be"),
        (1, idx(np.zeros(7, np.uint8))[:-6], "cannot be"),
        (1, idx(np.zeros(6, np.uint8)), r"6 labels beside images \(7, 28, 28\)"),
        (3, gzip.compress(b"\0\0\x08\1\0\0\0\3ab"), "no whole file in the IDX format"),
        (2, gzip.compress(b"words"), "no whole file in the IDX format"),
    ],
)
def test_broken_digits_are_refused_and_nothing_is_kept(server, tmp_path, number, content, message):
    contents = [idx(array) for array in some_digits()]
    contents[number] = content
    sources = tuple(server.put(f"{place}.gz", packed) for place, packed in enumerate(contents))
    with pytest.raises(RunError, match=message):
        tfds.prepare_mnist(tmp_path / "data", sources)
    assert_nothing_is_prepared(tmp_path / "data")
    wrong = (*sources[:2], Source(sources[2].url, sources[2].size, "0" * 64), sources[3])
    with pytest.raises(RunError, match=r"/2\.gz: what arrived is not the published file"):
        tfds.prepare_mnist(tmp_path / "data", wrong)


def test_a_wrong_checksum_is_refused_and_nothing_is_kept(server, tmp_path):
    source = server.put("reviews.tar.gz", archive())
    for wrong in (Source(source.url, source.size, "0" * 64), Source(source.url, source.size + 1, source.sha256)):
        with pytest.raises(RunError, match="not the published file"):
            read_imdb(tmp_path / "data", wrong)
        assert_nothing_is_prepared(tmp_path / "data")
    assert_is_the_archive(read_imdb(tmp_path / "data", source))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not an archive", "cannot be unpacked"),
        (archive()[:-40], "cannot be unpacked"),
        (archive(parts=("train",)), r"no reviews under aclImdb/test"),
    ],
)
def test_a_broken_archive_is_refused_and_nothing_is_kept(server, tmp_path, content, message):
    source = server.put("reviews.tar.gz", content)
    with pytest.raises(RunError, match=message):
        read_imdb(tmp_path / "data", source)
    assert_nothing_is_prepared(tmp_path / "data")


def test_an_interrupted_preparation_is_not_taken_for_a_whole_one(server, tmp_path, monkeypatch):
    from rnnjax.data.tfds_builders import ImdbReviews

    generate = ImdbReviews._generate_examples

    def interrupted(self, *args):
        yield from itertools.islice(generate(self, *args), 3)
        raise KeyboardInterrupt

    source = server.put("reviews.tar.gz", archive())
    with monkeypatch.context() as patch:
        patch.setattr(ImdbReviews, "_generate_examples", interrupted)
        with pytest.raises(KeyboardInterrupt):
            read_imdb(tmp_path / "data", source)
    assert_nothing_is_prepared(tmp_path / "data")
    assert_is_the_archive(read_imdb(tmp_path / "data", source))


def test_a_download_that_breaks_off_is_an_error(server, tmp_path, monkeypatch):
    source = server.put("reviews.tar.gz", archive())
    monkeypatch.setattr(tfds, "probe", lambda url: None)
    with pytest.raises(RunError, match="broke off"):
        read_imdb(tmp_path / "data", Source(source.url + "x", source.size, source.sha256))
    assert_nothing_is_prepared(tmp_path / "data")


def test_no_network_is_told_at_once(server, tmp_path):
    server.stop()
    start = time.monotonic()
    for url in (f"http://127.0.0.1:{server.server_port}/x", "http://no-such-host.invalid/x"):
        with pytest.raises(NetworkUnavailable, match="cannot be reached"):
            read_imdb(tmp_path / "data", Source(url, 1, "0" * 64))
    assert time.monotonic() - start < 15
    assert not (tmp_path / "data").exists()


def test_a_server_that_does_not_have_the_file(server, tmp_path):
    with pytest.raises(NetworkUnavailable, match="status 404"):
        read_imdb(tmp_path / "data", Source(f"http://127.0.0.1:{server.server_port}/none", 1, "0" * 64))


def test_a_server_that_does_not_answer(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds, "PROBE_SECONDS", 0.2)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as silent:  # listens, never reads
        start = time.monotonic()
        with pytest.raises(NetworkUnavailable):
            read_imdb(tmp_path, Source(f"http://127.0.0.1:{silent.server_port}/x", 1, "0" * 64))
        assert time.monotonic() - start < 5


def test_a_folder_that_cannot_be_written(server, tmp_path):
    source = server.put("reviews.tar.gz", archive())
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file.below: expected a folder .* --data-dir"):
        read_imdb(tmp_path / "file" / "below", source)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A prepared tiny_shakespeare, to be copied and broken."""
    from rnnjax.data import tfds_builders

    data_dir = tmp_path_factory.mktemp("prepared")
    text = tmp_path_factory.mktemp("text") / "input.txt"
    text.write_text(PLAY)
    builder = tfds_builders.TinyShakespeare(data_dir, Source("http://unused.invalid/", 1, "0" * 64))
    with contextlib.redirect_stdout(sys.stderr), pytest.MonkeyPatch.context() as patch:
        patch.setattr("tensorflow_datasets.core.download.DownloadManager.download", lambda self, url: text)
        builder.download_and_prepare(file_format="array_record")
    return data_dir


def truncate(folder: Path) -> None:
    shard = next(folder.glob("*train*"))
    os.truncate(shard, shard.stat().st_size // 2)


def flip_a_bit(folder: Path) -> None:
    shard = next(folder.glob("*train*"))
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)


def edit(name: str, old: str, new: str, folder: Path) -> None:
    content = (folder / name).read_text()
    assert old in content
    (folder / name).write_text(content.replace(old, new))


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        flip_a_bit,
        lambda folder: next(folder.glob("*test*")).unlink(),
        lambda folder: (folder / "features.json").write_text("{"),
        lambda folder: (folder / "dataset_info.json").write_text("{"),
        lambda folder: edit("dataset_info.json", "validation", "other", folder),
    ],
)
def test_broken_prepared_data_is_refused(prepared, tmp_path, damage):
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    folder = tfds.prepare_tiny_shakespeare(tmp_path)
    assert tfds.read_tiny_shakespeare(folder) == PLAY
    damage(folder)
    with pytest.raises(
        InputError, match=r"tiny_shakespeare.1\.0\.0: expected a prepared [^\n]*; remove the folder[^\n]*$"
    ):
        read_tiny_shakespeare(tmp_path)


def test_data_prepared_for_tensorflow_is_refused(prepared, tmp_path):
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    edit("dataset_info.json", "array_record", "tfrecord", tfds.prepare_tiny_shakespeare(tmp_path))
    with pytest.raises(InputError, match="only TensorFlow reads"):
        read_tiny_shakespeare(tmp_path)


def test_fingerprint(prepared, tmp_path):
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    folder = tfds.prepare_tiny_shakespeare(tmp_path)
    before = tfds.fingerprint(folder)
    assert before == tfds.fingerprint(tfds.prepare_tiny_shakespeare(prepared))
    edit("features.json", "text", "test", folder)
    middle = tfds.fingerprint(folder)
    truncate(folder)
    assert len({before, middle, tfds.fingerprint(folder)}) == 3
    with pytest.raises(InputError, match="cannot be read"):
        tfds.fingerprint(tmp_path / "none")


def test_reading_is_silent_and_needs_neither_tensorflow_nor_jax(prepared):
    program = (
        "import sys; from rnnjax.data import tfds; folder = tfds.prepare_tiny_shakespeare(sys.argv[1]);"
        "n = len(tfds.read_tiny_shakespeare(folder));"
        "print(n, 'tensorflow' in sys.modules, 'jax' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(prepared)], capture_output=True, text=True, check=True
    )
    assert (run.stdout, run.stderr) == (f"{len(PLAY)} False False\n", "")


@pytest.mark.real_data("imdb_reviews")
def test_the_real_imdb(tfds_dir):
    parts = read_imdb(tfds_dir)
    texts = [text for part_texts, _ in parts.values() for text in part_texts]
    assert len(texts) == 50_000
    assert len(texts) - len(set(texts)) == 418  # as in the original archive
    assert all(text.encode() == text.encode().strip() for text in texts)
    for _, labels in parts.values():
        assert np.bincount(labels).tolist() == [12_500, 12_500]


@pytest.mark.real_data("tiny_shakespeare")
def test_the_real_tiny_shakespeare(tfds_dir):
    text = read_tiny_shakespeare(tfds_dir)
    assert hashlib.sha256(text.encode()).hexdigest() == tfds.SHAKESPEARE_SOURCE.sha256
    assert len(text) == tfds.SHAKESPEARE_SOURCE.size
