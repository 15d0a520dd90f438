"""When a run stops, and which epoch is its best."""

import math

import pytest

from rnnjax.training.callbacks import EarlyStopping


@pytest.mark.parametrize(
    ("patience", "values", "stopped_after", "best_epoch"),
    [
        (2, [3, 2, 2.5, 2.1, 1], 4, 2),
        (2, [3, 2, 2.5, 1.9, 2, 2], 6, 4),
        (1, [1, 1, 0], 2, 1),
        (0, [1, 2, 3, 4, 5], None, 1),
        (3, [5, 4, 3, 2, 1], None, 5),
        (1, [math.nan, 1], 1, 0),
    ],
)
def test_stops(patience, values, stopped_after, best_epoch):
    stopping = EarlyStopping(patience)
    stopped = None
    for epoch, value in enumerate(values, start=1):
        assert stopping.update(epoch, value) == (stopping.best_epoch == epoch)
        if stopping.stops:
            stopped = epoch
            break
    assert (stopped, stopping.best_epoch) == (stopped_after, best_epoch)
