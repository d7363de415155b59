"""A client's ``manage.py`` whose receives are shaken: ``python -m chaos.shaken SEED poll``.

SQS may hand messages out in any order and more than once; LocalStack does neither. So what a
receive has fetched is shuffled, some of it doubled, some kept back for a later receive, and some
handed out again later, when it may have been deleted long since. It is done in botocore's event
hooks: no code of the client's is touched.
"""

import random
import sys
import threading
from collections import deque
from collections.abc import Iterable
from typing import Any

import structlog

from usercast import aws, startup

log = structlog.get_logger("chaos.shaken")

#: What SQS hands out at most, and so what a receiver may rely on; some of it are doubles.
MAX_MESSAGES = 10
MAX_FETCHED = 7
#: The shares of messages.
DOUBLED, KEPT_BACK, HANDED_OUT_AGAIN = 0.25, 0.15, 0.03


class Shaker:
    """What one queue's receives hand out, by a seed."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)
        self._kept: list[dict[str, Any]] = []
        self._remembered: deque[dict[str, Any]] = deque(maxlen=50)
        #: Messages handed out again so far.
        self.doubles = 0

    def ask(self, params: dict[str, Any]) -> None:
        """Fetch no more than can be handed out soon: what is kept too long comes again."""
        params["MaxNumberOfMessages"] = max(1, MAX_FETCHED - len(self._kept))
        if self._kept:
            params["WaitTimeSeconds"] = 1

    def shake(self, fetched: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """What the receiver gets instead of what was fetched; nothing is lost on the way."""
        late, self._kept = self._kept, self._some(fetched, KEPT_BACK)
        due = late + [message for message in fetched if message not in self._kept]
        given, overdue = due[:MAX_FETCHED], due[MAX_FETCHED:]
        if not given:
            return []
        doubles = self._some(given, DOUBLED) + self._some(self._remembered, HANDED_OUT_AGAIN)
        doubles = doubles[: MAX_MESSAGES - len(given)]
        self._kept += overdue
        self._remembered.extend(given)
        given += doubles
        self.doubles += len(doubles)
        self._random.shuffle(given)
        return given

    def _some(self, messages: Iterable[dict[str, Any]], share: float) -> list[dict[str, Any]]:
        return [message for message in messages if self._random.random() < share]


def shake_receives(seed: str) -> None:
    """Shake every receive of this process from now on, each queue for itself."""
    shakers: dict[str, Shaker] = {}
    lock = threading.Lock()

    def ask(params: dict[str, Any], context: dict[str, Any], **_kwargs: Any) -> None:
        queue = params["QueueUrl"].rpartition("/")[2]
        with lock:
            context["shaker"] = shakers.setdefault(queue, Shaker(f"{seed} {queue}"))
            context["shaker"].ask(params)

    def shake(parsed: dict[str, Any], context: dict[str, Any], **_kwargs: Any) -> None:
        if "Error" in parsed:
            return
        with lock:
            shaker = context["shaker"]
            before = shaker.doubles
            parsed["Messages"] = shaker.shake(parsed.get("Messages", []))
        if parsed["Messages"]:
            log.info("shaken", doubles=shaker.doubles - before)

    events = aws.sqs().meta.events
    events.register("provide-client-params.sqs.ReceiveMessage", ask)
    events.register("after-call.sqs.ReceiveMessage", shake)


def main() -> None:
    """Run the management command of the arguments after the seed."""
    seed, *arguments = sys.argv[1:]
    startup.configure("usercast_client.settings")
    from django.core.management import execute_from_command_line

    with startup.one_clear_line():
        shake_receives(seed)
        execute_from_command_line(["manage.py", *arguments])


if __name__ == "__main__":
    main()
