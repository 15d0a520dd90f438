"""What a person sees of a run: progress in the terminal, and its history as a picture."""

import shutil
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LINE_SECONDS = 20.0
"""Time between two progress lines where the output is no terminal."""


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
        self.width = 0

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
        if sys.stderr.isatty():
            self._write(text[: shutil.get_terminal_size().columns - 1])
        elif now - self.last_line >= LINE_SECONDS:
            self.last_line = now
            print(text, file=sys.stderr, flush=True)

    def line(self, text: str) -> None:
        """Write a line that stays; in a run of many short epochs, one a second."""
        now = time.monotonic()
        if self.quiet or (self.epochs > 100 and now - self.last_line < 1):
            return
        self.last_line = now
        self.clear()
        print(text, file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Take the bar away."""
        if not self.quiet and sys.stderr.isatty():
            self._write("")

    def _write(self, text: str) -> None:
        print(f"\r{text:<{self.width}}", end="\r" if not text else "", file=sys.stderr, flush=True)
        self.width = len(text)


def format_metrics(metrics: Mapping[str, float]) -> str:
    """Metrics in one line: `loss 0.3497  accuracy 0.8552`."""
    return "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())


def format_seconds(seconds: float) -> str:
    """Minutes and seconds, with hours where there are any: `1:02:03`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def plot_history(path: Path, title: str, history: Sequence[Mapping[str, Any]], best_epoch: int) -> None:
    """Draw training and validation curves of each metric, with the best epoch marked."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    names = [name for name in history[0]["train"] if name in history[0]["validation"]]
    figure = Figure(figsize=(5.5 * len(names), 4), layout="constrained")
    epochs = [record["epoch"] for record in history]
    for number, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), number + 1)
        for split in ("train", "validation"):
            axes.plot(epochs, [record[split][name] for record in history], marker="o", markersize=3, label=split)
        axes.axvline(best_epoch, color="grey", linestyle=":", label=f"best epoch ({best_epoch})")
        axes.set(xlabel="epoch", ylabel=name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    # A title may hold the name of a file: no mathematics in it, and no bytes that are not text.
    figure.suptitle(title.encode("utf-8", "replace").decode(), parse_math=False)
    temporary = path.with_name(f".{path.name}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(temporary, dpi=120, format="png")
    temporary.replace(path)
