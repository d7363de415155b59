"""Programs that stand still for a while, as a server that hangs or a laptop that is shut."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil


def family(pid: int, named: str = "") -> list[psutil.Process]:
    """A program with all its children whose name has ``named`` in it."""
    leader = psutil.Process(pid)
    return [each for each in (leader, *leader.children(recursive=True)) if named in _name(each)]


def _name(process: psutil.Process) -> str:
    """Nothing for one that has ended since: a browser's and PostgreSQL's come and go."""
    with suppress(psutil.NoSuchProcess):
        return str(process.name())
    return ""


@contextmanager
def suspended(processes: list[psutil.Process]) -> Iterator[None]:
    """They are stopped within the block, those of them that still run."""
    assert processes
    try:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        yield
    finally:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.resume()
