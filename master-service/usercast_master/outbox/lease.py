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
    claimed_until: datetime


class Unsent(NamedTuple):
    """A claim whose change did not go out: refused, and then perhaps for good; or not tried."""

    claim: Claim
    refused: bool
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
          entry.claimed_until
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


def is_due(*, for_seconds: float = 0.0) -> bool:
    """Whether any entry waits to be published now, and has done so for this long."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""SELECT EXISTS (
                SELECT FROM outbox_entry
                WHERE {_DUE} AND owed_since <= clock_timestamp() - %s * interval '1 second'
            )""",
            [for_seconds],
        )
        return bool(cursor.fetchone()[0])


_SETTLE_SENT = """
UPDATE outbox_entry AS entry
SET published_version = greatest(entry.published_version, sent.version),
    published_hash = CASE
        WHEN sent.version >= entry.published_version THEN sent.content_hash
        ELSE entry.published_hash
    END,
    attempts = 0,
    claimed_until = nullif(entry.claimed_until, sent.lease)
FROM unnest(%s::uuid[], %s::bigint[], %s::uuid[], %s::timestamptz[])
    AS sent(user_id, version, content_hash, lease)
WHERE entry.user_id = sent.user_id
"""

_SETTLE_UNSENT = """
UPDATE outbox_entry AS entry
SET attempts = entry.attempts + (unsent.backoff > 0)::int,
    parked_reason = unsent.parked_reason,
    claimed_until = CASE
        WHEN unsent.backoff > 0 THEN clock_timestamp() + unsent.backoff * interval '1 second'
    END
FROM unnest(%s::uuid[], %s::float8[], %s::text[], %s::timestamptz[])
    AS unsent(user_id, backoff, parked_reason, lease)
WHERE entry.user_id = unsent.user_id AND entry.claimed_until = unsent.lease
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
                backoff_seconds(item.claim.attempts) if item.refused else 0.0,
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
