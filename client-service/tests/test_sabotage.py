"""Without its safeguards, the client is caught: what ``make chaos`` judges by does object.

Changes of a small imitated master are delivered through a real queue, in any order and some of them
twice, while the poller crashes again and again. As the code is, nothing is wrong in the end; with
one safeguard taken out, the same delivery has to show.
"""

import random
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from django.db import connection
from uuid_utils.compat import uuid7

from embedded import evidence
from usercast import aws
from usercast.contract import Lane, UserChange, UserGone, UserState, encode_batch, encode_change
from usercast.invariants import Told, Truth, Wrong, check
from usercast.lifecycle import Stop
from usercast.testing import upsert
from usercast_client.inbox import messages, poller
from usercast_client.inbox.hold import Hold, give_back
from usercast_client.live import feed
from usercast_client.replica import apply

pytestmark = pytest.mark.django_db

CHANGES = 250
USERS = 12
#: Every so many applies, the poller dies just before its commit.
CRASH_EVERY = 4
SEEDS = (1, 2, 3)


class Crash(BaseException):
    """SIGKILL, as far as one process can do it to itself."""


class Nobody:
    """No browser is open."""

    def push(self, told: object, *, of: object) -> None:
        pass


@dataclass
class Master:
    """Makes random changes of a few users, remembers how they are now, and publishes.

    As the real one, it publishes what is owed, not each change; and it reads a user some time after
    the version, so that a message may hold a newer state than its version and its time say.
    """

    rng: random.Random
    users: dict[UUID, UserState] = field(default_factory=dict)
    gone: dict[UUID, int] = field(default_factory=dict)
    made: list[UserChange] = field(default_factory=list)
    _ticks: int = 0
    _owed: dict[UUID, tuple[int, datetime]] = field(default_factory=dict)
    _claimed: list[tuple[UUID, int, datetime]] = field(default_factory=list)

    def change(self) -> None:
        """Change something, and publish a part of what is owed."""
        self._change()
        if self.rng.random() < 0.7:
            self._send()
            self._claim(self.rng.randint(0, 4))

    def publish_all(self) -> None:
        """Publish until nothing is owed."""
        self._claim(len(self._owed))
        self._send()

    def _claim(self, count: int) -> None:
        for user_id in self.rng.sample(list(self._owed), min(count, len(self._owed))):
            self._claimed.append((user_id, *self._owed.pop(user_id)))

    def _send(self) -> None:
        for user_id, version, clock in self._claimed:
            user = self.users.get(user_id)
            gone = UserGone(id=user_id, version=version)
            data = msgspec.structs.replace(user, version=version) if user else gone
            self.made.append(UserChange(changed_at=clock, data=data))
        self._claimed.clear()

    def _change(self) -> None:
        """Create, bring back, delete, edit, or swap the names of two."""
        if len(self.users) < USERS:
            known = self.rng.choice([*self.gone, None])
            self._upsert(known or uuid7(), username=self._word())
        elif self.rng.random() < 0.2:
            user = self.users.pop(self._any())
            self.gone[user.id] = user.version + 1
            self._tell(UserGone(id=user.id, version=user.version + 1))
        elif self.rng.random() < 0.2:
            one, other = self.rng.sample(list(self.users), 2)
            names = self.users[one].username, self.users[other].username
            self._upsert(one, username=f"{names[0]}.leaving")
            self._upsert(other, username=names[0])
            self._upsert(one, username=names[1])
        else:
            self._upsert(self._any(), first_name=self._word(), is_active=self.rng.random() < 0.9)

    def truth(self) -> Truth:
        return Truth(self.users, self.gone)

    def _upsert(self, user_id: UUID, **fields: Any) -> None:
        known = self.users.get(user_id) or upsert(user_id, self.gone.pop(user_id, 0)).data
        assert isinstance(known, UserState)
        state = msgspec.structs.replace(known, version=known.version + 1, **fields)
        self.users[user_id] = state
        self._tell(state)

    def _tell(self, data: UserState | UserGone) -> None:
        self._ticks += 1
        clock = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self._ticks)
        self._owed[data.id] = (data.version, clock)

    def _any(self) -> UUID:
        return self.rng.choice(list(self.users))

    def _word(self) -> str:
        return "".join(self.rng.choices("abcdefghijklmnopqrstuvwxyz", k=10))


@pytest.fixture
def queue() -> Iterator[str]:
    url = aws.sqs().create_queue(QueueName=f"sabotage-{uuid.uuid4()}")["QueueUrl"]
    yield url
    aws.sqs().delete_queue(QueueUrl=url)


