"""Property: whatever the interleaving, several pollers on two lanes end where the master is.

Every delivery here is applied by two threads on connections of their own, each of which takes from
both lanes, so that transactions really meet. Judged by ``usercast.invariants``.
"""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.db import connection, connections
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_sabotage import Master, shaken

from embedded import evidence
from usercast.contract import UserChange, decode_batch, encode_batch, encode_change
from usercast.invariants import Told, check
from usercast_client.live.models import Change
from usercast_client.replica.apply import apply
from usercast_client.replica.models import Clash, Tombstone, User

pytestmark = pytest.mark.django_db(transaction=True)
POLLERS = 2


@given(chance=st.randoms(use_true_random=False), changes=st.integers(1, 60))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_pollers_side_by_side_end_where_the_master_is(
    witness: None, chance: random.Random, changes: int
) -> None:
    empty()
    master = Master(random.Random(chance.getrandbits(32)))
    while len(master.made) < changes:
        master.change()
    master.publish_all()
    lanes = split(shaken(master.made, chance), chance)
    start = threading.Barrier(POLLERS)
    failures: list[BaseException] = []
    threads = [threading.Thread(target=poll, args=(lanes, start, failures)) for _ in range(POLLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == [], "also a deadlock would be one"
    with connection.cursor() as cursor:
        told = [Told(*row) for row in feed()]
        assert check(master.truth(), evidence.replica(cursor, feed=told)) == []
    assert not Clash.objects.exists()


@pytest.fixture
def witness() -> Iterator[None]:
    """Watched by triggers, which other tests shall not find."""
    with connection.cursor() as cursor:
        evidence.install_witness(cursor)
    yield
    with connection.cursor() as cursor:
        cursor.execute(
            "DROP TABLE witness; DROP FUNCTION witness_user_write, witness_tombstone_write,"
            " witness_user, witness_tombstone CASCADE"
        )


def empty() -> None:
    for model in (User, Tombstone, Change, Clash):
        model.objects.all()._raw_delete("default")  # type: ignore[attr-defined]
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE witness")


def split(deliveries: list[UserChange], chance: random.Random) -> list[list[list[UserChange]]]:
    """Two lanes of batches, each batch through the wire format and back."""
    lanes: list[list[list[UserChange]]] = [[], []]
    while deliveries:
        batch = [deliveries.pop() for _ in range(min(chance.randint(1, 5), len(deliveries)))]
        message = encode_batch([encode_change(one) for one in batch], compress=len(batch) > 1)
        chance.choice(lanes).append(decode_batch(message).changes)
    return lanes


def poll(
    lanes: list[list[list[UserChange]]], start: threading.Barrier, failures: list[BaseException]
) -> None:
    """Take batches from both lanes, in turns, until there are none."""
    start.wait()
    with closed_connection():
        try:
            while any(lanes):
                for lane in lanes:
                    if batch := taken(lane):
                        apply(batch)
        except BaseException as error:  # noqa: BLE001 - for the test's own thread to see
            failures.append(error)


@contextmanager
def closed_connection() -> Iterator[None]:
    try:
        yield
    finally:
        connections.close_all()


def taken(lane: list[list[UserChange]]) -> list[UserChange]:
    """A batch; none if the other poller took the last one."""
    try:
        return lane.pop()
    except IndexError:
        return []


def feed() -> list[tuple]:
    return [
        (change.cursor, change.user_id, change.version, change.kind == Change.Kind.DELETED)
        for change in Change.objects.order_by("cursor")
    ]
