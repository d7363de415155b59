"""Hold: keeps the messages that ``inbox.poller`` works on unseen by other pollers.

A received message comes again after the queue's visibility timeout. An apply takes a fraction of
that, but a database that is slow or away can make it take any time; received again meanwhile, a
message would be worked on twice and count towards the dead letters.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import structlog
from botocore.exceptions import BotoCoreError, ClientError

from usercast import aws
from usercast.errors import reason

log = structlog.get_logger(__name__)

#: As the queues have it (infra/aws/client.yaml): how long a killed poller's messages wait.
VISIBILITY_SECONDS = 20
#: Messages are renewed at the second look that finds them, 5 to 10 s after they were received, and
#: at each one from then on: one call may fail.
RENEW_SECONDS = 5.0
#: How long stopping waits for the queues.
CLOSE_SECONDS = 1.0


class Hold:
    """Renews, from a thread of its own, the invisibility of whatever is held at the time."""

    def __init__(self, *, renew_seconds: float = RENEW_SECONDS) -> None:
        self._renew_seconds = renew_seconds
        self._held: dict[str, Sequence[str]] = {}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="hold", daemon=True)
        self._thread.start()

    @contextmanager
    def holding(self, queue_url: str, receipt_handles: Sequence[str]) -> Iterator[None]:
        """Hold these messages of a queue until the block ends; one block a queue at a time."""
        self._held[queue_url] = receipt_handles
        try:
            yield
        finally:
            del self._held[queue_url]

    def release(self) -> None:
        """Give back all that is held, since its work will not be finished; waits for a second."""
        calls = [
            threading.Thread(target=give_back, args=held, kwargs={"in_seconds": 0}, daemon=True)
            for held in dict(self._held).items()
        ]
        for call in calls:
            call.start()
        for call in calls:
            call.join(CLOSE_SECONDS)

    def close(self) -> None:
        """End the thread; what is still held will be seen again after the visibility timeout."""
        self._closed.set()
        self._thread.join(CLOSE_SECONDS)

    def _renew(self) -> None:
        seen: dict[str, Sequence[str]] = {}
        while not self._closed.wait(self._renew_seconds):
            held = dict(self._held)
            for queue_url, receipt_handles in held.items():
                # What was taken since the last look is fresh enough until the next one.
                if seen.get(queue_url) is receipt_handles:
                    _make_visible(queue_url, receipt_handles, in_seconds=VISIBILITY_SECONDS)
            seen = held


def give_back(queue_url: str, receipt_handles: Sequence[str], *, in_seconds: int) -> None:
    """Let messages come again so soon; the queue moves what came too often to the dead letters."""
    if receipt_handles:
        _make_visible(queue_url, receipt_handles, in_seconds=in_seconds)


def _make_visible(queue_url: str, receipt_handles: Sequence[str], *, in_seconds: int) -> None:
    entries: list[Any] = [
        {"Id": str(position), "ReceiptHandle": handle, "VisibilityTimeout": in_seconds}
        for position, handle in enumerate(receipt_handles)
    ]
    try:
        answer = aws.sqs().change_message_visibility_batch(QueueUrl=queue_url, Entries=entries)
    except (BotoCoreError, ClientError) as error:
        # They come again by themselves, sooner or later than asked for.
        log.warning("visibility_unchanged", reason=reason(error))
        return
    for failure in answer.get("Failed", []):
        log.warning("visibility_unchanged", code=failure["Code"], reason=failure.get("Message", ""))
