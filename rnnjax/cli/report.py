"""`rnnjax report`: one page that compares runs."""

import argparse
import base64
import colorsys
import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rnnjax.cli import host, notices, runs
from rnnjax.cli.convert import check_target
from rnnjax.cli.options import Parser
from rnnjax.errors import InputError
from rnnjax.tasks import TASKS

if TYPE_CHECKING:
    from rnnjax.training.folder import RunFolder

SAMPLE_LENGTH, SAMPLE_TEMPERATURE, SAMPLE_SEED = 300, 0.6, 0
COLOURS = ("#3b82c4", "#e07b00", "#2e9e5b", "#d1495b", "#8e6cc9", "#9a6b4f", "#d763b0", "#7f8c1d")
"""Of the curves of runs, each readable on white and on black."""
UNCOMPARED = ("data_dir",)
"""Settings that say where something lies, not what it is."""
NOTHING = "–"  # noqa: RUF001
CLASS = ("precision", "recall", "f1", "support")
"""What results.json says of each class."""

log = logging.getLogger("rnnjax")


@dataclasses.dataclass
class Shown:
    """What the page shows of a run."""

    name: str
    path: str
    colour: str
    started: str
    settings: dict[str, Any]
    """Options of train.py, and what else a run depends on."""
    records: list[dict[str, Any]]
    """Lines of metrics.jsonl."""
    results: dict[str, Any]
    """What results.json holds or, of a run that is not finished, the same figures of its newest epoch."""
    is_finished: bool
    classes: dict[str, dict[str, Any]]
    """The table of classes in results.json."""
    confusion: str | None
    """The address of a picture, which holds the picture itself."""
    pictures: dict[str, str]
    """Such addresses of what the task drew, by name."""
    mistakes: list[dict[str, Any]]
    sample: str | None
    """What a language model writes."""


def make_parser() -> Parser:
    """The options of `rnnjax report`."""
    parser = Parser(
        prog="rnnjax report",
        description="Compare runs on one HTML page: settings, curves, scores, samples and mistakes. The page is one "
        "file that needs no network.",
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help="Run folders, or folders of run folders.")
    parser.add_argument("--output", metavar="FILE", default="report.html", help="Page to write. (default: report.html)")
    parser.add_argument("--overwrite", action="store_true", help="Write over FILE where there is such a file.")
    parser.add_argument("--samples", action=argparse.BooleanOptionalAction, default=True, help=(
        f"Show {SAMPLE_LENGTH} characters (or words) that each language model writes at temperature "
        f"{SAMPLE_TEMPERATURE}."
    ))  # fmt: skip
    return parser


def main(arguments: Sequence[str]) -> None:
    """Write the page; `rnnjax report --help` shows the options."""
    options = make_parser().parse_args(arguments)
    target = Path(options.output)
    check_target(target, options.overwrite)
    host.prepare()
    from rnnjax import atomic

    folders = find_runs(options.runs)
    try:
        shown = [
            read_run(folder, name, colour, options.samples)
            for (name, folder), colour in zip(folders.items(), colours(len(folders)), strict=True)
        ]
    except InputError as error:
        raise InputError(str(error).removeprefix("--workdir ")) from error
    page = render(shown)
    atomic.write_bytes(target, page.encode("utf-8", "replace"))
    notices.release()
    log.info("%s shows %s", target, "1 run" if len(shown) == 1 else f"{len(shown)} runs")


def find_runs(paths: Sequence[str]) -> dict[str, "RunFolder"]:
    """Run folders, by the names of the folders or, where two have one name, by their paths.

    A folder that holds no run but folders that do stands for these.
    """
    from rnnjax.training.folder import RunFolder

    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        inside = [] if (path / "config.json").exists() else sorted(file.parent for file in path.glob("*/config.json"))
        for folder in inside or [path]:
            found.setdefault(folder.resolve(), folder)
    are_names_unique = len({folder.name for folder in found}) == len(found)
    return {real.name if are_names_unique else str(path): RunFolder(path) for real, path in found.items()}


def colours(count: int) -> list[str]:
    """A colour for each run; all around the colour wheel where there are many."""
    if count <= len(COLOURS):
        return list(COLOURS[:count])
    wheel = [colorsys.hls_to_rgb(number / count, 0.5, 0.6) for number in range(count)]
    return ["#" + "".join(f"{round(255 * part):02x}" for part in colour) for colour in wheel]


def read_run(folder: "RunFolder", name: str, colour: str, with_sample: bool) -> Shown:
    """What the page shows of a run.

    Raises:
        InputError: there is no run, or one of its files is broken.
    """
    from rnnjax.training import checkpoint

    config = folder.read_config()
    records = folder.read_metrics()
    results = folder.read_results()
    settings = {"task": config["task"], "data": config["dataset"], **config["config"]}
    settings |= {"device": config.get("device"), **flatten(config["environment"])}
    sample = None
    entry = TASKS.get(config["task"])
    if with_sample and entry is not None and entry.kind == "language model" and checkpoint.steps(folder.checkpoints):
        sample = write_sample(folder)
    return Shown(
        name=name,
        path=str(folder.path),
        colour=colour,
        started=str(config.get("created", ""))[:16].replace("T", " "),
        settings={key: value for key, value in settings.items() if key not in UNCOMPARED},
        records=records,
        results=newest(records) if results is None else results,
        is_finished=results is not None,
        classes=table_of_classes(folder.results, results or {}),
        confusion=as_address(folder.confusion) if folder.confusion.exists() else None,
        pictures={path.stem: as_address(path) for path in sorted(folder.pictures.glob("*.png"))},
        mistakes=folder.read_mistakes(),
        sample=sample,
    )


