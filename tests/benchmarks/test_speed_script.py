"""The scripts that measure speed: real workers on a small model, what they refuse, and the tables that they write."""

import dataclasses
import importlib
import json
import math
import types
from pathlib import Path

import pytest
import scores
import speed
import time_to_quality

ROOT = Path(__file__).resolve().parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def small_imdb(monkeypatch):
    """The IMDB case alone, on a small model."""
    case = speed.GROUPS["imdb"][0]
    sizes = {"batch": 8, "length": 6, "vocabulary": 20, "embedding": 4, "units": 4}
    small = case._replace(workload=dataclasses.replace(case.workload, **sizes), beside=(speed.UNTOUCHED,))
    monkeypatch.setitem(speed.GROUPS, "imdb", [small])
    return small


def test_a_short_run_without_peers(small_imdb, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(speed.PEERS, "pytorch", speed.Contestant("PyTorch", "there_is_no_such_peer", keep_pages=False))
    output = tmp_path / "speed.json"
    speed.main(["--cases=imdb", "--peers=pytorch", "--quick", f"--output={output}"])
    (entry,) = json.loads(output.read_text())
    assert entry["case"] == small_imdb.name
    assert entry["peer"] == speed.UNTOUCHED.name
    assert entry["ours_ms"] > 0
    assert entry["ratio"] == pytest.approx(entry["peer_ms"] / entry["ours_ms"], rel=1e-3)
    assert (entry["peer_ms_same_allocator"], entry["rounds"]) == (None, 1)
    assert (
        json.loads((tmp_path / "speed_machine.json").read_text())["packages"]["jax"]
        == importlib.import_module("jax").__version__
    )
    assert capsys.readouterr().err.count("PyTorch is left out of everything: No module named") == 1


@pytest.mark.parametrize("option", ["--cases=imdb,nothing", "--peers=nobody"])
def test_unknown_names_are_refused(option, capsys):
    with pytest.raises(SystemExit) as refusal:
        speed.main([option])
    assert refusal.value.code == 2
    assert "expected some of" in capsys.readouterr().err


GOOD = {"parameters": 110, "surplus": 10, "value": 0.7, "last": 0.6}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parameters": 111}, "expected 100 parameters"),
        ({"surplus": 0}, "expected 100 parameters"),
        ({"last": math.nan}, "expected finite numbers"),
        ({"value": math.inf}, "expected finite numbers"),
        ({"last": 0.8}, "expected a loss that falls"),
    ],
)
def test_a_contestant_that_does_something_else_is_refused(change, message):
    case, worker = speed.GROUPS["imdb"][0], types.SimpleNamespace(contestant=speed.PEERS["pytorch"])
    speed.check(case, worker, GOOD, 100)
    with pytest.raises(SystemExit, match=message):
        speed.check(case, worker, {**GOOD, **change}, 100)


def test_a_run_of_some_cases_keeps_the_others(tmp_path):
    path = tmp_path / "speed.json"
    first, second = (case.name for case in speed.GROUPS["imdb"])
    machine = {"date": "today", "choices": {first: {"PyTorch": "this"}}}
    speed.add(path, [speed.make_entry(second, "PyTorch", 10, 20, 5)], machine)
    speed.add(path, [speed.make_entry(first, "PyTorch", 10, 30, 5)], machine)
    speed.add(path, [speed.make_entry(second, "PyTorch", 10, 40, 5)], {**machine, "choices": {}})
    assert [(entry["case"], entry["ratio"]) for entry in speed.read(path)] == [(first, 3), (second, 4)]
    assert json.loads((tmp_path / "speed_machine.json").read_text())["choices"] == machine["choices"]


def test_names_of_cases_are_distinct():
    for cases in speed.GROUPS.values():
        names = [case.name for case in cases]
        assert len(set(names)) == len(names)
    every = {case.name: case.workload for cases in speed.GROUPS.values() for case in cases}
    assert all(every[case.name] == case.workload for cases in speed.GROUPS.values() for case in cases)
    assert set(speed.SHOWN) - {speed.WARM} <= set(every)


