"""The feed: takes applied changes from ``replica.apply``, gives them cursors, reads them back.

Read by the dashboard, the REST API and, through ``live.broadcast``, pushed to open browsers.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from django.db import connection
from django.db.models import Max, Min
from django.utils import timezone
from msgspec import Struct

from usercast.contract import UserState
from usercast_client.live.models import Change

#: Any fixed number: every applying transaction of this database takes the same lock.
_LOCK = 7_264_001
#: More changes than this in one transaction are a bulk write: told and shown as one.
BULK = 25


class Shown(UserState, frozen=True, kw_only=True):
    """A user as this client has them: the contract's fields, and since when."""

    changed_at: datetime


class Entry(Struct, frozen=True):
    """A change to be appended; the cursor and the time of applying are given by ``append``."""

    kind: Change.Kind
    user_id: UUID
    version: int
    changed_at: datetime
    after: Shown | None
    before: dict[str, Any]


class Told(NamedTuple):
    """What was appended: the entries, and the cursor of the newest; 0 when there are none."""

    entries: Sequence[Entry]
    cursor: int
    applied_at: datetime

    def as_json(self) -> list[dict[str, Any]]:
        """The changes as a reader of the feed gets them, oldest first."""
        return [
            _as_json(
                cursor,
                entry.kind,
                entry.user_id,
                entry.version,
                entry.changed_at,
                self.applied_at,
                _builtin(entry.after),
                _builtin(entry.before),
                self.first,
                len(self.entries),
            )
            for cursor, entry in enumerate(self.entries, start=self.first)
        ]

    @property
    def first(self) -> int:
        """The cursor of the oldest."""
        return self.cursor - len(self.entries) + 1


class Slice(NamedTuple):
    """What follows a cursor, as far as one answer holds it."""

    changes: list[dict[str, Any]]
    cursor: int
    newest: int
    #: False: the feed no longer reaches back to the asked cursor; read the users anew.
    complete: bool


def lock() -> None:
    """Let no other transaction append until this one ends.

    A plain sequence is handed out in one order and committed in another, so a reader could see 8
    before 7 and never come back for it.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])


_APPEND = """
WITH newest AS (SELECT coalesce(max(cursor), 0) AS cursor FROM live_change),
appended AS (
    INSERT INTO live_change
        (cursor, kind, user_id, version, changed_at, applied_at, after, before, batch, batch_size)
    SELECT newest.cursor + position, kind, user_id, version, changed_at, %s, after, before,
           newest.cursor + 1, %s
    FROM newest, ROWS FROM (
        json_to_recordset(%s) AS (
            kind text, user_id uuid, version bigint, changed_at timestamptz, after text,
            before text
        )
    ) WITH ORDINALITY AS entry(kind, user_id, version, changed_at, after, before, position)
    RETURNING cursor
)
SELECT max(cursor) FROM appended
"""


def append(entries: Sequence[Entry]) -> Told:
    """Append the entries in their order, within the caller's transaction.

    The caller holds ``lock()``.
    """
    now = timezone.now()
    if not entries:
        return Told(entries, 0, now)
    rows = msgspec.json.encode(entries).decode()
    with connection.cursor() as cursor:
        cursor.execute(_APPEND, [now, len(entries), rows])
        return Told(entries, cursor.fetchone()[0], now)


def newest_cursor(user_id: UUID | None = None) -> int:
    """The cursor of the newest change, of all or of one user; 0 before the first."""
    changes = Change.objects.all() if user_id is None else Change.objects.filter(user_id=user_id)
    return changes.aggregate(newest=Max("cursor"))["newest"] or 0


def of_user(user_id: UUID, limit: int) -> list[dict[str, Any]]:
    """The newest changes of one user, newest first, as far back as the feed reaches."""
    mine = Change.objects.filter(user_id=user_id).order_by("-cursor")
    return [read_back(change) for change in mine[:limit]]


def of_users(user_ids: Collection[UUID], *, after: int, upto: int) -> set[str]:
    """Which of these users changed after one cursor and up to another."""
    theirs = Change.objects.filter(user_id__in=user_ids, cursor__gt=after, cursor__lte=upto)
    return {str(user_id) for user_id in theirs.values_list("user_id", flat=True).distinct()}


def since(cursor: int, *, limit: int) -> Slice:
    """The changes after a cursor, oldest first, at most ``limit``."""
    bounds = Change.objects.aggregate(oldest=Min("cursor"), newest=Max("cursor"))
    oldest, newest = bounds["oldest"] or 1, bounds["newest"] or 0
    complete = oldest - 1 <= cursor <= newest
    rows: Iterable[Change] = (
        Change.objects.filter(cursor__gt=cursor).order_by("cursor")[:limit] if complete else ()
    )
    changes = [read_back(change) for change in rows]
    return Slice(changes, changes[-1]["cursor"] if changes else cursor, newest, complete)


def trim(*, keep: int) -> int:
    """Drop all but the newest ``keep`` changes; returns how many went. The newest always stays."""
    oldest_kept = newest_cursor() - max(keep, 1)
    return Change.objects.filter(cursor__lte=oldest_kept).delete()[0]


def read_back(change: Change) -> dict[str, Any]:
    """A stored change as the browser gets it."""
    return _as_json(
        change.cursor,
        change.kind,
        change.user_id,
        change.version,
        change.changed_at,
        change.applied_at,
        None if change.after is None else msgspec.json.decode(change.after),
        msgspec.json.decode(change.before),
        change.batch,
        change.batch_size,
    )


def _as_json(
    cursor: int,
    kind: str,
    user_id: UUID,
    version: int,
    changed_at: datetime,
    applied_at: datetime,
    user: dict[str, Any] | None,
    before: dict[str, Any],
    batch: int,
    batch_size: int,
) -> dict[str, Any]:
    return {
        "cursor": cursor,
        "kind": str(kind),
        "user_id": str(user_id),
        "version": version,
        "changed_at": rfc3339(changed_at),
        "applied_at": rfc3339(applied_at),
        "user": user,
        "before": before,
        "batch": batch,
        "batch_size": batch_size,
    }


def _builtin(value: Any) -> Any:
    """The value as a reader finds it once it has been stored."""
    return msgspec.json.decode(msgspec.json.encode(value))


def rfc3339(moment: datetime) -> str:
    return msgspec.json.decode(msgspec.json.encode(moment), type=str)
