"""Several runs of one command: the same settings with several seeds, and grids of settings."""

import dataclasses
import datetime
import itertools
import json
import logging
import shutil
import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from rnnjax import atomic
from rnnjax.cli.options import convert, flag
from rnnjax.errors import InputError, RunError

if TYPE_CHECKING:
    from rnnjax.task import Task, TrainConfig
    from rnnjax.training.folder import RunFolder

Train = Callable[["TrainConfig", "RunFolder", dict[str, Any] | None, Callable[[], None]], dict[str, Any]]
"""Train with these settings in this folder, which holds a run with that config.json or none, and give the results. The
function is to be called once all input is known to be good, before anything is written."""

log = logging.getLogger("rnnjax")


class Group:
    """A folder of runs, each in a folder of its own, with `group.json`, and a summary as JSON and as Markdown."""

    def __init__(self, path: Path, task: "Task", members: Mapping[str, Mapping[str, Any]]) -> None:
        """Name the runs and their settings, beside the task's defaults; nothing is made.

        Raises:
            InputError: settings that the task does not take.
        """
        from rnnjax.training.folder import RunFolder

        self.path, self.task, self.members = path, task, members
        self.configs: dict[str, TrainConfig] = {name: task.config(**options) for name, options in members.items()}
        self.folders = {name: RunFolder(path / name) for name in members}

    @staticmethod
    def is_in(path: Path) -> bool:
        """Whether a folder holds a group."""
        return (path / "group.json").exists()

    @classmethod
    def read(cls, path: Path) -> dict[str, Any]:
        """What group.json holds: `task`, and `members`, the settings of each run by its name.

        Raises:
            InputError: there is none, or it cannot be used.
        """
        file = path / "group.json"
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            if not isinstance(content["task"], str) or not all(
                isinstance(m, dict) for m in content["members"].values()
            ):
                raise ValueError("of another form")
            if any(Path(name).name != name for name in content["members"]):
                raise ValueError("names that are not of folders beside it")
        except FileNotFoundError:
            raise InputError(
                f"--workdir {path}: expected a folder of several runs; it holds no group.json. Start them first."
            ) from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{file}: expected the list of the runs beside it; cannot use it ({error}). Restore it, or resume each "
                "run by itself."
            ) from error
        return dict(content)

    def start(self, overwrite: bool) -> None:
        """Make the folder, and clear away an earlier group.

        Raises:
            InputError: it holds a run, or several, that are not to be written over, or it cannot be written.
        """
        from rnnjax.training.folder import RunFolder

        folder = RunFolder(self.path)
        folder.check_new(overwrite)
        earlier = self.read(self.path)["members"] if folder.group.exists() else ()
        try:
            for name in earlier:
                if RunFolder(self.path / name).holds_run:
                    shutil.rmtree(self.path / name)
            self.path.mkdir(parents=True, exist_ok=True)
            folder.clear()
            content = {
                "task": self.task.name,
                "members": self.members,
                "created": datetime.datetime.now().astimezone().isoformat(),
            }
            atomic.write_text(folder.group, json.dumps(content, indent=2) + "\n")
        except OSError as error:
            raise InputError(
                f"--workdir {self.path}: expected a folder that can be written; {error.strerror}. Name another."
            ) from error

    def train(self, train: Train, *, is_new: bool, overwrite: bool) -> dict[str, Any]:
        """Train each run that is not finished, one after the other, and return the summary.

        Args:
            train: trains one of them.
            is_new: the folder is made with the first run; otherwise it is there.
            overwrite: what it held before is written over.

        Raises:
            InputError: from `train`, or from `start`.
            RunError: some failed, after all others were trained; or a signal asked to stop.
        """
        is_started = not is_new

        def begin() -> None:
            nonlocal is_started
            if not is_started:
                self.start(overwrite)
            is_started = True

        results: dict[str, dict[str, Any]] = {}
        failures: dict[str, str] = {}
        for number, (name, folder) in enumerate(self.folders.items(), start=1):
            log.info("run %s of %s: %s", number, len(self.members), name)
            if is_started and folder.is_finished:
                results[name] = json.loads(folder.results.read_text(encoding="utf-8"))
                continue
            settings = folder.read_config() if is_started and folder.holds_run else None
            try:
                results[name] = train(self.configs[name], folder, settings, begin)
            except RunError as error:
                if hasattr(error, "exit_status"):  # a signal
                    raise
                log.warning("%s: %s", name, error)
                failures[name] = str(error)
            self.write_summary(results, failures)
        summary = self.write_summary(results, failures)
        log.info("%s", (self.path / "summary.md").read_text(encoding="utf-8").rstrip())
        if failures:
            raise RunError(
                f"{self.path}: {len(failures)} of {len(self.members)} runs failed: {', '.join(failures)}. The others "
                "are whole; summary.json has them."
            )
        return summary

    def write_summary(self, results: Mapping[str, dict[str, Any]], failures: Mapping[str, str]) -> dict[str, Any]:
        """Write summary.json and summary.md of what has been trained so far."""
        rows: dict[str, dict[str, Any]] = {}
        varied = [name for name in _differing(self.members.values()) if name != "seed"]
        for name, options in self.members.items():
            settings = {setting: options[setting] for setting in varied}
            row = rows.setdefault(
                json.dumps(settings), {"settings": settings, "seeds": [], "metrics": {}, "failed": {}}
            )
            if name in failures:
                row["failed"][name] = failures[name]
            if name in results:
                row["seeds"].append(results[name]["seed"])
                for metric, value in results[name].items():
                    if metric.startswith(("test_", "val_")) or metric == "train_seconds":
                        row["metrics"].setdefault(metric, {"each": []})["each"].append(value)
        for row in rows.values():
            for figures in row["metrics"].values():
                each = figures["each"]
                figures["mean"] = statistics.fmean(each)
                figures["deviation"] = statistics.stdev(each) if len(each) > 1 else None
        summary = {"task": self.task.name, "runs": list(rows.values())}
        atomic.write_text(self.path / "summary.json", json.dumps(summary, indent=2) + "\n")
        atomic.write_text(self.path / "summary.md", table(varied, list(rows.values())))
        return summary


