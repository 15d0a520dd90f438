"""Curves of a metric as an SVG picture that stands inside a page and takes its colour of text."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

INK = "#010203"
"""Colour that becomes that of the page's text."""
STYLES = {"train": {"linestyle": "--", "linewidth": 1.0, "alpha": 0.7}}
"""How the curve of a split looks; by default a solid line."""


class Curve(NamedTuple):
    """A metric of one split of one run."""

    colour: str
    split: str
    epochs: Sequence[int]
    values: Sequence[float]
    best_epoch: int | None
    """Marked with a ring."""


def draw(name: str, curves: Sequence[Curve]) -> str:
    """An <svg> element. There is no text in it but numbers and "epoch"; `name` makes the ids in it its own."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    inked = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color")
    settings: Mapping[str, object] = dict.fromkeys(inked, INK) | {"svg.fonttype": "none", "svg.hashsalt": name}
    with matplotlib.rc_context(settings):  # type: ignore[arg-type]
        figure = Figure(figsize=(6, 3.6), layout="constrained")
        axes = figure.add_subplot()
        for curve in curves:
            style = STYLES.get(curve.split, {})
            axes.plot(curve.epochs, curve.values, color=curve.colour, marker=".", markersize=4, **style)  # type: ignore[arg-type]
            if curve.best_epoch is not None and curve.best_epoch in curve.epochs:
                best = curve.values[list(curve.epochs).index(curve.best_epoch)]
                axes.plot(curve.best_epoch, best, color=curve.colour, marker="o", markersize=9, fillstyle="none")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.2)
        file = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    return re.sub(r'<g id="[^"]*"', "<g", svg)  # which would be the same in each picture
