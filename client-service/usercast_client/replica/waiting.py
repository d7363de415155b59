"""Waiting: for who has just written on the master and now reads here, until it has been applied."""

import threading
import time
from uuid import UUID

from django.db import connection

#: A look by two primary keys; a change is here some 50 ms after its commit on the master.
_EVERY_SECONDS = 0.02
_LATER_EVERY_SECONDS = 0.2
_SOON_SECONDS = 1.0
#: Of one process: each waiter holds a thread and a connection.
WAITERS_AT_MOST = 16
_room = threading.BoundedSemaphore(WAITERS_AT_MOST)

_NEWEST = """
SELECT greatest(
    (SELECT version FROM replica_user WHERE id = %(id)s),
    (SELECT version FROM replica_tombstone WHERE user_id = %(id)s),
    0
)
"""


def newest_version(user_id: UUID) -> int:
    """The newest version of a user, or of their deletion, that has been applied; 0: none has."""
    with connection.cursor() as cursor:
        cursor.execute(_NEWEST, {"id": str(user_id)})
        return int(cursor.fetchone()[0])


def wait_for(user_id: UUID, version: int, *, seconds: float) -> int:
    """Return once this version or a later one is applied, or the time is over.

    Returns the newest that is applied then; at once, if too many wait already.
    """
    newest = newest_version(user_id)
    if newest >= version or seconds == 0 or not _room.acquire(blocking=False):
        return newest
    try:
        return _wait(user_id, version, seconds=seconds)
    finally:
        _room.release()


def _wait(user_id: UUID, version: int, *, seconds: float) -> int:
    began = time.monotonic()
    while (newest := newest_version(user_id)) < version:
        waited = time.monotonic() - began
        if waited >= seconds:
            break
        time.sleep(_EVERY_SECONDS if waited < _SOON_SECONDS else _LATER_EVERY_SECONDS)
    return newest
