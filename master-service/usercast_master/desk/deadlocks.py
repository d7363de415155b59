"""Deadlocks: two admins whose changes each wait for the other's; PostgreSQL undoes one of them."""

from collections.abc import Callable

from django.db import OperationalError
from django.http import HttpResponse
from psycopg2.errors import DeadlockDetected

ATTEMPTS = 3


def again_after_deadlock(view: Callable[[], HttpResponse]) -> HttpResponse:
    """Run a view that is one transaction, and once more if that was undone to end a deadlock.

    A group's renaming locks the group and then its members, a user's form the user and then the
    groups it names.

    Raises:
        OperationalError: whatever else the database says, or the third deadlock in a row.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return view()
        except OperationalError as error:
            if not isinstance(error.__cause__, DeadlockDetected) or attempt == ATTEMPTS:
                raise
    raise AssertionError
