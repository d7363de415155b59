"""Publish: takes what the outbox owes, hands it to SNS in packed messages, settles what arrived.

The steps, a function each: claim → read → pack → send → settle. No lock is held and no transaction
is open while SNS is called. A claim is a lease that runs out by itself, so a killed publisher's
entries come free, and several publishers work side by side. Run by ``outbox.tasks``, and by
``outbox.relay`` when the broker is away.
"""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import structlog
from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from usercast.contract import (
    STATE_FIELDS,
    Lane,
    Message,
    UserChange,
    UserGone,
    UserState,
    check_encoded,
    encode_batch,
    encode_change,
)
from usercast.errors import ContractError
from usercast_master.outbox import topic
from usercast_master.outbox.capture import Priority
from usercast_master.outbox.content import content_sql

log = structlog.get_logger(__name__)

CLAIM_LIMIT = 2000
#: How long a killed publisher's entries wait for another one.
LEASE_SECONDS = 30.0
#: No message is sent later than this after its claim, so that the last one (``aws.sns`` answers or
#: fails within 14 s) is through before the lease ends. Beyond it, another publisher could send the
#: same again: work, not harm.
SENDING_SECONDS = 15.0
#: AWS bills by 64 KiB begun, so changes share a message up to that.
PACKED_BYTES = 64 * 1024
MAX_CHANGES_PER_MESSAGE = 200
MAX_BACKOFF_SECONDS = 300.0
#: A change that SNS refuses alone so many times (over half a minute) is set aside.
MAX_REFUSALS = 6


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


class Reading(NamedTuple):
    """A claim and the user's state, as it is to be sent; the hash is None of a deletion."""

    claim: Claim
    change: UserChange
    content_hash: str | None


class Parcel(NamedTuple):
    """One message ready to send, and the readings it settles."""

    lane: Lane
    message: Message
    readings: Sequence[Reading]


class Refused(NamedTuple):
    """A reading that did not go out, and why. ``for_good``: it never will as it is."""

    reading: Reading
    reason: str
    for_good: bool


class Outcome(NamedTuple):
    """What became of the readings; those in neither list were not tried."""

    sent: list[Reading]
    refused: list[Refused]


def is_due() -> bool:
    """Whether any entry waits to be published now."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT EXISTS (SELECT FROM outbox_entry WHERE {_DUE})")
        return bool(cursor.fetchone()[0])


def publish_pending(*, on_backlog: Callable[[], object] | None = None) -> int:
    """Publish until nothing is due; returns how many changes SNS accepted.

    Args:
        on_backlog: called at the first claim that leaves more behind: time to ask for help.

    Raises:
        PublishFailed: SNS cannot be reached. What was claimed is released and due again at once.
        OperationalError: the database is away; leases run out by themselves.
    """
    published = 0
    while claims := claim(limit=CLAIM_LIMIT, lease_seconds=LEASE_SECONDS):
        outcome = Outcome([], [])
        if on_backlog and len(claims) == CLAIM_LIMIT:
            on_backlog()
            on_backlog = None
        try:
            _publish(claims, outcome, deadline=time.monotonic() + SENDING_SECONDS)
        finally:
            # Also when SNS went away midway: what it has taken is settled, the rest is freed.
            settle(outcome, claims)
        published += len(outcome.sent)
        log.info("published", changes=len(outcome.sent), refused=len(outcome.refused))
    return published


def _publish(claims: Sequence[Claim], outcome: Outcome, *, deadline: float) -> None:
    parcels = pack(read(claims), backlog=len(claims) == CLAIM_LIMIT, refused=outcome.refused)
    for batch in topic.batches(parcels, size_bytes=lambda parcel: parcel.message.size_bytes):
        if time.monotonic() > deadline:
            return
        for parcel, refusal in send(batch):
            if refusal is None:
                outcome.sent.extend(parcel.readings)
            else:
                outcome.refused.extend(_refused(parcel, refusal))


#: Set for one transaction. After a burst the planner's statistics are old, and a plan that reads
#: the whole backlog or every user for each claim would make draining quadratic: go by index.
#: A claim or a settling lost in a crash of the server costs a second sending: need not be awaited.
_SETTINGS = """
SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off;
SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL enable_sort = off;
SET LOCAL synchronous_commit = off;
"""


@contextmanager
def _executed(statement: str, parameters: Any) -> Iterator[CursorWrapper]:
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
    with _executed(_CLAIM, {"limit": limit, "lease_seconds": lease_seconds}) as cursor:
        claims = [Claim(*row) for row in cursor.fetchall()]
    return sorted(claims, key=lambda claim: (claim.priority, claim.changed_at))


_READ = """
SELECT id::text, content_hash::text, username, email, first_name, last_name, is_active, date_joined,
       groups
