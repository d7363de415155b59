"""Apply: takes changes from ``inbox.poller``, brings the replica to them, tells ``live.feed``.

Everything is decided by version, nothing by the order of arrival: what is not newer than the row or
the tombstone is dropped. One transaction and a fixed number of statements, however many changes
(but for deletions, where Django follows what points at the users).
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from django.db import connection, transaction
from django.utils import timezone

from usercast.contract import STATE_FIELDS, UserChange, UserState
from usercast_client.live import feed
from usercast_client.live.models import Change
from usercast_client.replica.models import Clash, Kept, Tombstone
from usercast_client.replica.names import Holder, Names, assign, placeholder
from usercast_client.replica.removal import remove


class Row(NamedTuple):
    """A user as the replica holds them."""

    id: UUID
    version: int | None
    changed_at: datetime | None
    username: str
    email: str
    first_name: str
    last_name: str
    is_active: bool
    date_joined: datetime
    groups: list[str]


class Applied(NamedTuple):
    """What an apply did: what the feed was told, and how many changes were dropped as old."""

    told: feed.Told
    stale: int


def apply(changes: Sequence[UserChange]) -> Applied:
    """Bring the replica up to these changes, in any order and however often they come.

    Appliers take turns (the feed's lock), so that an upsert and the deletion of a user who has no
    row yet cannot miss each other, and cursors grow in commit order. When this returns, the
    transaction has committed.

    Raises:
        django.db.OperationalError: the database is away, or chose this transaction as the victim
            of a deadlock; nothing was applied.
    """
    newest = _newest_of_each(changes)
    with transaction.atomic():
        feed.lock()
        rows = _rows(newest.values())
        tombstones = _tombstones(newest)
        fresh = [change for change in newest.values() if _is_news(change, rows, tombstones)]
        gone = [change for change in fresh if change.is_deletion]
        kept = _delete(gone, rows)
        freed = {change.user_id for change in gone} - kept
        states = [change for change in fresh if not change.is_deletion]
        names = assign(states, _holders(rows.values(), freed=freed))
        # Parked, sent again, and parked again: nothing has changed.
        states = [change for change in states if not _changes_nothing(change, rows, names.given)]
        _park(names.parked)
        _upsert([_shown(change, names.given) for change in states])
        _forget({change.user_id for change in states}, tombstones)
        _record_clashes([*gone, *states], names)
        entries = _deletion_entries(gone, rows, kept) + _state_entries(states, rows, names.given)
        told = feed.append(entries)
    return Applied(told, stale=len(changes) - len(gone) - len(states))


def _newest_of_each(changes: Iterable[UserChange]) -> dict[UUID, UserChange]:
    newest: dict[UUID, UserChange] = {}
    for change in changes:
        known = newest.get(change.user_id)
        if known is None or change.version > known.version:
            newest[change.user_id] = change
    return newest


# Nothing is locked but the feed: only appliers write what is read here, and they take turns.
_ROWS = """
SELECT id, version, changed_at, username, email, first_name, last_name, is_active, date_joined,
       master_groups
FROM replica_user
WHERE id = ANY(%s::uuid[]) OR username = ANY(%s)
"""


def _rows(changes: Iterable[UserChange]) -> dict[UUID, Row]:
    """The rows the changes are about, and those holding a username that a change brings."""
    ids = [str(change.user_id) for change in changes]
    usernames = [change.data.username for change in changes if isinstance(change.data, UserState)]
    with connection.cursor() as cursor:
        cursor.execute(_ROWS, [ids, usernames])
        return {row[0]: Row(*row) for row in cursor.fetchall()}


def _tombstones(user_ids: Iterable[UUID]) -> dict[UUID, int]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT user_id, version FROM replica_tombstone WHERE user_id = ANY(%s::uuid[])",
            [[str(user_id) for user_id in user_ids]],
        )
        return dict(cursor.fetchall())


def _is_news(change: UserChange, rows: dict[UUID, Row], tombstones: dict[UUID, int]) -> bool:
    if change.version <= tombstones.get(change.user_id, 0):
        return False
    row = rows.get(change.user_id)
    if row is None:
        return True
    if row.version is None:
        return False  # A local account under the same key: never overwritten.
    if row.username == placeholder(row.id):
        return change.version >= row.version  # Parked: its own message again may free it.
    return change.version > row.version


def _holders(rows: Iterable[Row], *, freed: set[UUID]) -> dict[str, Holder]:
    return {
        row.username: Holder(row.id, row.version, row.changed_at)
        for row in rows
        if row.id not in freed
    }


def _changes_nothing(change: UserChange, rows: dict[UUID, Row], given: dict[UUID, str]) -> bool:
    row = rows.get(change.user_id)
    return (
        row is not None and row.version == change.version and row.username == given[change.user_id]
    )


def _delete(gone: Sequence[UserChange], rows: dict[UUID, Row]) -> set[UUID]:
    """Delete the users and leave tombstones; returns whom another table protects from it."""
    if not gone:
        return set()
    Tombstone.objects.bulk_create(
        [
            Tombstone(user_id=change.user_id, version=change.version, deleted_at=change.changed_at)
            for change in gone
        ],
        update_conflicts=True,
        unique_fields=["user_id"],
        update_fields=["version", "deleted_at"],
    )
    return remove([change for change in gone if change.user_id in rows])


def _park(user_ids: Sequence[UUID]) -> None:
    if not user_ids:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE replica_user SET username = '~' || id WHERE id = ANY(%s::uuid[])",
            [[str(user_id) for user_id in user_ids]],
        )


# The password starts unusable ('!') and is, like the flags, the client's own from then on.
_UPSERT = """
INSERT INTO replica_user AS replica
    (id, version, changed_at, username, email, first_name, last_name, is_active, date_joined,
     master_groups, password, is_staff, is_superuser)
SELECT id, version, changed_at, username, email, first_name, last_name, is_active, date_joined,
       groups, '!', false, false
FROM json_to_recordset(%s) AS change (
    id uuid, version bigint, changed_at timestamptz, username text, email text, first_name text,
    last_name text, is_active boolean, date_joined timestamptz, groups text[]
)
ORDER BY id
ON CONFLICT (id) DO UPDATE SET
    version = excluded.version,
    changed_at = excluded.changed_at,
    username = excluded.username,
    email = excluded.email,
    first_name = excluded.first_name,
    last_name = excluded.last_name,
    is_active = excluded.is_active,
    date_joined = excluded.date_joined,
    master_groups = excluded.master_groups
WHERE replica.version <= excluded.version
"""


def _upsert(states: Sequence[dict[str, Any]]) -> None:
    if not states:
        return
    with connection.cursor() as cursor:
        cursor.execute(_UPSERT, [msgspec.json.encode(states).decode()])


def _forget(user_ids: set[UUID], tombstones: dict[UUID, int]) -> None:
    """Who is here again is neither deleted nor kept in spite of a deletion."""
    back = user_ids & tombstones.keys()
    if back:
        Tombstone.objects.filter(user_id__in=back).delete()
        Kept.objects.filter(user_id__in=back).delete()


def _record_clashes(fresh: Sequence[UserChange], names: Names) -> None:
    settled = [change.user_id for change in fresh if change.user_id not in names.clashes]
    Clash.objects.filter(user_id__in=settled).delete()
    Clash.objects.bulk_create(
        [
            Clash(user_id=change.user_id, username=change.data.username, seen_at=timezone.now())
            for change in fresh
            if change.user_id in names.clashes and isinstance(change.data, UserState)
        ],
        update_conflicts=True,
        unique_fields=["user_id"],
        update_fields=["username", "seen_at"],
    )


# What the feed tells.


def _state_entries(
    states: Sequence[UserChange], rows: dict[UUID, Row], given: dict[UUID, str]
) -> list[feed.Entry]:
    entries = []
    for change in states:
        row = rows.get(change.user_id)
        after = _shown(change, given)
        if row is None:
            entries.append(_entry(Change.Kind.CREATED, change, after=after, before={}))
        else:
            entries.append(
                _entry(Change.Kind.UPDATED, change, after=after, before=_replaced(row, after))
            )
    return entries


def _deletion_entries(
    gone: Sequence[UserChange], rows: dict[UUID, Row], kept: set[UUID]
) -> list[feed.Entry]:
    """The deletion of somebody never seen here is not told."""
    entries = []
    for change in gone:
        row = rows.get(change.user_id)
        if row is None:
            continue
        held = _held(row)
        if change.user_id in kept:
            now = {"version": change.version, "changed_at": change.changed_at, "is_active": False}
            after = {"id": row.id, **held, **now}
            before = _replaced(row, after)
            entries.append(_entry(Change.Kind.UPDATED, change, after=after, before=before))
        else:
            entries.append(_entry(Change.Kind.DELETED, change, after=None, before=held))
    return entries


def _entry(
    kind: Change.Kind,
    change: UserChange,
    *,
    after: dict[str, Any] | None,
    before: dict[str, Any],
) -> feed.Entry:
    return feed.Entry(kind.value, change.user_id, change.version, change.changed_at, after, before)


def _held(row: Row) -> dict[str, Any]:
    return dict(zip(STATE_FIELDS, row[3:], strict=True))


def _replaced(row: Row, after: dict[str, Any]) -> dict[str, Any]:
    """The values of the row that are others now; a placeholder is nobody's name."""
    return {
        name: value
        for name, value in _held(row).items()
        if value != after[name] and value != placeholder(row.id)
    }


def _shown(change: UserChange, given: dict[UUID, str]) -> dict[str, Any]:
    """A state in the contract's fields, under the username given here."""
    state = msgspec.structs.asdict(change.data)
    state["groups"] = list(state["groups"])
    state["username"] = given[change.user_id]
    state["changed_at"] = change.changed_at
    return state
