"""A tag for each word of a sentence: its part of speech, or the chunks that it begins and goes on (B-NP I-NP O ...).

A recurrent layer in both directions over words and their characters, and a conditional random field over the tags
(Huang et al. 2015, Lample et al. 2016, Ma and Hovy 2016). Chunks are those of CoNLL-2000 (Tjong Kim Sang and Buchholz
2000), of Wall Street Journal sections 15-18 and 20, and their F1 is that of its script `conlleval`; the parts of speech
there are the answers of Brill's tagger. Treebanks of Universal Dependencies have parts of speech by hand.

Run:    python train.py --task tagging
        python train.py --task tagging --labels pos --no-crf
        python train.py --task tagging --corpus partut
        python train.py --task tagging --dataset my_sentences.conll
Expect: chunk F1 0.925 of CoNLL-2000, 5 minutes on one core that others used too (benchmarks/scores.json)
"""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int

from rnnjax.data import archives, tagged
from rnnjax.data.batching import holdout, split_indices
from rnnjax.data.grammar import tagged_sentences
from rnnjax.data.sentences import CASES, LONGEST_WORD, Sentences, case, likely_widths, plain, spelling
from rnnjax.data.tfds import NetworkUnavailable
from rnnjax.data.vectors import check_width, fingerprint_vectors, read_vectors
from rnnjax.data.vocabulary import UNKNOWN_ID, TokenVocabulary
from rnnjax.errors import InputError
from rnnjax.kernels.sequence import mask_from_lengths
from rnnjax.layers.combinators import Bidirectional
from rnnjax.layers.recurrent import BY_CELL
from rnnjax.metrics import Sums, masked_sum
from rnnjax.models.crf import TagScores, best_path, log_likelihood
from rnnjax.models.tagger import CharacterCNN, CharacterLSTM, CharacterReader, Tagger, count_chunks
from rnnjax.task import (
    Batch,
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

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger("rnnjax")

CORPORA = {"conll2000": tagged.CONLL2000, "lines": tagged.LINES, "partut": tagged.PARTUT}
DEFAULT_EMBEDDING = 100
VECTORS = "embedding/embedding"
"""Path of the word vectors among the parameters."""
CHARACTER_EMBEDDING = 25
CHARACTER_FEATURES = 50
VALIDATION_SHARE = 0.1
BUILTIN_SENTENCES = 3_000
STEP = 8
"""predict.py pads sentences to multiples of this."""
SHOWN = 8
"""Sentences with wrong tags that are drawn."""
TOKENS_A_LINE = 8


@dataclasses.dataclass(frozen=True)
class Config(TrainConfig):
    """Settings of the tagger."""

    dataset: str = "auto"
    """auto (what --corpus names; where there are neither its files nor a network, made-up sentences), tfds (the same
    without the latter), builtin (made-up sentences), or the path of a file or folder of yours: a token a line, its word
    first and its tag last, and a blank line between sentences; a .conllu file; a folder with such files whose names
    hold train, dev or valid, and test."""
    epochs: Count | Literal["auto"] = 10
    batch_size: Size = 16
    """Sentences, of like length, in one step."""
    learning_rate: Positive = 3e-3
    schedule: Schedule = "cosine"
    clip_norm: NotNegative = 1.0
    patience: OptionalCount | Literal["auto"] = 0
    monitor: str = "val_f1"
    """The metric that decides which epoch is the best: val_f1 (of parts of speech the same as val_accuracy), val_loss,
    ..."""
    corpus: Literal["conll2000", "lines", "partut"] = "conll2000"
    """What --dataset auto reads: CoNLL-2000, or the treebanks English LinES or English ParTUT of Universal
    Dependencies, which have parts of speech only."""
    labels: Literal["auto", "chunks", "pos"] = "auto"
    """Tags to learn: chunks (of a file of columns, the last one) or parts of speech (the second); auto: chunks where
    the data have them."""
    pos_features: bool = False
    """Read the parts of speech beside the words, to find chunks by; a file of three columns or more has them in the
    second. predict.py then takes them after a slash: He/PRP reckons/VBZ."""
    crf: bool = True
    """Weigh tags by their neighbours' too, with a conditional random field on top, and answer with the most probable
    sequence."""
    characters: Literal["lstm", "cnn", "none"] = "cnn"
    """What reads the characters of each word: a recurrent layer both ways, a convolution, or nothing."""
    cell: Literal["lstm", "gru", "simple"] = "lstm"
    """Cell of the recurrent layers."""
    units: Size = 100
    """Width of the recurrent layer in each direction."""
    embedding: Size | Literal["auto"] = "auto"
    """Width of the word vectors; auto: 100, or that of the vectors in --vectors."""
    vectors: str | None = None
    """File of word vectors to start from, in the text format of GloVe or fastText, plain or gzipped. Words that it
    lacks start at random."""
    dropout: Rate = 0.5
    """Share of what the recurrent layer reads and gives that is dropped."""
    recurrent_dropout: Rate = 0.25
    """Share of the recurrent connections dropped, one mask for all steps."""
    unknown_rate: Rate = 0.5
    """Share of the words that occur once in training that are read as unknown, drawn anew in each epoch, so that the
    vector of unknown words is learned."""


class Corpus(NamedTuple):
    """Sentences by their part ("all" where they are not divided), and what they are called."""

    name: str
    parts: Mapping[str, list[list[tagged.Row]]]


def load(config: Config) -> Splits:
    """Read, divide and encode the sentences.

    Raises:
        InputError: the data are missing, cannot be used, or have no such tags.
    """
    corpus = find_corpus(config)
    fingerprint = tagged.fingerprint(corpus.parts)
    everything = [sentence for part in corpus.parts.values() for sentence in part]
    labels = which_labels(config, corpus.name, everything)
    column = 1 if labels == "pos" else -1
    parts = divide(corpus, config.seed)
    words = [[row[0] for row in sentence] for sentence in parts["train"]]
    counts: dict[str, int] = {}
    for word in (plain(word) for sentence in words for word in sentence):
        counts[word] = counts.get(word, 0) + 1
    vocabulary = TokenVocabulary(
        sorted(counts, key=lambda word: (-counts[word], word)), sorted({c for text in words for w in text for c in w})
    )
    info: dict[str, Any] = {
        "labels": labels,
        "tags": numbered_tags({row[column] for sentence in everything for row in sentence}, labels),
        "pos": sorted({row[1] for sentence in parts["train"] for row in sentence}) if config.pos_features else [],
        "vocabulary_size": len(vocabulary),
        "num_characters": len(vocabulary.characters),
    }
    widths = likely_widths(np.array([len(sentence) for sentence in parts["train"]]))
    rare = np.array([counts.get(word) == 1 for word in vocabulary.words])
    sources = {}
    for part, sentences in parts.items():
        tokens, spellings = encode(sentences, vocabulary, info)
        tag_ids = {tag: number for number, tag in enumerate(info["tags"])}
        gold = np.array([tag_ids[row[column]] for sentence in sentences for row in sentence], np.int32)
        lengths = np.array([len(sentence) for sentence in sentences], np.int32)
        tokens |= {"chunks" if labels == "chunks" else "tags": gold}
        training = (rare, config.unknown_rate) if part == "train" else ()
        sources[part] = Sentences(tokens, spellings, lengths, widths, *training)
    log.info(
        "%s, %s: %s training, %s validation, %s test sentences of up to %s tokens; %s words, %s tags",
        corpus.name, labels, *(len(sources.get(part, ())) for part in ("train", "validation", "test")),
        max(map(len, everything)), len(vocabulary), len(info["tags"]),
    )  # fmt: skip
    initial = {}
    if config.vectors is not None:
        fingerprint = f"{fingerprint} {fingerprint_vectors(config.vectors)}"
        found = read_vectors(config.vectors, vocabulary.words, config.seed)
        info["embedding"], initial[VECTORS] = found.table.shape[1], found.table
        check_width(config.embedding, info["embedding"], config.vectors)
        log.info("%s: vectors for %.1f %% of the words", config.vectors, 100 * found.share_of_words)
    train, validation, test = (sources.get(part) for part in ("train", "validation", "test"))
    assert train is not None
    assert validation is not None
    return Splits(corpus.name, fingerprint, train, validation, test, info, vocabulary, initial)


def find_corpus(config: Config) -> Corpus:
    """The sentences that `--dataset` and `--corpus` mean."""
    if config.dataset not in ("auto", "tfds", "builtin"):
        return Corpus(config.dataset, tagged.read_tagged(config.dataset))
    if config.dataset != "builtin":
        archive = CORPORA[config.corpus]
        try:
            folder = archives.prepare(archive, config.data_dir)
        except NetworkUnavailable as error:
            if config.dataset == "tfds":
                raise InputError(
                    f"--dataset tfds: expected {archive.name} in the data folder, or a network to fetch it; {error}. "
                    "Name the folder with --data-dir, or use --dataset builtin."
                ) from error
            log.warning(
                "NO %s AND NO NETWORK (%s): training on the BUILT-IN SAMPLE of made-up sentences", archive.name, error
            )
        else:
            return Corpus(archive.name, tagged.read_tagged(folder))
    return Corpus("builtin", {"all": [list(sentence) for sentence in tagged_sentences(BUILTIN_SENTENCES, seed=0)]})


def which_labels(config: Config, name: str, sentences: list[list[tagged.Row]]) -> Literal["chunks", "pos"]:
    """What `--labels` means for these data.

    Raises:
        InputError: they have no such tags, or no parts of speech where these are to be read.
    """
    other = next(
        (row for text in sentences for row in text if row[-1] != "O" and row[-1][:2] not in ("B-", "I-")), None
    )
    if config.labels == "chunks" and other is not None:
        raise InputError(
            f"--labels chunks: expected tags O, B-... and I-... in the last column of {name}; got {other[-1]!r} of "
            f"{other[0]!r}. Take --labels pos, or other data."
        )
    labels = config.labels
    if labels == "auto":
        labels = "chunks" if other is None else "pos"
    if config.pos_features and (labels == "pos" or len(sentences[0][0]) < 3):
        raise InputError(
            f"--pos-features: expected chunks to learn and parts of speech beside them; {name} has "
            f"{len(sentences[0][0])} columns, and --labels is {labels}. Leave it out."
        )
    return labels


def divide(corpus: Corpus, seed: int) -> dict[str, list[list[tagged.Row]]]:
    """Training, validation and perhaps test sentences, divided by the seed where the data are not."""
    parts = dict(corpus.parts)
    if "all" in parts:
        sentences = parts["all"]
        rows = split_indices(len(sentences), 0 if corpus.name == "builtin" else seed)
        return {part: [sentences[i] for i in chosen] for part, chosen in rows.items()}
    if "validation" not in parts:
        sentences = parts["train"]
        kept, held_out = holdout(len(sentences), VALIDATION_SHARE, seed)
        parts |= {"train": [sentences[i] for i in kept], "validation": [sentences[i] for i in held_out]}
    return parts


def numbered_tags(found: set[str], labels: Literal["chunks", "pos"]) -> list[str]:
    """The tag of each number; of chunks in the order that `count_chunks` reads: O, B-ADJP, I-ADJP, B-ADVP, ..."""
    if labels == "pos":
        return sorted(found)
    kinds = sorted({tag[2:] for tag in found if tag != "O"})
    return ["O", *(f"{place}-{kind}" for kind in kinds for place in "BI")]


def encode(
    sentences: Sequence[Sequence[tagged.Row]], vocabulary: TokenVocabulary, info: Mapping[str, Any]
) -> tuple[dict[str, Int[np.ndarray, " N"]], Int[np.ndarray, "V W"]]:
    """What the model reads of all tokens, and the characters of their distinct words, for `Sentences`."""
    rows = [row for sentence in sentences for row in sentence]
    distinct: dict[str, int] = {}
    places = [distinct.setdefault(row[0], len(distinct)) for row in rows]
    forms = list(distinct)
    ids = np.array([vocabulary.word_ids.get(plain(form), UNKNOWN_ID) for form in forms], np.int32)
    cases = np.array([case(form) for form in forms], np.int32)
    spellings = np.array([spelling(form, vocabulary.character_ids) for form in forms], np.int32)
    index = np.array(places, np.int32)
    tokens = {"inputs": ids[index], "cases": cases[index], "spellings": index}
    if info["pos"]:
        pos_ids = {pos: number for number, pos in enumerate(info["pos"], start=2)}
        tokens["pos"] = np.array([pos_ids.get(row[1], UNKNOWN_ID) for row in rows], np.int32)
    return tokens, spellings


def build(config: Config, info: Mapping[str, Any]) -> nn.Module:
    """The tagger that the settings describe."""
    layer = BY_CELL[config.cell]
    encoder = Bidirectional(
        layer(config.units, recurrent_dropout_rate=config.recurrent_dropout, matmul_dtype=config.matmul_dtype)
    )
    reader: CharacterReader | None = None
    sizes = (info["num_characters"], CHARACTER_EMBEDDING)
    if config.characters == "lstm":
        reader = CharacterLSTM(*sizes, layer(CHARACTER_FEATURES // 2, matmul_dtype=config.matmul_dtype))
    elif config.characters == "cnn":
        reader = CharacterCNN(*sizes, CHARACTER_FEATURES, config.matmul_dtype)
    return Tagger(
        info["vocabulary_size"],
        info.get("embedding", DEFAULT_EMBEDDING) if config.embedding == "auto" else config.embedding,
        len(info["tags"]),
        encoder,
        reader,
        num_cases=len(CASES),
        num_pos=len(info["pos"]) + 2 if info["pos"] else 0,
        dropout_rate=config.dropout,
        crf=config.crf,
        matmul_dtype=config.matmul_dtype,
    )


def example(info: Mapping[str, Any]) -> Batch:
    """A batch of one sentence of one token."""
    token = np.zeros((1, 1), np.int32)
    return {"inputs": token, "cases": token, "pos": token, "characters": np.zeros((1, 1, LONGEST_WORD), np.int32)}


def loss(scores: TagScores, batch: Batch) -> Sums:
    """Negative log-likelihood of the tags, in nats a token; the share of right tags; of chunks precision and recall.

    Precision is the share of the chunks found that are right, recall that of the right chunks that are found, each
    counted over all sentences.
    """
    lengths, weight = jnp.asarray(batch["lengths"]), jnp.asarray(batch["weight"])
    tags = jnp.asarray(batch["chunks"] if "chunks" in batch else batch["tags"])
    each = mask_from_lengths(lengths, tags.shape[1]) * weight[:, None]  # [B, T]
    path = best_path(jax.lax.stop_gradient(scores), lengths)
    total, _ = masked_sum(-log_likelihood(scores, tags, lengths), weight)
    sums = {"loss": (total, each.sum()), "accuracy": masked_sum((path == tags).astype(total.dtype), each)}
    if "chunks" in batch:
        counts = count_chunks(path, tags, lengths, weight)
        sums |= {"precision": (counts.right, counts.predicted), "recall": (counts.right, counts.true)}
    return sums


def f1(means: Mapping[str, float]) -> dict[str, float]:
    """Harmonic mean of precision and recall; of parts of speech, where each token is its own chunk, the accuracy."""
    if not {"precision", "recall"} & set(means):
        return {"f1": means["accuracy"]}
    precision, recall = means.get("precision", 0.0), means.get("recall", 0.0)  # a share of nothing is left out
    return {"f1": 2 * precision * recall / (precision + recall) if precision + recall else 0.0}


@jax.jit
def best_tags(scores: TagScores, lengths: Int[Array, "B"]) -> tuple[Int[Array, "B T"], Float[Array, "B"]]:
    """The most probable tags of each sentence (without a CRF, of each token), and the probability of all of them."""
    path = best_path(scores, lengths)
    return path, jnp.exp(log_likelihood(scores, path, lengths))


def encode_lines(config: Config, info: Mapping[str, Any], vocabulary: TokenVocabulary, lines: Sequence[str]) -> Batch:
    """Sentences as `predict.py` gets them: tokens with spaces between them.

    Raises:
        InputError: with `--pos-features`, a token without its part of speech.
    """
    sentences: list[list[tagged.Row]] = []
    for number, line in enumerate(lines, start=1):
        rows: list[tagged.Row] = [(token,) for token in line.split()]
        if info["pos"]:
            rows = [tuple(token.rsplit("/", 1)) for token in line.split()]
            if wrong := next((row[0] for row in rows if len(row) < 2 or not all(row)), None):
                raise InputError(f"line {number}: expected word/PART-OF-SPEECH, as He/PRP; got {wrong!r}.")
        sentences.append(rows)
    lengths = np.array([len(sentence) for sentence in sentences], np.int32)
    width = max(STEP, -(-int(lengths.max(initial=0)) // STEP) * STEP)
    if not lengths.any():  # no token at all, only empty lines
        batch = {name: np.zeros((len(lines), width), np.int32) for name in ("inputs", "cases", "pos")}
        characters = np.zeros((len(lines), width, LONGEST_WORD), np.int32)
        return {**batch, "characters": characters, "lengths": lengths}
    source = Sentences(*encode(sentences, vocabulary, info), lengths, [])
    batch = source.padded(np.arange(len(lines)), width)
    return {name: batch[name] for name in (*TASK.arguments, "inputs") if name in batch}


def answers(
    config: Config, info: Mapping[str, Any], vocabulary: TokenVocabulary, scores: TagScores, batch: Batch
) -> list[tuple[str, float]]:
    """The tags of each sentence with spaces between them, and the probability that all of them are right."""
    scores = jax.tree.map(lambda leaf: jnp.asarray(leaf)[: len(batch["inputs"])], scores)
    paths, probabilities = jax.device_get(best_tags(scores, batch["lengths"]))
    texts = [
        " ".join(info["tags"][tag] for tag in path[:length])
        for path, length in zip(paths, batch["lengths"], strict=True)
    ]
    return list(zip(texts, probabilities.tolist(), strict=True))


def pictures(config: Config, splits: Splits, model: nn.Module, params: Any) -> "dict[str, Figure]":
    """Which tags were taken for which, and some sentences with a wrong one; of the test split where there is one."""
    source, part = (splits.validation, "validation") if splits.test is None else (splits.test, "test")
    assert isinstance(splits.vocabulary, TokenVocabulary)
    tags, words = splits.info["tags"], splits.vocabulary.words
    matrix = np.zeros((len(tags), len(tags)), np.int64)  # [right, given]
    wrong: list[list[tuple[str, str, str]]] = []

    @jax.jit
    def best(batch: Batch) -> Int[Array, "B T"]:
        scores: Any = model.apply({"params": params}, batch["inputs"], **TASK.keywords(batch))
        return best_path(scores, jnp.asarray(batch["lengths"]))

    for batch in source.evaluation(config.batch_size):
        right, given = batch["chunks"] if "chunks" in batch else batch["tags"], np.asarray(best(batch))
        for row in np.flatnonzero(batch["weight"]):
            real = slice(batch["lengths"][row])
            np.add.at(matrix, (right[row, real], given[row, real]), 1)
            if len(wrong) < SHOWN and (right[row, real] != given[row, real]).any():
                tokens = zip(batch["inputs"][row, real], given[row, real], right[row, real], strict=True)
                wrong.append([(words[word], tags[tag], tags[true]) for word, tag, true in tokens])
    title = f"the {part} split"
    return {"confusion": confusion_picture(title, tags, matrix), "sentences": sentences_picture(title, wrong)}


def confusion_picture(title: str, tags: Sequence[str], matrix: Int[np.ndarray, "K K"]) -> "Figure":
    """How many tokens of each tag (row) were given each tag (column), coloured by the share of the row."""
    from matplotlib.figure import Figure

    shown = np.flatnonzero(matrix.sum(axis=0) + matrix.sum(axis=1))
    matrix, names = matrix[np.ix_(shown, shown)], [tags[i] for i in shown.tolist()]
    figure = Figure(figsize=(1.5 + 0.26 * len(names), 1.2 + 0.26 * len(names)), layout="constrained")
    axes = figure.subplots()
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    for row, column in zip(*np.nonzero(matrix), strict=True):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(matrix[row, column]), ha="center", va="center", fontsize=4, color=colour)
    axes.set(xlabel="given", ylabel="right", title=f"tokens of {title}")
    return figure


def sentences_picture(title: str, sentences: Sequence[Sequence[tuple[str, str, str]]]) -> "Figure":
    """Sentences of (word, given tag, right tag): the tags under the words, and wrong ones with the right one in red."""
    from matplotlib.figure import Figure

    lines = [text[i : i + TOKENS_A_LINE] for text in sentences for i in range(0, len(text), TOKENS_A_LINE)]
    figure = Figure(figsize=(1.2 * TOKENS_A_LINE, 0.4 + 0.55 * max(len(lines), 1)), layout="constrained")
    axes = figure.subplots()
    for row, line in enumerate(lines):
        for column, (word, given, right) in enumerate(line):
            axes.text(column, row, word, fontsize=9, parse_math=False)
            told, colour = (given, "grey") if given == right else (f"{given}, not {right}", "red")
            axes.text(column, row + 0.4, told, fontsize=6, color=colour, parse_math=False)
    axes.set(xlim=(-0.1, TOKENS_A_LINE), ylim=(max(len(lines), 1), -0.6), title=f"sentences of {title} with wrong tags")
    axes.axis("off")
    return figure


TASK = Task(
    "tagging",
    Config,
    load,
    build,
    loss,
    arguments=("lengths", "characters", "cases", "pos"),
    example=example,
    unit="tokens",
    derived=f1,
    prediction=Prediction(encode_lines, answers),
    pictures=pictures,
)
