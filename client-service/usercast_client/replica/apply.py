"""Apply: takes changes from ``inbox.poller``, brings the replica to them, tells ``live.feed``.

Everything is decided by version, nothing by the order of arrival: what is not newer than the row or
the tombstone is dropped. One transaction and a fixed number of statements, however many changes
(but for users whom a table of the client's own protects from deletion).
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from django.db import connection, transaction
from django.db.models import ProtectedError, Q, RestrictedError
from django.utils import timezone

from usercast.contract import STATE_FIELDS, UserChange, UserState
from usercast_client.live import feed
from usercast_client.live.models import Change
from usercast_client.replica.models import Clash, Tombstone, User


class Row(NamedTuple):
    """A user as the replica holds them, locked until the transaction ends."""

    id: UUID
    version: int | None
    changed_at: datetime | None
    username: str
    email: str
    first_name: str
    last_name: str
    is_active: bool
    date_joined: datetime
    master_groups: list[str]


class Applied(NamedTuple):
    """What an apply did: the changes as the feed has them, and how many were dropped as old."""

    changes: list[dict[str, Any]]
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
        rows = _locked_rows(newest.values())
        tombstones = dict(
            Tombstone.objects.filter(user_id__in=newest).values_list("user_id", "version")
        )
        fresh = [change for change in newest.values() if _is_news(change, rows, tombstones)]
        states = [change for change in fresh if isinstance(change.data, UserState)]
        gone = [change for change in fresh if change.is_deletion]
        kept = _delete(gone, rows)
        names = _names(states, rows, freed={change.user_id for change in gone} - kept)
        # Parked, sent again, and parked again: nothing has changed.
        again = [change for change in states if _changes_nothing(change, rows, names.given)]
        fresh = [change for change in fresh if change not in again]
        states = [change for change in states if change not in again]
        _park(names.parked)
        _upsert(states, names.given)
        _record_clashes(fresh, names)
        entries = [
            _entry(change, rows.get(change.user_id), names.given, kept=change.user_id in kept)
            for change in fresh
        ]
        applied = feed.append([entry for entry in entries if entry is not None])
    return Applied(applied, len(changes) - len(fresh))


def _newest_of_each(changes: Iterable[UserChange]) -> dict[UUID, UserChange]:
    newest: dict[UUID, UserChange] = {}
    for change in changes:
        known = newest.get(change.user_id)
        if known is None or change.version > known.version:
            newest[change.user_id] = change
    return newest


def _locked_rows(changes: Iterable[UserChange]) -> dict[UUID, Row]:
    """The rows the changes are about, and those holding a username that a change brings."""
    ids = [change.user_id for change in changes]
    usernames = [change.data.username for change in changes if isinstance(change.data, UserState)]
    found = (
        User.objects.filter(Q(pk__in=ids) | Q(username__in=usernames))
        .select_for_update()
        .order_by("pk")
        .values_list(*Row._fields)
    )
    return {row[0]: Row(*row) for row in found}


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


def _changes_nothing(change: UserChange, rows: dict[UUID, Row], given: dict[UUID, str]) -> bool:
    row = rows.get(change.user_id)
    return (
        row is not None and row.version == change.version and row.username == given[change.user_id]
    )


# Usernames. Unique here as on the master, but changes of different users come in any order: whoever
# stands in the way under an older change is parked under a placeholder until their own message.


class Names(NamedTuple):
    """Who gets which username, and who has to step aside first."""

    given: dict[UUID, str]
    parked: list[UUID]
    clashes: list[UUID]


def placeholder(user_id: UUID) -> str:
    """The username of a parked user; no validated username holds a tilde."""
    return f"~{user_id}"


def _names(states: Sequence[UserChange], rows: dict[UUID, Row], *, freed: set[UUID]) -> Names:
    holders = {row.username: row for row in rows.values() if row.id not in freed}
    writing = {change.user_id for change in states}
    wanted: dict[str, list[UserChange]] = defaultdict(list)
    for change in states:
        assert isinstance(change.data, UserState)
        wanted[change.data.username].append(change)
    names = Names({}, [], [])
    for username, contenders in wanted.items():
        newest = max(contenders, key=lambda change: change.changed_at)
        holder = holders.get(username)
        granted = True
        if holder is not None and holder.id != newest.user_id:
            if holder.version is None:
                names.clashes.extend(change.user_id for change in contenders)
                granted = False
            elif holder.id in writing or _is_later(newest, holder):
                names.parked.append(holder.id)
            else:
                granted = False
        for change in contenders:
            got_it = granted and change is newest
            names.given[change.user_id] = username if got_it else placeholder(change.user_id)
    return names


def _is_later(change: UserChange, holder: Row) -> bool:
    """A username passes from one user to another in the order of the master's clock."""
    return holder.changed_at is None or change.changed_at >= holder.changed_at


