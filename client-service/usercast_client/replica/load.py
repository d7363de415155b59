"""Load: takes many users whom the replica does not have yet, as a first load brings them.

``replica.apply`` is right for any change, and costs Python for each. Here PostgreSQL sorts out who
is simply new; these go in by COPY and one INSERT, and all others through ``apply``.
"""

import io
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from django.db import IntegrityError, connection, transaction
from django.utils import timezone
from msgspec import Struct

from usercast.contract import UserChange, UserGone
from usercast_client.live import feed
from usercast_client.replica.apply import Applied, apply

#: Somebody may create a local account of the same name at the same moment; then it is sorted anew.
ATTEMPTS = 3


class Loaded(NamedTuple):
    """What became of a chunk: how many users are new, and what ``apply`` did with the others."""

    created: int
    others: Applied | None


# The username's collation is the replica's, or the two could not be compared.
_TABLES = """
CREATE TEMPORARY TABLE IF NOT EXISTS incoming (
    position integer, id uuid, version bigint, changed_at timestamptz, deleted boolean,
    username text COLLATE "pg_c_utf8", email text, first_name text, last_name text,
    is_active boolean, date_joined timestamptz, groups text[]
) ON COMMIT DELETE ROWS;
TRUNCATE incoming;
-- Each is looked up by an index: without statistics, the replica would be read whole each time.
SET LOCAL enable_hashjoin = off;
SET LOCAL enable_mergejoin = off;
SET LOCAL enable_seqscan = off;
-- Before PostgreSQL 18, what is off counts as so dear that each statement would be compiled.
SET LOCAL jit = off
"""
_COPY = "COPY incoming FROM STDIN"
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
WITH known AS (
    SELECT position FROM incoming JOIN replica_user USING (id)
    UNION
    SELECT position FROM incoming JOIN replica_user USING (username)
)
DELETE FROM incoming USING known WHERE incoming.position = known.position
RETURNING incoming.position
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


# What was so before this client's first load began ended nobody's access here; a later load, which
# catches up, may do so.
_RECEIPTS = """
INSERT INTO live_receipt (user_id, version, erased, applied_at)
SELECT id, version, deleted, %s FROM incoming
WHERE (deleted OR NOT is_active)
  AND changed_at > (SELECT min(started_at) FROM replica_bootstrap)
ON CONFLICT (user_id, version) DO NOTHING
"""


class Line(Struct, frozen=True, gc=False):
    """A line of the snapshot: what it says, and the same for COPY."""

    change: UserChange
    row: bytes

    @classmethod
    def of(cls, change: UserChange) -> "Line":
        """What a line says; to write the row down takes longest, and can be done ahead."""
        return cls(change, _row(change))


def load(lines: Sequence[Line]) -> Loaded:
    """Bring the replica up to these lines, each about another user, whatever it has already.

    One transaction, in which ``apply`` may take part; it takes its turn among the appliers. Who is
    new is not told to the feed: that is for the caller, once for all.

    Raises:
        django.db.OperationalError: the database is away; nothing was loaded.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _load(lines)
        except IntegrityError:
            if attempt == ATTEMPTS:
                raise
    raise AssertionError


def try_out(lines: Sequence[Line]) -> tuple[int, int]:
    """How many of these users would be new, and how many others would change; loads nothing."""
    with transaction.atomic(), connection.cursor() as cursor:
        others = _sort(cursor, lines)
        cursor.execute("SELECT count(*) FROM incoming WHERE NOT deleted")
        created = int(cursor.fetchone()[0])
        transaction.set_rollback(True)
    return created, len(others)


def _load(lines: Sequence[Line]) -> Loaded:
    with transaction.atomic(), connection.cursor() as cursor:
        feed.lock()
        others = _sort(cursor, lines)
        cursor.execute(_TOMBSTONES)
        cursor.execute(_FORGET)
        cursor.execute(_INSERT)
        created = int(cursor.rowcount)
        cursor.execute(_RECEIPTS, [timezone.now()])
        return Loaded(created, apply(others) if others else None)


def _sort(cursor: Any, lines: Sequence[Line]) -> list[UserChange]:
    """Have those in the table ``incoming`` who are simply new; returns those for ``apply``."""
    cursor.execute(_TABLES)
    rows = (b"%d\t%b" % (position, line.row) for position, line in enumerate(lines))
    cursor.copy_expert(_COPY, io.BytesIO(b"".join(rows)))
    cursor.execute(_DROP_OLD)
    cursor.execute(_TAKE_OTHERS)
    return [lines[position].change for (position,) in cursor.fetchall()]


def _row(change: UserChange) -> bytes:
    """The columns of ``incoming`` behind the position, in COPY's text format."""
    begin = f"{change.user_id}\t{change.version}\t{change.changed_at.isoformat()}"
    data = change.data
    if isinstance(data, UserGone):
        return f"{begin}\tt{_NULLS}\n".encode()
    texts: tuple[str, ...] = (data.username, data.email, data.first_name, data.last_name)
    groups = _array(data.groups) if data.groups else "{}"
    # Almost nobody has a backslash, a tab or a line break in their name; to look is cheaper.
    if _SPECIAL.search("".join(texts)):
        texts = tuple(map(_escaped, texts))
    if _SPECIAL.search(groups):
        groups = _escaped(groups)
    active = "t" if data.is_active else "f"
    joined = data.date_joined.isoformat()
    named = "\t".join(texts)
    return f"{begin}\tf\t{named}\t{active}\t{joined}\t{groups}\n".encode()


_NULLS = "\t\\N" * 7
_SPECIAL = re.compile(r"[\\\t\n\r]")
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_IN_ARRAY = str.maketrans({"\\": "\\\\", '"': '\\"'})


def _array(texts: Sequence[str]) -> str:
    """PostgreSQL's literal of an array of texts."""
    return "{" + ",".join([f'"{text.translate(_IN_ARRAY)}"' for text in texts]) + "}"


def _escaped(text: str) -> str:
    return text.translate(_ESCAPES)
