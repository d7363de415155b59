"""Messages: what ``inbox.poller`` receives from a queue, decoded, and their deletion."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import structlog

from usercast import aws
from usercast.contract import Message, Probe, UserChange, decode_batch
from usercast.errors import ContractError
from usercast_client import metrics

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageTypeDef

log = structlog.get_logger(__name__)

#: SQS hands out at most 10 messages a receive.
MAX_MESSAGES = 10


class Received(NamedTuple):
    """A message, decoded: its good changes, whether any was bad, and the canary's probes."""

    message: "MessageTypeDef"
    changes: list[UserChange]
    has_rejected: bool
    probes: list[Probe]

    @property
    def receipt_handle(self) -> str:
        """Which SQS deletes it or gives it back by."""
        return self.message["ReceiptHandle"]

    @property
    def message_id(self) -> str:
        """As SQS calls it, however often it comes."""
        return self.message["MessageId"]


def receive(queue_url: str) -> "list[MessageTypeDef]":
    """Up to ten messages; empty after ``aws.LONG_POLL_SECONDS`` without any."""
    response = aws.sqs().receive_message(
        QueueUrl=queue_url,
        MaxNumberOfMessages=MAX_MESSAGES,
        WaitTimeSeconds=aws.LONG_POLL_SECONDS,
        MessageAttributeNames=["content-encoding", "traceparent"],
        MessageSystemAttributeNames=["ApproximateReceiveCount"],
    )
    return response.get("Messages", [])


def decode(message: "MessageTypeDef") -> Received:
    """Read a message; what does not follow the contract is logged, with its reason."""

    def rejected(reason: str, position: int | None = None) -> None:
        metrics.APPLIED.labels("rejected").inc()
        log.error(
            "change_rejected",
            message_id=message["MessageId"],
            receive_count=int(message.get("Attributes", {}).get("ApproximateReceiveCount", 1)),
            position=position,
            reason=reason,
        )

    try:
        batch = decode_batch(_as_sent(message))
    except ContractError as error:
        rejected(str(error))
        return Received(message, [], has_rejected=True, probes=[])
    for bad in batch.rejected:
        rejected(bad.reason, bad.position)
    return Received(message, batch.changes, bool(batch.rejected), batch.probes)


def delete(queue_url: str, receipt_handles: Sequence[str]) -> None:
    """Delete messages whose changes are committed; what cannot be deleted comes again, as old."""
    if not receipt_handles:
        return
    response = aws.sqs().delete_message_batch(
        QueueUrl=queue_url,
        Entries=[
            {"Id": str(position), "ReceiptHandle": handle}
            for position, handle in enumerate(receipt_handles)
        ],
    )
    for failure in response.get("Failed", []):
        log.warning("delete_failed", code=failure["Code"], reason=failure.get("Message", ""))


def _as_sent(message: "MessageTypeDef") -> Message:
    return Message.received(message["Body"], attribute(message, "content-encoding"))


def attribute(message: "MessageTypeDef", name: str) -> str | None:
    """A text that the sender has put beside the message's body."""
    found = message.get("MessageAttributes", {}).get(name)
    return found.get("StringValue") if found else None
