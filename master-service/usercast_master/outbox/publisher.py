"""Publish: takes what the outbox owes, hands it to SNS in packed messages, settles what arrived.

The steps, a function each: claim → read → pack → send → settle. No lock is held and no transaction
is open while SNS is called. A claim is a lease that runs out by itself, so a killed publisher's
entries come free, and several publishers work side by side. Run by ``outbox.tasks``, and by
``outbox.relay`` when the broker is away.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

import structlog
from botocore.exceptions import BotoCoreError, ClientError
from django.conf import settings
from django.contrib.postgres.aggregates import ArrayAgg
from django.db import connection
from django.db.models import F, Q

from usercast import aws
from usercast.contract import (
    CONTENT_TYPE,
    STATE_FIELDS,
    Lane,
    Message,
    UserChange,
    UserGone,
    UserState,
    encode_batch,
    encode_change,
)
from usercast.errors import PublishFailed
from usercast_master.outbox.capture import Priority
from usercast_master.outbox.models import OutboxEntry
from usercast_master.outbox.scope import replicated

if TYPE_CHECKING:
    from mypy_boto3_sns.type_defs import PublishBatchRequestEntryTypeDef

log = structlog.get_logger(__name__)

CLAIM_LIMIT = 2000
#: Longer than sending one claim takes, time-outs of SNS included.
LEASE_SECONDS = 120.0
#: AWS bills by 64 KiB begun, so a message never grows past that.
MAX_MESSAGE_BYTES = 64 * 1024
MAX_CHANGES_PER_MESSAGE = 200
#: PublishBatch takes at most 10 entries and 256 KiB, attributes included.
MAX_BATCH_ENTRIES = 10
MAX_BATCH_BYTES = 256 * 1024
ATTRIBUTES_BYTES = 256
MAX_BACKOFF_SECONDS = 300.0


class Claim(NamedTuple):
    """An entry leased to this publisher, as it was when it was claimed."""

    user_id: UUID
    version: int
    changed_at: datetime
    priority: int
    attempts: int
    claimed_until: datetime


class Parcel(NamedTuple):
    """One message ready to send, and the claims it settles."""

    lane: Lane
    message: Message
    claims: Sequence[Claim]


class Outcome(NamedTuple):
    """What became of the parcels SNS was asked to take."""

    sent: list[Claim]
    refused: list[Claim]


def is_due() -> bool:
    """Whether any entry waits to be published now."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT EXISTS (SELECT FROM outbox_entry WHERE {_DUE})")
        return bool(cursor.fetchone()[0])


def publish_pending() -> int:
    """Publish until nothing is due; returns how many changes SNS accepted.

    Raises:
        PublishFailed: SNS cannot be reached. What was claimed is released and due again at once.
        OperationalError: the database is away; leases run out by themselves.
    """
    published = 0
    while claims := claim(limit=CLAIM_LIMIT, lease_seconds=LEASE_SECONDS):
        backlog = len(claims) == CLAIM_LIMIT
        outcome = Outcome([], [])
        try:
            for group in _grouped(pack(read(claims), backlog=backlog)):
                done = send(group)
                outcome.sent.extend(done.sent)
                outcome.refused.extend(done.refused)
        finally:
            # Also when SNS went away midway: what it has taken is settled, the rest is freed.
            settle(outcome, claims)
        published += len(outcome.sent)
        log.info("published", changes=len(outcome.sent), refused=len(outcome.refused))
    return published


_DUE = """version > published_version
    AND (claimed_until IS NULL OR claimed_until < clock_timestamp())"""

