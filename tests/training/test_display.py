"""What a person sees while a run trains, in terminals of several widths and where there is none."""

import fcntl
import io
import os
import pty
import re
import struct
import sys
import termios
import unicodedata

import numpy as np
import pytest

from rnnjax.training import report
from rnnjax.training.report import Display, plot_history

METRICS = {"loss": 0.34971, "accuracy": 0.85521}
END = "\x05"
TEXT = "epoch 1/3   50%  loss 0.3497  accuracy 0.8552"


def width(character):
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


class Terminal:
    """A pseudo-terminal as standard error, and what stands on its screen. A long line goes on in the next row."""

    def __init__(self, monkeypatch, columns):
        self.master, slave = pty.openpty()
        self.file = os.fdopen(slave, "w", encoding="utf-8")
        self.rows, self.column, self.columns = [""], 0, columns
        self.resize(columns)
        monkeypatch.setattr(sys, "stderr", self.file)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.delenv("COLUMNS", raising=False)

    def resize(self, columns):
        self.columns = columns
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def received(self):
        """All that was written since the last call. It comes in pieces, hence a mark at its end."""
        print(END, end="", file=self.file, flush=True)
        content = b""
        while not content.endswith(END.encode()):
            content += os.read(self.master, 1 << 16)
        return content.decode().removesuffix(END)

    def screen(self):
        """The rows, after all that was written."""
        for part in re.findall(r"\x1b\[\w*[A-Z]|.", self.received(), re.DOTALL):
            if part == "\r":
                self.column = 0
            elif part == "\n":
                self.rows.append("")
            elif part == report.ERASE_LINE:
                self.rows[-1] = ""
            else:
                assert part.isprintable(), f"a terminal is not asked for {part!r}"
                if self.column + width(part) > self.columns:
                    self.rows.append("")
                    self.column = 0
                assert self.column == sum(map(width, self.rows[-1])), "written where nothing stood"
                self.rows[-1] += part
                self.column += width(part)
        return [row.rstrip() for row in self.rows]


@pytest.fixture
def terminal(monkeypatch):
    """Makes a terminal of so many columns."""
    made = []

    def make(columns):
        made.append(Terminal(monkeypatch, columns))
        return made[-1]

    yield make
    for each in made:
        each.file.close()
        os.close(each.master)


def test_the_bar_stays_in_one_row_whatever_the_width(terminal):
    screen = terminal(30)
    display = Display(epochs=3, steps_per_epoch=10, first_step=0, unit="examples")
    for step in range(1, 6):
        display.update(1, step, METRICS, 64)
        (row,) = screen.screen()
    assert row == TEXT[:29].rstrip()
    screen.resize(46)
    display.update(1, 5, METRICS, 64)
    assert screen.screen() == [TEXT]
    screen.resize(12)
    display.update(1, 5, METRICS, 64)
    assert screen.screen() == [TEXT[:11].rstrip()]
    screen.resize(200)
    display.update(1, 5, METRICS, 64)
    (row,) = screen.screen()
    assert re.fullmatch(re.escape(TEXT) + r"  [\d,]+ examples/s  \d+:\d\d left at most", row)
    display.line("epoch 1 is done")
    assert screen.screen() == ["epoch 1 is done", ""]
    display.update(2, 11, METRICS, 64)
    assert screen.screen()[1].startswith("epoch 2/3   10%")
    display.clear()
    assert screen.screen() == ["epoch 1 is done", ""]


def test_wide_characters_count_twice(terminal):
    screen = terminal(30)
    display = Display(epochs=1, steps_per_epoch=1, first_step=0, unit="文字")
    display.update(1, 1, {"損失関数の値": 0.5, "e\u0301": 1.0}, 64)
    (row,) = screen.screen()
    assert row == "epoch 1/1  100%  損失関数の値"


def test_of_several_lines_the_first_that_fits(terminal):
    screen = terminal(20)
    display = Display(epochs=1, steps_per_epoch=1, first_step=0, unit="examples")
    display.line("x" * 21, "y" * 20, "z")
    display.line("文" * 11, "z")
    display.line("long " * 10, "still longer than the row")
    assert screen.screen() == ["y" * 20, "z", "still longer than th", "e row", ""]


@pytest.mark.parametrize("is_dumb", [True, False])
def test_plain_lines_where_no_line_can_be_taken_back(is_dumb, terminal, monkeypatch):
    if is_dumb:
        screen = terminal(20)
        monkeypatch.setenv("TERM", "dumb")
    else:
        monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(report, "LINE_SECONDS", 0.0)
    display = Display(epochs=3, steps_per_epoch=10, first_step=0, unit="examples")
    display.update(1, 5, METRICS, 64)
    display.line("a line of more than twenty columns", "short")
    display.clear()
    if is_dumb:
        content = screen.received().replace("\r\n", "\n")
    else:
        content = sys.stderr.getvalue()
    first, second, rest = content.split("\n")
    assert first.startswith(TEXT)
    assert (second, rest) == ("a line of more than twenty columns", "")
    monkeypatch.setattr(report, "LINE_SECONDS", 1e9)
    display.update(1, 6, METRICS, 64)
    if not is_dumb:
        assert sys.stderr.getvalue() == content


def test_a_quiet_display_writes_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(report, "LINE_SECONDS", 0.0)
    display = Display(epochs=3, steps_per_epoch=10, first_step=0, unit="examples", quiet=True)
    display.update(1, 5, METRICS, 64)
    display.line("a line")
    display.clear()
    assert sys.stderr.getvalue() == ""


def test_history_has_a_panel_for_each_metric_of_both_splits(tmp_path, monkeypatch):
    import matplotlib.figure

    drawn = []
    save = matplotlib.figure.Figure.savefig
    monkeypatch.setattr(
        matplotlib.figure.Figure,
        "savefig",
        lambda figure, *rest, **options: (drawn.append(figure), save(figure, *rest, **options)),
    )
    history = [
        {
            "epoch": epoch,
            "train": {"loss": 1 / epoch, "bits": 2.0},
            "validation": {"loss": 1.1 / epoch, "bits": 2.0, "half": 3.0},
        }
        for epoch in (1, 2, 3)
    ]
    plot_history(tmp_path / "history.png", "char on $x", history, 3, ["loss", "half"])
    (axes,) = drawn[0].axes
    assert axes.get_ylabel() == "loss"
    train, validation, best = axes.lines
    np.testing.assert_allclose(train.get_ydata(), [1, 1 / 2, 1 / 3])
    np.testing.assert_allclose(validation.get_ydata(), [1.1, 1.1 / 2, 1.1 / 3])
    assert set(best.get_xdata()) == {3}
    assert (tmp_path / "history.png").read_bytes().startswith(b"\x89PNG")
