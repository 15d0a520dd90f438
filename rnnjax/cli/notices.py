"""Notices on standard error, held back until the input is known to be good, so that a refusal is one line."""

import contextlib
import logging
import logging.handlers
import sys
from collections.abc import Iterator

_NEVER = logging.CRITICAL + 1
_held: logging.handlers.MemoryHandler | None = None


@contextlib.contextmanager
def hold() -> Iterator[None]:
    """Within, what `rnnjax` logs waits for `release`; what still waits at the end is dropped."""
    global _held
    logger = logging.getLogger("rnnjax")
    logger.setLevel(logging.INFO)
    # Not to the root's handlers as well: a library may have set one up on standard error.
    before, propagates, logger.propagate = _held, logger.propagate, False
    _held = logging.handlers.MemoryHandler(sys.maxsize, _NEVER, logging.StreamHandler(sys.stderr), flushOnClose=False)
    logger.addHandler(_held)
    try:
        yield
    finally:
        logger.removeHandler(_held)
        _held.close()
        _held, logger.propagate = before, propagates


def release() -> None:
    """Show what was held, and from now on each notice at once."""
    if _held is not None:
        _held.capacity = 1
        _held.flush()
