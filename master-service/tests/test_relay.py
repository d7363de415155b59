import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection, connections
from kombu.exceptions import OperationalError

from embedded.ports import free_port
from usercast import healthy, heartbeat
from usercast.errors import PublishFailed
from usercast.lifecycle import Stop
from usercast.testing import eventually
from usercast_master.accounts.models import User
from usercast_master.outbox import publisher, relay
from usercast_master.outbox.tasks import publish_outbox

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def running_relay() -> Iterator[None]:
    stop = Stop()

    def run() -> None:
        from django.db import connection

        relay.run(stop)
        connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    yield
    stop.request()
    thread.join(timeout=5)
    assert not thread.is_alive()


def test_commit_enqueues_the_task(monkeypatch: pytest.MonkeyPatch, running_relay: None) -> None:
    enqueued: list[dict] = []
    monkeypatch.setattr(publish_outbox, "apply_async", lambda **options: enqueued.append(options))
    User.objects.create(username="ann")
    eventually(lambda: enqueued, within=5)
    assert enqueued[0]["retry"] is False


def test_broker_away_the_relay_publishes_itself(
    monkeypatch: pytest.MonkeyPatch, running_relay: None
) -> None:
    def away(**_options: object) -> None:
        raise OperationalError("no broker")

    published: list[bool] = []
    monkeypatch.setattr(publish_outbox, "apply_async", away)
    monkeypatch.setattr(publisher, "publish_pending", lambda **_options: published.append(True))
    User.objects.create(username="ann")
    eventually(lambda: published, within=5)


def test_no_worker_does_it_the_relay_publishes_itself(
    monkeypatch: pytest.MonkeyPatch, running_relay: None
) -> None:
    published: list[bool] = []
    monkeypatch.setattr(publish_outbox, "apply_async", lambda **_options: None)
    monkeypatch.setattr(publisher, "publish_pending", lambda **_options: published.append(True))
    monkeypatch.setattr(relay, "NEGLECTED_SECONDS", 0.5)
    User.objects.create(username="ann")
    eventually(lambda: published, within=10)


def test_relay_looks_without_being_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was marked before it listened is found by its first look."""
    User.objects.create(username="ann")
    stop, enqueued = Stop(), []

    def enqueue(**options: object) -> None:
        enqueued.append(options)
        stop.request()

    monkeypatch.setattr(publish_outbox, "apply_async", enqueue)
    relay.run(stop)
    assert len(enqueued) == 1


# Heartbeat


@pytest.fixture
def beating(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USERCAST_RUN_DIR", str(tmp_path))
    monkeypatch.setattr(publish_outbox, "apply_async", lambda **_options: None)
    monkeypatch.setattr(heartbeat, "_current", None)
    heartbeat.start("relay")


def cut_off() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def test_database_away_makes_the_relay_unready_and_not_dead(
    monkeypatch: pytest.MonkeyPatch, beating: None, running_relay: None
) -> None:
    eventually(heartbeat.is_ready, within=5)
    connection.ensure_connection()
    with monkeypatch.context() as away:
        away.setattr(heartbeat, "LIVE_SECONDS", 8.0)
        away.setitem(connections.settings["default"], "HOST", "127.0.0.1")
        away.setitem(connections.settings["default"], "PORT", str(free_port()))
        cut_off()
        not_ready = "relay: not ready: main: database unreachable"
        eventually(lambda: healthy.problem("relay", ready=True) == not_ready, within=5)
        # Through several vain attempts to connect, which come ever more seldom.
        until = time.monotonic() + 9
        while time.monotonic() < until:
            assert healthy.problem("relay", ready=False) is None
            assert not heartbeat.is_ready()
            time.sleep(0.1)
    eventually(lambda: healthy.problem("relay", ready=True) is None, within=10)


def test_broker_and_sns_away_make_the_relay_unready_and_not_dead(
    monkeypatch: pytest.MonkeyPatch, beating: None, running_relay: None
) -> None:
    eventually(heartbeat.is_ready, within=5)

    def away(**_options: object) -> None:
        raise PublishFailed

    with monkeypatch.context() as patch:
        patch.setattr(relay, "enqueue", lambda: False)
        patch.setattr(publisher, "publish_pending", away)
        User.objects.create(username="ann")
        not_ready = "relay: not ready: main: SNS unreachable"
        eventually(lambda: healthy.problem("relay", ready=True) == not_ready, within=5)
        assert healthy.problem("relay", ready=False) is None
    eventually(heartbeat.is_ready, within=10)


def test_relay_that_hangs_is_dead(
    monkeypatch: pytest.MonkeyPatch, beating: None, running_relay: None
) -> None:
    eventually(heartbeat.is_ready, within=5)
    monkeypatch.setattr(heartbeat, "LIVE_SECONDS", 1.0)
    released = threading.Event()
    monkeypatch.setattr(relay, "enqueue", lambda: released.wait(20))
    User.objects.create(username="ann")
    try:
        eventually(lambda: "hangs" in (healthy.problem("relay", ready=False) or ""), within=10)
        assert healthy.main(["relay"]) == 1
    finally:
        released.set()
