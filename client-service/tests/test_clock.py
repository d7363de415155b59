"""The clock: what a tick tells, to whom, and that two workers never tick twice."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from django.conf import settings
from django.db import OperationalError
from django.utils import timezone

from usercast.testing import eventually, upsert
from usercast_client.inbox.tasks import count_dead_letters
from usercast_client.live import broadcast, clock, feed, health, tasks
from usercast_client.live.health import Bucket
from usercast_client.live.latest import latest
from usercast_client.live.models import Change
from usercast_client.replica.apply import apply
from usercast_client.replica.models import User

pytestmark = pytest.mark.django_db
Sent = list[dict[str, Any]]


@pytest.fixture(autouse=True)
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    """What was sent to the hubs; the sockets' tests send it for real."""
    messages: Sent = []
    monkeypatch.setattr(
        broadcast.Broadcaster, "send", lambda self, message: messages.append(message)
    )
    return messages


def forget() -> None:
    """As Redis does when it restarts."""
    connection = redis.Redis.from_url(settings.REDIS_URL)
    connection.delete(*(clock._key(name) for name in ("tick", "clock", "dead_letters")))
    connection.close()


@pytest.fixture(autouse=True)
def redis_without_ticks() -> Iterator[None]:
    forget()
    yield
    forget()


def next_tick() -> None:
    """Tick as soon as the last tick's turn is over."""
    eventually(clock.tick, within=5)


def told(sent: Sent) -> dict[str, Any]:
    return json.loads(sent[-1]["text"])


def ten_minutes() -> list[Bucket]:
    last = clock.last()
    assert last is not None
    return [Bucket(*bucket) for bucket in last["history"]]


def test_tick_tells_how_things_stand(sent: Sent) -> None:
    now = datetime.now(UTC)
    apply([upsert(changed_at=now - timedelta(seconds=2)), upsert(is_active=False, changed_at=now)])
    next_tick()
    tick = told(sent)
    assert (tick["type"], tick["cursor"], sent[-1]["cursor"]) == ("tick", 2, 2)
    assert (tick["users"], tick["active"], tick["changes_per_minute"]) == (2, 1, 2)
    assert 0 <= tick["lag_ms"] < 2000 <= tick["bucket"][2]
    assert abs(timezone.now() - datetime.fromisoformat(tick["time"])) < timedelta(seconds=5)
    assert "history" not in tick
    own = json.loads(sent[-1]["own_text"])
    assert own == {name: tick[name] for name in ("type", "time", "cursor")}


def test_page_that_opens_gets_the_last_tick_and_ten_minutes_at_once(sent: Sent) -> None:
    apply([upsert()])
    next_tick()
    last = clock.last()
    assert last is not None
    assert [list(bucket) for bucket in last.pop("history")] == [told(sent)["bucket"]]
    assert {**last, "bucket": list(last["bucket"])} == told(sent)


def test_no_tick_yet_is_none() -> None:
    assert clock.last() is None


def test_two_workers_never_tick_twice(sent: Sent) -> None:
    assert clock.tick()
    assert not clock.tick()
    assert len(sent) == 1
    next_tick()
    assert len(sent) == 2


def test_next_tick_reads_only_what_is_new(sent: Sent) -> None:
    apply([upsert()])
    next_tick()
    # Were it read again, its lag would show.
    Change.objects.update(changed_at=timezone.now() - timedelta(hours=1))
    apply([upsert()])
    next_tick()
    history = ten_minutes()
    assert sum(bucket.changes for bucket in history) == 2
    assert max(bucket.worst_lag_ms or 0 for bucket in history) < 60_000


def test_redis_that_lost_all_gets_its_ten_minutes_back_from_the_feed(sent: Sent) -> None:
    apply([upsert() for _ in range(3)])
    next_tick()
    forget()
    next_tick()
    assert sum(bucket.changes for bucket in ten_minutes()) == 3


def test_database_made_anew_is_read_from_its_beginning(sent: Sent) -> None:
    apply([upsert() for _ in range(3)])
    next_tick()
    Change.objects.all().delete()
    User.objects.all().delete()
    apply([upsert()])
    next_tick()
    assert told(sent)["cursor"] == 1
    assert sum(bucket.changes for bucket in ten_minutes()) == 1


