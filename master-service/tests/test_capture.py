"""Every way to write a user ends in the outbox, in the transaction of the write."""

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import Group
from django.core import serializers
from django.db import connection, transaction
from django.db.models.signals import pre_delete, pre_save
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from uuid_utils.compat import uuid7

from usercast.errors import MarkedOutsideTransaction
from usercast_master.accounts.models import User
from usercast_master.outbox import capture, signals
from usercast_master.outbox.capture import Priority
from usercast_master.outbox.models import OutboxEntry

pytestmark = pytest.mark.django_db


def version(user: User) -> int:
    entry = OutboxEntry.objects.filter(user_id=user.pk).first()
    return entry.version if entry else 0


def entry(user: User) -> OutboxEntry:
    return OutboxEntry.objects.get(user_id=user.pk)


@pytest.fixture
def ann() -> User:
    return User.objects.create(username="ann", email="ann@example.org")


@pytest.fixture
def editors() -> Group:
    return Group.objects.create(name="editors")


def test_creation_is_the_first_version(ann: User) -> None:
    assert version(ann) == 1
    assert entry(ann).priority == Priority.SINGLE


CHANGES: dict[str, Callable[[User, Group], Any]] = {
    "save": lambda ann, _: (setattr(ann, "first_name", "Ann"), ann.save()),
    "save of one field": lambda ann, _: (
        setattr(ann, "email", "a@x.org"),
        ann.save(update_fields=["email"]),
    ),
    "rename": lambda ann, _: (setattr(ann, "username", "anna"), ann.save()),
    "update": lambda ann, _: User.objects.filter(username="ann").update(username="anna"),
    "bulk_update": lambda ann, _: (
        setattr(ann, "last_name", "Smith"),
        User.objects.bulk_update([ann], ["last_name"]),
    ),
    "update_or_create": lambda ann, _: User.objects.update_or_create(
        username="ann", defaults={"email": "b@x.org"}
    ),
    "group added": lambda ann, editors: ann.groups.add(editors),
    "group's user added": lambda ann, editors: editors.user_set.add(ann),
    "groups set": lambda ann, editors: ann.groups.set([editors]),
    "fixture": lambda ann, _: next(
        serializers.deserialize(
            "json",
            serializers.serialize("json", [ann]).replace("ann@example.org", "new@example.org"),
        )
    ).save(),
    "delete": lambda ann, _: ann.delete(),
    "delete of many": lambda ann, _: User.objects.filter(username="ann").delete(),
    "becomes staff": lambda ann, _: (setattr(ann, "is_staff", True), ann.save()),
    "becomes staff in bulk": lambda ann, _: User.objects.filter(pk=ann.pk).update(is_staff=True),
}


@pytest.mark.parametrize("way", CHANGES)
def test_every_way_to_change_a_user_counts_once(way: str, ann: User, editors: Group) -> None:
    key = ann.pk
    CHANGES[way](ann, editors)
    assert OutboxEntry.objects.get(user_id=key).version == 2


MEMBER_CHANGES: dict[str, Callable[[User, Group], Any]] = {
    "group removed": lambda ann, editors: ann.groups.remove(editors),
    "groups cleared": lambda ann, editors: ann.groups.clear(),
    "group's users cleared": lambda ann, editors: editors.user_set.clear(),
    "group renamed": lambda ann, editors: (setattr(editors, "name", "writers"), editors.save()),
    "group deleted": lambda ann, editors: editors.delete(),
}


@pytest.mark.parametrize("way", MEMBER_CHANGES)
def test_every_way_to_change_a_membership_counts_once(way: str, ann: User, editors: Group) -> None:
    ann.groups.add(editors)
    before = version(ann)
    MEMBER_CHANGES[way](ann, editors)
    assert version(ann) == before + 1


NOT_CHANGES: dict[str, Callable[[User], Any]] = {
    "saved as it is": lambda ann: ann.save(),
    "password": lambda ann: (ann.set_password("correct horse battery"), ann.save()),
    "sign-in": lambda ann: (
        setattr(ann, "last_login", ann.date_joined),
        ann.save(update_fields=["last_login"]),
    ),
    "a field not written": lambda ann: (
        setattr(ann, "email", "x@x.org"),
        ann.save(update_fields=["last_name"]),
    ),
    "sign-in in bulk": lambda ann: User.objects.update(last_login=None),
    "saved with a date as text": lambda ann: (
        setattr(ann, "date_joined", ann.date_joined.isoformat()),
        ann.save(),
    ),
}


@pytest.mark.parametrize("way", NOT_CHANGES)
def test_what_no_client_keeps_is_no_change(way: str, ann: User) -> None:
    NOT_CHANGES[way](ann)
    assert version(ann) == 1


def test_staff_are_not_replicated() -> None:
    root = User.objects.create_superuser("root", password="correct horse battery")
    root.first_name = "Root"
    root.save()
    root.groups.add(Group.objects.create(name="g"))
    root.delete()
    assert not OutboxEntry.objects.exists()


