"""What a poller's heartbeat says when something is away, or hangs."""

import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError
from django.db import connections

from embedded.ports import free_port
from usercast import healthy, heartbeat, topology
from usercast.contract import Lane
from usercast.lifecycle import Stop
from usercast.testing import eventually
from usercast_client.inbox import poller

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def running_poller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One with a heartbeat of its own, which starts when the block does."""
    name = f"p{uuid.uuid4().hex[:8]}"
    topology.deploy_client(name, topic_arn=topology.deploy_topic())
    monkeypatch.setenv("USERCAST_RUN_DIR", str(tmp_path))
    monkeypatch.setattr(heartbeat, "_current", None)
    heartbeat.start("poller", loops=[lane.value for lane in Lane])
    stop = Stop()
    thread = threading.Thread(target=poller.run, args=(stop,), kwargs={"client": name})
    thread.start()
    eventually(heartbeat.is_ready, within=15)
    yield
    stop.request()
    thread.join(timeout=15)
    assert not thread.is_alive()


def test_database_away_makes_the_poller_unready_and_not_dead(
    running_poller: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as away:
        away.setitem(connections.settings["default"], "HOST", "127.0.0.1")
        away.setitem(connections.settings["default"], "PORT", str(free_port()))
        not_ready = "poller: not ready: live: database unreachable; bulk: database unreachable"
        eventually(lambda: healthy.problem("poller", ready=True) == not_ready, within=10)
        away.setattr(heartbeat, "LIVE_SECONDS", 5.0)
        until = time.monotonic() + 6
        while time.monotonic() < until:
            assert healthy.problem("poller", ready=False) is None
            time.sleep(0.1)
    eventually(lambda: healthy.problem("poller", ready=True) is None, within=10)


def test_lane_that_hangs_makes_the_poller_dead(
    running_poller: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, released = poller.receive, threading.Event()

    def hanging(queue_url: str) -> Any:
        if queue_url.endswith("-bulk"):
            released.wait(30)
        return real(queue_url)

    monkeypatch.setattr(poller, "receive", hanging)
    # Longer than the other lane waits for messages.
    monkeypatch.setattr(heartbeat, "LIVE_SECONDS", 4.5)
    try:
        eventually(lambda: "'bulk'" in (healthy.problem("poller", ready=False) or ""), within=20)
    finally:
        released.set()


def test_queue_away_makes_the_poller_unready(
    running_poller: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_queue_url: str) -> None:
        raise EndpointConnectionError(endpoint_url="nowhere")

    with monkeypatch.context() as patch:
        patch.setattr(poller, "receive", away)
        not_ready = "poller: not ready: live: queue unreachable; bulk: queue unreachable"
        eventually(lambda: healthy.problem("poller", ready=True) == not_ready, within=10)
        assert healthy.problem("poller", ready=False) is None
    eventually(heartbeat.is_ready, within=15)
