"""Sentiment of film reviews (Maas et al. 2011), or the classes of any labelled texts.

Run:    python train.py --task imdb
        python train.py --task imdb --model bidirectional --cell gru
        python train.py --task imdb --preset imdb_fasttext_bigrams
        python train.py --task imdb --dataset tickets.csv
        python train.py --task imdb --vectors glove.6B.100d.txt --freeze-vectors --pooling attention
Expect: test accuracy 0.879 with the default model, 1 minute on two cores (benchmarks/scores.json)
"""

import dataclasses
import functools
import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import numpy as np
from flax import linen as nn
from jaxtyping import Float, Int

from rnnjax import losses
from rnnjax.data import builtin, cache, files, tfds
from rnnjax.data.batching import Examples, holdout, split_indices
from rnnjax.data.naive_bayes import log_count_ratios
from rnnjax.data.vectors import WordVectors, check_width, fingerprint_vectors, read_vectors
from rnnjax.data.vocabulary import PAD_ID, SplitTexts, WordVocabulary, percentile_length
from rnnjax.errors import InputError
from rnnjax.layers.combinators import Bidirectional, Stack
from rnnjax.layers.pooling import AttentionPooling, MaxPooling, MeanPooling, Pooling
from rnnjax.layers.recurrent import GRU, LSTM, SimpleRNN
from rnnjax.models.classifier import Classifier, best_classes, encode_texts, probabilities
from rnnjax.models.text import (
    FIRST_WEIGHT,
    ConvolutionalClassifier,
    ConvolutionalRecurrentClassifier,
    FastTextClassifier,
    RecurrentBagClassifier,
)
from rnnjax.task import (
    LARGEST_AXIS,
    Bounds,
    Count,
    NotNegative,
    OptionalCount,
    Positive,
    Prediction,
    Rate,
    Schedule,
    Size,
    Splits,
    Task,
    TrainConfig,
)

log = logging.getLogger("rnnjax")

# A review is two hundred words long. A cell that starts by forgetting half of its state at each word, as a GRU does, or
# a quarter, as an LSTM with a forget bias of 1, comes to worse figures.
LAYERS: Mapping[str, Callable[..., nn.Module]] = {
    "lstm": functools.partial(LSTM, forget_bias=2.0),
    "gru": functools.partial(GRU, update_bias=1.0),
    "simple": SimpleRNN,
}
DEFAULT_EMBEDDING = 128
VECTORS = "embedding/embedding"
"""Path of the word vectors among the parameters."""
RATIOS = "ratios"
"""Path of the log-count ratios among the parameters."""
VALIDATION_SHARE = 0.2
BUILTIN_EXAMPLES = 10_000
ENCODING = 5
"""Raise when the same data and settings are to be encoded in another way, so that cached arrays are not used."""