def _park(user_ids: Sequence[UUID]) -> None:
    if not user_ids:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE replica_user SET username = '~' || id WHERE id = ANY(%s::uuid[])",
            [[str(user_id) for user_id in user_ids]],
        )


def _record_clashes(fresh: Sequence[UserChange], names: Names) -> None:
    clashing = set(names.clashes)
    settled = [change.user_id for change in fresh if change.user_id not in clashing]
    Clash.objects.filter(user_id__in=settled).delete()
    Clash.objects.bulk_create(
        [
            Clash(user_id=change.user_id, username=change.data.username, seen_at=timezone.now())
            for change in fresh
            if change.user_id in clashing and isinstance(change.data, UserState)
        ],
        update_conflicts=True,
        unique_fields=["user_id"],
        update_fields=["username", "seen_at"],
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


def _upsert(states: Sequence[UserChange], given: dict[UUID, str]) -> None:
    if not states:
        return
    with connection.cursor() as cursor:
        rows = [_shown(change, given) for change in states]
        cursor.execute(_UPSERT, [msgspec.json.encode(rows).decode()])
        cursor.execute(
            "DELETE FROM replica_tombstone WHERE user_id = ANY(%s::uuid[])",
            [[str(change.user_id) for change in states]],
        )


def _delete(gone: Sequence[UserChange], rows: dict[UUID, Row]) -> set[UUID]:
    """Delete the users and leave tombstones; returns whom a table of the client's own protects."""
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
    if _deleted_all(here):
        return set()
    kept = [change for change in here if not _deleted_all([change])]
    for change in kept:
        # The account ends, but its row stays for what points at it.
        User.objects.filter(pk=change.user_id).update(
            is_active=False, version=change.version, changed_at=change.changed_at
        )
    return {change.user_id for change in kept}


def _deleted_all(gone: Sequence[UserChange]) -> bool:
    """Delete these users, or none of them when one is protected."""
    try:
        with transaction.atomic():
            User.objects.filter(pk__in=[change.user_id for change in gone]).delete()
    except (ProtectedError, RestrictedError):
        return False
    return True


def _entry(
    change: UserChange, row: Row | None, given: dict[UUID, str], *, kept: bool
) -> feed.Entry | None:
    """What the feed tells of a change; None for the deletion of somebody never seen here."""
    if row is None:
        if change.is_deletion:
            return None
        return _feed_entry(Change.Kind.CREATED, change, after=_shown(change, given), before={})
    held = {name: getattr(row, name) for name in STATE_FIELDS if name != "groups"}
    held["groups"] = row.master_groups
    if change.is_deletion and not kept:
        return _feed_entry(Change.Kind.DELETED, change, after=None, before=held)
    if kept:
        identity = {"id": row.id, "version": change.version, "changed_at": change.changed_at}
        after = {**held, **identity, "is_active": False}
    else:
        after = _shown(change, given)
    before = {
        name: value
        for name, value in held.items()
        if value != after[name] and value != placeholder(row.id)
    }
    return _feed_entry(Change.Kind.UPDATED, change, after=after, before=before)


def _feed_entry(
    kind: Change.Kind,
    change: UserChange,
    *,
    after: dict[str, Any] | None,
    before: dict[str, Any],
) -> feed.Entry:
    return feed.Entry(
        kind=kind,
        user_id=change.user_id,
        version=change.version,
        changed_at=change.changed_at,
        after=after,
        before=before,
    )


def _shown(change: UserChange, given: dict[UUID, str]) -> dict[str, Any]:
    """A state in the contract's fields, under the username given here."""
    state = msgspec.structs.asdict(change.data)
    return {
        **state,
        "groups": list(state["groups"]),
        "username": given[change.user_id],
        "changed_at": change.changed_at,
    }
