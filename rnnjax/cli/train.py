"""`rnnjax train`."""

import contextlib
import dataclasses
import datetime
import importlib.util
import json
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rnnjax.cli import host, notices, runs
from rnnjax.cli.groups import Group, plan
from rnnjax.cli.options import Parser, add_fields, convert, flag, folder_name, resolve_aliases
from rnnjax.errors import InputError
from rnnjax.task import Count
from rnnjax.tasks import TASKS

if TYPE_CHECKING:
    from rnnjax.task import Task, TrainConfig
    from rnnjax.training.folder import RunFolder

PLACES = {"data_dir"}
"""Settings that say where data lie, not what they are."""
MAY_DIFFER = PLACES | {"diagnose"}
"""Settings that a resumed run may have otherwise: they change nothing of what is learned."""

PATHS = {"dataset", "data_dir", "vectors"}
DATASETS = ("auto", "tfds", "builtin")
"""Values of --dataset that are no paths."""

log = logging.getLogger("rnnjax")


def main(arguments: Sequence[str]) -> None:
    """Train, or go on training; `rnnjax train --help` shows the options."""
    parser = make_parser()
    known, _ = parser.parse_known_args(arguments)
    if known.list:
        width = max(map(len, TASKS))
        for name, entry in TASKS.items():
            parts = (entry.description, f"data: {entry.data}", f"models: {entry.model}", f"expect {entry.expected}")
            print(f"{name:<{width}}  {'; '.join(parts)}")
        return
    origin = read_origin(known.config) if known.config is not None else None
    name = known.task
    if origin is not None:
        if name not in (None, origin["task"]):
            raise InputError(f"--task: expected {origin['task']}, the task of --config {known.config}; got {name}.")
        name = origin["task"]
    if name is None and known.resume and not known.help:
        name = resumed_task(known.workdir)
    if name is None:
        if known.help:
            parser.print_help()
            return
        raise InputError(f"--task: expected one of {', '.join(TASKS)}; got no --task. --list describes them.")
    speaks = host.prepare(known.distributed)
    task = runs.get_task(name)
    preset = chosen_preset(task, known.preset, origin)
    parser = make_parser(task, preset)
    if known.help:
        parser.print_help()
        return
    given = vars(parser.parse_args(arguments))
    chosen = resolve_aliases({key: value for key, value in given.items() if key not in CONTROLS}, task.aliases)
    options = {**preset, **chosen}
    for name in PATHS & options.keys():
        if options[name] == "":
            raise InputError(f"{flag(name)}: expected the name of a file or folder; got ''. Name one, or leave it out.")
        if options[name] not in (*DATASETS, None):  # a run is resumed from anywhere
            options[name] = os.path.abspath(os.path.expanduser(options[name]))
    workdir, resume, overwrite = given["workdir"], given["resume"], given["overwrite"]
    if resume and (overwrite or origin is not None):
        raise InputError(f"--resume: expected it or {'--overwrite' if overwrite else '--config'}; got both.")
    check_packages(options.get("tensorboard", False))
    folder = choose_folder(workdir, task, resume)
    if speaks and not resume:
        folder.check_new(overwrite)
    if given["seeds"] or given["sweep"] or (resume and Group.is_in(folder.path)):
        if known.distributed:
            raise InputError("--distributed: expected one run; got several. Start each by itself.")
        several = given["seeds"] or given["sweep"]
        members = plan(task, options, chosen, given["seeds"], given["sweep"] or []) if several else None
        print(json.dumps(train_group(folder.path, task, options, members, resume, overwrite), indent=2))
        return
    settings = folder.read_config() if resume else None
    config = resumed_config(task, options, settings, folder) if settings else task.config(**options)
    if resume and folder.is_finished:
        if speaks:
            notices.release()
        log.info("%s: this run is finished; nothing to do", folder.path)
        return
    if speaks and resume:
        folder.check_idle()
    results = train(
        task, config, folder, settings, overwrite=overwrite, claim=workdir is None, speaks=speaks, origin=origin
    )
    if speaks:
        print(json.dumps(results, indent=2))


