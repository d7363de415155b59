"""The feed, what is sent of it, and the routes a browser asks."""

import asyncio
import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from knox.models import AuthToken
from rest_framework.test import APIClient
from uuid_utils.compat import uuid7

from usercast.testing import upsert
from usercast_client.live import broadcast, feed
from usercast_client.live.models import Change
from usercast_client.live.tasks import trim_feed
from usercast_client.replica.apply import apply
from usercast_client.replica.models import User

pytestmark = pytest.mark.django_db(transaction=True)


def make_staff() -> User:
    return User.objects.create_superuser("staff", password="correct horse battery")


def make_replica() -> User:
    apply([upsert(username="ann")])
    return User.objects.get(username="ann")


def told(count: int) -> feed.Told:
    """What the feed tells of an apply of so many deletions."""
    now = datetime.now(UTC)
    entries = [feed.Entry(Change.Kind.DELETED, uuid7(), 2, now, None, {"username": "u"})] * count
    return feed.Told(entries, cursor=count, applied_at=now)


def test_large_batch_is_announced_by_its_cursor_alone() -> None:
    assert json.loads(broadcast.frame_of([broadcast.push_of(told(feed.BULK + 1))])) == {
        "type": "changes",
        "cursor": 26,
        "changes": [],
    }


def test_pushes_that_wait_go_together_in_the_order_of_cursors() -> None:
    pushes = [
        {"cursor": 3, "changes": ["3"]},
        {"cursor": 2, "changes": ["1", "2"]},
    ]
    frame = json.loads(broadcast.frame_of(pushes))
    assert (frame["cursor"], frame["changes"]) == (3, [1, 2, 3])
    bulk = {"cursor": 9, "changes": []}
    assert json.loads(broadcast.frame_of([*pushes, bulk]))["changes"] == []
    many = [{"cursor": n, "changes": [str(n)]} for n in range(1, feed.BULK + 2)]
    frame = json.loads(broadcast.frame_of(many))
    assert (frame["cursor"], frame["changes"]) == (feed.BULK + 1, [])


def test_push_with_redis_away_returns_at_once_and_harms_nobody(
    settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": ["redis://127.0.0.1:1/0"]},
        }
    }
    broadcaster = broadcast.Broadcaster()
    broadcaster.push(told(1))
    broadcaster.close()
    assert any(record.msg["event"] == "push_lost" for record in caplog.records)


@pytest.fixture
def api() -> APIClient:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Token {AuthToken.objects.create(make_staff())[1]}")
    return client


def test_changes_since_a_cursor_come_in_pages(api: APIClient) -> None:
    apply([upsert() for _ in range(5)])
    page = api.get("/api/v1/live/changes/", {"since": 1, "limit": 2}).json()
    assert [change["cursor"] for change in page["changes"]] == [2, 3]
    assert (page["cursor"], page["newest"], page["more"], page["complete"]) == (3, 5, True, True)
    last = api.get("/api/v1/live/changes/", {"since": 5}).json()
    assert (last["changes"], last["cursor"], last["more"]) == ([], 5, False)


@pytest.mark.parametrize(
    "query", [{}, {"since": "x"}, {"since": -1}, {"since": 1, "limit": 0}, {"since": 2**70}]
)
def test_bad_question_is_told_so(api: APIClient, query: dict[str, Any]) -> None:
    assert api.get("/api/v1/live/changes/", query).status_code == 400


def test_cursor_older_than_the_feed_is_told_so(api: APIClient, settings: Any) -> None:
    apply([upsert() for _ in range(5)])
    settings.USERCAST_FEED_KEEP = 2
    trim_feed()
    assert api.get("/api/v1/live/changes/", {"since": 0}).json()["complete"] is False


def test_initial_state_has_counts_and_the_latest_changes(api: APIClient) -> None:
    apply([upsert(is_active=True), upsert(is_active=False)])
    state = api.get("/api/v1/live/state/").json()
    assert (state["client"], state["cursor"]) == (settings.USERCAST_CLIENT, 2)
    assert (state["users"], state["active"]) == (2, 1)
    assert [change["cursor"] for change in state["changes"]] == [2, 1]


def test_users_are_read_only_and_without_local_accounts(api: APIClient) -> None:
    apply([upsert(username="ann", groups=("editors",))])
    page = api.get("/api/v1/users/").json()
    assert [(user["username"], user["groups"]) for user in page["results"]] == [
        ("ann", ["editors"])
    ]
    assert api.post("/api/v1/users/", {"username": "x"}).status_code == 405


@pytest.mark.parametrize("path", ["users/", "live/state/", "live/changes/?since=0"])
def test_rest_refuses_everybody_else(path: str) -> None:
    ordinary = APIClient()
    assert ordinary.get(f"/api/v1/{path}").status_code == 401
    ordinary.force_login(make_replica())
    assert ordinary.get(f"/api/v1/{path}").status_code == 403


def test_command_that_ends_at_once_has_sent_what_it_pushed() -> None:
    """Also where Redis has a name, which an interpreter that ends could no longer look up."""
    code = "from usercast_client.live import broadcast; broadcast.shared().send({'type': 'over'})"
    named = os.environ["REDIS_URL"].replace("127.0.0.1", "localhost")
    assert named != os.environ["REDIS_URL"]
    ended = subprocess.run(
        [sys.executable, "manage.py", "shell", "-c", code],
        cwd=Path(__file__).parents[1],
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "usercast_client.settings",
            "REDIS_URL": named,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    assert "push_lost" not in ended.stdout + ended.stderr


def test_command_waits_for_redis_once_only(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[float] = []

    async def away(message: dict[str, Any]) -> None:
        tried.append(time.monotonic())
        await asyncio.sleep(60)

    monkeypatch.setattr(broadcast, "SEND_SECONDS", 0.2)
    monkeypatch.setattr(broadcast, "_send_to_group", away)
    broadcaster = broadcast.Broadcaster(waits=True)
    try:
        durations = []
        for _ in range(3):
            began = time.monotonic()
            broadcaster.send({"type": "over"})
            durations.append(time.monotonic() - began)
    finally:
        broadcaster.close()
    assert len(tried) == 3
    assert durations[0] >= 0.2
    assert max(durations[1:]) < 0.2
