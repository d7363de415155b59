"""One run per state directory: a lock for the living, and an end for what a dead run left.

Everything the stack starts carries its state directory in its environment (``STACK_VARIABLE``).
PostgreSQL and Valkey overwrite that memory with their process titles; they are known by the
directory they work in.
"""

import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from embedded.errors import AlreadyRunning
from embedded.process import STACK_VARIABLE


@contextmanager
def locked(state_dir: Path) -> Iterator[None]:
    """Hold the state directory for this process, until the block or the process ends.

    Raises:
        AlreadyRunning: another process holds it; the message names its pid.
    """
    with (state_dir / "lock").open("a+") as file:
        try:
            # A record lock and not flock's: the processes started from here do not inherit it, so
            # it is free the moment this process is gone, even if they are not.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            pid = file.read().strip() or "unknown"
            raise AlreadyRunning(
                f"It runs already (pid {pid}). Stop that one with ctrl-C in its terminal, "
                f"or with: kill {pid}"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
        file.truncate(0)  # harmless when `make clean` has removed it


def end_leftovers(state_dir: Path, *, timeout_seconds: float = 8) -> int:
    """End every process of an earlier run on this state directory; return how many there were."""
    found = _marked(state_dir)
    postmaster = _postmaster(state_dir)
    if postmaster is not None and postmaster not in found:
        found.append(postmaster)
    for process in found:
        with suppress(psutil.NoSuchProcess):
            # PostgreSQL waits for its sessions on SIGTERM, and ends them on SIGINT.
            process.send_signal(signal.SIGINT if process == postmaster else signal.SIGTERM)
    _, stubborn = psutil.wait_procs(found, timeout=timeout_seconds)
    for process in stubborn:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(stubborn, timeout=2)
    return len(found)


def _marked(state_dir: Path) -> list[psutil.Process]:
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid not in own and _belongs(process, state_dir):
                found.append(process)
    return found


def _belongs(process: psutil.Process, state_dir: Path) -> bool:
    if process.status() == psutil.STATUS_ZOMBIE:
        return False
    if process.name() == "valkey-server":
        return bool(process.cwd() == str(state_dir))
    mark = process.environ().get(STACK_VARIABLE)
    # A guest's directory is below that of the demo, which it does not outlive.
    return mark is not None and Path(mark).is_relative_to(state_dir)


def _postmaster(state_dir: Path) -> psutil.Process | None:
    data_dir = state_dir / "postgres"
    with suppress(OSError, ValueError, IndexError, psutil.Error):
        process = psutil.Process(int((data_dir / "postmaster.pid").read_text().splitlines()[0]))
        # The pid may have gone to another program since; only PostgreSQL works in this directory.
        if process.cwd() == str(data_dir):
            return process
    return None
