"""Digests of what has been published, for clients to compare their copies with.

Of the outbox alone, which has the content hash of each user as SNS took it: no join with a million
users. That the outbox is true to the users is for ``outbox.audit`` to prove.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime

from django.db import connection, transaction
from django.utils import timezone
from msgspec import structs

from usercast.digest import (
    BUCKET,
    LATE_AFTER,
    SETTLED_AFTER,
    MasterDigests,
    digests_sql,
    from_rows,
)

#: Users fetched and sent at a time.
CHUNK = 5_000

_PUBLISHED = """
SELECT user_id, published_version AS version, published_hash AS content_hash, changed_at
FROM outbox_entry WHERE published_version > 0
"""
_OWED = """
SELECT count(*) FROM outbox_entry
WHERE version > published_version AND parked_reason = '' AND changed_at <= %s
"""
# Who was never published is told too: a snapshot may have brought them.
_USERS = f"""
SELECT user_id::text, published_version, published_hash::text, published_at,
       version > published_version
FROM outbox_entry WHERE {BUCKET} = ANY(%s)
"""


def look(before: datetime | None) -> MasterDigests:
    """The digests as of now; costs one pass over the outbox.

    Args:
        before: what was published after this the asking client cannot have yet: it knows that its
            queues are so far behind. None: they are not.
    """
    at = timezone.now()
    reached = at if before is None else min(at, before)
    watermark = reached - SETTLED_AFTER
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(digests_sql(_PUBLISHED), {"watermark": watermark, "at": at})
        digests = from_rows(cursor.fetchall())
        cursor.execute(_OWED, [watermark])
        (owed,) = cursor.fetchone()
    return MasterDigests(
        **structs.asdict(digests),
        at=at,
        watermark=watermark,
        late=reached - LATE_AFTER,
        owed=owed,
    )


def users(
    buckets: Sequence[int],
) -> Iterator[list[tuple[str, int, str | None, datetime | None, bool]]]:
    """All users and deleted ones of these buckets, as ``usercast.digest.Published`` has them."""
    with transaction.atomic(), connection.chunked_cursor() as cursor:
        cursor.execute(_USERS, [list(buckets)])
        while rows := cursor.fetchmany(CHUNK):
            yield rows
