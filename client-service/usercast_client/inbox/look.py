"""One pass over a queue of dead letters: receives what lies there, hands ``inbox.letters`` to
``inbox.dead_letters``, and gives back to the queue what was not deleted.

SQS cannot be read without receiving, which hides a message from others for a while.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self

from botocore.exceptions import BotoCoreError, ClientError

from usercast import aws
from usercast.topology import queue_url, unreachable
from usercast_client.inbox.hold import give_back
from usercast_client.inbox.letters import Letter, Source
from usercast_client.inbox.messages import MAX_MESSAGES

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import BatchResultErrorEntryTypeDef

#: What was looked at is given back at the end; if the process is killed, after this time.
HOLD_SECONDS = 120
#: A receive that waits asks all of SQS's servers; one that does not may miss messages.
WAIT_SECONDS = 1


class Failure(NamedTuple):
    """A letter that SQS did not take or delete; ``step`` says which."""

    letter: Letter
    step: str
    reason: str


class Look:
    """One pass over a queue: each message once, hidden from others until the pass ends.

    Args:
        sent_before: newer ones are passed over, and end the pass when there are no others.
        batch_size: messages a receive, 1 to 10.

    Raises:
        ConfigurationError: the queue does not exist, or SQS cannot be reached.
    """

    def __init__(
        self,
        client: str,
        source: Source,
        *,
        sent_before: datetime | None = None,
        batch_size: int = MAX_MESSAGES,
    ) -> None:
        self._source = source
        self._url = queue_url(client, source.value)
        self._sent_before = sent_before or datetime.max.replace(tzinfo=UTC)
        self._batch_size = batch_size
        #: Receipt handles by message id.
        self._held: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        handles = list(self._held.values())
        for start in range(0, len(handles), MAX_MESSAGES):
            give_back(self._url, handles[start : start + MAX_MESSAGES], in_seconds=0)

    def __iter__(self) -> Iterator[list[Letter]]:
        """Receive until only seen ones come, or as many have come as were there to begin with."""
        seen: set[str] = set()
        # The count is approximate: what came within the last minute may not be in it.
        bound = max(self.count(), MAX_MESSAGES)
        while len(seen) < bound:
            letters = self._receive()
            self._held |= {letter.message_id: letter.receipt_handle for letter in letters}
            new = [
                letter
                for letter in letters
                if letter.message_id not in seen and letter.sent_at <= self._sent_before
            ]
            if not new:
                return
            seen |= {letter.message_id for letter in new}
            yield new

    def count(self) -> int:
        """About how many messages the queue holds, hidden ones included."""
        return count(self._url)

    def delete(self, letters: Sequence[Letter]) -> list[Failure]:
        """Remove up to ten for good; returns those that SQS did not delete."""
        if not letters:
            return []
        with clear_errors():
            response = aws.sqs().delete_message_batch(
                QueueUrl=self._url,
                Entries=[
                    {"Id": str(position), "ReceiptHandle": letter.receipt_handle}
                    for position, letter in enumerate(letters)
                ],
            )
        for entry in response.get("Successful", []):
            self._held.pop(letters[int(entry["Id"])].message_id, None)
        return refused("delete", letters, response.get("Failed", []))

    def _receive(self) -> list[Letter]:
        with clear_errors():
            response = aws.sqs().receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=self._batch_size,
                WaitTimeSeconds=WAIT_SECONDS,
                VisibilityTimeout=HOLD_SECONDS,
                MessageAttributeNames=["All"],
                MessageSystemAttributeNames=["SentTimestamp", "ApproximateReceiveCount"],
            )
        return [Letter.of(self._source, message) for message in response.get("Messages", [])]


def count(url: str) -> int:
    """About how many messages a queue holds, hidden ones included.

    Raises:
        ConfigurationError: SQS cannot be reached.
    """
    with clear_errors():
        counts = aws.sqs().get_queue_attributes(
            QueueUrl=url,
            AttributeNames=[
                "ApproximateNumberOfMessages",
                "ApproximateNumberOfMessagesNotVisible",
            ],
        )["Attributes"]
    return sum(int(number) for number in counts.values())


def refused(
    step: str, letters: Sequence[Letter], failed: "Sequence[BatchResultErrorEntryTypeDef]"
) -> list[Failure]:
    """The entries of a batch that were refused, whose ids are positions in ``letters``."""
    return [
        Failure(letters[int(entry["Id"])], step, f"{entry['Code']} {entry.get('Message', '')}")
        for entry in failed
    ]


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turn a call that AWS did not answer into a ConfigurationError that names the endpoint."""
    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise unreachable(error) from error
