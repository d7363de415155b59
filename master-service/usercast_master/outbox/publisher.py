"""Publish: takes what the outbox owes, hands it to SNS in packed messages, settles what arrived.

The steps, a function each: claim → read → pack → send → settle. No lock is held and no transaction
is open while SNS is called. A claim is a lease that runs out by itself, so a killed publisher's
entries come free, and several publishers work side by side. Run by ``outbox.tasks``, and by
``outbox.relay`` when the broker is away.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple
from uuid import UUID

import structlog
from django.db import InterfaceError, OperationalError, connection

from usercast import tracing
from usercast.contract import STATE_FIELDS, UserChange, UserGone, UserState
from usercast.errors import PublishFailed, reason
from usercast_master.outbox import counters, minutes, topic
from usercast_master.outbox.capture import Priority
from usercast_master.outbox.content import content_sql
from usercast_master.outbox.lease import (
    Claim,
    Unsent,
    claim,
    executed,
    settle_sent,
    settle_unsent,
)
from usercast_master.outbox.packing import Parcel, Reading, Refused, pack

log = structlog.get_logger(__name__)

CLAIM_LIMIT = 2000
#: How long a killed publisher's entries wait for another one.
LEASE_SECONDS = 20.0
#: No message is sent later than this after its claim, so that the last one (``aws.sns`` answers or
#: fails within 12 s) is through before the lease ends. Beyond it, another publisher could send the
#: same again: work, not harm.
SENDING_SECONDS = 8.0
#: How long a database that went away meanwhile is waited for, to record what was sent.
SETTLING_SECONDS = 8.0
SETTLE_AGAIN_SECONDS = 0.25
#: A change that SNS refuses alone so many times (over half a minute) is set aside.
MAX_REFUSALS = 6


class Outcome(NamedTuple):
    """What became of the readings; those in neither list were not tried."""

    sent: list[Reading]
    refused: list[Refused]


def publish_pending(
    *,
    on_backlog: Callable[[], object] | None = None,
    enough: Callable[[], bool] = lambda: False,
) -> int:
    """Publish until nothing is due, or it is enough; returns how many changes SNS accepted.

    Args:
        enough: asked between two claims, a second or so apart under load.
        on_backlog: called at the first claim that leaves more behind: time to ask for help.

    Raises:
        PublishFailed: SNS cannot be reached. What was claimed is released and due again at once.
        OperationalError: the database is away; leases run out by themselves.
    """
    published = 0
    while not enough() and (claims := claim(limit=CLAIM_LIMIT, lease_seconds=LEASE_SECONDS)):
        outcome = Outcome([], [])
        if on_backlog and len(claims) == CLAIM_LIMIT:
            on_backlog()
            on_backlog = None
        try:
            _publish(claims, outcome, deadline=time.monotonic() + SENDING_SECONDS)
        except PublishFailed as error:
            minutes.failed(str(error))
            counters.FAILURES.inc()
            raise
        finally:
            # Also when SNS went away midway: what it has taken is settled, the rest is freed.
            _settle_surely(outcome, claims)
        published += len(outcome.sent)
    return published


def _publish(claims: Sequence[Claim], outcome: Outcome, *, deadline: float) -> None:
    parcels = pack(read(claims), backlog=len(claims) == CLAIM_LIMIT, refused=outcome.refused)
    batches = topic.batches(parcels, size_bytes=lambda parcel: parcel.message.size_bytes)
    for number, batch in enumerate(batches):
        # The first goes in any case: a slow reading alone must not keep all from going for ever.
        if number and time.monotonic() > deadline:
            return
        for parcel, refusal in send(batch):
            if refusal is None:
                outcome.sent.extend(parcel.readings)
            else:
                outcome.refused.extend(_refused(parcel, refusal))


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
    with executed(_READ.format(content=content_sql()), [[c.user_id for c in claims]]) as cursor:
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
        change = UserChange(
            changed_at=leased.changed_at, data=data, traceparent=leased.traceparent or None
        )
        yield Reading(leased, change, content_hash)


def send(parcels: Sequence[Parcel]) -> "list[tuple[Parcel, topic.Refusal | None]]":
    """Hand up to ten parcels to SNS in one call; each is accepted or refused by itself.

    Raises:
        PublishFailed: SNS cannot be reached, or refuses this publisher altogether.
    """
    spans = [_span_of(parcel) for parcel in parcels]
    began = time.perf_counter()
    try:
        refusals = topic.publish(
            [
                topic.Outgoing(parcel.lane, parcel.message, tracing.text(span))
                for parcel, span in zip(parcels, spans, strict=True)
            ]
        )
    finally:
        counters.PUBLISH_SECONDS.observe(time.perf_counter() - began)
        for span in spans:
            span.end()
    for parcel, refusal in zip(parcels, refusals, strict=True):
        if refusal is None:
            counters.MESSAGE_CHANGES.observe(len(parcel.readings))
            log.info(
                "published",
                changes=len(parcel.readings),
                lane=parcel.lane.value,
                trace=tracing.trace_ids(_traceparents(parcel)),
            )
    return list(zip(parcels, refusals, strict=True))


def _span_of(parcel: Parcel) -> tracing.Span:
    return tracing.start(
        "publish",
        kind=tracing.SpanKind.PRODUCER,
        of=_traceparents(parcel),
        changes=len(parcel.readings),
    )


def _traceparents(parcel: Parcel) -> list[str | None]:
    return [reading.change.traceparent for reading in parcel.readings]


def _refused(parcel: Parcel, refusal: "topic.Refusal") -> Iterator[Refused]:
    alone = len(parcel.readings) == 1
    for reading in parcel.readings:
        often = reading.claim.refusals + 1 >= MAX_REFUSALS
        for_good = refusal.for_its_content and alone and often
        yield Refused(reading, refusal.reason, blamed=refusal.blamed, for_good=for_good)


def settle(outcome: Outcome, claims: Sequence[Claim]) -> None:
    """Record what SNS took; hold back or set aside what was refused; free what was not tried."""
    for item in outcome.refused:
        report = log.error if item.for_good else log.warning
        event = "entry_parked" if item.for_good else "publish_refused"
        (counters.PARKED if item.for_good else counters.REFUSED).inc()
        report(event, user_id=item.reading.claim.user_id, reason=item.reason)
    if outcome.refused:
        minutes.refused(len(outcome.refused))
    settle_sent([(reading.claim, reading.content_hash) for reading in outcome.sent])
    for priority, count in Counter(one.claim.priority for one in outcome.sent).items():
        counters.PUBLISHED.labels(Priority(priority).name.lower()).inc(count)
    sent = {reading.claim.user_id for reading in outcome.sent}
    refused = {item.reading.claim.user_id: item for item in outcome.refused}
    settle_unsent(
        [
            _unsent(leased, refused.get(leased.user_id))
            for leased in claims
            if leased.user_id not in sent
        ]
    )


def _unsent(leased: Claim, refused: Refused | None) -> Unsent:
    if refused is None:
        return Unsent(leased)
    reason = refused.reason if refused.for_good else ""
    return Unsent(leased, failed=True, refused=refused.blamed, parked_reason=reason)


def _settle_surely(outcome: Outcome, claims: Sequence[Claim]) -> None:
    """Settle, over a break of the connection too: else the claims wait for their leases to end."""
    give_up_at = time.monotonic() + SETTLING_SECONDS
    while True:
        try:
            settle(outcome, claims)
            return
        except (OperationalError, InterfaceError) as error:
            if connection.in_atomic_block or time.monotonic() > give_up_at:
                raise
            log.warning("settle_failed", reason=reason(error))
        connection.close()
        time.sleep(SETTLE_AGAIN_SECONDS)
