"""`rnnjax generate`."""

import logging
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from rnnjax.cli import host, notices, runs
from rnnjax.cli.options import Parser, convert, folder_name
from rnnjax.task import Bounds, Count, Fraction, NotNegative

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Int

log = logging.getLogger("rnnjax")


def make_parser() -> Parser:
    """The options of `rnnjax generate`."""
    parser = Parser(prog="generate.py", description="Continue a text with a trained character model.")

    def add(name: str, kind: Any, default: Any, metavar: str, text: str) -> None:
        shown = "" if default is None else f" (default: {default})"
        parser.add_argument(name, type=convert(name, kind), default=default, metavar=metavar, help=text + shown)

    parser.add_argument(
        "--workdir",
        type=folder_name,
        metavar="DIR",
        help="Run folder. (default: the newest character run under runs/)",
    )
    add(
        "--temperature",
        NotNegative,
        1.0,
        "FLOAT",
        "Below 1 safer text, above 1 wilder; 0 takes the likeliest character.",
    )
    add("--top-k", Count, None, "INT", "Choose among this many of the likeliest characters only.")
    add(
        "--top-p",
        Fraction,
        None,
        "FLOAT",
        "Choose among the likeliest characters that reach this probability together.",
    )
    add("--length", Count, 300, "INT", "Characters to write.")
    add("--prompt", str, "", "TEXT", "Text to continue.")
    add("--num-samples", Count, 1, "INT", "Continuations, drawn side by side.")
    add("--seed", Annotated[int, Bounds(0, 2**32 - 1)], 0, "INT", "The same seed gives the same text.")
    return parser


def main(arguments: Sequence[str]) -> None:
    """Print the prompt and its continuation; `rnnjax generate --help` shows the options."""
    options = make_parser().parse_args(arguments)
    host.prepare()
    trained = runs.load_model(options.workdir, "language model", log.warning)
    import numpy as np

    from rnnjax.sampling import Sampler

    prompt = encode_prompt(trained, options.prompt)
    sampler = Sampler(
        trained.model, trained.params, temperature=options.temperature, top_k=options.top_k, top_p=options.top_p
    )
    notices.release()
    chunks = sampler.sample(prompt, options.length, seed=options.seed, num_samples=options.num_samples)
    if options.num_samples == 1:
        write(options.prompt)
        for chunk in chunks:
            write(trained.vocabulary.decode(chunk[0]))
        write("\n")
        return
    tokens = np.concatenate(list(chunks), axis=1)  # [S, N]
    for number, sample in enumerate(tokens, start=1):
        log.info("sample %s:", number)
        write(options.prompt + trained.vocabulary.decode(sample) + "\n")


def encode_prompt(trained: runs.TrainedModel, text: str) -> "Int[np.ndarray, ' P']":
    """The tokens that a model reads before it writes.

    Raises:
        InputError: characters that the model does not know.
    """
    import numpy as np

    if not text:
        # A model has to have read something: as a text begins, so does this one, but for its first character unseen.
        return np.asarray([trained.info["first"]], np.int32)
    return np.asarray(trained.vocabulary.encode(text, source="--prompt"))


def write(text: str) -> None:
    """Put text on standard output at once, in UTF-8 whatever the locale."""
    sys.stdout.buffer.write(text.encode("utf-8", "surrogatepass"))
    sys.stdout.buffer.flush()
