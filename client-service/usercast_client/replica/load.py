"""Load: takes many users whom the replica does not have yet, as a first load brings them.

``replica.apply`` is right for any change, and costs Python for each. Here PostgreSQL sorts out who
is simply new; these go in by COPY and one INSERT, and all others through ``apply``.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from django.db import IntegrityError, connection, transaction

from usercast.contract import UserChange, UserState
from usercast_client.live import feed
from usercast_client.replica.apply import Applied, apply

#: Somebody may create a local account of the same name at the same moment; then it is sorted anew.
ATTEMPTS = 3


class Loaded(NamedTuple):
    """What became of a chunk: how many users are new, and what ``apply`` did with the others."""

    created: int
    others: Applied | None


# The username's collation is the replica's, or the two could not be compared.
_INCOMING = """
CREATE TEMPORARY TABLE IF NOT EXISTS incoming (
    position integer, id uuid, version bigint, changed_at timestamptz, deleted boolean,
    username text COLLATE "pg_c_utf8", email text, first_name text, last_name text,
    is_active boolean, date_joined timestamptz, groups text[]
) ON COMMIT DELETE ROWS
"""
# Every value is quoted, so that an empty text stays one; but what a deletion lacks is NULL.
_COPY = "COPY incoming FROM STDIN (FORMAT csv, FORCE_NULL (is_active, date_joined, groups))"
#: As ``apply`` does: the replica has them as new, or they were deleted at a later version.
_DROP_OLD = """
DELETE FROM incoming USING replica_user AS known
WHERE known.id = incoming.id AND known.version >= incoming.version
  AND known.username <> '~' || known.id;
DELETE FROM incoming USING replica_tombstone AS tombstone
WHERE tombstone.user_id = incoming.id AND tombstone.version >= incoming.version
"""
#: Whoever is here already, or whose name somebody here has, is for ``apply``.
_TAKE_OTHERS = """
DELETE FROM incoming
WHERE EXISTS (SELECT FROM replica_user AS known WHERE known.id = incoming.id)
   OR EXISTS (SELECT FROM replica_user AS known WHERE known.username = incoming.username)
RETURNING position
"""
_TOMBSTONES = """
INSERT INTO replica_tombstone (user_id, version, deleted_at)
SELECT id, version, changed_at FROM incoming WHERE deleted ORDER BY id
ON CONFLICT (user_id) DO UPDATE SET
    version = excluded.version, deleted_at = excluded.deleted_at
"""
_FORGET = """
DELETE FROM replica_tombstone USING incoming
WHERE replica_tombstone.user_id = incoming.id AND NOT incoming.deleted;
DELETE FROM replica_kept USING incoming
WHERE replica_kept.user_id = incoming.id AND NOT incoming.deleted
"""
# The password starts unusable ('!') and is, like the flags, the client's own from then on.
_INSERT = """
INSERT INTO replica_user
    (id, version, changed_at, username, email, first_name, last_name, is_active, date_joined,
     master_groups, password, is_staff, is_superuser)
SELECT id, version, changed_at, username, email, first_name, last_name, is_active, date_joined,
       groups, '!', false, false
FROM incoming WHERE NOT deleted ORDER BY id
"""


def load(changes: Sequence[UserChange]) -> Loaded:
    """Bring the replica up to these changes, each about another user, whatever it has already.

    One transaction, in which ``apply`` may take part; it takes its turn among the appliers. Who is
    new is not told to the feed: that is for the caller, once for all.

    Raises:
        django.db.OperationalError: the database is away; nothing was loaded.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _load(changes)
        except IntegrityError:
            if attempt == ATTEMPTS:
                raise
    raise AssertionError


def try_out(changes: Sequence[UserChange]) -> tuple[int, int]:
    """How many of these users would be new, and how many others would change; loads nothing."""
    with transaction.atomic(), connection.cursor() as cursor:
        others = _sort(cursor, changes)
        cursor.execute("SELECT count(*) FROM incoming WHERE NOT deleted")
        created = int(cursor.fetchone()[0])
        transaction.set_rollback(True)
    return created, len(others)


def _load(changes: Sequence[UserChange]) -> Loaded:
    with transaction.atomic(), connection.cursor() as cursor:
        feed.lock()
        others = _sort(cursor, changes)
        cursor.execute(_TOMBSTONES)
        cursor.execute(_FORGET)
        cursor.execute(_INSERT)
        created = int(cursor.rowcount)
        return Loaded(created, apply(others) if others else None)


def _sort(cursor: Any, changes: Sequence[UserChange]) -> list[UserChange]:
    """Have those in the table ``incoming`` who are simply new; returns those for ``apply``."""
    cursor.execute(_INCOMING)
    # Within a larger transaction, those of before are still there.
    cursor.execute("TRUNCATE incoming")
    cursor.copy_expert(_COPY, _csv(changes))
    # Nobody else does it for a temporary table, and the plans for an empty one are others.
    cursor.execute("ANALYZE incoming")
    cursor.execute(_DROP_OLD)
    cursor.execute(_TAKE_OTHERS)
    return [changes[position] for (position,) in cursor.fetchall()]


def _csv(changes: Sequence[UserChange]) -> io.StringIO:
    file = io.StringIO()
    rows = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
    rows.writerows(_row(*numbered) for numbered in enumerate(changes))
    file.seek(0)
    return file


def _row(position: int, change: UserChange) -> tuple[object, ...]:
    data = change.data
    about = (position, data.id, data.version, change.changed_at)
    if not isinstance(data, UserState):
        return (*about, True, *("",) * 7)
    names = (data.username, data.email, data.first_name, data.last_name)
    return (*about, False, *names, data.is_active, data.date_joined, _array(data.groups))


def _array(texts: Iterable[str]) -> str:
    """As PostgreSQL writes an array."""
    quoted = (text.replace("\\", "\\\\").replace('"', '\\"') for text in texts)
    return "{" + ",".join(f'"{text}"' for text in quoted) + "}"
