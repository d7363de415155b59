"""Lease: takes entries out of the outbox for ``outbox.publisher``, and records what became of them.

A claim is a time in the row. It runs out by itself, so a killed publisher's entries come free, and
several publishers work side by side without a lock that is held while SNS is called.
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from usercast_master.outbox import minutes

MAX_BACKOFF_SECONDS = 300.0


class Claim(NamedTuple):
    """An entry leased to this publisher, as it was when it was claimed.

    The id is text, as PostgreSQL and the message have it: a UUID is made once, not at each step.
    """

    user_id: str
    version: int
    changed_at: datetime
    priority: int
    attempts: int
    refusals: int
    claimed_until: datetime
    traceparent: str


class Unsent(NamedTuple):
    """A claim whose change did not go out.

    Not tried: due again at once. Failed: waits. Refused for what is in it: goes alone next time,
    unless it is set aside.
    """

    claim: Claim
    failed: bool = False
    refused: bool = False
    parked_reason: str = ""


#: Set for one transaction. After a burst the planner's statistics are old, and a plan that reads
#: the whole backlog or every user for each claim would make draining quadratic: go by index.
#: A claim or a settling lost in a crash of the server costs a second sending: need not be awaited.
_SETTINGS = """
SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off;
SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL enable_sort = off;
SET LOCAL synchronous_commit = off;
"""


@contextmanager
def executed(statement: str, parameters: Any) -> Iterator[CursorWrapper]:
    """The statement's result, in a transaction of its own under ``_SETTINGS``."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_SETTINGS + statement, parameters)
        yield cursor


_DUE = """version > published_version
    AND (claimed_until IS NULL OR claimed_until < clock_timestamp())
    AND parked_reason = ''"""

_CLAIM = f"""
UPDATE outbox_entry AS entry
SET claimed_until = clock_timestamp() + %(lease_seconds)s * interval '1 second'
FROM (
    SELECT user_id FROM outbox_entry
    WHERE {_DUE}
    ORDER BY priority, owed_since
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
) AS due
WHERE entry.user_id = due.user_id
RETURNING entry.user_id::text, entry.version, entry.changed_at, entry.priority, entry.attempts,
          entry.refusals, entry.claimed_until, entry.traceparent
"""


def claim(*, limit: int, lease_seconds: float) -> list[Claim]:
    """Lease up to ``limit`` due entries to this publisher, the most urgent and oldest first.

    Two publishers never hold the same live lease (SKIP LOCKED, then ``claimed_until``).

    Args:
        limit: entries, 1 to 10,000.
        lease_seconds: longer than one whole send, its retries included.

    Raises:
        OperationalError: the database is away; nothing was leased.
    """
    with executed(_CLAIM, {"limit": limit, "lease_seconds": lease_seconds}) as cursor:
        claims = [Claim(*row) for row in cursor.fetchall()]
    return sorted(claims, key=lambda claim: (claim.priority, claim.changed_at))


def is_due() -> bool:
    """Whether any entry waits to be published now."""
    return _exists(_DUE)


def is_neglected(*, for_seconds: float) -> bool:
    """Whether an entry has been due for this long while no publisher is at work."""
    at_work = "version > published_version AND attempts = 0 AND claimed_until > clock_timestamp()"
    old = f"owed_since < clock_timestamp() - {for_seconds:f} * interval '1 second'"
    return _exists(f"{_DUE} AND {old}") and not _exists(at_work)


def _exists(condition: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT EXISTS (SELECT FROM outbox_entry WHERE {condition})")
        return bool(cursor.fetchone()[0])


# An entry that is locked is being changed, by a transaction that may be long: it is passed over. If
# that commits, the entry is owed anew; if not, its lease ends, and it is sent once too often.
# Beside it, the minute is told how many changes that were, and how long the slowest had waited.
_SETTLE_SENT = f"""
WITH settled AS (
UPDATE outbox_entry AS entry
SET published_version = greatest(entry.published_version, sent.version),
    published_hash = CASE
        WHEN sent.version >= entry.published_version THEN sent.content_hash
        ELSE entry.published_hash
    END,
    published_at = clock_timestamp(),
    attempts = 0,
    refusals = 0,
    claimed_until = nullif(entry.claimed_until, sent.lease)
FROM (
    SELECT sent.*, free.published_version AS was_published, free.owed_since
    FROM unnest(%s::uuid[], %s::bigint[], %s::uuid[], %s::timestamptz[])
        AS sent(user_id, version, content_hash, lease)
    JOIN outbox_entry AS free USING (user_id)
    FOR UPDATE OF free SKIP LOCKED
) AS sent
WHERE entry.user_id = sent.user_id
RETURNING sent.version - sent.was_published AS changes, sent.owed_since
)
{
    minutes.added(
        changes="sum(greatest(changes, 0))",
        slowest_seconds="extract(epoch FROM clock_timestamp() - min(owed_since))",
        source="settled HAVING count(*) > 0",
    )
}
"""

_SETTLE_UNSENT = """
UPDATE outbox_entry AS entry
SET attempts = entry.attempts + unsent.failed::int,
    refusals = entry.refusals + unsent.refused::int,
    parked_reason = unsent.parked_reason,
    claimed_until = CASE
        WHEN unsent.backoff > 0 THEN clock_timestamp() + unsent.backoff * interval '1 second'
    END
FROM (
    SELECT unsent.*
    FROM unnest(%s::uuid[], %s::float8[], %s::bool[], %s::bool[], %s::text[], %s::timestamptz[])
        AS unsent(user_id, backoff, failed, refused, parked_reason, lease)
    JOIN outbox_entry AS free USING (user_id)
    WHERE free.claimed_until = unsent.lease
    FOR UPDATE OF free SKIP LOCKED
) AS unsent
WHERE entry.user_id = unsent.user_id
"""


def settle_sent(sent: Sequence[tuple[Claim, str | None]]) -> None:
    """Record that SNS took these claims' versions, with the content hash of what it took.

    Only a lease that is still this publisher's is given back: one that ran out may be another's.
    """
    _execute(
        _SETTLE_SENT,
        [
            (leased.user_id, leased.version, content_hash, leased.claimed_until)
            for leased, content_hash in sent
        ],
    )


def settle_unsent(unsent: Sequence[Unsent]) -> None:
    """Hold back or set aside what was refused; free the rest, if the lease is still theirs."""
    _execute(
        _SETTLE_UNSENT,
        [
            (
                item.claim.user_id,
                backoff_seconds(item.claim.attempts) if item.failed else 0.0,
                item.failed,
                item.refused,
                item.parked_reason,
                item.claim.claimed_until,
            )
            for item in unsent
        ],
    )


def backoff_seconds(attempts: int) -> float:
    """Doubling from a second to five minutes, with jitter so that retries do not march in step."""
    return min(MAX_BACKOFF_SECONDS, 2.0 ** min(attempts, 20)) * random.uniform(0.5, 1.0)


def _execute(statement: str, rows: Sequence[tuple[object, ...]]) -> None:
    """Run a statement over rows, which it takes as an array for each column."""
    if rows:
        with executed(statement, [list(column) for column in zip(*rows, strict=True)]):
            pass
