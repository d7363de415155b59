"""The poller: takes messages from the client's two lanes, hands their changes to ``replica.apply``
and what came of them to ``live.broadcast``.

A message is deleted only after its changes are committed, so a crash at any line means it comes
again, and what comes again is dropped by its version. A lane has a thread of its own: a
deactivation in the live lane waits for no more than the one bulk apply that is under way.
"""

from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Literal, NamedTuple

import structlog
from botocore.exceptions import BotoCoreError, ClientError
from django.db import (
    DatabaseError,
    DataError,
    IntegrityError,
    InterfaceError,
    close_old_connections,
    connection,
)

from usercast import aws
from usercast.contract import Lane, Message, UserChange, decode_batch
from usercast.errors import ContractError
from usercast.lifecycle import Stop
from usercast.topology import lane_queue_url
from usercast_client.live.broadcast import Broadcaster
from usercast_client.replica.apply import apply

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageTypeDef

log = structlog.get_logger(__name__)

#: SQS hands out at most 10 messages a receive.
MAX_MESSAGES = 10
#: How long an idle receive waits, and so how long stopping may take. SQS allows 20 s; 3 s cost
#: about half a dollar a month and lane.
WAIT_SECONDS = 3
RETRY_SECONDS = 1.0
#: How soon a message that holds a bad change comes again, on its way to the dead-letter queue.
REJECTED_AGAIN_SECONDS = 2
#: How long messages in hand stay unseen by others, renewed at every try.
HOLD_SECONDS = 30


class Received(NamedTuple):
    """A message, decoded: its good changes, and whether any was bad."""

    receipt_handle: str
    changes: list[UserChange]
    has_rejected: bool


def run(stop: Stop, *, client: str) -> None:
    """Poll both lanes until asked to stop; outlives SQS, PostgreSQL and Redis going away.

    Raises:
        ConfigurationError: a lane does not exist, or SQS cannot be reached, at the start.
    """
    urls = {lane: lane_queue_url(client, lane) for lane in Lane}
    broadcaster = Broadcaster()
    log.info("poller_started", client=client)
    with ThreadPoolExecutor(len(urls), thread_name_prefix="lane") as lanes:
        polling = [lanes.submit(_poll, stop, lane, url, broadcaster) for lane, url in urls.items()]
        wait(polling, return_when=FIRST_COMPLETED)
        # Both were asked to stop, or one broke: the other then stops too, and the process ends.
        stop.request()
    broadcaster.close()
    for lane_poll in polling:
        lane_poll.result()
    log.info("poller_stopped", client=client)


def _poll(stop: Stop, lane: Lane, queue_url: str, broadcaster: Broadcaster) -> None:
    while not stop.requested:
        close_old_connections()
        try:
            # First the database: receiving what cannot be applied would count towards dead letters.
            connection.ensure_connection()
            messages = receive(queue_url)
            if messages:
                handle(messages, queue_url=queue_url, broadcaster=broadcaster, stop=stop)
        except (BotoCoreError, ClientError) as error:
            log.warning("queue_unreachable", lane=lane.value, reason=str(error))
            stop.wait(RETRY_SECONDS)
        except (DatabaseError, InterfaceError) as error:
            log.warning("database_unreachable", lane=lane.value, reason=_reason(error))
            stop.wait(RETRY_SECONDS)
    close_old_connections()


def receive(queue_url: str) -> "list[MessageTypeDef]":
    """Up to ten messages; empty after ``WAIT_SECONDS`` without any."""
    response = aws.sqs().receive_message(
        QueueUrl=queue_url,
        MaxNumberOfMessages=MAX_MESSAGES,
        WaitTimeSeconds=WAIT_SECONDS,
        MessageAttributeNames=["content-encoding"],
        MessageSystemAttributeNames=["ApproximateReceiveCount"],
    )
    return response.get("Messages", [])


