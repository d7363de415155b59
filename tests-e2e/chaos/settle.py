"""The end of a run: waiting until nothing is on its way any more, and judging what is there."""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import boto3
import psycopg2

from chaos.system import System
from chaos.watch import Watch, behind, versions
from embedded import evidence
from embedded.service import REGION
from usercast.invariants import Violation, check

#: Several times what a killed publisher's lease (20 s) and a killed poller's messages (20 s) take
#: to come free, one after the other.
SETTLE_SECONDS = 240.0
#: Nothing owed, nothing queued, and a client still behind for so long: it will stay so.
HOPELESS_SECONDS = 15.0
LOOK_SECONDS = 0.5
LANES, LETTERS = ("live", "bulk"), ("dead", "undelivered")


@dataclass(frozen=True)
class OnItsWay:
    """What has yet to arrive.

    Args:
        owed: outbox entries not published.
        queued: messages in each client's lanes, those in flight included.
        behind: users of whom each client lacks the latest version.
    """

    owed: int
    queued: dict[str, int]
    behind: dict[str, int]

    @property
    def is_moving(self) -> bool:
        """Whether anything may still arrive."""
        return bool(self.owed or any(self.queued.values()))

    @property
    def has_arrived(self) -> bool:
        """Whether all is there and nothing is left over."""
        return not self.is_moving and not any(self.behind.values())

    def __str__(self) -> str:
        return (
            f"{self.owed} outbox entries owed; messages queued: {_listed(self.queued)}; "
            f"users behind: {_listed(self.behind)}"
        )


class Queues:
    """The clients' queues, asked past the proxy."""

    def __init__(self, system: System) -> None:
        self._sqs: Any = boto3.client(
            "sqs",
            endpoint_url=system.servers.localstack.url,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def messages(self, client: str, *kinds: str) -> int:
        """How many messages some of a client's queues hold, those in flight included."""
        return sum(self._count(f"usercast-{client}-{kind}") for kind in kinds)

    def _count(self, name: str) -> int:
        url = self._sqs.get_queue_url(QueueName=name)["QueueUrl"]
        attributes = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
        return sum(
            int(value)
            for key, value in attributes["Attributes"].items()
            if key.startswith("ApproximateNumberOfMessages")
        )


def on_its_way(system: System, queues: Queues) -> OnItsWay:
    """What has yet to arrive, as of now."""
    master = system.database("master")
    with closing(psycopg2.connect(master)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM outbox_entry WHERE version > published_version")
        owed = cursor.fetchone()[0]
    committed = versions(master)
    return OnItsWay(
        owed=owed,
        queued={name: queues.messages(name, *LANES) for name in system.clients},
        behind={name: len(behind(system.database(name), committed)) for name in system.clients},
    )


def settled(system: System, queues: Queues, *, wait: Callable[[float], None]) -> OnItsWay:
    """Wait until everything has arrived, for at most 240 s; returns what has not.

    Args:
        wait: takes the seconds until the next look.
    """
    deadline = time.monotonic() + SETTLE_SECONDS
    moved_at = time.monotonic()
    while True:
        left = on_its_way(system, queues)
        now = time.monotonic()
        if left.is_moving:
            moved_at = now
        if left.has_arrived or now > min(deadline, moved_at + HOPELESS_SECONDS):
            return left
        wait(LOOK_SECONDS)


def judged(system: System, watch: Watch, queues: Queues) -> dict[str, list[Violation]]:
    """What is wrong with each client, by its tables, its feed, the witness and its queues."""
    with closing(psycopg2.connect(system.database("master"))) as master, master.cursor() as cursor:
        truth = evidence.truth(cursor)
    found = {}
    for name in system.clients:
        client = psycopg2.connect(system.database(name))
        with closing(client), client.cursor() as cursor:
            replica = evidence.replica(
                cursor,
                feed=watch.feeds[name],
                dead_letters=queues.messages(name, *LETTERS),
            )
        found[name] = check(truth, replica)
    return found


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
