"""Event files of TensorBoard, read by TensorBoard itself: each line of metrics.jsonl once, also of a resumed run."""

import datetime
import json

import pytest

from rnnjax.training.signals import Stopped

pytest.importorskip("tensorboardX", reason="writes event files")
event_accumulator = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator", reason="reads event files"
)


def lines(run):
    return [json.loads(line) for line in run.folder.metrics.read_text().splitlines()]


def events(run):
    """(split, metric, step) -> (value, time) of all events; each has to occur once."""
    found = {}
    for folder in run.folder.tensorboard.iterdir():
        assert len(list(folder.iterdir())) == 1
        reader = event_accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0})
        reader.Reload()
        for name in reader.Tags()["scalars"]:
            for event in reader.Scalars(name):
                key = (folder.name, name, event.step)
                assert key not in found
                found[key] = (event.value, event.wall_time)
    return found


def assert_same(run):
    created = datetime.datetime.fromisoformat(run.folder.read_config()["created"]).timestamp()
    expected = {
        (line["split"], name, line["step"]): (pytest.approx(value), pytest.approx(created + line["seconds"], abs=1e-3))
        for line in lines(run)
        for name, value in line.items()
        if name not in ("step", "epoch", "split", "seconds")
    }
    assert events(run) == expected


def without_seconds(results):
    return {name: value for name, value in results.items() if name != "train_seconds"}


def test_events_of_a_run_that_was_resumed(make_run, stop_after):
    whole = make_run("char", "whole", epochs=3)
    expected = whole.train(stop_after(whole, None))
    assert not whole.folder.tensorboard.exists()
    run = make_run("char", "cut", epochs=3, tensorboard=True)
    with pytest.raises(Stopped):
        run.train(stop_after(run, 2 * run.steps_per_epoch + 1))
    assert_same(run)
    assert max(step for _, _, step in events(run)) == 2 * run.steps_per_epoch
    # As after a kill: an epoch's line is there, the checkpoint after it is not.
    run.folder.append_metrics(
        {"step": 3 * run.steps_per_epoch, "epoch": 3, "split": "train", "loss": 9.0, "seconds": 9}
    )
    run = make_run("char", "cut", epochs=3, tensorboard=True)
    run.restore()
    results = run.train(stop_after(run, None))
    assert_same(run)
    assert without_seconds(results) == without_seconds(expected), "event files change no result"
    assert [{**line, "seconds": 0} for line in lines(run)] == [{**line, "seconds": 0} for line in lines(whole)]