def test_tables():
    assert speed.tables([]) == ""
    (torch,) = (peer.name for key, peer in speed.PEERS.items() if key == "pytorch")
    sweep = [speed.layer(*sizes, backward=True).name for sizes in speed.SWEEPS["length"]]
    entries = [
        {**speed.make_entry(speed.SHOWN[0], torch, 50, 125, 5), "peer_ms_same_allocator": 75},
        *(speed.make_entry(name, torch, ours, ours * ours, 5) for name, ours in zip(sweep, (2, 8, 20), strict=True)),
        {**speed.make_entry(speed.CHUNKED, "plain scan", 4, 2, 3), "ours_mib": 300, "peer_mib": 900},
    ]
    lines = speed.tables(entries).splitlines()
    assert f"| {speed.SHOWN[0]} | 50 |  |  | 2.50 (1.50) |  |" in lines
    assert "| length 50, 200, 800 | 1 : 4 : 10 |  |  | 1 : 16 : 100 |  |" in lines
    assert f"| {speed.CHUNKED} | 4 | plain scan (900 MiB; rnnjax 300 MiB) | 2 | 0.5 |" in lines


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("speed", speed.tables(speed.read(speed.SPEED))),
        ("time-to-quality", time_to_quality.table(time_to_quality.read(time_to_quality.RESULTS))),
    ],
)
def test_the_readme_has_the_tables_of_what_was_measured(name, table):
    begin, end = scores.marks(name)
    assert README.split(begin)[1].split(end)[0].strip() == table.strip()


def test_stored_figures_agree_with_each_other():
    for entry in [*speed.read(speed.SPEED), speed.make_entry("case", "peer", 3, 7, 5)]:
        assert entry["ratio"] == pytest.approx(entry["peer_ms"] / entry["ours_ms"], rel=2e-3), entry


# Time to quality


@pytest.fixture
def programs(monkeypatch):
    """Pretend to train: Keras ends at 0.84 after 100 s, our attempts take 20 s and 40 s and end at 0.83 and 0.86."""
    ran = []

    def keras(program, seed, options):
        ran.append(("keras", seed))
        run = {"program": program, "by": "keras", "seed": seed, "options": None, "seconds": 100}
        return time_to_quality.store(options.output, {**run, "test_accuracy": 0.84, "test_loss": 0.4})

    def ours(program, seed, attempt, options):
        ran.append((attempt, seed))
        epochs = 1 + time_to_quality.ATTEMPTS[program].index(attempt)
        run = {"program": program, "by": "rnnjax", "seed": seed, "options": attempt, "seconds": 20 * epochs}
        accuracy = round(0.80 + 0.03 * epochs, 2)
        return time_to_quality.store(options.output, {**run, "test_accuracy": accuracy, "test_loss": 0.4})

    monkeypatch.setattr(time_to_quality, "run_keras", keras)
    monkeypatch.setattr(time_to_quality, "run_ours", ours)
    return ran


def test_programs_take_turns_until_all_is_reached_and_go_on_where_they_were(programs, tmp_path, capsys):
    path = tmp_path / "runs.json"
    command = ["imdb", "--seeds=0,1", f"--output={path}"]
    time_to_quality.main(command)
    assert programs == [(who, seed) for seed in (0, 1) for who in ("keras", "--epochs 1", "")]

    runs = json.loads(path.read_text())
    path.write_text(json.dumps(runs[:-1]))  # as after an interruption
    programs.clear()
    time_to_quality.main(command)
    assert programs == [("", 1)]
    rows = capsys.readouterr().out.splitlines()
    assert rows.count("| IMDB | the test accuracy of Keras | 100 | 40 | 2.5 |") == 2
    assert rows.count("| IMDB | the test loss of Keras | 100 | 20 | 5.0 |") == 2
    assert rows.count("| IMDB | both | 100 | 40 | 2.5 |") == 2
    assert rows.count("| IMDB | test accuracy 0.855 | not reached | 40 |  |") == 2


def test_what_some_seeds_do_not_reach_has_no_ratio():
    def run(by, seed, seconds, loss):
        attempt = {"keras": None, "rnnjax": ""}[by]
        return {"program": "char", "by": by, "seed": seed, "options": attempt, "seconds": seconds, "val_loss": loss}

    runs = [
        run("keras", 0, 300, 1.82),
        run("keras", 1, 500, 1.86),
        run("rnnjax", 0, 60, 1.7),
        run("rnnjax", 1, 80, 1.6),
    ]
    last = time_to_quality.table(runs).splitlines()[-1]
    assert last == "| tiny_shakespeare | validation loss 1.83 | 300 (1 of 2 seeds) | 70 |  |"


def test_a_quick_look_stays_out_of_the_results(capsys):
    with pytest.raises(SystemExit) as refusal:
        time_to_quality.main(["--quick"])
    assert refusal.value.code == 2
    assert "--quick needs --output" in capsys.readouterr().err
