"""One process at a time trains in a run folder: a lock that its holder cannot leave behind, however it ends.

An advisory lock (`flock`) on the file `.lock`, in which its holder stands. What a killed process leaves is a file that
the kernel has unlocked: no obstacle. Over NFS, Linux makes it a lock of the server's, which other hosts see too.
"""

import contextlib
import errno
import fcntl
import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from rnnjax.errors import InputError

NAME = ".lock"
MOST_SECONDS = 1.0
"""Time in which a process that was killed has let go of its lock, and one that only looked at it too."""
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
"""What a file system says that has no locks."""

log = logging.getLogger("rnnjax")


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Within, no other process holds the lock of this folder, which is there. Without locks on its disk, a notice.

    Raises:
        InputError: another process holds it.
        OSError: the folder cannot be written.
    """
    path = folder / NAME
    descriptor = _acquire(path)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()  # before the lock is let go, so that it is nobody else's
        os.close(descriptor)


def check_free(folder: Path) -> None:
    """Raise InputError where another process holds the lock; nothing is made or changed."""
    try:
        descriptor = os.open(folder / NAME, os.O_RDWR)
    except OSError:  # no such file; or a folder that cannot be written, which is told elsewhere
        return
    try:
        _lock(descriptor, folder)
    finally:
        os.close(descriptor)


def _acquire(path: Path) -> int:
    """The descriptor of the locked file."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(descriptor, path.parent)
            if _is_at(descriptor, path):
                with contextlib.suppress(OSError):  # on a full disk: a lock without a name
                    os.truncate(descriptor, 0)
                    os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the one that its holder removed when it ended: there may be another file now


def _lock(descriptor: int, folder: Path) -> None:
    deadline = time.monotonic() + MOST_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace") or "another process"
            raise InputError(
                f"--workdir {folder}: expected a run that no other process trains; {holder} does. "
                "Wait until it ends, or name another folder."
            ) from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            log.warning("%s cannot be locked (%s): see that no other process trains there", folder, error.strerror)
            return


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the file that was opened is still the one of this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
