"""`generate.py`: what it prints, and from which run."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

PROMPT = "Die Katze läßt 猫"


@pytest.mark.parametrize("length", [1, 127, 128, 129, 300])
def test_prints_prompt_and_exactly_so_many_characters(length: int, invoke: Any, char_run: Path) -> None:
    ended = invoke("generate", "--workdir", char_run, "--prompt", PROMPT, "--length", length)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.startswith(PROMPT)
    assert ended.out.endswith("\n")
    assert len(ended.out) == len(PROMPT) + length + 1
    characters = json.loads((char_run / "tokenizer.json").read_text(encoding="utf-8"))["model"]["characters"]
    assert set(ended.out) <= set(characters)


def test_without_a_prompt(invoke: Any, char_run: Path) -> None:
    ended = invoke("generate", "--workdir", char_run, "--length", 40)
    assert (ended.status, len(ended.out)) == (0, 41)


def test_a_seed_decides_the_text(invoke: Any, char_run: Path) -> None:
    def text(*options: object) -> str:
        return invoke("generate", "--workdir", char_run, "--length", 60, "--prompt", "the", *options).out

    drawn = text("--seed", 3)
    assert drawn == text("--seed", 3, "--top-p", 1, "--top-k", 10_000), "these leave all characters in"
    assert drawn != text("--seed", 4)
    greedy = text("--temperature", 0)
    assert greedy != drawn
    assert greedy == text("--top-k", 1, "--seed", 9)
    assert greedy == text("--temperature", 1e-45, "--seed", 9)


def test_a_longer_text_begins_with_the_shorter(invoke: Any, char_run: Path) -> None:
    shorter, longer = (
        invoke("generate", "--workdir", char_run, "--prompt", "the", "--length", length).out for length in (90, 200)
    )
    assert longer.startswith(shorter[:-1])


def test_several_samples(invoke: Any, char_run: Path) -> None:
    options = ("--workdir", char_run, "--prompt", "over ", "--length", 50, "--seed", 5)
    alone = invoke("generate", *options)
    together = invoke("generate", *options, "--num-samples", 3)
    assert together.status == 0
    assert together.out.startswith(alone.out)
    samples = together.out[len(alone.out) :]
    assert len(samples) == 2 * (5 + 50 + 1)
    assert len({alone.out, samples[:56], samples[56:]}) == 3
    assert all(text.startswith("over ") and text.endswith("\n") for text in (samples[:56], samples[56:]))
    assert together.err.splitlines() == ["sample 1:", "sample 2:", "sample 3:"]


def test_takes_the_newest_character_run(invoke: Any, cwd: Path, char_run: Path, imdb_run: Path) -> None:
    def place(run: Path, name: str, created: str) -> None:
        folder = shutil.copytree(run, cwd / "runs" / name)
        settings = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**settings, "created": created}))

    place(char_run, "char/a", "2026-03-01T12:00:00+00:00")
    place(char_run, "char/b", "2026-03-01T13:30:00+02:00")  # earlier, though its text sorts later
    place(imdb_run, "imdb/c", "2026-03-02T00:00:00+00:00")
    place(char_run, "char/d", "2026-03-03T00:00:00+00:00")
    shutil.rmtree(cwd / "runs" / "char" / "d" / "checkpoints")  # only just started
    (cwd / "runs" / "char" / "e").mkdir()
    (cwd / "runs" / "char" / "e" / "config.json").write_text("{")
    ended = invoke("generate", "--length", 3)
    assert ended.status == 0
    assert ended.err.splitlines() == ["using runs/char/a"]
    ended = invoke("predict", "--text", "fine")
    assert ended.status == 0
    assert ended.err.splitlines() == ["using runs/imdb/c"]


def test_falls_back_to_the_checkpoint_before(invoke: Any, copied: Any, char_run: Path) -> None:
    run = copied(char_run)
    newest = max((run / "checkpoints").iterdir())
    shutil.copytree(newest, newest.with_name("00009999"))
    broken = max(newest.with_name("00009999").rglob("d/*"), key=lambda path: path.stat().st_size)
    content = bytearray(broken.read_bytes())
    content[len(content) // 2] ^= 1
    broken.write_bytes(content)
    expected = invoke("generate", "--workdir", char_run, "--length", 30)
    ended = invoke("generate", "--workdir", run, "--length", 30)
    assert (ended.status, ended.out) == (0, expected.out)
    (notice,) = ended.err.splitlines()
    assert "00009999" in notice
    assert "not as it was written" in notice


def test_needs_the_run_folder_alone(invoke: Any, copied: Any, char_run: Path, cwd: Path) -> None:
    run = copied(char_run)
    for path in run.iterdir():
        if path.name not in ("config.json", "tokenizer.json", "checkpoints"):
            path.unlink()
    assert invoke("generate", "--workdir", run, "--length", 9) == invoke(
        "generate", "--workdir", char_run, "--length", 9
    )


def test_a_model_of_words_writes_text(invoke: Any, tmp_path: Path) -> None:
    text = tmp_path / "words.txt"
    text.write_text('The cat (a grey one) said--"no," and slept.\n' * 30, encoding="utf-8")
    run = tmp_path / "run"
    options = ("--level", "word", "--cell", "mingru", "--units", 8, "--embedding", 4, "--epochs", 1)
    assert invoke("train", "--task", "char", "--text", text, *options, "--workdir", run).status == 0
    ended = invoke("generate", "--workdir", run, "--prompt", "The dog ", "--length", 130)
    assert ended.status == 0
    assert ended.out.startswith("The dog ")
    assert "[UNK]" not in ended.out
    longer = invoke("generate", "--workdir", run, "--prompt", "The dog ", "--length", 300)
    assert longer.out.startswith(ended.out[:-1])
    ended = invoke("neurons", run, "--text", text)
    assert (ended.status, ended.out) == (2, "")
    assert "expected a run of a character model; it holds one of words" in ended.err
