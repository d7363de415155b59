"""Alone: lets one process of this client at a time do something, whatever becomes of it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection
from django.db.backends.utils import CursorWrapper

from usercast.errors import UsercastError


class AlreadyRunning(UsercastError):
    """The same is at work in another process of this client."""


#: Between two tries to be the one.
_AGAIN_SECONDS = 0.2


@contextmanager
def alone(lock: int, what: str, *, wait_seconds: float = 0.0) -> Iterator[None]:
    """Hold PostgreSQL's advisory lock of this number, which goes with the connection.

    Args:
        wait_seconds: how long to wait for another's end.

    Raises:
        AlreadyRunning: somebody holds it.
    """
    give_up_at = time.monotonic() + wait_seconds
    with connection.cursor() as cursor:
        while not _is_taken(cursor, lock):
            if time.monotonic() >= give_up_at:
                raise AlreadyRunning(f"Another {what} of this client is at work; wait for its end")
            time.sleep(_AGAIN_SECONDS)
        try:
            yield
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [lock])


def _is_taken(cursor: CursorWrapper, lock: int) -> bool:
    cursor.execute("SELECT pg_try_advisory_lock(%s)", [lock])
    return bool(cursor.fetchone()[0])


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