CONTROLS = {
    *("help", "list", "task", "preset", "config", "workdir", "resume", "overwrite", "distributed", "seeds", "sweep"),
}
"""Options that say what to do; all others are settings of the task."""


def make_parser(task: "Task | None" = None, preset: dict[str, Any] | None = None) -> Parser:
    """The options that all tasks have in common or, with a task, all that it takes and its own defaults."""
    parser = Parser(
        prog="train.py",
        description="Train a recurrent network and save it in a run folder." if task is None else None,
        epilog="--task NAME --help shows the settings of a task and their defaults." if task is None else None,
        add_help=False,
    )
    parser.add_argument("-h", "--help", action="store_true", help="Show this and exit.")
    parser.add_argument("--list", action="store_true", help="List the tasks and exit.")
    parser.add_argument("--task", metavar="NAME", help=f"What to train: {', '.join(TASKS)}.")
    parser.add_argument("--preset", metavar="NAME", help="Named settings; options given beside it win." + (
        f" One of: {', '.join(task.presets)}." if task is not None and task.presets else ""
    ))  # fmt: skip
    parser.add_argument("--config", metavar="FILE", help=(
        "Train again with the settings in the config.json of a run; options given beside it win."
    ))  # fmt: skip
    parser.add_argument("--workdir", type=folder_name, metavar="DIR", help="Run folder. (default: runs/NAME/DATE-TIME)")
    parser.add_argument(
        "--resume", action="store_true", help="Go on with the run in --workdir, or with the newest run."
    )
    parser.add_argument("--overwrite", action="store_true", help="Start again where --workdir holds a run.")
    parser.add_argument("--distributed", action="store_true", help=(
        "Train in several processes, which are all started with the same options: Slurm, Open MPI, Kubernetes or a TPU "
        "pod tells which they are, or JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID."
    ))  # fmt: skip
    parser.add_argument("--seeds", metavar="N", type=convert("--seeds", Count), help=(
        "Train N times, with the seeds from --seed on, and report means and deviations."
    ))  # fmt: skip
    parser.add_argument("--sweep", metavar="NAME=A,B,...", action="append", help=(
        "Train with each of these values of a setting; with several --sweep, with each combination."
    ))  # fmt: skip
    if task is not None:
        defaults = {field.name: field.default for field in dataclasses.fields(task.config)} | (preset or {})
        add_fields(parser, task.config, defaults, task.aliases)
    return parser


def train_group(
    path: Path,
    task: "Task",
    options: dict[str, Any],
    members: dict[str, dict[str, Any]] | None,
    resume: bool,
    overwrite: bool,
) -> dict[str, Any]:
    """Train several runs in folders of `path`, or go on with them, and return the summary.

    Args:
        path: the folder of them all.
        task: what is trained.
        options: settings that were asked for, beside what varies.
        members: the settings of each run by its name; None for those that are resumed.
        resume: go on with the runs in `path`.
        overwrite: write over them.

    Raises:
        InputError: runs are resumed with other settings.
    """
    if resume:
        saved = Group.read(path)
        moved = {name: options[name] for name in MAY_DIFFER & options.keys()}
        started = {name: {**settings, **moved} for name, settings in saved["members"].items()}
        asked = members or {name: {**settings, **options} for name, settings in started.items()}
        if saved["task"] != task.name or asked != started:
            raise InputError(
                f"--resume: expected the options with which the runs in {path} were started; got others. Leave them "
                "out, or start other runs."
            )
        members = started
    assert members is not None

    def train_one(
        config: "TrainConfig", folder: "RunFolder", settings: dict[str, Any] | None, begin: Callable[[], None]
    ) -> dict[str, Any]:
        return train(task, config, folder, settings, overwrite=False, claim=False, speaks=True, begin=begin)

    return Group(path, task, members).train(train_one, is_new=not resume, overwrite=overwrite)


