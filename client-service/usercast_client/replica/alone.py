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


def is_held(lock: int) -> bool:
    """Whether anybody is alone with this number now."""
    with connection.cursor() as cursor:
        cursor.execute(_HELD, [lock >> 32, lock & 0xFFFFFFFF])
        return bool(cursor.fetchone()[0])


# How PostgreSQL shows an advisory lock of one bigint.
_HELD = """
SELECT EXISTS (
    SELECT FROM pg_locks JOIN pg_database ON pg_database.oid = database
    WHERE locktype = 'advisory' AND granted AND datname = current_database()
      AND classid = %s AND objid = %s AND objsubid = 1
)
"""