_CLAIM = f"""
UPDATE outbox_entry AS entry
SET claimed_until = clock_timestamp() + %(lease_seconds)s * interval '1 second'
FROM (
    SELECT user_id FROM outbox_entry
    WHERE {_DUE}
    ORDER BY priority, changed_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
) AS due
WHERE entry.user_id = due.user_id
RETURNING entry.user_id, entry.version, entry.changed_at, entry.priority, entry.attempts,
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
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM, {"limit": limit, "lease_seconds": lease_seconds})
        claims = [Claim(*row) for row in cursor.fetchall()]
    return sorted(claims, key=lambda claim: (claim.priority, claim.changed_at))


def read(claims: Sequence[Claim]) -> Iterator[tuple[Claim, UserChange]]:
    """Pair each claim with its user's state, read after the version was: never older than it.

    Who is not there any more, or no longer replicated, is a deletion, whatever the entry says.
    """
    from usercast_master.accounts.models import User

    columns = [field for field in STATE_FIELDS if field != "groups"]
    rows = (
        User._base_manager.filter(replicated(), pk__in=[claim.user_id for claim in claims])
        .annotate(
            group_names=ArrayAgg(
                "groups__name", filter=Q(groups__isnull=False), default=[], order_by="groups__name"
            )
        )
        .values("id", "group_names", *columns)
    )
    states = {row["id"]: row for row in rows}
    for leased in claims:
        row = states.get(leased.user_id)
        data: UserState | UserGone
        if row is None:
            data = UserGone(id=leased.user_id, version=leased.version)
        else:
            data = UserState(
                id=leased.user_id,
                version=leased.version,
                groups=tuple(row["group_names"]),
                **{column: row[column] for column in columns},
            )
        yield leased, UserChange(changed_at=leased.changed_at, data=data)


def pack(changes: Iterable[tuple[Claim, UserChange]], *, backlog: bool) -> Iterator[Parcel]:
    """Put changes of a lane together into messages of at most 64 KiB as sent, live lane first.

    A change alone goes as plain JSON; several share a message, compressed. With a ``backlog``,
    single saves take the bulk lane too, so that the live lane stays free for what is urgent.
    """
    lanes: dict[Lane, list[tuple[Claim, bytes]]] = {Lane.LIVE: [], Lane.BULK: []}
    for leased, change in changes:
        lanes[_lane(leased.priority, backlog=backlog)].append((leased, encode_change(change)))
    for lane, encoded in lanes.items():
        for start in range(0, len(encoded), MAX_CHANGES_PER_MESSAGE):
            yield from _fitting(lane, encoded[start : start + MAX_CHANGES_PER_MESSAGE])


def _lane(priority: int, *, backlog: bool) -> Lane:
    if priority == Priority.BULK or (priority == Priority.SINGLE and backlog):
        return Lane.BULK
    return Lane.LIVE


def _fitting(lane: Lane, encoded: Sequence[tuple[Claim, bytes]]) -> Iterator[Parcel]:
    bodies = [body for _, body in encoded]
    message = encode_batch(bodies, compress=len(bodies) > 1)
    if message.size_bytes > MAX_MESSAGE_BYTES:
        if len(encoded) > 1:
            middle = len(encoded) // 2
            yield from _fitting(lane, encoded[:middle])
            yield from _fitting(lane, encoded[middle:])
            return
        message = encode_batch(bodies, compress=True)
    yield Parcel(lane, message, [leased for leased, _ in encoded])


def _grouped(parcels: Iterable[Parcel]) -> Iterator[list[Parcel]]:
    """Parcels in groups that one PublishBatch takes; one that is too large stands alone."""
    group: list[Parcel] = []
    group_bytes = 0
    for parcel in parcels:
        size = parcel.message.size_bytes + ATTRIBUTES_BYTES
        if group and (len(group) == MAX_BATCH_ENTRIES or group_bytes + size > MAX_BATCH_BYTES):
            yield group
            group, group_bytes = [], 0
        group.append(parcel)
        group_bytes += size
    if group:
        yield group


def send(parcels: Sequence[Parcel]) -> Outcome:
    """Hand up to ten parcels to SNS in one call; each is accepted or refused by itself.

    Raises:
        PublishFailed: SNS cannot be reached, or refuses this publisher altogether.
    """
    try:
        response = aws.sns().publish_batch(
            TopicArn=settings.USERCAST_TOPIC_ARN,
            PublishBatchRequestEntries=[
                _entry(position, parcel) for position, parcel in enumerate(parcels)
            ],
        )
    except ClientError as error:
        if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") != 400:
            raise PublishFailed(f"SNS at {aws.endpoint()}: {error}") from error
        log.error("publish_refused", reason=str(error))
        return Outcome([], [leased for parcel in parcels for leased in parcel.claims])
    except BotoCoreError as error:
        raise PublishFailed(f"SNS at {aws.endpoint()} does not answer: {error}") from error
    failed = {int(entry["Id"]): entry for entry in response.get("Failed", [])}
    for entry in failed.values():
        log.error("publish_refused", code=entry["Code"], reason=entry.get("Message", ""))
    outcome = Outcome([], [])
    for position, parcel in enumerate(parcels):
        (outcome.refused if position in failed else outcome.sent).extend(parcel.claims)
    return outcome


def _entry(position: int, parcel: Parcel) -> "PublishBatchRequestEntryTypeDef":
    attributes = {"lane": parcel.lane.value, "content-type": CONTENT_TYPE}
    if parcel.message.content_encoding:
        attributes["content-encoding"] = parcel.message.content_encoding
    return {
        "Id": str(position),
        "Message": parcel.message.body,
        "MessageAttributes": {
            name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
        },
    }


_SETTLE_SENT = """
UPDATE outbox_entry AS entry
SET published_version = greatest(entry.published_version, sent.version),
    attempts = 0,
    claimed_until = nullif(entry.claimed_until, sent.lease)