@dataclasses.dataclass(frozen=True)
class Config(TrainConfig):
    """Settings of the tutorial's sentiment model, with a schedule of our own."""

    epochs: Count | Literal["auto"] = "auto"
    batch_size: Size = 64
    learning_rate: Positive = 0.01
    patience: OptionalCount | Literal["auto"] = "auto"
    schedule: Schedule = "cosine"
    clip_norm: NotNegative = 0.01
    """Scale gradients down to this global norm; 0 disables. Nearly every gradient is larger than the default, which so
    sets the scale beside which Adam's epsilon damps the updates of rare words."""
    model: Literal["single", "stacked", "bidirectional", "cnn", "cnn_lstm", "fasttext"] = "single"
    """One recurrent layer; one and another of half its width above it; or one in each direction. cnn: the largest
    values of a convolution, and a dense layer; cnn_lstm: a recurrent layer over the largest values of a convolution in
    blocks; fasttext: the mean of the word vectors."""
    cell: Literal["lstm", "gru", "simple"] = "lstm"
    """Cell of the recurrent layers."""
    units: Size = 64
    """Width of the (first) recurrent layer, or of the dense layer of cnn; fasttext has none."""
    pooling: Literal["last", "mean", "max", "attention"] = "last"
    """What is read of the top recurrent layer: its output at the last step, or of all steps the mean, the largest
    values, or a mean by weights that are learned."""
    filters: Size = 128
    """Width of the convolution of cnn and cnn_lstm."""
    kernel_size: Size = 3
    """Words that the convolution sees at once."""
    pool_size: Size = 4
    """Windows of the convolution of which cnn_lstm keeps the largest values."""
    ngrams: Annotated[int, Bounds(1, 2)] = 1
    """2: bigrams, pairs of neighbouring words, have vectors too. fasttext takes the mean over words and bigrams; with
    single, stacked and bidirectional it stands beside the recurrent layers, with naive Bayes weights of words and
    bigrams (`RecurrentBagClassifier`)."""
    bigrams: Size = 200_000
    """Most bigrams that have a vector, with --ngrams 2: the most frequent pairs of words of the vocabulary."""
    embedding: Size | Literal["auto"] = "auto"
    """Width of the word vectors; auto: 128, or that of the vectors in --vectors."""
    vectors: str | None = None
    """File of word vectors to start from, in the text format of GloVe or fastText, plain or gzipped. Words that it
    lacks start at random."""
    freeze_vectors: bool = False
    """Leave the word vectors as they start, and naive Bayes weights with them; only with --vectors."""
    vocab_size: Annotated[int, Bounds(3, LARGEST_AXIS)] = 10_000
    """Most words in the vocabulary, the most frequent ones; padding and unknown words included."""
    max_length: Count | Literal["auto"] = 200
    """Words kept of a text, its last ones; auto: so many that nine texts in ten are whole."""
    dropout: Rate = 0.2
    """Share of a recurrent layer's inputs dropped, one mask for all steps. cnn, cnn_lstm and fasttext drop each value
    of the word vectors by itself."""
    recurrent_dropout: Rate = 0.2
    """Share of the recurrent connections dropped, one mask for all steps; cnn and fasttext have none."""
    output_dropout: Rate = 0.0
    """Share of what the output layer reads dropped."""
    word_dropout: Rate = 0.0
    """Share of the words of the vocabulary dropped in a step, each wherever it stands (Gal and Ghahramani 2016)."""

    def __post_init__(self) -> None:
        """Hold every value against its type, and settings that need each other against each other."""
        super().__post_init__()
        if self.ngrams == 2 and self.model in ("cnn", "cnn_lstm"):
            raise InputError(
                f"--ngrams: expected 1 with --model {self.model}, whose convolution sees pairs of words anyway; got 2. "
                "Leave one of them out."
            )
        if self.model in ("cnn", "fasttext"):
            for option, value, default in (("cell", self.cell, "lstm"), ("pooling", self.pooling, "last")):
                if value != default:
                    raise InputError(
                        f"--{option}: expected it with a model that has a recurrent layer; got {value} with "
                        f"--model {self.model}, which has none. Leave one of them out."
                    )
        if self.freeze_vectors and self.vectors is None:
            raise InputError(
                "--freeze-vectors: expected --vectors FILE beside it; got none. Name a file, or leave it out."
            )


@dataclasses.dataclass(frozen=True)
class LabelledSplits:
    """Texts and class numbers, before they are encoded; `validation` and `test` may be absent."""

    classes: list[str]
    texts: Mapping[str, list[str]]
    labels: Mapping[str, np.ndarray]


class Corpus:
    """Where the texts come from: a name, a fingerprint, and how to read them, which a cached start does not do."""

    def __init__(self, name: str, fingerprint: str, read: Callable[[], LabelledSplits]) -> None:
        """Name a corpus; nothing is read yet."""
        self.name, self.fingerprint, self.read = name, fingerprint, read


def load(config: Config) -> Splits:
    """Read, split and encode the texts, or take them from the cache of encoded data; and so the word vectors.

    Raises:
        InputError: the data are missing or cannot be used.
    """
    vectors_fingerprint = fingerprint_vectors(config.vectors) if config.vectors is not None else None
    corpus = find_corpus(config)
    key = {
        "task": "imdb",
        "encoding": ENCODING,
        "fingerprint": corpus.fingerprint,
        "seed": config.seed,
        "vocab_size": config.vocab_size,
        "max_length": config.max_length,
        "bigrams": num_bigrams(config),
    }
    arrays = cache.cached_arrays(key, lambda: encode(corpus.read(), config))
    vocabulary = WordVocabulary.from_json(arrays["vocabulary"].tobytes().decode())

    def source(split: str) -> Examples | None:
        if f"{split}_inputs" not in arrays:
            return None
        return Examples({name: arrays[f"{split}_{name}"] for name in ("inputs", "lengths", "labels")})

    train, validation = source("train"), source("validation")
    assert train is not None
    assert validation is not None
    classes = json.loads(arrays["classes"].tobytes())
    info = {
        "classes": classes,
        "vocabulary_size": len(vocabulary),
        "num_words": vocabulary.num_words,
        "max_length": int(arrays["max_length"]),
    }
    log.info(
        "%s: %s training, %s validation, %s test texts; %s words; length %s",
        corpus.name, len(train), len(validation), len(source("test") or ()), vocabulary.num_words, info["max_length"],
    )  # fmt: skip
    if config.ngrams == 2:
        log.info("%s bigrams", len(vocabulary) - vocabulary.num_words)
    fingerprint, initial = corpus.fingerprint, {RATIOS: arrays["ratios"]} if has_bag(config) else {}
    if vectors_fingerprint is not None:
        table = load_vectors(config, vectors_fingerprint, vocabulary, train.arrays["inputs"])
        info["embedding"] = table.shape[1]
        if has_bag(config):
            weights = np.full((len(table), arrays["ratios"].shape[1]), FIRST_WEIGHT, np.float32)
            table = np.concatenate([table, weights], axis=1)
        initial[VECTORS] = table
        fingerprint = hashlib.sha256(f"{fingerprint} {vectors_fingerprint}".encode()).hexdigest()
    return Splits(corpus.name, fingerprint, train, validation, source("test"), info, vocabulary, initial)


