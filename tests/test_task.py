"""Settings are held against their annotations, and refused in words."""

import dataclasses
import math
from typing import Annotated, Literal

import pytest

from rnnjax.errors import InputError
from rnnjax.task import (
    Bounds,
    Count,
    Fraction,
    NotNegative,
    Positive,
    Rate,
    TrainConfig,
    check_value,
    describe,
    num_epochs,
    patience,
)

BOUNDS = {
    Bounds(1): {1: True, 0: False, 10**9: True, math.inf: False, math.nan: False},
    Bounds(0, 1, most_open=True): {0: True, 0.999: True, 1: False, -1e-9: False},
    Bounds(0, 1, least_open=True): {0: False, 1e-9: True, 1: True, 1.0001: False},
    Bounds(): {-1e300: True, math.inf: False, -math.inf: False, math.nan: False},
}


@pytest.mark.parametrize("bounds", BOUNDS)
def test_bounds(bounds):
    for value, holds in BOUNDS[bounds].items():
        assert bounds.hold(value) is holds, value


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Count, "a whole number at least 1 and at most 1000000000"),
        (Rate, "a number at least 0 and below 1"),
        (Fraction, "a number above 0 and at most 1"),
        (Positive, "a number above 0"),
        (Annotated[int, Bounds(0, 2**32 - 1)], "a whole number at least 0 and at most 4294967295"),
        (Literal["adam", "rmsprop"], "one of adam, rmsprop"),
        (Count | Literal["auto"], "a whole number at least 1 and at most 1000000000 or one of auto"),
        (str | None, "text"),
    ],
)
def test_kinds_in_words(kind, words):
    assert describe(kind) == words


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (Count, [1, 7], [0, -1, 1.0, 1.5, "1", True, None]),
        (NotNegative, [0, 0.0, 3], [-1, math.nan, math.inf, "0", False]),
        (Literal["a", "b"], ["a"], ["c", "A", 1, None]),
        (Count | Literal["auto"], [3, "auto"], [0, "Auto", 1.5]),
        (str | None, ["x", None], [1]),
    ],
)
def test_values(kind, good, bad):
    for value in good:
        check_value("--option", kind, value)
    for value in bad:
        with pytest.raises(InputError, match=r"^--option: expected .*; got "):
            check_value("--option", kind, value)


@dataclasses.dataclass(frozen=True)
class Config(TrainConfig):
    hidden_layers: Count = 2


@pytest.mark.parametrize(
    "setting",
    [
        {"hidden_layers": 0},
        {"learning_rate": 0.0},
        {"learning_rate": math.nan},
        {"clip_norm": -1.0},
        {"ema_decay": 1.0},
        {"optimizer": "lion"},
        {"seed": 2**32},
        {"epochs": 0},
        {"patience": -1},
    ],
)
def test_config_refuses_and_names_the_option(setting):
    (name,) = setting
    with pytest.raises(InputError) as error:
        Config(**setting)
    assert str(error.value).startswith(f"--{name.replace('_', '-')}: expected ")
    assert Config(hidden_layers=3).hidden_layers == 3


@pytest.mark.parametrize("settings", [{"momentum": 0.9}, {"ema_decay": 0.9, "optimizer": "asgd"}])
def test_settings_that_exclude_each_other(settings):
    with pytest.raises(InputError, match=f"--{next(iter(settings)).replace('_', '-')}: expected"):
        TrainConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, False),
        ({"monitor": "val_accuracy"}, True),
        ({"monitor": "test_macro_f1"}, True),
        ({"monitor": "val_accuracy", "monitor_mode": "min"}, False),
        ({"monitor": "val_loss", "monitor_mode": "max"}, True),
    ],
)
def test_which_metrics_are_better_larger(settings, expected):
    assert TrainConfig(**settings).maximises == expected


def test_auto_means_enough_steps_on_small_data():
    config = TrainConfig(epochs="auto", patience="auto")
    assert [num_epochs(config, steps) for steps in (1, 63, 299, 300, 313, 5000)] == [600, 10, 3, 2, 2, 2]
    assert [patience(config, steps) for steps in (1, 63, 157, 5000)] == [450, 8, 3, 3]
    assert num_epochs(TrainConfig(epochs=9), 1) == 9
    assert patience(TrainConfig(patience=0), 1) == 0