def flatten(content: Mapping[str, Any]) -> dict[str, Any]:
    """{"packages": {"jax": "1"}} -> {"jax": "1"}."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= flatten(value) if isinstance(value, dict) else {key: value}
    return flat


def newest(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of a run's newest epoch, named as in results.json; none before its first."""
    if not records:
        return {}
    last = records[-1]
    results = {
        f"val_{name}": value
        for record in records
        if record["epoch"] == last["epoch"] and record["split"] == "validation"
        for name, value in metrics_of(record).items()
    }
    return {**results, "epochs_run": last["epoch"], "train_seconds": last["seconds"]}


def table_of_classes(path: Path, results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The table in results.json, which only classifiers have.

    Raises:
        InputError: it is broken.
    """
    classes = results.get("classes", {})
    try:
        return {name: {figure: figures[figure] for figure in CLASS} for name, figures in classes.items()}
    except (TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{path}: expected {', '.join(CLASS)} for each of the classes; cannot use them "
            f"({type(error).__name__}: {error}). Restore the file, or remove it and --resume."
        ) from error


def metrics_of(record: Mapping[str, Any]) -> dict[str, float]:
    """The metrics in a line of metrics.jsonl."""
    from rnnjax.training.folder import METRICS_KEYS

    return {name: value for name, value in record.items() if name not in METRICS_KEYS and is_number(value)}


def is_number(value: Any) -> bool:
    """Whether a value from JSON is one."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def as_address(picture: Path) -> str:
    """A PNG picture as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"


def write_sample(folder: "RunFolder") -> str:
    """What the best model of a run writes, as `rnnjax generate` has it without a prompt."""
    import numpy as np

    from rnnjax.cli.generate import encode_prompt
    from rnnjax.sampling import Sampler

    trained = runs.load_model(str(folder.path), "language model", log.warning)
    sampler = Sampler(trained.model, trained.params, temperature=SAMPLE_TEMPERATURE, never=trained.vocabulary.unsayable)
    chunks = sampler.sample(encode_prompt(trained, ""), SAMPLE_LENGTH, seed=SAMPLE_SEED)
    text: str = trained.vocabulary.decode(np.concatenate(list(chunks), axis=1)[0])
    return text


def render(shown: Sequence[Shown]) -> str:
    """The page, with all that comes from runs escaped."""
    import jinja2
    from markupsafe import Markup

    import rnnjax

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"figure": format_figure, "setting": lambda value: NOTHING if value is None else value}
    template = environment.from_string(Path(__file__).with_name("report.html").read_text(encoding="utf-8"))
    settings = table([run.settings for run in shown])
    return template.render(
        runs=shown,
        differing={name: row for name, row in settings.items() if any(value != row[0] for value in row)},
        settings=settings,
        scores=scores(shown),
        curves={name: Markup(picture) for name, picture in draw_curves(shown).items()},
        sample=f"{SAMPLE_LENGTH} characters or words at temperature {SAMPLE_TEMPERATURE}, seed {SAMPLE_SEED}",
        version=rnnjax.__version__,
    )


def table(columns: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """For each name that occurs in a column its values in all of them; None where a column lacks it."""
    names = dict.fromkeys(name for column in columns for name in column)
    return {name: [column.get(name) for column in columns] for name in names}


def scores(shown: Sequence[Shown]) -> dict[str, list[Any]]:
    """Numbers of results.json, those of the test split first."""
    figures = table([{name: value for name, value in run.results.items() if is_number(value)} for run in shown])
    figures.pop("seed", None)  # a setting
    first = [name for prefix in ("test_", "val_") for name in figures if name.startswith(prefix)]
    return {name: figures[name] for name in [*first, *figures]}


def draw_curves(shown: Sequence[Shown]) -> dict[str, str]:
    """A picture of each metric with the curves of all runs."""
    from rnnjax.cli.curves import Curve, draw

    curves: dict[str, list[Curve]] = {}
    for run in shown:
        points: dict[tuple[str, str], list[tuple[int, float]]] = {}
        for record in run.records:
            for name, value in metrics_of(record).items():
                points.setdefault((name, record["split"]), []).append((record["epoch"], value))
        for (name, split), pairs in points.items():
            epochs, values = zip(*pairs, strict=True)
            best_epoch = run.results.get("best_epoch") if split == "validation" else None
            curves.setdefault(name, []).append(Curve(run.colour, split, epochs, values, best_epoch))
    return {name: draw(name, some) for name, some in curves.items()}


def format_figure(name: str, value: Any) -> str:
    """A number as a person reads it; what else stands in a table as it is."""
    from rnnjax.training.report import format_seconds

    if value is None:
        return NOTHING
    if isinstance(value, float):
        if name.endswith("seconds"):
            return format_seconds(value)
        return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e6 else f"{value:.4g}"
    return f"{value:,}" if is_number(value) else str(value)