def read_origin(path: str) -> dict[str, Any]:
    """What the config.json of an earlier run holds; `path` is that file, or the run's folder.

    Raises:
        InputError: there is none, or it cannot be used.
    """
    from rnnjax.training.folder import RunFolder

    if Path(path).is_dir():
        path = str(Path(path, "config.json"))
    if not Path(path).is_file():
        raise InputError(f"--config {path}: expected the config.json of a run; there is no such file. Name another.")
    folder = RunFolder(Path(path).parent)
    folder.config = Path(path)
    settings = folder.read_config()
    if settings["task"] not in TASKS:
        raise InputError(
            f"--config {path}: expected a run of one of {', '.join(TASKS)}; got {settings['task']!r}. Name another."
        )
    return settings


def chosen_preset(task: "Task", name: str | None, origin: dict[str, Any] | None) -> dict[str, Any]:
    """The settings that options given beside them win over: those of --preset, or of the run of --config.

    Raises:
        InputError: there is no such preset, or settings that the task does not have.
    """
    if origin is None:
        if name is not None and name not in task.presets:
            raise InputError(
                f"--preset: expected one of {', '.join(task.presets) or 'none'} for {task.name}; got {name!r}."
            )
        return dict(task.presets[name]) if name else {}
    if name is not None:
        raise InputError("--config: expected it or --preset; got both.")
    settings = dict(origin["config"])
    if unknown := settings.keys() - {field.name for field in dataclasses.fields(task.config)}:
        raise InputError(
            f"--config: expected settings of {task.name}; got {', '.join(sorted(unknown))}, which another version of "
            "rnnjax may know. Train with that one, or take them out."
        )
    if settings.get("dataset") == "auto":  # what it was then, whatever network there is now
        settings["dataset"] = "builtin" if origin["dataset"] == "builtin" else "tfds"
    return settings


def resumed_task(workdir: str | None) -> str:
    """The task of the run that `--resume` goes on with, where no task was named."""
    from rnnjax.training.folder import RunFolder

    path = runs.newest(lambda *_: True, "a run") if workdir is None else Path(workdir)
    if Group.is_in(path):
        return Group.read(path)["task"]
    name: str = RunFolder(path).read_config()["task"]
    return name


def check_packages(tensorboard: bool) -> None:
    """Raise InputError where a package is missing that a setting needs."""
    if tensorboard and importlib.util.find_spec("tensorboardX") is None:
        raise InputError(
            "--tensorboard: expected the package tensorboardX, which is not installed: "
            "pip install 'rnnjax[tensorboard]', or leave the option out."
        )


def choose_folder(workdir: str | None, task: "Task", resume: bool) -> "RunFolder":
    """The run folder, which is not made yet.

    Raises:
        InputError: there is no run to resume.
    """
    from rnnjax.training.folder import RunFolder

    if workdir is None and resume:
        path = runs.newest(lambda settings, _: settings["task"] == task.name, f"a run of {task.name}")
        workdir = str(path.parent if Group.is_in(path.parent) else path)
    if workdir is None:
        workdir = str(runs.RUNS / task.name / datetime.datetime.now().strftime("%Y%m%d-%H%M%S"))
    return RunFolder(workdir)


def resumed_config(
    task: "Task", options: dict[str, Any], settings: dict[str, Any], folder: "RunFolder"
) -> "TrainConfig":
    """The settings of the run that is resumed.

    Raises:
        InputError: it is a run of another task, or an option differs from its settings.
    """
    if settings["task"] != task.name:
        raise InputError(f"--task: expected {settings['task']}, which {folder.path} holds a run of; got {task.name}.")
    saved = settings["config"]
    for name, value in options.items():
        if name not in MAY_DIFFER and saved.get(name) != value:
            raise InputError(
                f"{flag(name)}: expected {saved.get(name)}, as the run in {folder.path} was started; got {value}. "
                "Leave it out, or start another run."
            )
    with folder.explain_config():
        config: TrainConfig = task.config(**{**saved, **{name: options[name] for name in MAY_DIFFER & options.keys()}})
    return config


