"""Settings of the process, before JAX starts."""

import contextlib
import ctypes
import glob
import hashlib
import os
import platform
import re
import sys
import warnings
from pathlib import Path
from typing import Any, NoReturn

from rnnjax.errors import InputError

_joined: list[int] = []  # the number of this process, once it has joined others


def prepare(distributed: bool = False) -> bool:
    """Make the settings, and with `distributed` join the other processes of this run.

    Returns:
        Whether this process speaks to the user and writes the run folder: always, but for one of several processes.

    Raises:
        InputError: nothing says which the other processes are.
    """
    keep_pages()
    # LAPACK makes orthogonal weights. Its threads wait for each other by spinning: seconds on a busy machine, where
    # one thread needs hundredths and gives the same bits.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if distributed:
        # Without a folder that all hosts share, some would compile while others wait for them: no cache but JAX's own.
        return join() == 0
    use_cores()
    keep_programs()
    return True


def use_cores() -> None:
    """Make JAX see two devices in a CPU of two cores or more, over which batches are divided as over any devices.

    On one device XLA does all but large products on one core. JAX_NUM_CPU_DEVICES gives another number; more than two
    have not been measured.
    """
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(min(num_cores(), 2)))


def num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def keep_pages() -> None:
    """Keep freed memory pages in the process, which spares a page fault for each page of each step's temporary arrays.

    glibc only; RNNJAX_KEEP_PAGES=0 leaves the allocator as it is. Measured: 20 to 40 % of a training step on CPU.
    """
    if sys.platform != "linux" or os.environ.get("RNNJAX_KEEP_PAGES") == "0":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    trim_threshold, mmap_max, arena_max = -1, -4, -8  # from malloc.h
    mallopt(arena_max, 1)
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**31 - 1)


def keep_programs() -> None:
    """Keep compiled programs in the user's cache folder (JAX's persistent compilation cache), for later starts.

    RNNJAX_CACHE_DIR names another folder, and no folder if it is empty; JAX_COMPILATION_CACHE_DIR wins.
    """
    from rnnjax.data import cache

    folder = cache.cache_folder()
    if folder is None or "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    programs = folder / "programs" / _processor()
    with contextlib.suppress(OSError):
        cache.shrink((folder / "programs").rglob("*-cache"))
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(programs)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    _discard_broken(programs)


def _processor() -> str:
    """Changes with what machine code depends on, where hosts of several kinds share a home."""
    lines = [platform.machine()]
    with contextlib.suppress(OSError):
        content = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        lines += sorted({line for line in content.splitlines() if line.startswith(("model name", "flags", "Features"))})
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _discard_broken(folder: Path) -> None:
    """Delete an entry that JAX cannot read, such as one that a kill tore, before JAX writes it anew.

    JAX itself warns, compiles, and leaves the entry as it is, to warn again at each start. It names entries by their
    program, and warns before it compiles. A folder that cannot be written is no cause for a warning either.
    """
    show: Any = warnings.showwarning

    def discard(message: Warning | str, *rest: Any, **options: Any) -> None:
        found = re.match(r"Error (?:reading|writing) persistent compilation cache entry for '(.*?)'", str(message))
        if found is None:
            show(message, *rest, **options)
            return
        for entry in folder.glob(f"{glob.escape(found[1])}-*"):
            with contextlib.suppress(OSError):
                entry.unlink()

    warnings.filterwarnings("always", "Error (reading|writing) persistent compilation cache entry")
    warnings.showwarning = discard


def join() -> int:
    """Join the processes that train together, and return the number of this one.

    Slurm, Open MPI, Kubernetes and TPU pods tell JAX which they are; elsewhere JAX_COORDINATOR_ADDRESS,
    JAX_NUM_PROCESSES and JAX_PROCESS_ID do.

    Raises:
        InputError: nothing says it, or they cannot be joined.
    """
    import jax

    jax.config.update("jax_enable_preemption_service", False)  # which would keep SIGTERM from us
    count, number = os.environ.get("JAX_NUM_PROCESSES"), os.environ.get("JAX_PROCESS_ID")
    try:
        jax.distributed.initialize(
            num_processes=None if count is None else int(count), process_id=None if number is None else int(number)
        )
    except (ValueError, RuntimeError) as error:
        raise InputError(
            "--distributed: expected a cluster that JAX knows, or JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and "
            f"JAX_PROCESS_ID in the environment; {' '.join(str(error).split())}"
        ) from error
    _joined.append(jax.process_index())
    # Gloo, by which CPUs communicate, announces itself on standard output, which is for results.
    results = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = results
    return _joined[0]


def part() -> None:
    """Leave the other processes, all at the same point."""
    import jax

    if jax.distributed.is_initialized():
        jax.distributed.shutdown()


def end(status: int) -> NoReturn:
    """End with this exit status; one of several processes ends without the interpreter's own end.

    That waits for the other processes, which after a failure do not come (JAX ends them when it misses this one), and
    has been seen to wait for ever after all had parted.
    """
    if not _joined:
        sys.exit(status)
    if not status:
        part()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
