"""`--diagnose`: after each epoch, a look into the recurrent layers, in numbers and as a picture."""

import json
import math
import time
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from rnnjax.models.diagnosis import diagnose
from rnnjax.task import Batch, Task
from rnnjax.training.devices import Devices
from rnnjax.training.folder import RunFolder

DRAW_SECONDS = 10.0
"""Time between two pictures."""


class Diagnosis:
    """Looks at the same batch after each epoch, without dropout; changes nothing of the run.

    The batch is the first of the run's first epoch; where the state is carried, it starts from the initial one.
    """

    def __init__(self, model: nn.Module, task: Task, batch: Batch, folder: RunFolder, devices: Devices) -> None:
        """Nothing is computed yet."""
        self.folder, self.devices = folder, devices
        self.batch = devices.divide_batch({name: array.copy() for name, array in batch.items()})
        carry = devices.divide_state(model.initial_state(len(batch["inputs"]))) if task.stateful else None
        self.drawn_at = -math.inf

        def run(params: Any, batch: Any, carry: Any) -> Any:
            weight = jnp.asarray(batch["weight"])
            keywords = task.keywords(batch)
            if carry is not None:
                keywords |= {"initial_state": carry, "return_state": True}

            def loss(outputs: Any) -> jax.Array:
                total, count = task.loss(outputs if carry is None else outputs[1], batch)["loss"]
                return total / jnp.maximum(count, 1)

            with jax.sharding.use_abstract_mesh(devices.mesh.abstract_mesh):
                rows = weight.reshape(len(weight), -1).max(axis=1) > 0
                return diagnose(model, params, loss, batch["inputs"], rows=rows, deterministic=True, **keywords)

        compiled = jax.jit(run, out_shardings=devices.copied)
        self.compute = lambda params: compiled(params, self.batch, carry)

    def look(self, params: Any) -> dict[str, Any]:
        """What `rnnjax.models.diagnosis.diagnose` says of these parameters, as JSON has it: null for no number."""
        self.devices.settle(params)
        looked: dict[str, Any] = jax.tree.map(_rounded, jax.device_get(self.compute(params)))
        return looked

    def record(self, place: dict[str, int], params: Any) -> None:
        """Add a line to diagnosis.jsonl, after `place`, and draw now and then. All processes have to ask."""
        looked = self.look(params)
        if not self.devices.is_writer:
            return
        with self.folder.diagnosis.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**place, **looked}) + "\n")
        if time.monotonic() - self.drawn_at > DRAW_SECONDS:
            self.draw()

    def draw(self) -> None:
        """Draw diagnosis.png from diagnosis.jsonl, if there is any line in it."""
        if not self.devices.is_writer or not self.folder.diagnosis.exists():
            return
        lines = self.folder.diagnosis.read_text(encoding="utf-8").splitlines()
        if lines:
            plot_diagnosis(self.folder.diagnosis_plot, [json.loads(line) for line in lines])
            self.drawn_at = time.monotonic()


def _rounded(value: Any) -> Any:
    """A number of four digits, a list of them, or None for what is none."""
    if value.ndim:
        return [_rounded(part) for part in value]
    if not math.isfinite(value):
        return None
    return int(value) if value.dtype.kind == "i" else float(f"{value:.4g}")


def plot_diagnosis(path: Path, records: list[dict[str, Any]]) -> None:
    """Draw gradients by time step after the last epoch (thin: after the first), and the rest over epochs."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(13, 9), layout="constrained")
    steps, parameters, gates, dead = figure.subplots(2, 2).ravel()
    epochs = [record["epoch"] for record in records]
    first, last = records[0], records[-1]
    number = 0
    for layer, described in last["layers"].items():
        for part, norms in described["state_gradients"].items():
            colour = f"C{number}"
            number += 1
            early = first["layers"][layer]["state_gradients"][part]
            steps.plot(_positive(early), color=colour, alpha=0.35, linewidth=1)
            steps.plot(_positive(norms), color=colour, label=f"{layer or 'layer'}: {part}")
    steps.set(
        title=f"after epoch {last['epoch']} (thin: epoch {first['epoch']})",
        xlabel="time step t",
        ylabel="gradient of the loss by the state at t, norm",
    )
    for name in last["parameter_gradients"]:
        parameters.plot(epochs, _positive([record["parameter_gradients"][name] for record in records]), label=name)
    parameters.set(title="gradients by parameters", xlabel="epoch", ylabel="norm")
    number = 0
    for layer, described in last["layers"].items():
        for gate in described["gates"]:
            shares = [record["layers"][layer]["gates"][gate] for record in records]
            name = f"{layer or 'layer'}: {gate}"
            gates.plot(epochs, _numbers([share["above"] for share in shares]), color=f"C{number}", label=name)
            gates.plot(epochs, _numbers([share["below"] for share in shares]), color=f"C{number}", linestyle="--")
            number += 1
        share = [record["layers"][layer]["dead_units"] / described["units"] for record in records]
        dead.plot(epochs, share, label=layer or "layer")
    gates.set(
        title="gates: open, above 0.9 (dashed: closed, below 0.1)", xlabel="epoch", ylabel="share", ylim=(-0.03, 1.03)
    )
    dead.set(
        title="dead units: output of deviation below 0.001", xlabel="epoch", ylabel="share of units", ylim=(-0.03, 1.03)
    )
    for axes in (steps, parameters):
        if any((line.get_ydata() > 0).any() for line in axes.lines):
            axes.set_yscale("log")
    for axes in (parameters, gates, dead):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        for line in axes.lines:
            line.set(marker="o", markersize=3)
    for axes in (steps, parameters, gates, dead):
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize="x-small")
    temporary = path.with_name(f".{path.name}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(temporary, dpi=120, format="png")
    temporary.replace(path)


def _numbers(values: list[Any]) -> Any:
    import numpy as np

    return np.array([math.nan if value is None else value for value in values], float)


def _positive(values: list[Any]) -> Any:
    """For a logarithmic axis: what is 0 is not drawn."""
    import numpy as np

    numbers = _numbers(values)
    return np.where(numbers > 0, numbers, math.nan)
