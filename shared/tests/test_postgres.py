import threading
from collections.abc import Iterator

import pytest
from django.db import connection, transaction

from usercast.lifecycle import Stop
from usercast.postgres import listen, notify
from usercast.testing import eventually


@pytest.fixture
def turns() -> Iterator[list[list[str]]]:
    """What a listener running beside the test has been given so far."""
    stop, seen = Stop(), []

    def run() -> None:
        for payloads in listen("test_channel", stop=stop, idle_seconds=30):
            seen.append(payloads)  # noqa: PERF402 - read by the test while it grows

    thread = threading.Thread(target=run)
    thread.start()
    eventually(lambda: seen, within=5, what="the first turn, after connecting")
    yield seen
    stop.request()
    thread.join(timeout=5)
    assert not thread.is_alive()


@pytest.mark.django_db(transaction=True)
def test_committed_notification_arrives(turns: list[list[str]]) -> None:
    with transaction.atomic():
        notify("test_channel")
    eventually(lambda: [""] in turns, within=5)


@pytest.mark.django_db(transaction=True)
def test_rolled_back_notification_never_arrives(turns: list[list[str]]) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        notify("test_channel")
        _ = 1 / 0
    notify("test_channel")
    eventually(lambda: [""] in turns, within=5)
    assert turns.count([""]) == 1


@pytest.mark.django_db(transaction=True)
def test_listener_reconnects_and_looks(turns: list[list[str]]) -> None:
    before = len(turns)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%%'"
            " AND datname = current_database()"
        )
    eventually(lambda: turns[before:] == [[]], within=5, what="a turn after reconnecting")
    notify("test_channel")
    eventually(lambda: [""] in turns, within=5)


@pytest.mark.django_db
def test_stop_ends_an_idle_listener_at_once() -> None:
    stop = Stop()
    for _ in listen("test_channel", stop=stop, idle_seconds=30):
        stop.request()
