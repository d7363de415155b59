"""A dead letter and what it holds: takes a message as SQS gives it, tells what is wrong with it.

``inbox.dead_letters`` receives, sends and deletes letters; ``manage.py dead_letters`` shows them.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec

from usercast.contract import Batch, Lane, Message, decode_batch, split_batch
from usercast.errors import ContractError

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageTypeDef


class Source(StrEnum):
    """A queue of dead letters: what pollers could not take, or SNS could not hand to a lane."""

    DEAD = "dead"
    UNDELIVERED = "undelivered"


#: Why a letter may be there whose every change can be read.
READS_WELL = {
    Source.DEAD: "reads well: refused by the database or by an apply; the poller's log says why",
    Source.UNDELIVERED: "reads well: SNS could not hand it to the lane's queue",
}


@dataclass(frozen=True, kw_only=True)
class Letter:
    """A message in a queue of dead letters, without the envelope SNS may have put around it."""

    source: Source
    message_id: str
    receipt_handle: str
    sent_at: datetime
    receive_count: int
    body: str
    attributes: dict[str, str]

    @classmethod
    def of(cls, source: Source, message: "MessageTypeDef") -> "Letter":
        """The letter in a message that was received with all its attributes."""
        body = message["Body"]
        attributes = {
            name: attribute["StringValue"]
            for name, attribute in message.get("MessageAttributes", {}).items()
            if "StringValue" in attribute
        }
        envelope = _envelope(body)
        if envelope is not None:
            body, attributes = envelope.message, envelope.attributes
        system = message["Attributes"]
        return cls(
            source=source,
            message_id=message["MessageId"],
            receipt_handle=message["ReceiptHandle"],
            sent_at=datetime.fromtimestamp(int(system["SentTimestamp"]) / 1000, UTC),
            receive_count=int(system["ApproximateReceiveCount"]),
            body=body,
            attributes=attributes,
        )

    @property
    def lane(self) -> Lane:
        """Where it belongs; bulk if it does not say, since bulk holds up nobody."""
        lane = self.attributes.get("lane")
        return Lane(lane) if lane in set(Lane) else Lane.BULK

    @property
    def size_bytes(self) -> int:
        """Its body's size."""
        return len(self.body.encode(errors="surrogatepass"))

    def decode(self) -> Batch:
        """Read it as the poller does.

        Raises:
            ContractError: none of its changes can be read.
        """
        return decode_batch(self._as_sent())

    def summary(self) -> dict[str, Any]:
        """Where it lies, and the first reason found; no personal data.

        ``changes`` and ``bad`` are None when the letter as a whole cannot be read.
        """
        summary = {
            "queue": self.source.value,
            "message_id": self.message_id,
            "sent_at": self.sent_at.isoformat(timespec="seconds"),
            "received": self.receive_count,
            "bytes": self.size_bytes,
        }
        try:
            batch = self.decode()
        except ContractError as error:
            return {**summary, "changes": None, "bad": None, "reason": str(error)}
        reasons = [bad.reason for bad in batch.rejected] or [READS_WELL[self.source]]
        total = len(batch.changes) + len(batch.rejected)
        return {**summary, "changes": total, "bad": len(batch.rejected), "reason": reasons[0]}

    def content(self) -> dict[str, Any]:
        """The summary, the attributes, and each change; the body if no change can be read.

        A good change is an ``event``, a bad one its ``reason`` and its text as it came.
        """
        head = {**self.summary(), "attributes": self.attributes}
        try:
            bad = {rejected.position: rejected.reason for rejected in self.decode().rejected}
        except ContractError:
            return {**head, "body": self.body}
        texts = [event.decode(errors="replace") for event in split_batch(self._as_sent())]
        events = [
            {"position": position, "reason": bad[position], "text": text}
            if position in bad
            else {"position": position, "event": json.loads(text)}
            for position, text in enumerate(texts)
        ]
        return {**head, "events": events}

    def _as_sent(self) -> Message:
        return Message.received(self.body, self.attributes.get("content-encoding"))


class _Attribute(msgspec.Struct):
    value: str = msgspec.field(name="Value", default="")


class _Envelope(msgspec.Struct, tag_field="Type", tag="Notification"):
    """What SNS puts around a message where raw delivery is off."""

    message: str = msgspec.field(name="Message")
    message_attributes: dict[str, _Attribute] = msgspec.field(
        name="MessageAttributes", default_factory=dict
    )

    @property
    def attributes(self) -> dict[str, str]:
        return {name: attribute.value for name, attribute in self.message_attributes.items()}


def _envelope(body: str) -> _Envelope | None:
    try:
        return msgspec.json.decode(body, type=_Envelope)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None
