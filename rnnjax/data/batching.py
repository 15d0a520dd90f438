"""Cut data into batches of one shape.

An order depends on (seed, epoch) alone, so a resumed run sees the batches that it would have seen.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Int

from rnnjax.errors import InputError

Batch = dict[str, np.ndarray]


class Batches(Sequence[Batch]):
    """The batches of one pass, each made when it is asked for, so that a resumed run starts at batch i at no cost."""

    def __init__(self, count: int, make: Callable[[int], Batch]):
        """Take the number of batches and the function that makes batch i."""
        self._count = count
        self._make = make

    def __len__(self) -> int:
        """Count the batches."""
        return self._count

    def __getitem__(self, index: int) -> Batch:  # type: ignore[override]  # slices are not offered
        """Make batch `index`."""
        return self._make(range(self._count)[index])


def filled(rows: Int[np.ndarray, " R"], batch_size: int, take: Callable[[Int[np.ndarray, " B"]], Batch]) -> Batch:
    """A batch of the examples that `take` gives of R rows, filled up to B, and `weight`, which is 0 for the filling."""
    weight = np.zeros(batch_size, np.float32)
    weight[: len(rows)] = 1
    # Padding repeats a real example: zeros could be a length of 0 or another value that a model turns into NaN.
    rows = np.concatenate([rows, np.full(batch_size - len(rows), rows[0])])  # [B]
    return {**take(rows), "weight": weight}


class Examples:
    """Examples in memory: arrays whose first axis counts them.

    A batch holds rows of each array and `weight` float32 [B]: 1 for an example, 0 for padding in the last batch.
    """

    def __init__(self, arrays: dict[str, np.ndarray]):
        """Take arrays [N, ...] by name.

        Raises:
            ValueError: there is none, their lengths differ, or one is called `weight`.
        """
        lengths = {name: len(array) for name, array in arrays.items()}
        if len(set(lengths.values())) != 1 or "weight" in arrays:
            raise ValueError(f"Expected one or more arrays of one length, none called `weight`; got lengths {lengths}.")
        self.arrays = arrays

    def __len__(self) -> int:
        """Count the examples."""
        return len(next(iter(self.arrays.values())))

    def training_epoch(self, seed: int, epoch: int, batch_size: int) -> Batches:
        """Every example once, in an order drawn from (seed, epoch)."""
        return self._batches(np.random.default_rng([seed, epoch]).permutation(len(self)), batch_size)

    def evaluation(self, batch_size: int) -> Batches:
        """Every example once, in their own order."""
        return self._batches(np.arange(len(self)), batch_size)

    def _batches(self, order: Int[np.ndarray, " N"], batch_size: int) -> Batches:
        def make(i: int) -> Batch:
            rows = order[i * batch_size : (i + 1) * batch_size]
            return filled(rows, batch_size, lambda rows: {name: array[rows] for name, array in self.arrays.items()})

        return Batches(-(-len(order) // batch_size), make)


class Streams:
    """A text for a language model with carried state: each row goes on where the same row of the batch before ended.

    The batches of one pass have

        inputs    int32 [B, T]    tokens
        targets   int32 [B, T]    the token after each
        weight    float32 [B, T]  1 where the target counts, else 0 (warm-up, padding at a row's end)
        position  int32 [B, T]    place of the target in the text, 0 where weight is 0
        restart   bool [B]        in training with a `restart_rate`, whether the row starts from the initial state again

    B is the batch size, or less where the text is so short that rows would not fill a window (`num_streams`). Every row
    of a pass starts from the initial state.
    """

    def __init__(
        self,
        tokens: Int[np.ndarray, " N"],
        window: int,
        context: Int[np.ndarray, " M"] | None = None,
        restart_rate: float = 0.0,
    ):
        """Take a text and the window T.

        Args:
            tokens: the text.
            window: T, the steps of one batch.
            context: tokens that stand before the text; an evaluation reads them first, and never counts them.
            restart_rate: share of the rows of a training batch that start again from the initial state.

        Raises:
            InputError: there is nothing to predict: the text is empty, or of one token with none before it.
            ValueError: `window` is below 1.
        """
        context = np.zeros(0, np.int32) if context is None else context
        if window < 1:
            raise ValueError(f"window must be 1 or more; got {window}.")
        if len(tokens) < 1 or len(context) + len(tokens) < 2:
            raise InputError(
                f"Expected a text of 2 or more characters in each part, got {len(tokens)}; name a longer text."
            )
        self.tokens = np.asarray(tokens, np.int32)
        self.window = window
        self.context = np.asarray(context, np.int32)
        self.restart_rate = restart_rate

    def num_streams(self, batch_size: int) -> int:
        """Rows B of this text's batches: `batch_size`, or less where the rows would be shorter than a window."""
        return max(1, min(batch_size, len(self.tokens) // self.window))

    def training_epoch(self, seed: int, epoch: int, batch_size: int) -> Batches:
        """Every token once as a target, but for the first of the text, which stands after nothing.

        The text is closed to a ring and opened at a place drawn from (seed, epoch). The rows are its B parts, of equal
        length but for one token.
        """
        count = len(self.tokens)
        bounds = np.arange(self.num_streams(batch_size) + 1) * count // self.num_streams(batch_size)  # [B + 1]
        opened_at = np.random.default_rng([seed, epoch]).integers(count)

        def make(i: int) -> Batch:
            places = self._places(bounds[:-1], i)  # [B, T]
            inside = places < bounds[1:, None]
            places = (places + opened_at) % count
            # For the target 0, place -1 is the last token: the ring.
            batch = _window(self.tokens, places, inside, inside & (places > 0), origin=0)
            if self.restart_rate > 0:
                batch["restart"] = np.random.default_rng([seed, epoch, 1 + i]).random(len(places)) < self.restart_rate
            return batch

        return Batches(self._num_windows(bounds[1:] - bounds[:-1]), make)

    def evaluation(self, batch_size: int, warmup: int = 0) -> Batches:
        """Every token once as a target given what stands before it, but for one that stands after nothing (no context).

        The rows are the text's B parts, of equal length but for one token. Each first reads up to `warmup`
        tokens that stand before its part.
        """
        text = np.concatenate([self.context, self.tokens])
        origin = len(self.context)
        bounds = origin + np.arange(self.num_streams(batch_size) + 1) * len(self.tokens) // self.num_streams(batch_size)
        starts = np.maximum(bounds[:-1] - warmup, 1)  # [B] the first target that is read; place 0 stands after nothing

        def make(i: int) -> Batch:
            places = self._places(starts, i)  # [B, T]
            inside = places < bounds[1:, None]
            return _window(text, places, inside, inside & (places >= bounds[:-1, None]), origin)

        return Batches(self._num_windows(bounds[1:] - starts), make)

    def _places(self, starts: Int[np.ndarray, " B"], i: int) -> Int[np.ndarray, "B T"]:
        return starts[:, None] + i * self.window + np.arange(self.window)

    def _num_windows(self, lengths: Int[np.ndarray, " B"]) -> int:
        return -(-int(lengths.max()) // self.window)


def _window(text: np.ndarray, places: np.ndarray, inside: np.ndarray, counted: np.ndarray, origin: int) -> Batch:
    """One batch whose targets stand at `places` [B, T] of `text`, as far as they are `inside`."""
    places = np.where(inside, places, 0)
    return {
        "inputs": np.where(inside, text[places - 1], 0),
        "targets": np.where(inside, text[places], 0),
        "weight": counted.astype(np.float32),
        "position": np.where(counted, places - origin, 0).astype(np.int32),
    }


def split_indices(
    n: int, seed: int, fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
) -> dict[str, Int[np.ndarray, " K"]]:
    """Divide n examples into "train", "validation" and "test" by the seed; each part has one or more, in rising order.

    Raises:
        InputError: n is below 3.
    """
    if n < 3:
        raise InputError(
            f"Expected 3 or more examples, to divide into train, validation and test, got {n}; add examples."
        )
    order = np.random.default_rng(seed).permutation(n)
    num_validation = min(max(1, round(n * fractions[1])), n - 2)
    num_test = min(max(1, round(n * fractions[2])), n - 1 - num_validation)
    validation, test, train = np.split(order, [num_validation, num_validation + num_test])
    return {"train": np.sort(train), "validation": np.sort(validation), "test": np.sort(test)}


def holdout(n: int, fraction: float, seed: int) -> tuple[Int[np.ndarray, " K"], Int[np.ndarray, " V"]]:
    """Divide n examples by the seed: the rest to train on, a `fraction` to validate with; each in rising order.

    Raises:
        InputError: n is below 2.
    """
    if n < 2:
        raise InputError(f"Expected 2 or more training examples, to validate with some of them, got {n}; add examples.")
    order = np.random.default_rng(seed).permutation(n)
    num_held = min(max(1, round(n * fraction)), n - 1)
    return np.sort(order[num_held:]), np.sort(order[:num_held])
