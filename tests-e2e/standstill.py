"""Programs that stand still for a while, as a server that hangs or a laptop that is shut."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

from usercast.testing import eventually


def family(pid: int, named: str = "") -> list[psutil.Process]:
    """A program with all its children whose name has ``named`` in it."""
    leader = psutil.Process(pid)
    return [each for each in (leader, *leader.children(recursive=True)) if named in _name(each)]


def _name(process: psutil.Process) -> str:
    """Nothing for one that has ended since: a browser's and PostgreSQL's come and go."""
    with suppress(psutil.NoSuchProcess):
        return str(process.name())
    return ""


def _stands_still(process: psutil.Process) -> bool:
    """Or has ended."""
    with suppress(psutil.NoSuchProcess):
        return process.status() in {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE}
    return True


@contextmanager
def suspended(processes: list[psutil.Process]) -> Iterator[None]:
    """They are stopped within the block, those of them that still run."""
    assert processes
    try:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        eventually(lambda: all(map(_stands_still, processes)), within=5, what="a standstill")
        yield
    finally:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.resume()
