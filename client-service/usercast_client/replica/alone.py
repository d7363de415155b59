"""Alone: lets one process of this client at a time do something, whatever becomes of it."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

from usercast.errors import UsercastError


class AlreadyRunning(UsercastError):
    """The same is at work in another process of this client."""


@contextmanager
def alone(lock: int, what: str) -> Iterator[None]:
    """Hold PostgreSQL's advisory lock of this number, which goes with the connection.

    Raises:
        AlreadyRunning: somebody holds it.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [lock])
        if not cursor.fetchone()[0]:
            raise AlreadyRunning(f"Another {what} of this client is at work; wait for its end")
        try:
            yield
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [lock])