@pytest.fixture
def found(queue: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], set[Wrong]]:
    """Deliver a seed's changes to the client as it is at the time; returns what is wrong then."""

    def deliver(seed: int) -> set[Wrong]:
        rng = random.Random(seed)
        master = Master(rng)
        while len(master.made) < CHANGES:
            master.change()
        master.publish_all()
        with connection.cursor() as cursor:
            evidence.install_witness(cursor)
        monkeypatch.setattr(feed, "append", crashing_now_and_then(feed.append))
        put(queue, shaken(master.made, rng), rng)
        told = poll_until_empty(queue)
        with connection.cursor() as cursor:
            replica = evidence.replica(cursor, feed=told)
        return {violation.wrong for violation in check(master.truth(), replica)}

    return deliver


def crashing_now_and_then(append: Callable[[Any], Any]) -> Callable[[Any], Any]:
    applies = iter(range(1, 1_000_000))

    def append_or_crash(entries: Any) -> Any:
        if next(applies) % CRASH_EVERY == 0:
            raise Crash
        return append(entries)

    return append_or_crash


def shaken(changes: Sequence[UserChange], rng: random.Random) -> list[UserChange]:
    doubled = [*changes, *rng.sample(list(changes), len(changes) // 3)]
    rng.shuffle(doubled)
    return doubled


def put(queue: str, changes: Sequence[UserChange], rng: random.Random) -> None:
    """Send them in this order, one to four a message."""
    left = list(changes)
    while left:
        entries = []
        for position in range(10):
            several = [left.pop() for _ in range(min(rng.randint(1, 4), len(left)))]
            if several:
                body = encode_batch([encode_change(one) for one in several], compress=False).body
                entries.append({"Id": str(position), "MessageBody": body})
        aws.sqs().send_message_batch(QueueUrl=queue, Entries=entries)


def poll_until_empty(queue: str) -> list[Told]:
    """What a reader of the feed saw until the queue was empty, in spite of the crashes."""
    told: list[Told] = []
    hold = Hold()
    shared = poller.Lanes(Stop(), hold=hold, broadcaster=Nobody())  # type: ignore[arg-type]
    while left_in(queue):
        received = messages.receive(queue)
        try:
            poller.handle(received, lane=Lane.LIVE, queue_url=queue, shared=shared)
        except Crash:
            # Started again, when what it had in hand has become visible.
            handles = [message["ReceiptHandle"] for message in received]
            give_back(queue, handles, in_seconds=0)
        with connection.cursor() as cursor:
            told += evidence.told_after(cursor, told[-1].cursor if told else 0)
    hold.close()
    return told


def left_in(queue: str) -> int:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    answer = aws.sqs().get_queue_attributes(QueueUrl=queue, AttributeNames=names)  # type: ignore[arg-type]
    return sum(int(answer["Attributes"][name]) for name in names)  # type: ignore[index]


@pytest.mark.parametrize("seed", SEEDS)
def test_client_as_it_is_passes(found: Callable[[int], set[Wrong]], seed: int) -> None:
    assert found(seed) == set()


@pytest.mark.parametrize("seed", SEEDS)
def test_without_the_version_guard(
    found: Callable[[int], set[Wrong]], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    unguarded = apply._UPSERT.partition("WHERE replica.version")[0]
    assert unguarded != apply._UPSERT
    monkeypatch.setattr(apply, "_UPSERT", unguarded)
    monkeypatch.setattr(apply, "_is_news", lambda *_: True)
    assert {Wrong.WENT_BACK, Wrong.DIFFERENT} <= found(seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_with_messages_deleted_before_the_commit(
    found: Callable[[int], set[Wrong]], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    handle = poller.handle

    def delete_first(received: Any, *, lane: Lane, queue_url: str, shared: poller.Lanes) -> None:
        messages.delete(queue_url, [message["ReceiptHandle"] for message in received])
        handle(received, lane=lane, queue_url=queue_url, shared=shared)

    monkeypatch.setattr(poller, "handle", delete_first)
    assert found(seed) & {Wrong.MISSING, Wrong.DIFFERENT, Wrong.TOMBSTONE}


@pytest.mark.parametrize("seed", SEEDS)
def test_with_tombstones_not_asked(
    found: Callable[[int], set[Wrong]], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(apply, "_tombstones", lambda _user_ids: {})
    assert Wrong.RESURRECTED in found(seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_with_tombstones_not_written(
    found: Callable[[int], set[Wrong]], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    def remove_only(gone: Sequence[UserChange], rows: dict[UUID, apply.Row]) -> set[UUID]:
        here = [change for change in gone if change.user_id in rows]
        return apply.remove(here, {change.user_id: "" for change in here})

    monkeypatch.setattr(apply, "_delete", remove_only)
    assert {Wrong.RESURRECTED, Wrong.TOMBSTONE} <= found(seed)