def plan(
    task: "Task", options: Mapping[str, Any], given: Collection[str], num_seeds: int | None, sweeps: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """The runs that `--seeds` and `--sweep` ask for: names, and settings beside the task's defaults.

    Args:
        task: what is trained.
        options: settings that all runs share, but for those that vary.
        given: names of those among them that were given by themselves, not by a preset.
        num_seeds: runs of each combination, with the seeds from that of the options on; None: one.
        sweeps: `NAME=A,B,...` for each setting that takes several values.

    Raises:
        InputError: a sweep of something else, or of a setting that is also given by itself.
    """
    kinds = get_type_hints(task.config, include_extras=True)
    axes: dict[str, list[Any]] = {}
    for sweep in sweeps:
        written, equals, values = sweep.partition("=")
        name = written.lstrip("-").replace("-", "_")
        if not equals or not values:
            raise InputError(f"--sweep: expected NAME=A,B,...; got {sweep!r}. For example --sweep units=32,64.")
        if name not in kinds:
            raise InputError(f"--sweep: expected one of {', '.join(kinds)}; got {written!r}.")
        if name in given or name in axes or (name == "seed" and num_seeds):
            raise InputError(f"--sweep: expected {flag(name)} once; got it twice. Leave one out.")
        axes[name] = [_value(flag(name), kinds[name], text) for text in values.split(",")]
        if len({json.dumps(value) for value in axes[name]}) < len(axes[name]):
            raise InputError(f"--sweep: expected each value of {flag(name)} once; got {values}.")
    if num_seeds:
        default = next(field.default for field in dataclasses.fields(task.config) if field.name == "seed")
        first = options.get("seed", default)
        axes["seed"] = list(range(first, first + num_seeds))
    members = {}
    for combination in itertools.product(*axes.values()):
        chosen = dict(zip(axes, combination, strict=True))
        name = ",".join(f"{setting}={str(value).replace('/', '_')}" for setting, value in chosen.items())
        members[name] = {**options, **chosen}
    return members


def table(varied: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows of a summary as Markdown: mean and standard deviation of each metric."""
    metrics = list(dict.fromkeys(metric for row in rows for metric in row["metrics"]))
    lines = [_row([*varied, "seeds", *metrics]), _row(["---"] * (len(varied) + 1 + len(metrics)))]
    for row in rows:
        cells = [str(row["settings"][name]) for name in varied]
        cells.append(str(len(row["seeds"])) + (f" ({len(row['failed'])} failed)" if row["failed"] else ""))
        for metric in metrics:
            figures = row["metrics"].get(metric)
            digits = 1 if metric == "train_seconds" else 4
            if figures is None:
                cells.append("")
            elif figures["deviation"] is None:
                cells.append(f"{figures['mean']:.{digits}f}")
            else:
                cells.append(f"{figures['mean']:.{digits}f} ± {figures['deviation']:.{digits}f}")
        lines.append(_row(cells))
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _value(option: str, kind: Any, text: str) -> Any:
    if kind is bool:
        if text not in ("true", "false"):
            raise InputError(f"{option}: expected true or false; got {text!r}.")
        return text == "true"
    return convert(option, kind)(text)


def _differing(members: Any) -> list[str]:
    """Settings that are not the same in all members."""
    members = list(members)
    names = dict.fromkeys(name for options in members for name in options)
    return [name for name in names if any(options.get(name) != members[0].get(name) for options in members)]
