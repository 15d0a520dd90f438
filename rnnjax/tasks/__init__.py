"""The experiments, one file each. This table is literal, so that listing them imports nothing heavy."""

from typing import NamedTuple


class Entry(NamedTuple):
    """A task as `--list` shows it."""

    description: str
    data: str
    """What it is trained on by default."""
    model: str
    """What is trained by default, and what else can be."""
    expected: str
    """What a run with the default settings reaches (benchmarks/scores.json)."""
    kind: str
    """"classifier" (of texts), "language model" (generate.py) or what it is otherwise."""


PREDICTORS = (
    "classifier",
    "author classifier",
    "image classifier",
    "sequence to sequence",
    "question answering",
    "tagger",
)
"""Kinds that predict.py asks."""

TASKS = {
    "imdb": Entry(
        "sentiment of film reviews, or any labelled texts",
        "IMDB, 50,000 reviews",
        "LSTM 64; GRU, stacked, bidirectional, convolutions, fastText",
        "test accuracy 0.879",
        "classifier",
    ),
    "reuters": Entry(
        "topics of newswires",
        "Reuters-21578, 11,228 newswires",
        "bag of words; LSTM, bidirectional",
        "test accuracy 0.882",
        "classifier",
    ),
    "char": Entry(
        "language model of a text, by characters or words",
        "tiny_shakespeare, or Nietzsche's text",
        "LSTM 320; GRU, simple, minGRU, minLSTM",
        "val_loss 1.465 nats a character",
        "language model",
    ),
    "tagging": Entry(
        "parts of speech, or chunks, of the words of a sentence",
        "CoNLL-2000, 10,948 sentences",
        "bidirectional LSTM over words and characters; CRF",
        "chunk F1 0.925",
        "tagger",
    ),
    "babi": Entry(
        "questions about short stories",
        "bAbI, 20 tasks",
        "recurrent networks; memory network",
        "test accuracy 1.000 (task 1), 0.997 (task 2)",
        "question answering",
    ),
    "addition": Entry(
        'sums of numbers as text: "535+61" -> "596"',
        "generated",
        "LSTM 128 encoder and decoder; any cell, attention",
        "exact match 0.998",
        "sequence to sequence",
    ),
    "mnist": Entry(
        "handwritten digits, or any small grey images",
        "MNIST, 70,000 images",
        "hidden layers; convolutions, LSTM over rows or pixels",
        "test accuracy 0.982",
        "image classifier",
    ),
    "adding": Entry(
        "add two marked numbers of a long sequence",
        "generated",
        "LSTM 64; GRU, simple, IRNN",
        "test loss 0.0007",
        "regressor",
    ),
    "stateful": Entry(
        "follow a series with the state carried on, and without",
        "generated",
        "LSTM",
        "test loss 0.0002",
        "regressor",
    ),
    "conv_lstm": Entry(
        "next frame of films of moving squares",
        "generated",
        "convolutional LSTM",
        "test loss 0.073",
        "next frame",
    ),
    "authorship": Entry(
        "who wrote a passage, of the authors in a folder",
        "composed; a folder of yours",
        "GRU language model, an output layer an author",
        "test accuracy 0.924",
        "author classifier",
    ),
}
"""Task name -> entry; the module of a task has its name."""
