"""The crash test in its short form: a few kills, and that it finds a difference."""

import json

import crash
import pytest


def test_a_few_kills(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(crash, "MOST_KILLS", 2)
    monkeypatch.setenv("RNNJAX_CACHE_DIR", str(tmp_path / "cache"))
    same = crash.measure(kills=4, seed=4, epochs={"imdb": 100, "char": 30}, folder=tmp_path)
    out = capsys.readouterr().out
    assert same, out
    rows = [line.split(" | ") for line in out.splitlines() if line.startswith(("| imdb", "| char"))]
    assert {row[0] for row in rows} == {"| imdb", "| char"}
    assert sum(int(row[1]) for row in rows) == 4
    assert all(row[-1] == "yes |" for row in rows)


def test_what_counts_as_equal(tmp_path):
    metrics = [{"step": 1, "loss": 0.5, "seconds": 0.1}, {"step": 2, "loss": 0.25, "seconds": 0.2}]
    results = {"parameters_sha256": {"best": "a", "last": "b"}, "train_seconds": 3}

    def write(name, results, metrics):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "results.json").write_text(json.dumps(results))
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in metrics))
        return crash.settled(folder)

    expected = write("whole", results, metrics)
    assert write("slow", {**results, "train_seconds": 9}, [{**line, "seconds": 7} for line in metrics]) == expected
    assert write("parameters", {**results, "parameters_sha256": {"best": "a", "last": "c"}}, metrics) != expected
    assert write("repeated", results, [metrics[0], *metrics]) != expected
    assert write("number", results, [{**metrics[0], "loss": 0.5000001}, metrics[1]]) != expected


@pytest.mark.parametrize(
    ("left", "place"),
    [
        ([], "before config.json"),
        (["config.json"], "before the first checkpoint"),
        (["config.json", "checkpoints/.00000002/state/"], "a checkpoint without its manifest"),
        (["config.json", "checkpoints/.00000002/manifest.json"], "a checkpoint with its manifest"),
        (["config.json", "checkpoints/00000002/", "checkpoints/.00000001.old/"], "an old checkpoint half removed"),
        (["config.json", "checkpoints/00000002/"], "between checkpoints"),
        (["config.json", "checkpoints/00000002/", "history.png"], "before results.json"),
    ],
)
def test_where_a_kill_fell(left, place, tmp_path):
    for name in left:
        path = tmp_path / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_text("")
    assert crash.fell(tmp_path) == place
    assert crash.fell(tmp_path / "absent") == "before the folder"