def train(
    task: "Task",
    config: "TrainConfig",
    folder: "RunFolder",
    settings: dict[str, Any] | None,
    *,
    overwrite: bool,
    claim: bool,
    speaks: bool,
    origin: dict[str, Any] | None = None,
    begin: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Load the data, train, and return the results.

    Args:
        task: what to train.
        config: its settings.
        folder: the run folder.
        settings: those of a run that is resumed.
        overwrite: write over a run in `folder`.
        claim: the name of `folder` is a proposal, and another is taken where there is such a folder.
        speaks: this process writes the folder and speaks to the user; of several processes the first.
        origin: what config.json of the run holds that this one is to be the same as.
        begin: called when all input is known to be good, before a new run is written.
    """
    from rnnjax.training.devices import Devices
    from rnnjax.training.folder import run_settings
    from rnnjax.training.loop import Run
    from rnnjax.training.signals import Stopped, StopRequest

    check_packages(config.tensorboard)
    source = config
    if settings is not None and config.dataset == "auto":  # what it was then, whatever network there is now
        source = dataclasses.replace(config, dataset="builtin" if settings["dataset"] == "builtin" else "tfds")
    splits = task.load(source)
    if settings is not None:
        if splits.fingerprint != settings["fingerprint"]:
            data = " and ".join(filter(None, [settings["dataset"], settings["config"].get("vectors")]))
            raise InputError(
                f"--resume: expected the data ({data}) that the run in {folder.path} was started with; "
                "they have changed. Restore them, or start another run."
            )
        if dict(splits.info) != settings["info"]:
            raise InputError(
                f"--resume: expected data that are encoded as those of the run in {folder.path}; another version of "
                "rnnjax encodes them otherwise. Resume with the version in its config.json, or start another run."
            )
        warn_of_environment("resuming", settings)
    if origin is not None:
        warn_of_environment("training", origin)
        same_data = splits.dataset == origin["dataset"] and getattr(config, "vectors", None) == origin["config"].get(
            "vectors"
        )
        if same_data and splits.fingerprint != origin["fingerprint"]:
            log.warning("--config: the data are not those that it was trained on; results will not be the same")
    described = run_settings(task.name, dataclasses.asdict(config), splits.info, splits.dataset, splits.fingerprint)
    devices = Devices()
    same = [{**described["config"], **dict.fromkeys(PLACES)}, described["info"], described["fingerprint"]]
    if not devices.have_same(same):
        host.part()
        raise InputError(
            "--distributed: expected the same options and data in all processes; they differ. Start all with one "
            "command line, where all find the data."
        )
    if speaks and settings is not None:
        folder.check_writable()
    run = Run(task, config, splits, folder, devices)
    if settings is not None:
        run.restore()
    elif speaks:
        if claim:
            folder.claim()
        begin()
    with StopRequest() as stop, folder.lock() if speaks else contextlib.nullcontext():
        if settings is None and speaks:
            folder.start(described, splits.vocabulary, overwrite)
        if speaks:
            notices.release()
        log.info("run folder: %s", folder.path)
        try:
            results = run.train(stop)
        except Stopped:
            host.part()
            raise
    return results


def warn_of_environment(what: str, settings: dict[str, Any]) -> None:
    """Say so where versions, devices or threads are not those in the config.json of an earlier run."""
    from rnnjax.training.folder import environment

    differing = [name for name, value in environment().items() if settings["environment"].get(name) != value]
    if differing:
        log.warning("%s with other %s than before: results will not be the same to the bit", what, ", ".join(differing))
