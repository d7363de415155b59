"""Health: what ``live.clock`` tells of the replica, at a cost that does not grow with it."""

import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db import connection
from django.db.models import Count, Q
from msgspec import Struct

from usercast_client.live.models import Change
from usercast_client.replica.models import User

BUCKET_SECONDS = 10
HISTORY_SECONDS = 600
#: Counting all users takes at most one part in so many of the time.
_COUNT_SHARE = 20
#: Rows changed past replication are counted too, if not at once.
_RECOUNT_SECONDS = 60.0


class Bucket(NamedTuple):
    """What was applied within ten seconds."""

    #: Its start, in seconds since 1970, a multiple of ten.
    start: int
    changes: int
    #: The worst lag of a change; None when there was none.
    worst_lag_ms: int | None


class Newest(NamedTuple):
    """The newest change: how late it came, and when."""

    lag_ms: int
    applied_at: datetime


class Counts(Struct, kw_only=True):
    """The users, as they were counted."""

    users: int
    active: int
    cursor: int
    counted_at: datetime
    took_ms: float


def count(known: Counts | None, *, cursor: int, now: datetime) -> Counts:
    """How many users there are: counted afresh if something changed, but not without pause."""
    if known is not None and not _is_due(known, cursor, now):
        return known
    began = time.perf_counter()
    counted = count_users()
    took_ms = (time.perf_counter() - began) * 1000
    return Counts(**counted, cursor=cursor, counted_at=now, took_ms=took_ms)


def count_users() -> dict[str, int]:
    """The replicated users, and the active ones of them."""
    counted: dict[str, int] = User.objects.replicated().aggregate(
        users=Count("pk"), active=Count("pk", filter=Q(is_active=True))
    )
    return counted


def _is_due(known: Counts, cursor: int, now: datetime) -> bool:
    age_ms = (now - known.counted_at).total_seconds() * 1000
    if cursor != known.cursor:
        return age_ms >= known.took_ms * _COUNT_SHARE
    return age_ms >= _RECOUNT_SECONDS * 1000


_BUCKETS = """
SELECT (floor(extract(epoch FROM applied_at) / %s) * %s)::bigint AS start, count(*),
       (extract(epoch FROM max(applied_at - changed_at)) * 1000)::bigint
FROM live_change WHERE cursor > %s AND cursor <= %s AND applied_at > %s GROUP BY start
"""


def history(known: Sequence[Bucket], *, after: int, upto: int, now: datetime) -> list[Bucket]:
    """The last ten minutes, oldest first, ending with the current bucket.

    Args:
        known: what was known at the change ``after``; only what came since is read. Empty and 0 to
            read all of it.
    """
    earliest = now - timedelta(seconds=HISTORY_SECONDS)
    with connection.cursor() as cursor:
        cursor.execute(_BUCKETS, [BUCKET_SECONDS, BUCKET_SECONDS, after, upto, earliest])
        rows = cursor.fetchall()
    buckets = {bucket.start: bucket for bucket in known if bucket.start >= earliest.timestamp()}
    for start, changes, worst_lag_ms in rows:
        buckets[start] = _sum(buckets.get(start), Bucket(start, changes, max(worst_lag_ms, 0)))
    current = int(now.timestamp()) // BUCKET_SECONDS * BUCKET_SECONDS
    buckets.setdefault(current, Bucket(current, 0, None))
    return [buckets[start] for start in sorted(buckets)]


def _sum(known: Bucket | None, more: Bucket) -> Bucket:
    if known is None:
        return more
    worst = max(known.worst_lag_ms or 0, more.worst_lag_ms or 0)
    return Bucket(known.start, known.changes + more.changes, worst)


def changes_per_minute(buckets: Sequence[Bucket], now: datetime) -> int:
    """How many changes were applied in the last six buckets: the last 50 to 60 seconds."""
    since = now.timestamp() - 60
    return sum(bucket.changes for bucket in buckets if bucket.start > since)


def newest(cursor: int) -> Newest | None:
    """The change with this cursor; None if the feed has none such."""
    change = Change.objects.filter(cursor=cursor).only("changed_at", "applied_at").first()
    if change is None:
        return None
    lag = (change.applied_at - change.changed_at).total_seconds()
    return Newest(max(0, round(lag * 1000)), change.applied_at)
