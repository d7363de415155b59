"""What the desk is told about publishing, minute by minute."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from usercast.errors import PublishFailed
from usercast_master.accounts.models import User
from usercast_master.outbox import minutes, publisher, topic
from usercast_master.outbox.models import Minute, OutboxEntry

pytestmark = pytest.mark.django_db


def all_minutes() -> dict[str, float]:
    """Summed up, for a test may go over a minute's end."""
    found = minutes.since(timezone.now() - timedelta(hours=1))
    return {
        "changes": sum(minute.changes for minute in found),
        "slowest": max((minute.slowest_seconds for minute in found), default=0),
        "refused": sum(minute.refused for minute in found),
        "failures": sum(minute.failures for minute in found),
    }


def wait_since_a_minute() -> None:
    OutboxEntry.objects.update(owed_since=timezone.now() - timedelta(seconds=60))


def test_each_change_counts_once_and_the_slowest_is_kept(deliveries: Callable[[], list]) -> None:
    ann = User.objects.create(username="ann")
    User.objects.create(username="bob")
    ann.first_name = "Ann"
    ann.save()
    wait_since_a_minute()
    publisher.publish_pending()
    publisher.publish_pending()
    ann.last_name = "Other"
    ann.save()
    publisher.publish_pending()
    found = all_minutes()
    assert found["changes"] == 4 == minutes.changes_today()
    assert 60 <= found["slowest"] < 120


def test_failures_are_counted_with_their_latest_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    reasons = iter(["no route\nto SNS", "no answer"])

    def away(*_: object, **__: object) -> None:
        raise PublishFailed(next(reasons))

    monkeypatch.setattr(topic, "publish", away)
    User.objects.create(username="ann")
    for _ in range(2):
        with pytest.raises(PublishFailed):
            publisher.publish_pending()
    assert all_minutes()["failures"] == 2
    assert minutes.since(timezone.now() - timedelta(hours=1))[-1].failure_reason == "no answer"


def test_refusals_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = topic.Refusal("not like this", blamed=True, for_its_content=True)
    monkeypatch.setattr(topic, "publish", lambda batch: [refusal for _ in batch])
    User.objects.create(username="ann")
    publisher.publish_pending()
    assert all_minutes() == {"changes": 0, "slowest": 0, "refused": 1, "failures": 0}


def test_age_of_the_oldest_debt_is_noted_while_it_is_owed() -> None:
    minutes.sample()
    assert not Minute.objects.exists(), "nothing owed, nothing noted"
    User.objects.create(username="ann")
    wait_since_a_minute()
    minutes.sample()
    assert 60 <= all_minutes()["slowest"] < 120
    OutboxEntry.objects.update(parked_reason="too large")
    Minute.objects.all().delete()
    minutes.sample()
    assert not Minute.objects.exists(), "what is set aside does not wait"


def test_old_minutes_are_forgotten() -> None:
    now = timezone.now()
    for days in (0, minutes.KEEP_DAYS - 1, minutes.KEEP_DAYS + 1):
        Minute.objects.create(minute=now - timedelta(days=days))
    minutes.trim()
    assert Minute.objects.count() == 2


def test_two_publishers_may_settle_in_the_same_minute(deliveries: Callable[[], list]) -> None:
    """The statement adds; it does not set."""
    for name in ("ann", "bob", "cid"):
        User.objects.create(username=name)
        publisher.publish_pending()
    with connection.cursor() as cursor:
        cursor.execute("SELECT sum(changes) FROM outbox_minute")
        assert cursor.fetchone() == (3,)
