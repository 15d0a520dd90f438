"""The tutorial's two Keras programs: `python -m peers.tutorial imdb|char [options]`.

Models, optimizers, batches, epochs and early stopping are those of "Deep Learning with R"; the reviews are raw texts
here, and are cut into words as `keras.datasets.imdb` has them. Prints one JSON object a line when something is done:
{"done": "step"}, the first; {"done": "epoch"} with Keras's metrics; {"done": "test"} with those of the test reviews.
"""

import argparse
import json
import re
from collections import Counter
from typing import Any

import numpy as np

MAX_FEATURES, MAX_LENGTH = 10_000, 200
START, UNKNOWN, FIRST_WORD = 1, 2, 4
SHUFFLE_SEED = 113
"""Of `keras.datasets.imdb`, whose order decides which reviews are held out for validation."""
WINDOW, STRIDE = 40, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", choices=["imdb", "char"])
    parser.add_argument("--dataset", choices=["tfds", "builtin"], default="tfds")
    parser.add_argument("--data-dir", help="folder of TFDS data sets")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--limit", type=int, help="use this many examples of each split only")
    options = parser.parse_args()

    import keras

    keras.utils.set_random_seed(options.seed)
    {"imdb": train_imdb, "char": train_char}[options.program](options)


def say(done: str, metrics: Any = None) -> None:
    print(json.dumps({"done": done, **{name: float(value) for name, value in (metrics or {}).items()}}), flush=True)


def progress() -> Any:
    """A callback that says what is done."""
    import keras

    class Progress(keras.callbacks.Callback):
        is_first = True

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if self.is_first:
                say("step")
            self.is_first = False

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            say("epoch", logs)

    return Progress()


def train_imdb(options: argparse.Namespace) -> None:
    import keras

    (texts, labels), (test_texts, test_labels) = read_reviews(options)
    words = [re.findall(r"[a-z0-9']+", text.lower().replace("<br />", " ")) for text in texts]
    counted = Counter(word for text in words for word in text).most_common(MAX_FEATURES - FIRST_WORD)
    ids = {word: number for number, (word, _) in enumerate(counted, FIRST_WORD)}
    test_words = [re.findall(r"[a-z0-9']+", text.lower().replace("<br />", " ")) for text in test_texts]

    def encode(texts: list[list[str]]) -> np.ndarray:
        encoded = [[START, *(ids.get(word, UNKNOWN) for word in text)] for text in texts]
        return keras.utils.pad_sequences(encoded, maxlen=MAX_LENGTH)

    model = keras.Sequential(
        [
            keras.Input((MAX_LENGTH,)),
            keras.layers.Embedding(MAX_FEATURES, 128),
            keras.layers.LSTM(64, dropout=0.2, recurrent_dropout=0.2),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss="binary_crossentropy", metrics=["accuracy"])
    stopping = keras.callbacks.EarlyStopping(monitor="val_loss", patience=3, restore_best_weights=True)
    model.fit(
        encode(words),
        labels,
        epochs=options.epochs,
        batch_size=128,
        validation_split=0.2,
        callbacks=[stopping, progress()],
        verbose=0,
    )
    loss, accuracy = model.evaluate(encode(test_words), test_labels, verbose=0)
    say("test", {"loss": loss, "accuracy": accuracy})


def read_reviews(options: argparse.Namespace) -> list[tuple[list[str], np.ndarray]]:
    """Texts and labels 0 and 1 of the training and of the test reviews, in a fixed order."""
    from rnnjax.data import builtin, tfds

    if options.dataset == "builtin":
        texts, names = builtin.reviews(10_000, seed=0)
        labels = np.array([name == builtin.POSITIVE for name in names], np.int32)
        parts = {"train": (texts[:9000], labels[:9000]), "test": (texts[9000:], labels[9000:])}
    else:
        parts = tfds.read_imdb(tfds.prepare_imdb(options.data_dir))
    shuffled = []
    for split in ("train", "test"):
        texts, labels = parts[split]
        order = np.random.default_rng(SHUFFLE_SEED).permutation(len(texts))[: options.limit]
        shuffled.append(([texts[i] for i in order], labels[order]))
    return shuffled


def train_char(options: argparse.Namespace) -> None:
    import keras

    text = read_text(options)
    characters = sorted(set(text))
    number_of = {character: number for number, character in enumerate(characters)}
    numbers = np.array([number_of[character] for character in text], np.int32)
    starts = np.arange(0, len(numbers) - WINDOW, STRIDE)[: options.limit]
    x = numbers[starts[:, None] + np.arange(WINDOW)[None, :]] + 1
    y = keras.utils.to_categorical(numbers[starts + WINDOW], num_classes=len(characters))
    model = keras.Sequential(
        [
            keras.Input((WINDOW,)),
            keras.layers.Embedding(len(characters) + 1, 64),
            keras.layers.LSTM(128),
            keras.layers.Dense(len(characters), activation="softmax"),
        ]
    )
    model.compile(optimizer=keras.optimizers.RMSprop(0.01), loss="categorical_crossentropy")
    model.fit(x, y, batch_size=128, epochs=options.epochs, validation_split=0.1, callbacks=[progress()], verbose=0)


def read_text(options: argparse.Namespace) -> str:
    """The text, without the end of its last line, as R reads it."""
    from rnnjax.data import builtin, tfds

    if options.dataset == "builtin":
        return builtin.python_source().removesuffix("\n")
    return tfds.read_tiny_shakespeare(tfds.prepare_tiny_shakespeare(options.data_dir)).removesuffix("\n")


if __name__ == "__main__":
    main()
