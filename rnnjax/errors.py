"""The two ways in which a command ends badly, each shown to the user as one line."""


class InputError(Exception):
    """The command line or the input cannot be used (exit status 2).

    The message is one line: the option or file, what was expected, what came, and the mend.
    """


class RunError(Exception):
    """The run itself failed: the loss diverged, the disk is full (exit status 1)."""


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM came where something has to be cleared away."""

    def __init__(self, number: int) -> None:
        """`number`: the signal's."""
        super().__init__(f"stopped by signal {number}")
        self.number = number


def first_line(error: Exception) -> str:
    """What an error says in its first line; its type where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]
