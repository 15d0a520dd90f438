"""What a person sees of a run: progress in the terminal, and its history as a picture."""

import os
import shutil
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.cells import cell_len, set_cell_size

LINE_SECONDS = 20.0
"""Time between two progress lines where the output is no terminal."""
ERASE_LINE = "\x1b[2K"
"""As terminals understand it (ECMA-48)."""


class Display:
    """Progress on standard error: a bar in a terminal, otherwise a line now and then."""

    def __init__(self, epochs: int, steps_per_epoch: int, first_step: int, unit: str, quiet: bool = False) -> None:
        """Begin at `first_step`, of at most `epochs * steps_per_epoch`; speed is in `unit` a second.

        With `quiet` nothing is shown: another process of the same run does it.
        """
        self.quiet = quiet
        self.unit = unit
        self.epochs = epochs
        self.total = epochs * steps_per_epoch
        self.steps_per_epoch = steps_per_epoch
        self.first_step = first_step
        self.started = self.last_line = time.monotonic()
        self.examples = 0.0
        self.has_bar = False

    def update(self, epoch: int, step: int, metrics: Mapping[str, float], examples: float) -> None:
        """Show where the run is; `examples` were trained on since the last update."""
        if self.quiet:
            return
        self.examples += examples
        now = time.monotonic()
        elapsed = max(now - self.started, 1e-9)
        left = (self.total - step) * elapsed / max(step - self.first_step, 1)
        share = (step - (epoch - 1) * self.steps_per_epoch) / self.steps_per_epoch
        text = (
            f"epoch {epoch}/{self.epochs}  {share:4.0%}  {format_metrics(metrics)}"
            f"  {self.examples / elapsed:,.0f} {self.unit}/s  {format_seconds(left)} left at most"
        )
        columns = terminal_columns()
        if columns is not None:
            # A line as wide as the terminal, or wider, would not be written over by the next one.
            self._write(text if cell_len(text) < columns else set_cell_size(text, columns - 1))
        elif now - self.last_line >= LINE_SECONDS:
            self.last_line = now
            print(text, file=sys.stderr, flush=True)

    def line(self, *texts: str) -> None:
        """Write a line that stays, the first of `texts` that fits; in a run of many short epochs, one a second."""
        now = time.monotonic()
        if self.quiet or (self.epochs > 100 and now - self.last_line < 1):
            return
        self.last_line = now
        self.clear()
        columns = terminal_columns()
        fitting = (text for text in texts if columns is None or cell_len(text) <= columns)
        print(next(fitting, texts[-1]), file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Take the bar away."""
        if self.has_bar:
            self._write("")

    def _write(self, text: str) -> None:
        print(f"\r{ERASE_LINE}{text}", end="", file=sys.stderr, flush=True)
        self.has_bar = bool(text)


def terminal_columns() -> int | None:
    """How wide the terminal on standard error is now; None where there is none that can take a line back."""
    if not sys.stderr.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return None
    try:  # standard output may be a file
        return os.get_terminal_size(sys.stderr.fileno()).columns or shutil.get_terminal_size().columns
    except (OSError, ValueError):
        return shutil.get_terminal_size().columns


def format_metrics(metrics: Mapping[str, float]) -> str:
    """Metrics in one line: `loss 0.3497  accuracy 0.8552`."""
    return "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())


def format_seconds(seconds: float) -> str:
    """Minutes and seconds, with hours where there are any: `1:02:03`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def plot_history(
    path: Path, title: str, history: Sequence[Mapping[str, Any]], best_epoch: int, metrics: Sequence[str]
) -> None:
    """Draw training and validation curves of those of the metrics that both have, with the best epoch marked."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    names = [name for name in metrics if name in history[0]["train"]]
    figure = Figure(figsize=(5.5 * len(names), 4), layout="constrained")
    epochs = [record["epoch"] for record in history]
    for number, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), number + 1)
        for split in ("train", "validation"):
            axes.plot(epochs, [record[split][name] for record in history], marker="o", markersize=3, label=split)
        axes.axvline(best_epoch, color="grey", linestyle=":", label=f"best epoch ({best_epoch})")
        axes.set(xlabel="epoch", ylabel=name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
        axes.legend()
    # A title may hold the name of a file: no mathematics in it, and no bytes that are not text.
    figure.suptitle(title.encode("utf-8", "replace").decode(), parse_math=False)
    save_figure(path, figure)


def save_figures(folder: Path, figures: Mapping[str, Any]) -> None:
    """Write each figure as a PNG file of its name in `folder`, which is made."""
    folder.mkdir(exist_ok=True)
    for name, figure in figures.items():
        save_figure(folder / f"{name}.png", figure)


def save_figure(path: Path, figure: Any) -> None:
    """Write a matplotlib figure as PNG, whole or not at all."""
    temporary = path.with_name(f".{path.name}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(temporary, dpi=120, format="png")
    temporary.replace(path)