FROM ({content}) AS content
WHERE id = ANY(%s::uuid[])
"""


def read(claims: Sequence[Claim]) -> Iterator[Reading]:
    """Read each claim's user, later than the version was read: the state is never older than it.

    Who is not there any more, or no longer replicated, is a deletion, whatever the entry says.
    """
    with _executed(_READ.format(content=content_sql()), [[c.user_id for c in claims]]) as cursor:
        rows = {row[0]: row for row in cursor.fetchall()}
    for leased in claims:
        row = rows.get(leased.user_id)
        user_id = UUID(leased.user_id)
        data: UserState | UserGone
        if row is None:
            data = UserGone(id=user_id, version=leased.version)
        else:
            *fields, groups = row[2:]
            state = dict(zip(STATE_FIELDS, fields, strict=False))
            data = UserState(id=user_id, version=leased.version, groups=tuple(groups), **state)
        content_hash = row[1] if row else None
        yield Reading(leased, UserChange(changed_at=leased.changed_at, data=data), content_hash)


def pack(readings: Iterable[Reading], *, backlog: bool, refused: list[Refused]) -> Iterator[Parcel]:
    """Put changes of a lane together into messages of at most 64 KiB as sent, live lane first.

    A change alone goes as plain JSON; several share a message, compressed. With a ``backlog``,
    single saves take the bulk lane too, so that the live lane stays free for what is urgent. What
    SNS refused before goes alone, so that it holds up no other and its own fault shows.

    Args:
        refused: takes what no client could read, and what is too large for any message.
    """
    together: dict[Lane, list[tuple[Reading, bytes]]] = {Lane.LIVE: [], Lane.BULK: []}
    alone: list[tuple[Lane, Reading, bytes]] = []
    for reading in readings:
        body = encode_change(reading.change)
        try:
            check_encoded(body)
        except ContractError as error:
            refused.append(Refused(reading, str(error), for_good=True))
            continue
        lane = _lane(reading.claim.priority, backlog=backlog)
        if reading.claim.attempts:
            alone.append((lane, reading, body))
        else:
            together[lane].append((reading, body))
    for lane, encoded in together.items():
        for start in range(0, len(encoded), MAX_CHANGES_PER_MESSAGE):
            yield from _fitting(lane, encoded[start : start + MAX_CHANGES_PER_MESSAGE], refused)
    for lane, reading, body in alone:
        yield from _fitting(lane, [(reading, body)], refused)


def _lane(priority: int, *, backlog: bool) -> Lane:
    if priority == Priority.BULK or (priority == Priority.SINGLE and backlog):
        return Lane.BULK
    return Lane.LIVE


def _fitting(
    lane: Lane, encoded: Sequence[tuple[Reading, bytes]], refused: list[Refused]
) -> Iterator[Parcel]:
    bodies = [body for _, body in encoded]
    message = encode_batch(bodies, compress=len(bodies) > 1)
    if message.size_bytes > PACKED_BYTES:
        if len(encoded) > 1:
            middle = len(encoded) // 2
            yield from _fitting(lane, encoded[:middle], refused)
            yield from _fitting(lane, encoded[middle:], refused)
            return
        message = encode_batch(bodies, compress=True)
    if message.size_bytes > topic.MAX_MESSAGE_BYTES:
        reason = f"{message.size_bytes} bytes as sent; SNS takes {topic.MAX_MESSAGE_BYTES}"
        refused.append(Refused(encoded[0][0], reason, for_good=True))
        return
    yield Parcel(lane, message, [reading for reading, _ in encoded])


def send(parcels: Sequence[Parcel]) -> "list[tuple[Parcel, topic.Refusal | None]]":
    """Hand up to ten parcels to SNS in one call; each is accepted or refused by itself.

    Raises:
        PublishFailed: SNS cannot be reached, or refuses this publisher altogether.
    """
    refusals = topic.publish([(parcel.lane, parcel.message) for parcel in parcels])
    return list(zip(parcels, refusals, strict=True))


def _refused(parcel: Parcel, refusal: "topic.Refusal") -> Iterator[Refused]:
    alone = len(parcel.readings) == 1
    for reading in parcel.readings:
        often = reading.claim.attempts + 1 >= MAX_REFUSALS
        for_good = refusal.is_our_fault and alone and often
        yield Refused(reading, refusal.reason, for_good=for_good)


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


def settle(outcome: Outcome, claims: Sequence[Claim]) -> None:
    """Record what SNS took; hold back or set aside what was refused; free what was not tried.

    Only a lease that is still this publisher's is given back: one that ran out may be another's.
    """
    sent = {reading.claim.user_id for reading in outcome.sent}
    refused = {item.reading.claim.user_id: item for item in outcome.refused}
    for item in outcome.refused:
        report = log.error if item.for_good else log.warning
        event = "entry_parked" if item.for_good else "publish_refused"
        report(event, user_id=item.reading.claim.user_id, reason=item.reason)
    if outcome.sent:
        _execute(
            _SETTLE_SENT,
            [
                (leased.user_id, leased.version, content_hash, leased.claimed_until)
                for leased, _, content_hash in outcome.sent
            ],
        )
    unsent = [leased for leased in claims if leased.user_id not in sent]
    if unsent:
        _execute(
            _SETTLE_UNSENT, [_unsent(leased, refused.get(leased.user_id)) for leased in unsent]
        )


def _unsent(leased: Claim, refused: Refused | None) -> tuple[str, float, str, datetime]:
    backoff = _backoff_seconds(leased.attempts) if refused else 0.0
    parked_reason = refused.reason if refused and refused.for_good else ""
    return leased.user_id, backoff, parked_reason, leased.claimed_until


def _execute(statement: str, rows: Sequence[tuple[object, ...]]) -> None:
    """Run a statement over rows, which it takes as an array for each column."""
    with _executed(statement, [list(column) for column in zip(*rows, strict=True)]):
        pass


def _backoff_seconds(attempts: int) -> float:
    """Doubling from a second to five minutes, with jitter so that retries do not march in step."""
    return min(MAX_BACKOFF_SECONDS, 2.0 ** min(attempts, 20)) * random.uniform(0.5, 1.0)
