"""Dead letters: takes what lies in the client's ``dead`` and ``undelivered`` queues, to be looked
at, sent to the lanes again for ``inbox.poller``, or deleted.

Redrive is a receive, a send and a delete of our own. ``StartMessageMoveTask`` would not do: it
empties only queues that are the dead-letter queue of another queue, and ``undelivered`` is that of
SNS subscriptions; it runs once a queue at a time; and it does not send messages to the lane they
name. A crash between send and delete leaves a message in both queues; the versions make the second
one harmless, so it is safe to repeat.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from usercast import aws
from usercast.contract import Lane
from usercast.topology import lane_queue_url
from usercast_client.inbox.letters import Letter, Source
from usercast_client.inbox.look import Failure, Look, clear_errors, refused
from usercast_client.inbox.messages import MAX_MESSAGES

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import SendMessageBatchRequestEntryTypeDef

#: A batch's bodies and attributes together; SQS's limit was 256 KiB until 2025, and is 1 MiB since.
MAX_BATCH_BYTES = 256 * 1024
#: More than the attributes we send take.
ATTRIBUTES_BYTES = 512
#: What is sent along. SQS takes 10 attributes at most, and SNS may have added some of its own.
ATTRIBUTES = ("lane", "content-type", "content-encoding", "traceparent")


class Outcome(NamedTuple):
    """What became of some letters: those sent (or deleted, by a purge), and what went wrong."""

    done: list[Letter]
    failures: list[Failure]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which letters of which queues: all, one, those sent before a time, or so many."""

    sources: Sequence[Source]
    message_id: str | None = None
    sent_before: datetime | None = None
    limit: int = sys.maxsize


def letters(client: str, choice: Choice) -> Iterator[Letter]:
    """The chosen letters, which stay where they are.

    Raises:
        ConfigurationError: a queue does not exist, or SQS cannot be reached.
    """
    for _, batch in _chosen(client, choice):
        yield from batch


def count(client: str, choice: Choice) -> dict[Source, int]:
    """About how many messages each of the chosen queues holds.

    Raises:
        ConfigurationError: as for ``letters``.
    """
    return {source: Look(client, source).count() for source in choice.sources}


def redrive(
    client: str, choice: Choice, *, rate: float, pause: Callable[[float], None] = time.sleep
) -> Iterator[Outcome]:
    """Send letters to their lanes again, then delete them; yields what became of each batch.

    What fails again comes back with the time it was sent again: with ``sent_before`` as the time of
    the start, nothing is taken twice.

    Args:
        rate: messages a second at most; 0.1 or more, or a batch would outlast ``HOLD_SECONDS``.

    Raises:
        ConfigurationError: a queue does not exist, or SQS cannot be reached.
    """
    lanes = {lane: lane_queue_url(client, lane) for lane in Lane}
    batch_size = max(1, min(MAX_MESSAGES, int(rate)))
    seconds = 0.0
    for look, batch in _chosen(client, choice, batch_size=batch_size):
        pause(seconds)
        unsent = [failure for lane, url in lanes.items() for failure in _send(batch, lane, url)]
        sent = _without(batch, unsent)
        yield Outcome(sent, [*unsent, *look.delete(sent)])
        seconds = len(batch) / rate


def purge(client: str, choice: Choice) -> Iterator[Outcome]:
    """Delete letters for good; yields what became of each batch.

    Raises:
        ConfigurationError: a queue does not exist, or SQS cannot be reached.
    """
    for look, batch in _chosen(client, choice):
        undeleted = look.delete(batch)
        yield Outcome(_without(batch, undeleted), undeleted)


def _chosen(
    client: str, choice: Choice, *, batch_size: int = MAX_MESSAGES
) -> Iterator[tuple[Look, list[Letter]]]:
    left = 1 if choice.message_id else choice.limit
    for source in choice.sources:
        with Look(client, source, sent_before=choice.sent_before, batch_size=batch_size) as look:
            for received in look:
                fitting = [x for x in received if choice.message_id in (None, x.message_id)]
                batch = fitting[:left]
                if batch:
                    yield look, batch
                left -= len(batch)
                if not left:
                    return


def _without(batch: Sequence[Letter], failures: Sequence[Failure]) -> list[Letter]:
    failed = {failure.letter.message_id for failure in failures}
    return [letter for letter in batch if letter.message_id not in failed]


def _send(letters: Sequence[Letter], lane: Lane, lane_url: str) -> list[Failure]:
    """Send those of this lane; returns those that SQS did not take."""
    unsent: list[Failure] = []
    for parcel in _parcels([letter for letter in letters if letter.lane is lane]):
        with clear_errors():
            response = aws.sqs().send_message_batch(
                QueueUrl=lane_url,
                Entries=[_entry(position, letter) for position, letter in enumerate(parcel)],
            )
        unsent += refused("send", parcel, response.get("Failed", []))
    return unsent


def _parcels(letters: Sequence[Letter]) -> Iterator[list[Letter]]:
    """At most ten letters, in parcels of no more bytes than SQS takes at once."""
    parcel: list[Letter] = []
    size_bytes = 0
    for letter in letters:
        letter_bytes = letter.size_bytes + ATTRIBUTES_BYTES
        if parcel and size_bytes + letter_bytes > MAX_BATCH_BYTES:
            yield parcel
            parcel, size_bytes = [], 0
        parcel.append(letter)
        size_bytes += letter_bytes
    if parcel:
        yield parcel


def _entry(position: int, letter: Letter) -> "SendMessageBatchRequestEntryTypeDef":
    return {
        "Id": str(position),
        "MessageBody": letter.body,
        "MessageAttributes": {
            name: {"DataType": "String", "StringValue": value}
            for name in ATTRIBUTES
            if (value := letter.attributes.get(name))
        },
    }
