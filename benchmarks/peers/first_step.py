"""train.py until the end of its first training step: `python -m peers.first_step [options of train.py]`.

Prints one line when the step is done, and ends.
"""

import os
from collections.abc import Callable
from typing import Any

from rnnjax.cli import host, script

prepare = host.prepare


def prepare_and_watch(*arguments: Any) -> Any:
    """What train.py does before it imports JAX; after it the training loop can be imported and its step be watched."""
    prepared = prepare(*arguments)
    import jax

    from rnnjax.training import loop

    make_train_step = loop.make_train_step

    def make_watched_step(*arguments: Any, **options: Any) -> Callable[..., Any]:
        train_step = make_train_step(*arguments, **options)

        def first(*inputs: Any) -> None:
            jax.block_until_ready(train_step(*inputs))
            print("{}", flush=True)
            os._exit(0)

        return first

    loop.make_train_step = make_watched_step
    return prepared


if __name__ == "__main__":
    host.prepare = prepare_and_watch
    script("train")
