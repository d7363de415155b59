"""What the outbox owes, and owing it again."""

import json
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from usercast_master.accounts.models import User
from usercast_master.outbox import publisher, status
from usercast_master.outbox.models import OutboxEntry

Deliveries = Callable[[], list]
pytestmark = pytest.mark.django_db


@pytest.fixture
def three(deliveries: Deliveries) -> Deliveries:
    """Three users, published."""
    User.objects.bulk_create([User(username=name) for name in ("ann", "bob", "cem")])
    publisher.publish_pending()
    deliveries()
    return deliveries


def sent(deliveries: Deliveries) -> set[str]:
    publisher.publish_pending()
    return {change.data.username for _, changes in deliveries() for change in changes}


def test_nothing_owed() -> None:
    found = status.status()
    assert found.undelivered == {"urgent": 0, "single": 0, "bulk": 0}
    assert found.oldest_seconds is None


def test_what_is_owed_by_priority_and_since_when(
    three: Deliveries, capsys: pytest.CaptureFixture[str]
) -> None:
    User.objects.filter(username__in=["ann", "bob"]).update(first_name="X")
    cem = User.objects.get(username="cem")
    cem.is_active = False
    cem.save()
    OutboxEntry.objects.filter(user_id=cem.pk).update(
        owed_since=timezone.now() - timedelta(seconds=90)
    )
    cem.email = "the clock runs from the first change owed"
    cem.save()
    call_command("outbox", "status", "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["undelivered"] == {"urgent": 1, "single": 0, "bulk": 2}
    assert 90 <= found["oldest_seconds"] < 120
    assert (found["waiting"], found["parked"]) == (0, 0)
    call_command("outbox", "status")
    assert capsys.readouterr().out.split()[:4] == ["urgent", "1", "single", "0"]


def test_parked_is_counted_apart(three: Deliveries) -> None:
    User.objects.filter(username="ann").update(first_name="X")
    OutboxEntry.objects.filter(version=2).update(parked_reason="too large")
    found = status.status()
    assert (sum(found.undelivered.values()), found.parked) == (0, 1)
    assert found.oldest_seconds is None


def test_republish_of_some_by_name_or_id(three: Deliveries) -> None:
    bob = User.objects.get(username="bob")
    call_command("outbox", "republish", "--user", "ann", "--user", str(bob.pk))
    assert sent(three) == {"ann", "bob"}


def test_republish_since(three: Deliveries) -> None:
    OutboxEntry.objects.update(changed_at=timezone.now() - timedelta(days=2))
    User.objects.filter(username="cem").update(first_name="X")
    publisher.publish_pending()
    three()
    call_command("outbox", "republish", "--since", (timezone.now() - timedelta(days=1)).isoformat())
    assert sent(three) == {"cem"}


def test_republish_of_a_deleted_user_tells_the_deletion_again(three: Deliveries) -> None:
    ann = User.objects.get(username="ann")
    key = ann.pk
    ann.delete()
    publisher.publish_pending()
    three()
    call_command("outbox", "republish", "--user", str(key))
    publisher.publish_pending()
    [(_, [change])] = three()
    assert (change.user_id, change.is_deletion) == (key, True)


@pytest.mark.parametrize(
    "arguments", [["--user", "nobody"], ["--since", "yesterday"], [], ["--all", "--user", "ann"]]
)
def test_what_cannot_be_republished_is_said(arguments: list[str]) -> None:
    with pytest.raises((CommandError, SystemExit), match=r"nobody|no time|required|not allowed"):
        call_command("outbox", "republish", *arguments)


def test_republish_sends_what_changed_past_django_under_a_new_version(three: Deliveries) -> None:
    """Under the old one, clients would drop the new state, and the audit would find nothing."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE accounts_user SET last_name = 'Smith' WHERE username = 'ann'")
    call_command("outbox", "republish", "--all")
    publisher.publish_pending()
    changes = [change for _, changes in three() for change in changes]
    assert {c.data.username: c.version for c in changes} == {"ann": 2, "bob": 1, "cem": 1}


def test_republish_of_some_looks_at_these_only(three: Deliveries) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE accounts_user SET last_name = 'Smith'")
    call_command("outbox", "republish", "--user", "ann")
    publisher.publish_pending()
    changes = [change for _, changes in three() for change in changes]
    assert {c.data.username: c.version for c in changes} == {"ann": 2}


def test_republish_frees_what_is_parked_or_waits(three: Deliveries) -> None:
    User.objects.update(first_name="X")
    entries = OutboxEntry.objects
    entries.filter(pk=User.objects.get(username="ann").pk).update(parked_reason="too large")
    entries.filter(pk=User.objects.get(username="bob").pk).update(
        attempts=5, claimed_until=timezone.now() + timedelta(minutes=5)
    )
    assert status.republish() == 2
    assert sent(three) == {"ann", "bob", "cem"}