def handle(
    messages: "Sequence[MessageTypeDef]", *, queue_url: str, broadcaster: Broadcaster, stop: Stop
) -> None:
    """Decode, apply, push, then delete what was good and give back what was not.

    While the database cannot take them, the messages stay in hand: each time they were received
    again would count towards the dead letters. When asked to stop meanwhile, they are given back.
    """
    received = [_decode(message) for message in messages]
    while True:
        try:
            failed = _apply(received, broadcaster)
            break
        except (DatabaseError, InterfaceError) as error:
            log.warning("database_unusable", reason=_reason(error))
            _make_visible(received, queue_url=queue_url, in_seconds=HOLD_SECONDS)
        if stop.wait(RETRY_SECONDS):
            _make_visible(received, queue_url=queue_url, in_seconds=0)
            return
        close_old_connections()
    bad = [item for item in received if item.has_rejected or item in failed]
    _delete([item for item in received if item not in bad], queue_url=queue_url)
    _make_visible(bad, queue_url=queue_url, in_seconds=REJECTED_AGAIN_SECONDS)


def _decode(message: "MessageTypeDef") -> Received:
    def rejected(reason: str, position: int | None = None) -> None:
        log.error(
            "change_rejected",
            message_id=message["MessageId"],
            receive_count=message.get("Attributes", {}).get("ApproximateReceiveCount"),
            position=position,
            reason=reason,
        )

    attribute = message.get("MessageAttributes", {}).get("content-encoding")
    encoding = attribute.get("StringValue") if attribute else None
    try:
        if encoding not in (None, "gzip"):
            raise ContractError(f"content-encoding {encoding!r} is not known; gzip or none is")
        known: Literal["gzip"] | None = "gzip" if encoding else None
        batch = decode_batch(Message(body=message["Body"], content_encoding=known))
    except ContractError as error:
        rejected(str(error))
        return Received(message["ReceiptHandle"], [], has_rejected=True)
    for bad in batch.rejected:
        rejected(bad.reason, bad.position)
    return Received(message["ReceiptHandle"], batch.changes, bool(batch.rejected))


def _apply(received: Sequence[Received], broadcaster: Broadcaster) -> list[Received]:
    """Apply all in one transaction, or one by one if it is refused; returns what was refused so.

    Raises:
        DatabaseError: the fault is the database's (away, read-only, not migrated), not a message's.
    """
    try:
        _apply_together(received, broadcaster)
    except (DataError, IntegrityError) as error:
        if len(received) == 1:
            log.error("apply_refused", reason=_reason(error))
            return list(received)
        log.warning("apply_split", messages=len(received), reason=_reason(error))
        return [bad for item in received for bad in _apply([item], broadcaster)]
    return []


def _apply_together(received: Sequence[Received], broadcaster: Broadcaster) -> None:
    changes = [change for item in received for change in item.changes]
    if not changes:
        return
    applied = apply(changes)
    # Committed, so browsers may know; the deletion of the messages need not hold them up.
    broadcaster.push(applied.changes)
    log.info("applied", changes=len(applied.changes), stale=applied.stale, messages=len(received))


def _delete(received: Sequence[Received], *, queue_url: str) -> None:
    if not received:
        return
    response = aws.sqs().delete_message_batch(
        QueueUrl=queue_url,
        Entries=[
            {"Id": str(position), "ReceiptHandle": item.receipt_handle}
            for position, item in enumerate(received)
        ],
    )
    for failure in response.get("Failed", []):
        # It comes again and is dropped by its versions.
        log.warning("delete_failed", code=failure["Code"], reason=failure.get("Message", ""))


def _make_visible(received: Sequence[Received], *, queue_url: str, in_seconds: int) -> None:
    """Let these come again so soon; the queue moves what came too often to the dead letters."""
    if not received:
        return
    aws.sqs().change_message_visibility_batch(
        QueueUrl=queue_url,
        Entries=[
            {
                "Id": str(position),
                "ReceiptHandle": item.receipt_handle,
                "VisibilityTimeout": in_seconds,
            }
            for position, item in enumerate(received)
        ],
    )


def _reason(error: Exception) -> str:
    """The error's first line: PostgreSQL's next ones quote values, which may be personal data."""
    return str(error).partition("\n")[0]
