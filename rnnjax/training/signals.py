"""Ctrl-C and SIGTERM: save, then stop."""

import os
import signal
from types import FrameType

from rnnjax.errors import RunError


class Stopped(RunError):
    """A signal ended the run, after a checkpoint was saved."""

    def __init__(self, number: int) -> None:
        """`number`: the signal's."""
        super().__init__(f"stopped by {signal.Signals(number).name}; a checkpoint is saved, --resume goes on from it")
        self.exit_status = 128 + number


class StopRequest:
    """Catches the first SIGINT or SIGTERM as a request; a second one ends the process at once.

    The checkpoint that is being written then stays hidden, and the one before it whole.
    """

    def __init__(self) -> None:
        """Catch nothing yet."""
        self.number: int | None = None

    def __enter__(self) -> "StopRequest":
        """Catch signals from here on."""
        self.before = {number: signal.signal(number, self._receive) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        """Restore what caught signals before."""
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            name = signal.Signals(number).name
            os.write(2, f"rnnjax: stopped by a second signal, {name}; nothing more is saved\n".encode())
            os._exit(128 + number)
        self.number = number
