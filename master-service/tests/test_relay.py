import threading
from collections.abc import Iterator

import pytest
from kombu.exceptions import OperationalError

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
