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
    parser = Parser(
        prog="generate.py", description="Continue a text with a trained language model, of characters or of words."
    )

    def add(name: str, kind: Any, default: Any, metavar: str, text: str) -> None:
        shown = "" if default is None else f" (default: {default})"
        parser.add_argument(name, type=convert(name, kind), default=default, metavar=metavar, help=text + shown)

    parser.add_argument(
        "--workdir",
        type=folder_name,
        metavar="DIR",
        help="Run folder. (default: the newest run of a language model under runs/)",
    )
    add(
        "--temperature",
        NotNegative,
        1.0,
        "FLOAT",
        "Below 1 safer text, above 1 wilder; 0 takes the likeliest character or word.",
    )
    add("--top-k", Count, None, "INT", "Choose among this many of the likeliest characters or words only.")
    add(
        "--top-p",
        Fraction,
        None,
        "FLOAT",
        "Choose among the likeliest characters or words that reach this probability together.",
    )
    add("--length", Count, 300, "INT", "Characters to write; of a model of words, words, marks and ends of lines.")
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
        trained.model,
        trained.params,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        never=trained.vocabulary.unsayable,
    )
    notices.release()
    chunks = sampler.sample(prompt, options.length, seed=options.seed, num_samples=options.num_samples)
    before = prompt if options.prompt else prompt[:0]
    if options.num_samples == 1:
        write(options.prompt)
        for number, chunk in enumerate(chunks):
            write(continuation(trained, before, chunk[0], "" if number else options.prompt))
            before = chunk[0]
        write("\n")
        return
    tokens = np.concatenate(list(chunks), axis=1)  # [S, N]
    for number, sample in enumerate(tokens, start=1):
        log.info("sample %s:", number)
        write(options.prompt + continuation(trained, before, sample, options.prompt) + "\n")


def continuation(
    trained: runs.TrainedModel, before: "Int[np.ndarray, ' M']", tokens: "Int[np.ndarray, ' N']", prompt: str
) -> str:
    """The text of tokens after others; without the space that joins words where the prompt ends in one already."""
    text: str = trained.vocabulary.decode_after(before, tokens)
    is_of_words = bool(trained.vocabulary.unsayable)
    return text.removeprefix(" ") if is_of_words and prompt[-1:].isspace() else text


def encode_prompt(trained: runs.TrainedModel, text: str) -> "Int[np.ndarray, ' P']":
    """The tokens that a model reads before it writes.

    Raises:
        InputError: characters that the model does not know.
    """
    import numpy as np

    if not text:
        # A model has to have read something: as a text begins, so does this one, but for its first character unseen.
        return np.asarray([trained.info["first"]], np.int32)
    if getattr(trained.config, "lowercase", False):
        text = text.lower()
    return np.asarray(trained.vocabulary.encode(text, source="--prompt"))


def write(text: str) -> None:
    """Put text on standard output at once, in UTF-8 whatever the locale."""
    sys.stdout.buffer.write(text.encode("utf-8", "surrogatepass"))
    sys.stdout.buffer.flush()