def test_leaving_and_entering_the_scope_is_deletion_and_return(ann: User) -> None:
    ann.is_staff = True
    ann.save()
    assert entry(ann).deleted_at is not None
    assert entry(ann).priority == Priority.URGENT
    ann.is_staff = False
    ann.save()
    assert (entry(ann).version, entry(ann).deleted_at) == (3, None)


def test_deletion_keeps_its_entry_as_tombstone(ann: User) -> None:
    key = ann.pk
    ann.delete()
    tombstone = OutboxEntry.objects.get(user_id=key)
    assert (tombstone.version, tombstone.priority) == (2, Priority.URGENT)
    assert tombstone.deleted_at is not None


def test_undelivered_entry_keeps_its_most_urgent_priority(ann: User) -> None:
    ann.is_active = False
    ann.save()
    User.objects.filter(pk=ann.pk).update(first_name="Bulk")
    assert entry(ann).priority == Priority.URGENT
    OutboxEntry.objects.update(published_version=3)
    User.objects.filter(pk=ann.pk).update(first_name="Again")
    assert entry(ann).priority == Priority.BULK


def test_stale_instance_is_compared_with_the_row(ann: User) -> None:
    stale = User.objects.get(pk=ann.pk)
    User.objects.filter(pk=ann.pk).update(first_name="Ann")
    stale.save()  # Puts the old first name back: a change, though the instance was not touched.
    assert version(ann) == 3


def test_bulk_writes_cost_the_same_statements_for_many(django_assert_num_queries: Any) -> None:
    User.objects.bulk_create([User(username=f"u{i}") for i in range(3)])
    with django_assert_num_queries(4):
        User.objects.update(first_name="few")
    User.objects.bulk_create([User(username=f"v{i}") for i in range(300)])
    with django_assert_num_queries(4):
        User.objects.update(first_name="many")
    assert set(OutboxEntry.objects.values_list("version", flat=True)) == {2, 3}


def test_bulk_deletion_marks_in_one_statement(django_assert_num_queries: Any) -> None:
    """Django itself deletes a hundred rows a statement; the marking adds none to that."""

    def cost(count: int) -> int:
        User.objects.bulk_create([User(username=f"u{i}") for i in range(count)])
        with CaptureQueriesContext(connection) as queries:
            User.objects.all().delete()
        return sum("outbox_entry" in query["sql"] for query in queries), len(queries)

    assert cost(3) == (1, cost(90)[1])
    few, many = cost(90)[1], cost(490)[1]
    assert many == few + 4
    assert set(OutboxEntry.objects.values_list("version", "priority")) == {(2, Priority.URGENT)}


def test_deletion_of_many_tells_of_those_the_clients_know(ann: User) -> None:
    User.objects.create_superuser("root", password="correct horse battery")
    User.objects.create(username="bob")
    assert User.objects.all().delete()[1]["accounts.User"] == 3
    assert OutboxEntry.objects.filter(deleted_at__isnull=False).count() == 2
    assert OutboxEntry.objects.count() == 2


def test_deletion_through_another_models_cascade_counts(ann: User) -> None:
    """The bulk deletion's own marks do not hide somebody else's deletion in between."""
    bob = User.objects.create(username="bob")

    def take_bob_along(instance: User, **_kwargs: Any) -> None:
        if instance.username == "ann":
            User.objects.get(pk=bob.pk).delete()

    pre_delete.connect(take_bob_along, sender=User)
    try:
        User.objects.filter(pk=ann.pk).delete()
    finally:
        pre_delete.disconnect(take_bob_along, sender=User)
    assert OutboxEntry.objects.filter(deleted_at__isnull=False).count() == 2


def test_sliced_or_distinct_deletion_is_refused_as_ever(ann: User) -> None:
    for users in (User.objects.all()[:1], User.objects.distinct("email")):
        with pytest.raises(TypeError):
            users.delete()


def test_bulk_deactivation_is_urgent_for_those_it_deactivates(ann: User) -> None:
    bob = User.objects.create(username="bob", is_active=False)
    ann.is_active = False
    User.objects.bulk_update([ann, bob], ["is_active"])
    assert (entry(ann).priority, entry(bob).priority) == (Priority.URGENT, Priority.SINGLE)


def test_bulk_upsert_that_makes_somebody_staff_is_a_deletion(ann: User) -> None:
    User.objects.bulk_create(
        [User(username="ann", is_staff=True)],
        update_conflicts=True,
        update_fields=["is_staff"],
        unique_fields=["username"],
    )
    assert entry(ann).deleted_at is not None


def test_what_another_receiver_changes_on_the_way_counts(ann: User) -> None:
    def lower(instance: User, **_kwargs: Any) -> None:
        instance.email = instance.email.lower()

    pre_save.connect(lower, sender=User)
    try:
        User.objects.filter(pk=ann.pk).update(email="ANN@example.org")
        User.objects.get(pk=ann.pk).save()
    finally:
        pre_save.disconnect(lower, sender=User)
    assert version(ann) == 3


