"""The notice of over-fitting: for which curves it comes, once, and what it names."""

import dataclasses

import pytest

from rnnjax.training.overfitting import overfits, overfitting_notice


def history(train, validation):
    return [
        {"epoch": epoch, "train": {"loss": t}, "validation": {"loss": v}}
        for epoch, (t, v) in enumerate(zip(train, validation, strict=True), start=1)
    ]


@pytest.mark.parametrize(
    ("train", "validation", "expected"),
    [
        ([5, 4, 3, 2], [5, 4, 4.1, 4.2], True),
        ([5, 4, 3, 2], [5, 4, 4.2, 4.1], True),  # back a little, but above the best
        ([5, 4, 3, 2, 1], [4, 5, 5, 6, 7], True),
        ([], [], False),
        ([5], [5], False),
        ([5, 4, 3], [5, 4, 4.1], False),  # one epoch may be noise
        ([5, 4, 3, 2], [5, 4.1, 4.2, 4], False),  # a new best
        ([5, 4, 3, 2], [5, 4, 3, 2], False),
        ([5, 4, 4.1, 4.2], [5, 4, 4.1, 4.2], False),  # training fails too: no over-fitting
        ([5, 4, 3, 3.5], [5, 4, 4.1, 4.2], False),
        ([5, 4, 3, 2], [5, 4, 4, 4], False),  # flat
    ],
)
def test_which_curves(train, validation, expected):
    assert overfits(history(train, validation)) is expected


@dataclasses.dataclass
class Config:
    dropout: float = 0.1
    units: int = 3


def test_once_in_a_run_and_only_what_there_is():
    curves = history([9, 8, 7, 6, 5, 6, 4, 3, 2], [5, 4, 4.1, 4.2, 4.3, 4.4, 3, 3.1, 3.2])
    notices = [overfitting_notice(curves[:count], Config()) for count in range(len(curves) + 1)]
    assert [count for count, notice in enumerate(notices) if notice] == [4]
    assert "val_loss was best after epoch 2 (4.0000) and is 4.2000 now" in notices[4]
    assert "--dropout" in notices[4]
    assert "--units" in notices[4]
    assert "--recurrent-dropout" not in notices[4]
    assert "--l2" not in notices[4]
    for words in ("--patience", "--epochs", "more data"):
        assert words in notices[4]