def test_clock_that_was_set_back_goes_on(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    tomorrow = timezone.now() + timedelta(days=1)
    with monkeypatch.context() as patch:
        patch.setattr(clock.timezone, "now", lambda: tomorrow)
        next_tick()
    apply([upsert()])
    next_tick()
    assert told(sent)["users"] == 1
    assert told(sent)["bucket"][1] == 1


def test_tick_of_another_version_is_no_tick(sent: Sent) -> None:
    clock._connection.set(clock._key("clock"), b'{"type":"tick","time":1}')
    assert clock.last() is None
    assert clock.tick()


def test_counting_many_users_is_not_done_at_each_tick() -> None:
    now = timezone.now()
    slow = health.Counts(users=5, active=4, cursor=1, counted_at=now, took_ms=200.0)
    for seconds, again in ((0.5, False), (3.9, False), (4.1, True)):
        later = now + timedelta(seconds=seconds)
        counted = health.count(slow, cursor=2, now=later)
        assert (counted.users == 0) is again, seconds
    assert health.count(slow, cursor=1, now=now + timedelta(seconds=59)) is slow
    assert health.count(slow, cursor=1, now=now + timedelta(seconds=61)).users == 0


def test_history_is_ten_minutes_long() -> None:
    now = datetime(2026, 1, 1, 12, 0, 5, tzinfo=UTC)
    start = int(now.timestamp()) // 10 * 10
    old = Bucket(start - 610, 7, 1)
    kept = Bucket(start - 300, 8, 1)
    assert health.history([old, kept], after=0, upto=0, now=now) == [kept, Bucket(start, 0, None)]


def test_rate_is_that_of_the_last_minute() -> None:
    now = datetime(2026, 1, 1, 12, 0, 5, tzinfo=UTC)
    start = int(now.timestamp()) // 10 * 10
    buckets = [Bucket(start - 60, 100, 1), Bucket(start - 50, 5, 1), Bucket(start, 2, 1)]
    assert health.changes_per_minute(buckets, now) == 7


def test_dead_letters_are_counted_apart_and_told_by_the_next_tick(sent: Sent) -> None:
    next_tick()
    assert told(sent)["dead_letters"] is None
    clock.note_dead_letters(3)
    next_tick()
    assert told(sent)["dead_letters"] == 3


def test_dead_letters_that_cannot_be_counted_are_a_line_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    count_dead_letters()  # there are no queues of this name
    assert any(record.msg["event"] == "dead_letters_not_counted" for record in caplog.records)


@pytest.mark.parametrize("error", [redis.ConnectionError("gone"), OperationalError("gone")])
def test_tick_without_redis_or_database_is_a_line_in_the_log(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(clock, "tick", fail)
    tasks.tick()
    assert any(record.msg["event"] == "tick_failed" for record in caplog.records)


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "_connection", redis.Redis(port=1, socket_timeout=0.2))


@pytest.mark.usefixtures("away")
def test_page_opens_with_redis_away() -> None:
    assert clock.last() is None


def kinds(entry: dict[str, Any]) -> Any:
    return {k: n for k, n in entry["counts"].items() if n} if "bulk" in entry else entry["kind"]


def test_bulk_writes_are_one_entry_and_singles_are_not() -> None:
    people = [upsert() for _ in range(60)]
    apply(people[:30])
    apply(people[30:])
    apply([upsert(people[0].user_id, 2, first_name="New")])
    apply([upsert(p.user_id, 3) for p in people[:26]])
    apply([upsert(), upsert()])
    entries = latest(10)
    assert [kinds(entry) for entry in entries] == [
        "created", "created", {"updated": 26}, "updated", {"created": 60},
    ]  # fmt: skip
    assert (entries[-1]["first"], entries[-1]["cursor"]) == (1, 60)
    assert entries[2]["lag_ms"] >= 0


def test_bulk_writes_far_apart_are_entries_of_their_own() -> None:
    apply([upsert() for _ in range(30)])
    Change.objects.update(applied_at=timezone.now() - timedelta(seconds=11))
    apply([upsert() for _ in range(40)])
    assert [kinds(entry) for entry in latest(10)] == [{"created": 40}, {"created": 30}]


def test_latest_is_as_long_as_asked_and_reaches_over_trimmed_batches() -> None:
    apply([upsert() for _ in range(30)])
    for _ in range(5):
        apply([upsert()])
    assert [kinds(entry) for entry in latest(3)] == ["created"] * 3
    feed.trim(keep=10)
    assert [kinds(entry) for entry in latest(9)] == ["created"] * 5 + [{"created": 5}]
    assert latest(0) == []


def test_users_history_is_theirs_alone_and_newest_first() -> None:
    ann, bob = upsert(), upsert()
    apply([ann, bob])
    apply([upsert(ann.user_id, 2, first_name="New")])
    assert [change["version"] for change in feed.of_user(ann.user_id, 10)] == [2, 1]
    assert feed.of_users([ann.user_id, bob.user_id], after=2, upto=3) == {str(ann.user_id)}
    assert feed.newest_cursor(bob.user_id) == 2
