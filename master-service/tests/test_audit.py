"""What goes past Django is found by what was published, and nothing else is."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from usercast_master.accounts.models import User
from usercast_master.outbox import audit, publisher
from usercast_master.outbox.audit import Drift
from usercast_master.outbox.capture import Priority
from usercast_master.outbox.models import OutboxEntry

Deliveries = Callable[[], list]
pytestmark = pytest.mark.django_db
NOTHING = Drift(0, 0, 0)


@pytest.fixture
def published(deliveries: Deliveries) -> Callable[[], list]:
    """Three users, one of them in two groups, all of them published."""
    users = [User.objects.create(username=name, email="x@y.org") for name in ("ann", "bob", "cem")]
    users[0].groups.set([Group.objects.create(name=name) for name in ("Zebra", "ärzte")])
    publisher.publish_pending()
    deliveries()
    return deliveries


def sql(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def test_what_was_published_is_no_drift(published: Deliveries) -> None:
    assert audit.find() == NOTHING
    assert audit.mark() == 0


CHANGES = {
    "a name": "UPDATE accounts_user SET last_name = 'Smith' WHERE username = 'ann'",
    "a username": "UPDATE accounts_user SET username = 'anna' WHERE username = 'ann'",
    "a deactivation": "UPDATE accounts_user SET is_active = false WHERE username = 'ann'",
    "a date": "UPDATE accounts_user SET date_joined = date_joined + interval '1 microsecond'"
    " WHERE username = 'ann'",
    "a group's name": "UPDATE auth_group SET name = 'z' WHERE name = 'Zebra'",
    "a membership": "DELETE FROM accounts_user_groups",
}


@pytest.mark.parametrize("what", CHANGES)
def test_raw_sql_is_found_and_published(published: Deliveries, what: str) -> None:
    sql(CHANGES[what])
    assert audit.find() == Drift(changed=1, missing=0, gone=0)
    assert audit.mark() == 1
    assert audit.find() == NOTHING, "what is owed already is no drift"
    publisher.publish_pending()
    [(_, [change])] = published()
    ann = User.objects.get(pk=change.user_id)
    assert (change.data.username, change.data.last_name, change.data.is_active) == (
        ann.username,
        ann.last_name,
        ann.is_active,
    )
    assert change.data.groups == tuple(ann.groups.order_by("name").values_list("name", flat=True))
    assert audit.find() == NOTHING


def test_local_fields_are_no_drift(published: Deliveries) -> None:
    sql("UPDATE accounts_user SET password = '!', last_login = now()")
    assert audit.find() == NOTHING


def test_raw_insert_and_deletion_are_found(published: Deliveries) -> None:
    sql("DELETE FROM accounts_user WHERE username = 'bob'")
    sql(
        "INSERT INTO accounts_user (id, username, email, first_name, last_name, password,"
        " is_active, is_staff, is_superuser, date_joined)"
        " VALUES (gen_random_uuid(), 'dee', '', '', '', '!', true, false, false, now())"
    )
    assert audit.find() == Drift(changed=0, missing=1, gone=1)
    assert audit.mark() == 2
    publisher.publish_pending()
    changes = [change for _, changes in published() for change in changes]
    assert sorted(change.is_deletion for change in changes) == [False, True]
    assert audit.find() == NOTHING


def test_scope_changed_past_django_is_found(published: Deliveries) -> None:
    sql("UPDATE accounts_user SET is_staff = true WHERE username = 'cem'")
    assert audit.find() == Drift(changed=0, missing=0, gone=1)
    audit.mark()
    assert OutboxEntry.objects.get(version=2, deleted_at__isnull=False).priority == Priority.URGENT
    publisher.publish_pending()
    published()
    sql("UPDATE accounts_user SET is_staff = false WHERE username = 'cem'")
    assert audit.find() == Drift(changed=0, missing=1, gone=0)


def test_dismissal_in_sql_is_urgent(published: Deliveries) -> None:
    sql("UPDATE accounts_user SET is_active = false WHERE username = 'cem'")
    sql("UPDATE accounts_user SET email = 'z@y.org' WHERE username = 'bob'")
    audit.mark()
    urgent = User.objects.get(username="cem").pk
    assert OutboxEntry.objects.get(priority=Priority.URGENT).user_id == urgent
    assert OutboxEntry.objects.filter(priority=Priority.BULK).count() == 1


def test_settled_hash_is_of_the_state_that_was_sent(
    published: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Raw SQL between the publisher's reading and its settling is not taken for published."""
    ann = User.objects.get(username="ann")
    ann.first_name = "Ann"
    ann.save()
    real = publisher.settle

    def settle_late(*args: Any) -> None:
        sql("UPDATE accounts_user SET first_name = 'later' WHERE username = 'ann'")
        real(*args)

    monkeypatch.setattr(publisher, "settle", settle_late)
    publisher.publish_pending()
    assert audit.find() == Drift(changed=1, missing=0, gone=0)


def test_audit_is_one_statement_however_many(published: Deliveries) -> None:
    sql("UPDATE accounts_user SET last_name = 'X'")
    with CaptureQueriesContext(connection) as queries:
        assert audit.mark() == 3
    assert sum("accounts_user" in query["sql"] for query in queries) == 1


def test_command_counts_and_only_marks_if_asked(
    published: Deliveries, capsys: pytest.CaptureFixture[str]
) -> None:
    sql("UPDATE accounts_user SET last_name = 'X' WHERE username = 'bob'")
    call_command("outbox", "audit", "--dry-run")
    assert capsys.readouterr().out == "1 changed, 0 never published, 0 gone\n"
    assert audit.find().changed == 1
    call_command("outbox", "audit")
    assert "1 marked" in capsys.readouterr().out
    assert audit.find() == NOTHING