def has_bag(config: Config) -> bool:
    """Whether bags of words and bigrams stand beside recurrent layers."""
    return config.ngrams == 2 and config.model != "fasttext"


def num_bigrams(config: Config) -> int:
    """The most bigrams that the vocabulary has."""
    return config.bigrams if config.ngrams == 2 else 0


def load_vectors(
    config: Config, fingerprint: str, vocabulary: WordVocabulary, inputs: Int[np.ndarray, "N L"]
) -> Float[np.ndarray, "V E"]:
    """The vectors of a vocabulary from the file that `--vectors` names, with a notice of the share that was found.

    Raises:
        InputError: the file cannot be used, or `--embedding` is another width.
    """
    assert config.vectors is not None
    path = config.vectors
    key = {
        "task": "imdb vectors",
        "encoding": ENCODING,
        "fingerprint": fingerprint,
        "vocabulary": hashlib.sha256(vocabulary.to_json().encode()).hexdigest(),
        "seed": config.seed,
    }
    fields = cache.cached_arrays(key, lambda: dataclasses.asdict(read_vectors(path, vocabulary.words, config.seed)))
    vectors = WordVectors(**fields)
    width = vectors.table.shape[1]
    check_width(config.embedding, width, path)
    counts = np.bincount(inputs[inputs != PAD_ID], minlength=len(vocabulary))
    log.info(
        "%s: vectors of width %s for %.1f %% of the vocabulary, %.1f %% of the words to train on",
        path, width, 100 * vectors.share_of_words, 100 * vectors.share_of_tokens(counts),
    )  # fmt: skip
    return vectors.table


def find_corpus(config: Config) -> Corpus:
    """The corpus that `--dataset` means."""
    if config.dataset == "builtin":
        return builtin_corpus()
    if config.dataset in ("auto", "tfds"):
        try:
            folder = tfds.prepare_imdb(config.data_dir)
        except tfds.NetworkUnavailable as error:
            if config.dataset == "tfds":
                raise InputError(
                    f"--dataset tfds: expected imdb_reviews prepared by TFDS, or a network to fetch it; {error}. "
                    "Name the folder with --data-dir, or use --dataset builtin."
                ) from error
            log.warning("NO IMDB DATA AND NO NETWORK (%s): training on the BUILT-IN SAMPLE of composed reviews", error)
            return builtin_corpus()
        return Corpus("imdb_reviews", tfds.fingerprint(folder), lambda: read_imdb(folder, config.seed))
    # The split is drawn by the seed, the fingerprint is of the data alone.
    return Corpus(
        config.dataset, files.fingerprint_labelled(config.dataset), lambda: read_own(config.dataset, config.seed)
    )


def read_imdb(folder: Any, seed: int) -> LabelledSplits:
    """The 25,000 training reviews, a fifth of them held out for validation, and the 25,000 test reviews."""
    splits = tfds.read_imdb(folder)
    texts = {split: part[0] for split, part in splits.items()}
    labels = {split: part[1] for split, part in splits.items()}
    return with_validation(LabelledSplits(["negative", "positive"], texts, labels), seed)


def builtin_corpus() -> Corpus:
    """Composed reviews; the sample and its division are the same for every seed."""

    texts, labels = builtin.reviews(BUILTIN_EXAMPLES, seed=0)
    fingerprint = hashlib.sha256(json.dumps([texts, labels]).encode()).hexdigest()
    return Corpus("builtin", fingerprint, lambda: divide(texts, labels, seed=0))


