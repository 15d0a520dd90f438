"""`rnnjax predict`."""

import inspect
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from rnnjax.cli import colours, explain, host, notices, runs
from rnnjax.cli.convert import check_target
from rnnjax.cli.options import Parser, folder_name
from rnnjax.errors import InputError
from rnnjax.tasks import PREDICTORS

BATCH_SIZE = 256

log = logging.getLogger("rnnjax")


def make_parser() -> Parser:
    """The options of `rnnjax predict`."""
    parser = Parser(
        prog="predict.py",
        description="Print a trained model's answer and its probability, separated by a tab, for a text or for each "
        "line on standard input: the class of a text, the sum of 535+61, the tags of a sentence.",
    )
    parser.add_argument(
        "--workdir",
        type=folder_name,
        metavar="DIR",
        help="Run folder. (default: the newest run under runs/ that answers)",
    )
    parser.add_argument("--text", metavar="TEXT", help="The text to answer to. (default: lines on standard input)")
    parser.add_argument("--explain", action="store_true", help=(
        "Show what each word adds to the logit of the predicted class (integrated gradients): as colours in a "
        "terminal, otherwise as lines word<TAB>contribution, with an empty line between texts."
    ))  # fmt: skip
    parser.add_argument("--html", metavar="FILE", help="With --explain, also write an HTML page of the coloured texts.")
    parser.add_argument("--overwrite", action="store_true", help="Write over FILE where there is such a file.")
    return parser


def main(arguments: Sequence[str]) -> None:
    """Print one line `label<TAB>probability` for each text; `rnnjax predict --help` shows the options."""
    options = make_parser().parse_args(arguments)
    if options.html is not None:
        if not options.explain:
            raise InputError("--html: expected --explain beside it; got none. Add it, or leave --html out.")
        check_target(Path(options.html), options.overwrite)
    host.prepare()
    trained = runs.load_model(options.workdir, "classifier" if options.explain else PREDICTORS, log.warning)
    if options.explain and "vectors" not in inspect.signature(type(trained.model).__call__).parameters:
        raise InputError(
            f"--explain: expected a model of word vectors; {type(trained.model).__name__} of {trained.task.name} has "
            "none. Leave it out, or train another --model."
        )
    if options.text is None and sys.stdin.isatty():
        log.info("reading texts from the terminal, one a line; Ctrl-D ends them")
        notices.release()
    texts = read_lines() if options.text is None else [given_text(options.text)]
    notices.release()
    if options.explain:
        show_explanations(trained, texts, None if options.html is None else Path(options.html))
        return
    for label, probability in predict(trained, texts):
        write(label, probability)
    sys.stdout.buffer.flush()


def write(label: str, probability: float, more: str = "") -> None:
    """Print a text's line and what is to follow it, in UTF-8 whatever the locale, as the texts came."""
    sys.stdout.buffer.write(f"{label}\t{probability:.4f}\n{more}".encode())


def show_explanations(trained: runs.TrainedModel, texts: Sequence[str], target: Path | None) -> None:
    """Print each text's line and what its words add to the label, and write the HTML page where one is asked for."""
    from rnnjax import atomic

    show = explain.coloured if colours.wants_colours() else explain.plain
    shown = []
    for number, found in enumerate(explain.explain(trained, texts, list(predict(trained, texts)))):
        if number:
            sys.stdout.buffer.write(b"\n")
        write(found.label, found.probability, show(found))
        sys.stdout.buffer.flush()
        if target is not None:
            shown.append(found)
    if target is not None:
        atomic.write_text(target, explain.page(shown))


def given_text(text: str) -> str:
    """`--text`, as it was given.

    Raises:
        InputError: it is not UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError:  # Python shows other bytes of a command line as lone surrogates
        raise InputError(f"--text: expected UTF-8; got {text!a}. Convert it to UTF-8.") from None
    return text


def read_lines() -> list[str]:
    """Lines on standard input, without their ends.

    Raises:
        InputError: they are not UTF-8.
    """
    content = sys.stdin.buffer.read()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"standard input: expected UTF-8; byte {error.start + 1} is not. Convert it to UTF-8."
        ) from error
    lines = text.replace("\r\n", "\n").split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def predict(trained: runs.TrainedModel, texts: Sequence[str]) -> Iterator[tuple[str, float]]:
    """The answer to each text, the most probable label of a classifier, and its probability."""
    from rnnjax.data.batching import Examples
    from rnnjax.training.devices import Devices
    from rnnjax.training.step import make_prediction_step

    task, prediction = trained.task, trained.task.prediction
    assert prediction is not None
    devices = Devices()
    params = devices.copy(trained.params)
    run = make_prediction_step(trained.model, task, devices)
    context = (trained.config, trained.info)
    arrays = prediction.encode(*context, trained.vocabulary, texts)
    batch_size = min(BATCH_SIZE, max(len(texts), 1))
    for batch in Examples(arrays).evaluation(batch_size):
        outputs = devices.gather(run(params, devices.divide_batch(batch)))
        answers = prediction.decode(*context, trained.vocabulary, outputs, batch)
        for answer, weight in zip(answers, batch["weight"], strict=False):  # outputs may have rows for more devices
            if weight > 0:
                yield answer