FROM unnest(%s::uuid[], %s::bigint[], %s::timestamptz[]) AS sent(user_id, version, lease)
WHERE entry.user_id = sent.user_id
"""

_SETTLE_UNSENT = """
UPDATE outbox_entry AS entry
SET attempts = entry.attempts + (unsent.backoff > 0)::int,
    claimed_until = CASE
        WHEN unsent.backoff > 0 THEN clock_timestamp() + unsent.backoff * interval '1 second'
    END
FROM unnest(%s::uuid[], %s::float8[], %s::timestamptz[]) AS unsent(user_id, backoff, lease)
WHERE entry.user_id = unsent.user_id AND entry.claimed_until = unsent.lease
"""


def settle(outcome: Outcome, claims: Sequence[Claim]) -> None:
    """Record what SNS took; hold back what it refused; free what it was not asked to take.

    Only a lease that is still this publisher's is given back: one that ran out may be another's.
    """
    refused = {leased.user_id for leased in outcome.refused}
    sent = {leased.user_id for leased in outcome.sent}
    unsent = [leased for leased in claims if leased.user_id not in sent]
    with connection.cursor() as cursor:
        if outcome.sent:
            cursor.execute(
                _SETTLE_SENT,
                [
                    [str(leased.user_id) for leased in outcome.sent],
                    [leased.version for leased in outcome.sent],
                    [leased.claimed_until for leased in outcome.sent],
                ],
            )
        if unsent:
            cursor.execute(
                _SETTLE_UNSENT,
                [
                    [str(leased.user_id) for leased in unsent],
                    [
                        _backoff_seconds(leased.attempts) if leased.user_id in refused else 0.0
                        for leased in unsent
                    ],
                    [leased.claimed_until for leased in unsent],
                ],
            )


def _backoff_seconds(attempts: int) -> float:
    """Doubling from a second to five minutes, with jitter so that retries do not march in step."""
    return min(MAX_BACKOFF_SECONDS, 2.0 ** min(attempts, 20)) * random.uniform(0.5, 1.0)


def republish_all() -> int:
    """Owe every user's latest version again, in the bulk lane; returns how many.

    For clients whose queues were lost. Who has a version already drops it as a duplicate.
    """
    return OutboxEntry.objects.filter(published_version=F("version")).update(
        published_version=F("version") - 1, priority=Priority.BULK
    )