def read_own(path: str, seed: int) -> LabelledSplits:
    """A user's own labelled texts, divided by their `split` column or else 80/10/10 by the seed."""
    data = files.read_labelled(path)
    if data.splits is None:
        if len(data.texts) < 3:
            raise InputError(
                f"{path}: expected 3 or more texts, to divide into train, validation and test; got {len(data.texts)}. "
                "Add some, or say in a column `split` which is which."
            )
        return divide(data.texts, data.labels, seed)
    classes, numbers = numbered(data.labels)
    where = {split: [i for i, name in enumerate(data.splits) if name == split] for split in dict.fromkeys(data.splits)}
    texts = {split: [data.texts[i] for i in rows] for split, rows in where.items()}
    labels = {split: numbers[rows] for split, rows in where.items()}
    splits = LabelledSplits(classes, texts, labels)
    return splits if "validation" in texts else with_validation(splits, seed)


def divide(texts: list[str], labels: list[str], seed: int) -> LabelledSplits:
    """Divide texts 80/10/10 by the seed."""
    classes, numbers = numbered(labels)
    parts = split_indices(len(texts), seed)
    return LabelledSplits(
        classes,
        {split: [texts[i] for i in rows] for split, rows in parts.items()},
        {split: numbers[rows] for split, rows in parts.items()},
    )


def with_validation(splits: LabelledSplits, seed: int) -> LabelledSplits:
    """Hold a fifth of the training texts out for validation."""
    texts, labels = splits.texts["train"], splits.labels["train"]
    kept, held_out = holdout(len(texts), VALIDATION_SHARE, seed)
    parts = {"train": kept, "validation": held_out}
    return LabelledSplits(
        splits.classes,
        {**splits.texts, **{name: [texts[i] for i in rows] for name, rows in parts.items()}},
        {**splits.labels, **{name: labels[rows] for name, rows in parts.items()}},
    )


def numbered(labels: list[str]) -> tuple[list[str], np.ndarray]:
    """Classes in alphabetical order, and each label as the number of its class."""
    classes = sorted(set(labels))
    number_of = {name: number for number, name in enumerate(classes)}
    return classes, np.array([number_of[label] for label in labels], np.int32)


def encode(splits: LabelledSplits, config: Config) -> dict[str, np.ndarray]:
    """Ids, lengths and labels of each split, and the vocabulary of the training texts, as arrays for the cache."""
    words = {split: SplitTexts.of(texts) for split, texts in splits.texts.items()}
    vocabulary = WordVocabulary.train(words["train"], config.vocab_size, num_bigrams(config))
    max_length = config.max_length
    if max_length == "auto":
        max_length = percentile_length(words["train"].lengths, 90)
    arrays = {
        "vocabulary": np.frombuffer(vocabulary.to_json().encode(), np.uint8),
        "classes": np.frombuffer(json.dumps(splits.classes).encode(), np.uint8),
    }
    for split in words:
        inputs, lengths = vocabulary.encode(words[split], max_length)  # no wider than the longest of these texts
        arrays |= {f"{split}_inputs": inputs, f"{split}_lengths": lengths, f"{split}_labels": splits.labels[split]}
    if config.ngrams == 2:
        inputs, lengths, labels = (arrays[f"train_{name}"] for name in ("inputs", "lengths", "labels"))
        arrays["ratios"] = log_count_ratios(inputs, lengths, labels, len(vocabulary), len(splits.classes))
    return {**arrays, "max_length": np.asarray(max_length)}


def build(config: Config, info: Mapping[str, Any]) -> nn.Module:
    """The model that `--model` and `--cell` name."""
    width = info.get("embedding", DEFAULT_EMBEDDING) if config.embedding == "auto" else config.embedding
    sizes = (info["vocabulary_size"], len(info["classes"]), width)
    both: dict[str, Any] = {
        "word_dropout_rate": config.word_dropout,
        "output_dropout_rate": config.output_dropout,
        "matmul_dtype": config.matmul_dtype,
    }
    options = {**both, "dropout_rate": config.dropout}
    filters = (config.filters, config.kernel_size)
    if config.model == "fasttext":
        return FastTextClassifier(*sizes, **options)
    if config.model == "cnn":
        return ConvolutionalClassifier(*sizes, *filters, config.units, **options)
    if config.model == "cnn_lstm":
        encoder, pooling = recurrent(config, dropout=0.0)
        return ConvolutionalRecurrentClassifier(*sizes, encoder, pooling, *filters, config.pool_size, **options)
    layers = recurrent(config, config.dropout)
    if has_bag(config):
        return RecurrentBagClassifier(*sizes, *layers, info["num_words"], info["max_length"], **both)
    return Classifier(*sizes, *layers, **both)


