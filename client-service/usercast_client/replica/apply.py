"""Apply: takes changes from ``inbox.poller``, brings the replica to them, tells ``live.feed``.

Everything is decided by version, nothing by the order of arrival: what is not newer than the row or
the tombstone is dropped. One transaction and a fixed number of statements, however many changes
(but for deletions, where Django follows what points at the users).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from enum import StrEnum
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from django.db import connection, transaction
from django.utils import timezone

from usercast.contract import STATE_FIELDS, UserChange, UserState
from usercast_client.live import feed, receipts
from usercast_client.live.models import Change
from usercast_client.replica import endings
from usercast_client.replica.models import Clash, Kept, Tombstone
from usercast_client.replica.names import Holder, assign, placeholder
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
    groups: tuple[str, ...]


class Outcome(StrEnum):
    """What becomes of a change."""

    INSERTED = "inserted"
    UPDATED = "updated"
    DELETED = "deleted"
    #: Older than what is here.
    STALE = "stale"
    #: Here already.
    DUPLICATE = "duplicate"
    #: A local account has the user's id, or another user their name.
    CONFLICT = "conflict"


class Applied(NamedTuple):
    """What an apply did: what the feed was told, and how many changes had which outcome."""

    told: feed.Told
    outcomes: Counter[Outcome]

    @property
    def stale(self) -> int:
        """Changes dropped as old, or as known."""
        return self.outcomes[Outcome.STALE] + self.outcomes[Outcome.DUPLICATE]


def apply(changes: Sequence[UserChange], *, told_as_of: datetime | None = None) -> Applied:
    """Bring the replica up to these changes, in any order and however often they come.

    Appliers take turns (the feed's lock), so that an upsert and the deletion of a user who has no
    row yet cannot miss each other, and cursors grow in commit order. When this returns, the
    transaction has committed, unless it is the caller's.

    Args:
        told_as_of: the time that the feed gives the changes, instead of the master's: a repair is
            no change that came late.

    Raises:
        django.db.OperationalError: the database is away, or chose this transaction as the victim
            of a deadlock; nothing was applied.
    """
    newest = _newest_of_each(changes)
    with transaction.atomic():
        feed.lock()
        ids = [str(user_id) for user_id in newest]
        rows = _rows(ids, newest.values())
        tombstones = _tombstones(ids)
        fresh = [change for change in newest.values() if _is_news(change, rows, tombstones)]
        gone = [change for change in fresh if change.is_deletion]
        kept = _delete(gone, rows)
        freed = {change.user_id for change in gone} - kept
        states = [change for change in fresh if not change.is_deletion]
        names = assign(states, _holders(rows.values(), freed=freed))
        # Parked, sent again, and parked again: nothing has changed.
        states = [change for change in states if not _changes_nothing(change, rows, names.given)]
        _park(names.parked)
        shown = [_shown(change, names.given[change.user_id]) for change in states]
        _upsert(shown)
        _forget({change.user_id for change in states}, tombstones)
        _record_clashes(fresh, names.given)
        entries = [*_of_the_gone(gone, rows, kept), *_of_the_living(shown, rows)]
        if told_as_of:
            entries = [msgspec.structs.replace(one, changed_at=told_as_of) for one in entries]
        told = feed.append(entries)
        ended = endings.applied([*gone, *states], kept)
        had_ended = endings.loaded_before(newest.values(), rows, tombstones)
        receipts.note([*ended, *had_ended], applied_at=told.applied_at)
    taken = [*gone, *states]
    outcomes = Counter(_became(change, rows, names.given) for change in taken)
    for user_id in newest.keys() - {change.user_id for change in taken}:
        outcomes[_dropped(newest[user_id], rows, tombstones)] += 1
    outcomes[Outcome.STALE] += len(changes) - len(newest)
    return Applied(told, outcomes)


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


def _rows(ids: list[str], changes: Iterable[UserChange]) -> dict[UUID, Row]:
    """The rows the changes are about, and those holding a username that a change brings."""
    usernames = [change.data.username for change in changes if isinstance(change.data, UserState)]
    with connection.cursor() as cursor:
        cursor.execute(_ROWS, [ids, usernames])
        return {row[0]: Row._make((*row[:-1], tuple(row[-1]))) for row in cursor.fetchall()}


def _tombstones(ids: list[str]) -> dict[UUID, int]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT user_id, version FROM replica_tombstone WHERE user_id = ANY(%s::uuid[])",
            [ids],
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


def _became(change: UserChange, rows: dict[UUID, Row], given: dict[UUID, str]) -> Outcome:
    """What a change did that was taken."""
    if not isinstance(change.data, UserState):
        return Outcome.DELETED
    if given[change.user_id] != change.data.username:
        return Outcome.CONFLICT
    return Outcome.UPDATED if change.user_id in rows else Outcome.INSERTED


def _dropped(change: UserChange, rows: dict[UUID, Row], tombstones: dict[UUID, int]) -> Outcome:
    """Why a change was not taken."""
    row = rows.get(change.user_id)
    known = tombstones.get(change.user_id, 0)
    if row is not None and row.version is None and change.version > known:
        return Outcome.CONFLICT
    known = max(known, (row and row.version) or 0)
    return Outcome.DUPLICATE if change.version == known else Outcome.STALE


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
    here = [change for change in gone if change.user_id in rows]
    return remove(here, {change.user_id: rows[change.user_id].username for change in here})


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


def _upsert(users: Sequence[feed.Shown]) -> None:
    if users:
        with connection.cursor() as cursor:
            cursor.execute(_UPSERT, [msgspec.json.encode(users).decode()])


def _forget(user_ids: set[UUID], tombstones: dict[UUID, int]) -> None:
    """Who is here again is neither deleted nor kept in spite of a deletion."""
    back = user_ids & tombstones.keys()
    if back:
        Tombstone.objects.filter(user_id__in=back).delete()
        Kept.objects.filter(user_id__in=back).delete()


def _record_clashes(fresh: Sequence[UserChange], given: dict[UUID, str]) -> None:
    """Keep a record of each user who is under a placeholder by their own change."""
    clashing = [
        Clash(user_id=change.user_id, username=change.data.username, seen_at=timezone.now())
        for change in fresh
        if isinstance(change.data, UserState) and given[change.user_id] != change.data.username
    ]
    if Clash.objects.exists():
        settled = {change.user_id for change in fresh} - {clash.user_id for clash in clashing}
        Clash.objects.filter(user_id__in=settled).delete()
    Clash.objects.bulk_create(
        clashing,
        update_conflicts=True,
        unique_fields=["user_id"],
        update_fields=["username", "seen_at"],
    )


# What the feed tells.


def _of_the_living(users: Sequence[feed.Shown], rows: dict[UUID, Row]) -> Iterator[feed.Entry]:
    for user in users:
        row = rows.get(user.id)
        kind = Change.Kind.CREATED if row is None else Change.Kind.UPDATED
        before = {} if row is None else _replaced(row, user)
        yield feed.Entry(kind, user.id, user.version, user.changed_at, user, before)


def _of_the_gone(
    gone: Sequence[UserChange], rows: dict[UUID, Row], kept: set[UUID]
) -> Iterator[feed.Entry]:
    """The deletion of somebody never seen here is not told."""
    for change in gone:
        row = rows.get(change.user_id)
        if row is None:
            continue
        told = (change.user_id, change.version, change.changed_at)
        if change.user_id in kept:
            after = _deactivated(row, change)
            yield feed.Entry(Change.Kind.UPDATED, *told, after, _replaced(row, after))
        else:
            yield feed.Entry(Change.Kind.DELETED, *told, None, _held(row))


def _held(row: Row) -> dict[str, Any]:
    return dict(zip(STATE_FIELDS, row[3:], strict=True))


_state_of = attrgetter(*STATE_FIELDS)


def _replaced(row: Row, after: feed.Shown) -> dict[str, Any]:
    """The values of the row that are others now, and since when it had them.

    A placeholder is nobody's name.
    """
    values = zip(STATE_FIELDS, row[3:], _state_of(after), strict=True)
    replaced = {name: old for name, old, new in values if old != new}
    if replaced.get("username") == placeholder(row.id):
        del replaced["username"]
    replaced["changed_at"] = row.changed_at
    return replaced


def _shown(change: UserChange, username: str) -> feed.Shown:
    """A state under the username given here."""
    state = msgspec.structs.asdict(change.data)
    state["username"] = username
    return feed.Shown(**state, changed_at=change.changed_at)


def _deactivated(row: Row, change: UserChange) -> feed.Shown:
    held = {**_held(row), "is_active": False}
    return feed.Shown(id=row.id, version=change.version, changed_at=change.changed_at, **held)
