"""Prepare IMDB, tiny_shakespeare and MNIST for TFDS without TensorFlow.

TFDS's own builders of these need TensorFlow to open what they have downloaded. The builders here write the same
examples under the same names, versions, keys and splits, and open the files themselves. This module imports TFDS, so it
is imported only where something is to be prepared.
"""

import gzip
import io
import math
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import PIL.Image
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import checksums

from rnnjax.errors import RunError

if TYPE_CHECKING:
    from rnnjax.data.tfds import Source


class _Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """A builder that downloads files whose checksums it is given."""

    # TFDS looks for checksums in a file beside the module; an attribute of the instance takes their place.
    url_infos: Any = None

    def __init__(self, data_dir: str | os.PathLike[str], *sources: "Source"):
        self.sources, self.source = sources, sources[0]
        self.url_infos = {
            source.url: checksums.UrlInfo(size=tfds.core.utils.Size(source.size), checksum=source.sha256, filename=None)
            for source in sources
        }
        super().__init__(data_dir=data_dir)


class ImdbReviews(_Builder, skip_registration=True):  # type: ignore[call-arg]
    """Maas et al. 2011: 25,000 reviews for training, 25,000 for testing, and 50,000 without a label (-1)."""

    name = "imdb_reviews"
    BUILDER_CONFIGS: ClassVar = [tfds.core.BuilderConfig(name="plain_text", version="1.0.0", description="Plain text")]

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Large Movie Review Dataset: highly polar movie reviews for binary sentiment classification.",
            features=tfds.features.FeaturesDict(
                {"text": tfds.features.Text(), "label": tfds.features.ClassLabel(names=["neg", "pos"])}
            ),
            supervised_keys=("text", "label"),
            homepage="http://ai.stanford.edu/~amaas/data/sentiment/",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        archive = dl_manager.download(self.source.url)
        return {
            "train": self._generate_examples(archive, "train", ("neg", "pos")),
            "test": self._generate_examples(archive, "test", ("neg", "pos")),
            "unsupervised": self._generate_examples(archive, "train", ("unsup",)),
        }

    def _generate_examples(
        self, archive: Path, part: str, folders: tuple[str, ...]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        count = 0
        with tarfile.open(archive, "r:gz") as members:
            for member in members:
                path = PurePosixPath(member.name)
                if path.parent.parent != PurePosixPath("aclImdb", part) or path.parent.name not in folders:
                    continue
                file = members.extractfile(member)
                if file is None:  # a folder
                    continue
                label = path.parent.name if path.parent.name != "unsup" else -1
                yield str(path), {"text": file.read().strip(), "label": label}
                count += 1
        if count == 0:
            raise RunError(f"{self.source.url}: the archive holds no reviews under aclImdb/{part}/{folders[0]}")


class TinyShakespeare(_Builder, skip_registration=True):  # type: ignore[call-arg]
    """Karpathy's char-rnn text, cut 90/5/5 into three parts of one example each."""

    name = "tiny_shakespeare"
    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="40,000 lines of Shakespeare from a variety of his plays, from Karpathy's char-rnn.",
            features=tfds.features.FeaturesDict({"text": tfds.features.Text()}),
            homepage="https://github.com/karpathy/char-rnn/blob/master/data/tinyshakespeare/input.txt",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        text = Path(dl_manager.download(self.source.url)).read_bytes().decode("utf-8")
        first = int(len(text) * 0.9)
        second = first + int((len(text) - first) * 0.5)
        parts = {"train": text[:first], "validation": text[first:second], "test": text[second:]}
        return {split: self._generate_examples(split, part) for split, part in parts.items()}

    def _generate_examples(self, split: str, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
        yield split, {"text": text}


class Mnist(_Builder, skip_registration=True):  # type: ignore[call-arg]
    """LeCun, Cortes and Burges: 60,000 handwritten digits for training and 10,000 for testing."""

    name = "mnist"
    VERSION = tfds.core.Version("3.0.1")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="The MNIST database of handwritten digits.",
            features=tfds.features.FeaturesDict(
                {"image": tfds.features.Image(shape=(28, 28, 1)), "label": tfds.features.ClassLabel(num_classes=10)}
            ),
            supervised_keys=("image", "label"),
            homepage="http://yann.lecun.com/exdb/mnist/",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        files = [Path(dl_manager.download(source.url)) for source in self.sources]
        return {"train": self._generate_examples(*files[:2]), "test": self._generate_examples(*files[2:])}

    def _generate_examples(self, images: Path, labels: Path) -> Iterator[tuple[int, dict[str, Any]]]:
        pixels, digits = self._read(images), self._read(labels)
        if pixels.shape != (len(digits), 28, 28) or digits.ndim != 1:
            raise RunError(f"{self.source.url}: {len(digits)} labels beside images {pixels.shape}")
        for number, (image, digit) in enumerate(zip(pixels, digits, strict=True)):
            # TFDS encodes arrays with TensorFlow; what is encoded it takes as it is.
            encoded = io.BytesIO()
            PIL.Image.fromarray(image).save(encoded, format="png")
            encoded.seek(0)
            yield number, {"image": encoded, "label": int(digit)}

    def _read(self, path: Path) -> np.ndarray:
        """An array in the IDX format: two zeros, 8 for bytes, the number of axes, their lengths, the values."""
        content = gzip.decompress(path.read_bytes())
        num_axes = content[3] if content[:3] == b"\0\0\x08" else 0
        shape = np.frombuffer(content, ">u4", num_axes, offset=4).tolist() if len(content) >= 4 + 4 * num_axes else []
        values = np.frombuffer(content[4 + 4 * num_axes :], np.uint8)
        if not shape or values.size != math.prod(shape):
            raise RunError(f"{self.source.url}: what arrived with it is no whole file in the IDX format")
        return values.reshape(shape)


BUILDERS = {
    "imdb_reviews/plain_text/1.0.0": ImdbReviews,
    "tiny_shakespeare/1.0.0": TinyShakespeare,
    "mnist/3.0.1": Mnist,
}