def recurrent(config: Config, dropout: float) -> tuple[nn.Module, Pooling | None]:
    """The recurrent layers, which drop this share of their inputs, and what makes one vector of their outputs."""
    layer = LAYERS[config.cell]
    options: dict[str, Any] = {
        "dropout_rate": dropout,
        "recurrent_dropout_rate": config.recurrent_dropout,
        "matmul_dtype": config.matmul_dtype,
    }
    poolings: dict[str, Pooling | None] = {
        "last": None,
        "mean": MeanPooling(),
        "max": MaxPooling(),
        "attention": AttentionPooling(matmul_dtype=config.matmul_dtype),
    }
    pooling = poolings[config.pooling]
    last = {**options, "return_sequences": pooling is not None}
    if config.model == "stacked":
        if config.cell == "lstm":  # what the upper layer reads remembers already
            last = {**last, "forget_bias": 1.0}
        return Stack([layer(config.units, **options), layer(max(config.units // 2, 1), **last)]), pooling
    if config.model == "bidirectional":
        return Bidirectional(layer(config.units, **last)), pooling
    return layer(config.units, **last), pooling


def frozen(config: Config) -> tuple[str, ...]:
    """The log-count ratios, and the word vectors with `--freeze-vectors`."""
    return (*([RATIOS] if has_bag(config) else []), *([VECTORS] if config.freeze_vectors else []))


TUTORIAL = {
    "batch_size": 128,
    "learning_rate": 1e-3,
    "schedule": "constant",
    "clip_norm": 0.0,
    "epochs": 10,
    "patience": 3,
}
"""Training as in the tutorial; the model's defaults are the tutorial's anyway."""

EXAMPLE = {"batch_size": 32, "learning_rate": 1e-3, "schedule": "constant", "clip_norm": 0.0}
"""Training as in Keras's examples, all with Adam."""
FASTTEXT = {
    **EXAMPLE,
    "model": "fasttext",
    "vocab_size": 20_000,
    "max_length": 400,
    "embedding": 50,
    "dropout": 0.0,
    "epochs": 5,
}
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "tutorial": TUTORIAL,
    # Keras's examples of these names, in their original settings but for what the models here do otherwise: words are
    # split as `SplitTexts` does it, padding is masked, and the best epoch on validation data is kept.
    "imdb_lstm": {**EXAMPLE, "vocab_size": 20_000, "max_length": 80, "units": 128, "epochs": 15},  # both dropouts 0.2
    "imdb_bidirectional": {
        **EXAMPLE,
        "model": "bidirectional",
        "vocab_size": 20_000,
        "max_length": 100,
        "dropout": 0.0,
        "recurrent_dropout": 0.0,
        "output_dropout": 0.5,
        "epochs": 4,
    },
    "imdb_cnn": {
        **EXAMPLE,
        "model": "cnn",
        "vocab_size": 5_000,
        "max_length": 400,
        "embedding": 50,
        "filters": 250,
        "kernel_size": 3,
        "units": 250,
        "dropout": 0.2,
        "output_dropout": 0.2,
        "epochs": 2,
    },
    "imdb_cnn_lstm": {
        **EXAMPLE,
        "model": "cnn_lstm",
        "vocab_size": 20_000,
        "max_length": 100,
        "batch_size": 30,
        "dropout": 0.25,
        "recurrent_dropout": 0.0,
        "filters": 64,
        "kernel_size": 5,
        "pool_size": 4,
        "units": 70,
        "epochs": 2,
    },
    "imdb_fasttext": FASTTEXT,
    "imdb_fasttext_bigrams": {**FASTTEXT, "ngrams": 2},
    "attention": {"model": "bidirectional", "pooling": "attention"},
    "best": {
        "cell": "gru",
        "pooling": "max",
        "ngrams": 2,
        "vocab_size": 20_000,
        "max_length": 400,
        "embedding": 64,
        "dropout": 0.5,
        "output_dropout": 0.5,
        "epochs": 2,
        "monitor": "val_accuracy",
    },
}

TASK = Task(
    "imdb",
    Config,
    load,
    build,
    losses.classification,
    presets=PRESETS,
    frozen=frozen,
    probabilities=probabilities,
    prediction=Prediction(encode_texts, best_classes),
)
