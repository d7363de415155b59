"""The latest: what happened last, for pages and REST; of a bulk write, one entry for all of it."""

from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from msgspec import Struct

from usercast_client.live.feed import BULK, read_back, rfc3339
from usercast_client.live.models import Change

#: Bulk writes that follow each other within this time are shown as one.
_SAME_BULK_WITHIN = timedelta(seconds=10)
#: How many transactions back ``latest`` looks: an import of a million users is a few hundred.
_BATCHES_AT_MOST = 1000

# From batch to batch by the primary key, newest first, without reading what is in them.
_BATCHES = """
WITH RECURSIVE batch (first, last, size, applied_at) AS (
    (SELECT batch, cursor, batch_size, applied_at FROM live_change ORDER BY cursor DESC LIMIT 1)
    UNION ALL
    SELECT older.* FROM batch, LATERAL (
        SELECT live_change.batch, cursor, batch_size, live_change.applied_at FROM live_change
        WHERE cursor < batch.first ORDER BY cursor DESC LIMIT 1
    ) AS older
)
SELECT first, last, size > %s, applied_at FROM batch LIMIT %s
"""


class _Run(Struct):
    """Changes that follow each other: of bulk writes within seconds, or all singles."""

    first: int
    last: int
    is_bulk: bool
    applied_at: datetime
    oldest_applied_at: datetime


def latest(limit: int) -> list[dict[str, Any]]:
    """The newest changes, newest first, at most ``limit``, as the browser gets them.

    Of a bulk write, or several within seconds, there is one entry instead: ``bulk`` true,
    ``first`` and ``cursor`` (its first and last), ``counts`` by kind, ``applied_at``, and the worst
    ``lag_ms``.
    """
    told: list[dict[str, Any]] = []
    for run in _runs(limit):
        if run.is_bulk:
            told.append(_summary(run))
        else:
            singles = Change.objects.filter(cursor__gte=run.first, cursor__lte=run.last)
            told += [read_back(change) for change in singles.order_by("-cursor")[:limit]]
        if len(told) >= limit:
            break
    return told[:limit]


def _runs(limit: int) -> list[_Run]:
    runs: list[_Run] = []
    with connection.cursor() as cursor:
        cursor.execute(_BATCHES, [BULK, _BATCHES_AT_MOST])
        batches = cursor.fetchall()
    for first, last, is_bulk, applied_at in batches:
        run = runs[-1] if runs else None
        if run is not None and run.is_bulk == is_bulk and _continues(run, applied_at):
            run.first, run.oldest_applied_at = first, applied_at
        elif len(runs) == limit:
            break
        else:
            runs.append(_Run(first, last, is_bulk, applied_at, applied_at))
    return runs


def _continues(run: _Run, applied_at: datetime) -> bool:
    return not run.is_bulk or run.oldest_applied_at - applied_at <= _SAME_BULK_WITHIN


_SUMMARY = """
SELECT count(*) FILTER (WHERE kind = 'created'), count(*) FILTER (WHERE kind = 'updated'),
       count(*) FILTER (WHERE kind = 'deleted'),
       (extract(epoch FROM max(applied_at - changed_at)) * 1000)::bigint
FROM live_change WHERE cursor BETWEEN %s AND %s
"""


def _summary(run: _Run) -> dict[str, Any]:
    with connection.cursor() as cursor:
        cursor.execute(_SUMMARY, [run.first, run.last])
        created, updated, deleted, lag_ms = cursor.fetchone()
    return {
        "bulk": True,
        "first": run.first,
        "cursor": run.last,
        "counts": {"created": created, "updated": updated, "deleted": deleted},
        "applied_at": rfc3339(run.applied_at),
        "lag_ms": max(0, lag_ms),
    }
