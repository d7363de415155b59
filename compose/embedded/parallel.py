"""Doing several slow things at the same time."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

Result = TypeVar("Result")


def side_by_side(
    calls: Mapping[str, Callable[[], Result]], *, on_error: Callable[[], None] | None = None
) -> dict[str, Result]:
    """Make all calls, each in a thread, and return their results by name.

    The first error, a ctrl-C included, is raised once every call has ended; ``on_error`` runs
    before that wait and cuts it short by ending what the other calls wait for.
    """
    with ThreadPoolExecutor(max_workers=max(len(calls), 1)) as threads:
        futures = {name: threads.submit(call) for name, call in calls.items()}
        try:
            for future in as_completed(futures.values()):
                future.result()
        except BaseException:
            if on_error:
                on_error()
            raise
    return {name: future.result() for name, future in futures.items()}