def test_save_by_key_alone_is_compared_with_the_row(ann: User) -> None:
    User(pk=ann.pk, username="ann", is_staff=True).save(force_update=True)
    assert entry(ann).deleted_at is not None


@pytest.mark.parametrize("attempts", [0, 3], ids=["being sent", "refused"])
def test_new_change_waits_for_no_earlier_one(ann: User, attempts: int) -> None:
    """A publisher that was killed while sending cannot hold up the dismissal that follows."""
    later = timezone.now() + timedelta(minutes=5)
    OutboxEntry.objects.update(attempts=attempts, claimed_until=later)
    ann.delete()
    assert OutboxEntry.objects.get().claimed_until is None


def test_users_id_never_changes(ann: User) -> None:
    for name in ("id", "pk"):
        with pytest.raises(TypeError, match="never changes"):
            User.objects.update(**{name: uuid7()})


def test_update_of_a_sliced_queryset_is_refused_as_ever(ann: User) -> None:
    with pytest.raises(TypeError, match="slice"):
        User.objects.all()[:1].update(first_name="x")


@pytest.mark.django_db(transaction=True)
def test_rolled_back_write_leaves_nothing() -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        User.objects.create(username="never")
        _ = 1 / 0
    assert not OutboxEntry.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_marking_outside_a_transaction_raises() -> None:
    with pytest.raises(MarkedOutsideTransaction):
        capture.mark_changed([], Priority.SINGLE)


@pytest.mark.django_db(transaction=True)
def test_save_in_autocommit_is_one_transaction_with_its_mark(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    user = User.objects.create(username="ann")

    def crash(*_args: Any, **_kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(signals, "mark_one", crash)
    user.first_name = "Lost?"
    with pytest.raises(KeyboardInterrupt):
        user.save()
    assert User.objects.get().first_name == ""


@pytest.mark.django_db(transaction=True)
def test_group_saved_in_autocommit_marks_its_members() -> None:
    user = User.objects.create(username="ann")
    group = Group.objects.create(name="old")
    user.groups.add(group)
    group.name = "new"
    group.save()
    assert version(user) == 3


def test_save_and_deletion_through_a_proxy_count(ann: User) -> None:
    class Person(User):
        class Meta:
            proxy = True
            app_label = "accounts"

    try:
        person = Person.objects.get(pk=ann.pk)
        person.first_name = "Ann"
        person.save()
        assert version(ann) == 2
        person.delete()
        assert version(ann) == 3
    finally:
        del apps.all_models["accounts"]["person"]
        apps.clear_cache()


@pytest.mark.django_db(transaction=True)
def test_group_given_while_the_user_enters_the_scope_counts() -> None:
    """The marking waits for the other transaction, and sees what it did (a forced race)."""
    user = User.objects.create(username="ann", is_staff=True)
    group = Group.objects.create(name="editors")

    def join() -> None:
        user.groups.add(group)
        connection.close()

    other = threading.Thread(target=join)
    with transaction.atomic():
        user.is_staff = False
        user.save()
        other.start()
        other.join(timeout=0.3)
        assert other.is_alive(), "the marking did not wait"
    other.join(timeout=5)
    assert version(user) == 2


@pytest.mark.django_db(transaction=True)
def test_clock_of_a_user_never_goes_back() -> None:
    """A marking that waited for a later one has the older clock (a forced race)."""
    user = User.objects.create(username="ann")
    waiting, held = threading.Event(), threading.Event()

    def mark_later() -> None:
        with transaction.atomic():
            capture.mark_one(user.pk, Priority.SINGLE)
            held.set()
            waiting.wait(10)
            time.sleep(0.2)
            OutboxEntry.objects.update(changed_at=timezone.now())
        connection.close()

    other = threading.Thread(target=mark_later)
    other.start()
    held.wait(10)
    waiting.set()
    with transaction.atomic():
        capture.mark_one(user.pk, Priority.SINGLE)  # Evaluates its clock, then waits.
    other.join()
    final = OutboxEntry.objects.get()
    assert final.version == 3
    assert final.changed_at >= final.owed_since + timedelta(seconds=0.2)


@pytest.mark.django_db(transaction=True)
def test_two_saves_at_once_are_two_versions() -> None:
    """The second waits for the first and compares with what it wrote (a forced race)."""
    user = User.objects.create(username="ann")
    first, second = User.objects.get(pk=user.pk), User.objects.get(pk=user.pk)
    second.first_name = "second"

    def save_second() -> None:
        second.save()
        connection.close()

    other = threading.Thread(target=save_second)
    with transaction.atomic():
        first.last_name = "first"
        first.save()
        other.start()
        other.join(timeout=0.3)
        assert other.is_alive(), "the second save did not wait for the first"
    other.join(timeout=5)
    assert version(user) == 3
