"""Compare: finds in what the replica differs from what the master has published.

First the digests of buckets, then the users of those buckets that differ: what travels grows with
the difference. Both sides' databases read all their users once, as only that proves anything.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from django.db import connection, transaction
from msgspec import Struct

from usercast.digest import (
    BUCKET,
    CONTENT_HASH,
    Digests,
    MasterDigests,
    Published,
    digests_sql,
    from_rows,
)
from usercast.invariants import Wrong
from usercast_client.replica import master

#: Buckets that the master is asked for at once.
TOGETHER = 256

# A local account that has a user's name keeps it, which is recorded and shown, and no drift. A
# deleted user whose row is kept for other tables has a tombstone, and must stay inactive.
_COPY = f"""
SELECT id AS user_id, version, {CONTENT_HASH} AS content_hash, changed_at
FROM (
    SELECT replica.id, replica.version, replica.changed_at,
           coalesce(clash.username, replica.username) AS username,
           replica.email, replica.first_name, replica.last_name, replica.is_active,
           replica.date_joined, replica.master_groups AS groups
    FROM replica_user AS replica
    LEFT JOIN replica_clash AS clash
           ON clash.user_id = replica.id AND replica.username = '~' || replica.id
          AND EXISTS (SELECT FROM replica_user AS local
                      WHERE local.username = clash.username AND local.version IS NULL)
    WHERE replica.version IS NOT NULL
      AND NOT (NOT replica.is_active
               AND EXISTS (SELECT FROM replica_kept WHERE replica_kept.user_id = replica.id)
               AND EXISTS (SELECT FROM replica_tombstone AS tombstone
                           WHERE tombstone.user_id = replica.id))
) AS replicated
UNION ALL
SELECT user_id, version, NULL, deleted_at FROM replica_tombstone
"""
_IN_BUCKETS = f"""
SELECT user_id::text, version, content_hash::text FROM ({_COPY}) AS copy WHERE {BUCKET} = ANY(%s)
"""
#: PostgreSQL's compiler would take longer than it saves.
_NO_JIT = "SET LOCAL jit = off"


class Here(NamedTuple):
    """What the replica has of one user: version and content hash of the row, and a tombstone."""

    version: int | None = None
    content_hash: str | None = None
    tombstone: int | None = None

    @property
    def newest(self) -> int:
        """The newest version that has come, of whichever kind."""
        return max(self.version or 0, self.tombstone or 0)


class Difference(Struct, frozen=True):
    """A user who is not here as the master has published them.

    ``is_late``: for good, or for so long that what would mend it has been lost; otherwise it is on
    its way.
    """

    user_id: UUID
    wrong: Wrong
    here: Here
    is_late: bool
    #: A local account has their id.
    is_local: bool = False


_BUCKETS = f"SELECT DISTINCT {BUCKET} AS bucket FROM unnest(%s::uuid[]) AS user_id ORDER BY bucket"
_LOCAL = "SELECT id FROM replica_user WHERE version IS NULL AND id = ANY(%s::uuid[])"


def digests(of_master: MasterDigests) -> Digests:
    """The replica's, leaving out whom the master's leave out."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_NO_JIT)
        cursor.execute(digests_sql(_COPY), {"watermark": of_master.watermark, "at": of_master.at})
        return from_rows(cursor.fetchall())


def differences(buckets: Sequence[int], *, late: datetime) -> Iterator[Difference]:
    """Who differs, of the users in these buckets.

    Raises:
        MasterRefused, MasterUnreachable: see ``replica.master``.
    """
    for start in range(0, len(buckets), TOGETHER):
        some = buckets[start : start + TOGETHER]
        # First the replica: what it has then, the master has published before it is asked.
        here = _here(some)
        published = {user.user_id: user for user in master.published(some)}
        for user_id in sorted(here.keys() | published.keys()):
            found = _compare(published.get(user_id), here.get(user_id, Here()), late)
            if found:
                yield Difference(UUID(user_id), found[0], here.get(user_id, Here()), found[1])


def buckets_of(user_ids: Sequence[UUID]) -> list[int]:
    """The buckets that these users are in."""
    with connection.cursor() as cursor:
        cursor.execute(_BUCKETS, [[str(user_id) for user_id in user_ids]])
        return [bucket for (bucket,) in cursor.fetchall()]


def local_ids(user_ids: Sequence[UUID]) -> set[UUID]:
    """Those of these ids that local accounts have here."""
    with connection.cursor() as cursor:
        cursor.execute(_LOCAL, [[str(user_id) for user_id in user_ids]])
        return {user_id for (user_id,) in cursor.fetchall()}


def here_of(user_ids: Sequence[UUID]) -> dict[UUID, Here]:
    """What the replica has of these users now."""
    asked = [str(user_id) for user_id in user_ids]
    with connection.cursor() as cursor:
        cursor.execute(
            f"""SELECT user_id::text, version, content_hash::text
                FROM ({_COPY}) AS copy WHERE user_id = ANY(%s::uuid[])""",
            [asked],
        )
        found = _joined(cursor.fetchall())
    return {UUID(user_id): found.get(user_id, Here()) for user_id in asked}


def _here(buckets: Sequence[int]) -> dict[str, Here]:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_NO_JIT)
        cursor.execute(_IN_BUCKETS, [list(buckets)])
        return _joined(cursor.fetchall())


def _joined(rows: Sequence[tuple[str, int, str | None]]) -> dict[str, Here]:
    """Row and tombstone of each user together; beside each other they should not be."""
    found: dict[str, Here] = {}
    for user_id, version, content_hash in rows:
        known = found.get(user_id, Here())
        found[user_id] = (
            known._replace(tombstone=version)
            if content_hash is None
            else known._replace(version=version, content_hash=content_hash)
        )
    return found


def _compare(published: Published | None, here: Here, late: datetime) -> tuple[Wrong, bool] | None:
    """What is wrong, and whether it will not mend by itself; None: nothing is."""
    if published is None:
        return (Wrong.EXTRA, True)
    is_gone = published.content_hash is None
    should = (
        Here(tombstone=published.version)
        if is_gone
        else Here(published.version, published.content_hash)
    )
    if here == should or (published.version == 0 and here == Here()):
        return None
    if is_gone:
        wrong = Wrong.TOMBSTONE if here.version is None else Wrong.RESURRECTED
    else:
        wrong = Wrong.MISSING if here.version is None else Wrong.DIFFERENT
    is_new = published.published_at is not None and published.published_at > late
    is_coming = here.newest < published.version and is_new
    return wrong, not (published.owed or is_coming)
