"""The load: changes users all the time, until SIGTERM; ``python -m chaos.load SEED CREDENTIALS``.

Runs in the master's environment. One thread writes through the ORM, another edits over HTTP. Either
makes up for the time it could not work, so that the rate holds on average. What was committed is
printed as a line of JSON every second: changed users by kind of change.
"""

import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import django
import httpx

from usercast.lifecycle import Stop

#: Changed users a second, of both threads together well over the 50 that are asked for.
ORM_PER_SECOND, HTTP_PER_SECOND = 90.0, 8.0
#: After a failure, so that a dead database is not asked as fast as a processor can.
RETRY_SECONDS = 0.2
#: Work left undone is made up for, but not in one burst.
MAX_BEHIND_SECONDS = 10.0


class Counts:
    """Users changed, by kind of change, and failures, by error; shared by the threads."""

    def __init__(self) -> None:
        self.changed: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, kind: str, users: int) -> None:
        """Count a change of so many users."""
        with self._lock:
            self.changed[kind] += users

    def add_failure(self, error: Exception) -> None:
        """Count a change that was refused, or of which it is not known whether it was committed."""
        name = type(error).__name__
        if isinstance(error, httpx.HTTPStatusError):
            name = f"HTTP {error.response.status_code}"
        with self._lock:
            self.failed[name] += 1

    def line(self) -> str:
        """Both, as JSON."""
        with self._lock:
            return json.dumps({"changed": self.changed, "failed": self.failed})


def keep_going(
    stop: Stop,
    *,
    rate: float,
    make: Callable[[], tuple[str, Callable[[], int]]],
    counts: Counts,
    failures: tuple[type[Exception], ...],
    mend: Callable[[], None] = lambda: None,
) -> None:
    """Make one change after the other at this rate, until asked to stop.

    Args:
        rate: changed users a second.
        make: draws the next change and gives its name.
        failures: what a change may fail with; ``mend`` is called then.
    """
    due = time.monotonic()
    while not stop.requested:
        kind, change = make()
        try:
            users = change()
        except failures as error:
            counts.add_failure(error)
            mend()
            users = 0
            stop.wait(RETRY_SECONDS)
        counts.add(kind, users)
        due = max(due + max(users, 0.2) / rate, time.monotonic() - MAX_BEHIND_SECONDS)
        if (ahead := due - time.monotonic()) > 0:
            stop.wait(ahead)


def draw(rng: random.Random, weights: Mapping[Any, int]) -> Any:
    """One of the keys, by weight."""
    return rng.choices(list(weights), list(weights.values()))[0]


def write(stop: Stop, seed: str, counts: Counts) -> None:
    """Change users through the ORM; a connection that breaks is replaced."""
    from django.db import Error, close_old_connections, connection

    from chaos import operations

    rng = random.Random(f"orm {seed}")

    def make() -> tuple[str, Callable[[], int]]:
        close_old_connections()
        operation = draw(rng, operations.WEIGHTS)
        return operation.__name__, lambda: operation(rng)

    keep_going(
        stop,
        rate=ORM_PER_SECOND,
        make=make,
        counts=counts,
        failures=(Error,),
        mend=connection.close,
    )
    connection.close()


def edit(stop: Stop, seed: str, credentials: Path, counts: Counts, group_ids: list[int]) -> None:
    """Change users over HTTP."""
    from chaos import editor

    rng = random.Random(f"http {seed}")
    login = json.loads(credentials.read_text())["master"]
    browser = editor.Editor(login, group_ids=group_ids, rng=rng)

    def make() -> tuple[str, Callable[[], int]]:
        change = draw(rng, editor.WEIGHTS)
        return change.__name__, lambda: change(browser)

    keep_going(
        stop,
        rate=HTTP_PER_SECOND,
        make=make,
        counts=counts,
        failures=(httpx.HTTPError, KeyError, IndexError),
    )
    browser.close()


def main() -> None:
    """Load the master until SIGTERM."""
    seed, credentials = sys.argv[1], Path(sys.argv[2])
    stop = Stop.on_signals()
    django.setup()
    from django.contrib.auth.models import Group

    from chaos import operations

    operations.prepare()
    group_ids = list(Group.objects.values_list("pk", flat=True))
    counts = Counts()
    with ThreadPoolExecutor(2) as threads:
        loads = [
            threads.submit(write, stop, seed, counts),
            threads.submit(edit, stop, seed, credentials, counts, group_ids),
        ]
        while not stop.wait(1):
            print(counts.line(), flush=True)
            if any(load.done() for load in loads):
                stop.request()
    print(counts.line(), flush=True)
    for load in loads:
        load.result()


if __name__ == "__main__":
    main()
