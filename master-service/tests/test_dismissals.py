"""Dismissals: each is recorded with its change, and followed until each client confirms it."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.models import Group, Permission
from django.db import connection, transaction
from django.test import Client as Browser
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from uuid_utils.compat import uuid7

from usercast_master.accounts.models import User
from usercast_master.clients import dismissals, receipts, standing
from usercast_master.clients.models import Client, Receipt
from usercast_master.outbox import audit, capture
from usercast_master.outbox.capture import Priority
from usercast_master.outbox.models import Dismissal, OutboxEntry

pytestmark = pytest.mark.django_db

LIST = "/admin/outbox/dismissal/"
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def ann() -> User:
    return User.objects.create(username="ann", email="ann@example.org")


def recorded() -> list[tuple[UUID, int, bool]]:
    found = Dismissal.objects.order_by("user_id", "version")
    return list(found.values_list("user_id", "version", "is_deletion"))


# Recorded


def deactivate(user: User) -> None:
    user.is_active = False
    user.save()


def reactivate(user: User) -> None:
    user.is_active = True
    user.save()


def dismissed_in_sql(ann: User) -> None:
    User.objects.create(username="other")
    OutboxEntry.objects.update(published_version=1, published_hash=uuid7())
    with connection.cursor() as cursor:
        cursor.execute("UPDATE accounts_user SET is_active = false WHERE username = 'ann'")
    audit.mark()


def deleted_in_sql(ann: User) -> None:
    OutboxEntry.objects.update(published_version=1, published_hash=uuid7())
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM accounts_passwordhistory WHERE user_id = %s", [str(ann.pk)])
        cursor.execute("DELETE FROM accounts_user WHERE id = %s", [str(ann.pk)])
    audit.mark()


WAYS: dict[str, tuple[Callable[[User], Any], bool]] = {
    "deactivated": (deactivate, False),
    "deactivated in bulk": (lambda ann: User.objects.update(is_active=False), False),
    "deleted": (lambda ann: ann.delete(), True),
    "deleted in bulk": (lambda ann: User.objects.filter(username="ann").delete(), True),
    "becomes staff": (lambda ann: (setattr(ann, "is_staff", True), ann.save()), True),
    "becomes staff in bulk": (lambda ann: User.objects.update(is_staff=True), True),
    "deactivated in SQL, found by the audit": (dismissed_in_sql, False),
    "deleted in SQL, found by the audit": (deleted_in_sql, True),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_lose_access_is_recorded_once(way: str, ann: User) -> None:
    key = ann.pk
    lose, is_deletion = WAYS[way]
    lose(ann)
    assert recorded() == [(key, 2, is_deletion)]
    entry = OutboxEntry.objects.get(user_id=key)
    assert (Dismissal.objects.get().at, entry.version) == (entry.changed_at, 2)


OTHERS: dict[str, Callable[[User], Any]] = {
    "saved": lambda ann: (setattr(ann, "first_name", "Ann"), ann.save()),
    "updated in bulk": lambda ann: User.objects.update(first_name="Ann"),
    "put into a group": lambda ann: ann.groups.add(Group.objects.create(name="editors")),
    "created inactive": lambda ann: User.objects.create(username="b", is_active=False),
    "staff deactivated": lambda ann: deactivate(User.objects.create(username="c", is_staff=True)),
    "staff deleted": lambda ann: User.objects.create(username="c", is_staff=True).delete(),
}


@pytest.mark.parametrize("way", OTHERS)
def test_other_changes_are_not(way: str, ann: User) -> None:
    OTHERS[way](ann)
    assert recorded() == []


def test_change_of_who_is_inactive_or_comes_back_is_none(ann: User) -> None:
    deactivate(ann)
    ann.first_name = "Ann"
    ann.save()
    reactivate(ann)
    assert recorded() == [(ann.pk, 2, False)]


def test_each_time_is_one_of_its_own(ann: User) -> None:
    deactivate(ann)
    reactivate(ann)
    deactivate(ann)
    key = ann.pk
    ann.delete()
    assert recorded() == [(key, 2, False), (key, 4, False), (key, 5, True)]


def test_change_after_an_undelivered_dismissal_is_none(ann: User) -> None:
    """Its entry is still as urgent."""
    deactivate(ann)
    User.objects.filter(pk=ann.pk).update(first_name="Ann")
    audit.mark()
    assert OutboxEntry.objects.get().priority == Priority.URGENT
    assert len(recorded()) == 1


def test_many_cost_one_statement(ann: User) -> None:
    User.objects.bulk_create(User(username=f"u{number}") for number in range(50))
    ids = list(User.objects.values_list("pk", flat=True))
    with CaptureQueriesContext(connection) as queries, transaction.atomic():
        capture.mark_changed(ids, Priority.URGENT)
    assert sum("outbox_" in query["sql"] for query in queries) == 1
    assert len(recorded()) == 51


def test_other_changes_do_not_touch_the_table(ann: User) -> None:
    with CaptureQueriesContext(connection) as queries:
        OTHERS["saved"](ann)
        OTHERS["updated in bulk"](ann)
    assert not any("outbox_dismissal" in query["sql"] for query in queries)


def test_rolled_back_means_not_recorded(ann: User) -> None:
    with transaction.atomic():
        deactivate(ann)
        transaction.set_rollback(True)
    assert recorded() == []


@pytest.mark.django_db(transaction=True)
def test_marked_by_two_at_once_each_has_its_version(ann: User) -> None:
    barrier = threading.Barrier(2)

    def mark() -> None:
        try:
            barrier.wait(10)
            with transaction.atomic():
                capture.mark_one(ann.pk, Priority.URGENT)
                capture.mark_deleted([ann.pk])
        finally:
            connection.close()

    threads = [threading.Thread(target=mark) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert recorded() == [
        (ann.pk, 2, False),
        (ann.pk, 3, True),
        (ann.pk, 4, False),
        (ann.pk, 5, True),
    ]


# Confirmed


def make_client(name: str = "support", registered_at: datetime | None = LONG_AGO) -> Client:
    return Client.objects.create(name=name, registered_at=registered_at)


def word(
    user_id: UUID, version: int, *, after: float = 0.8, sockets: int = 0, erased: bool = False
) -> dict[str, Any]:
    """A receipt, as a report has it; ``after`` the user's first dismissal."""
    first = Dismissal.objects.filter(user_id=user_id).order_by("version").first()
    at = first.at if first else timezone.now()
    return {
        "user_id": user_id,
        "version": version,
        "applied_at": at + timedelta(seconds=after),
        "sockets_closed": sockets,
        "erased": erased,
    }


def is_open(user_id: UUID) -> list[bool]:
    found = Dismissal.objects.filter(user_id=user_id).order_by("version")
    return list(found.values_list("is_open", flat=True))


def versions(client: Client) -> list[tuple[int, int]]:
    """Which dismissals are confirmed, and what the client had come to."""
    found = Receipt.objects.filter(client=client).order_by("dismissal__version")
    return list(found.values_list("dismissal__version", "version"))


def test_last_receipt_closes_the_dismissal(ann: User) -> None:
    support, billing = make_client(), make_client("billing")
    deactivate(ann)
    receipts.take(support, [word(ann.pk, 2, sockets=3)])
    assert is_open(ann.pk) == [True]
    receipts.take(billing, [word(ann.pk, 2)])
    assert is_open(ann.pk) == [False]
    receipt = Receipt.objects.get(client=support)
    assert (receipt.version, receipt.sockets_closed, receipt.erased) == (2, 3, False)


def test_later_version_stands_for_the_earlier_ones(ann: User) -> None:
    support, key = make_client(), ann.pk
    deactivate(ann)
    ann.delete()
    receipts.take(support, [word(key, 3, erased=True)])
    assert versions(support) == [(2, 3), (3, 3)]
    assert is_open(key) == [False, False]
    erased = Receipt.objects.order_by("dismissal__version").values_list("erased", flat=True)
    assert list(erased) == [False, True]


def test_earlier_version_does_not_stand_for_a_later_one(ann: User) -> None:
    support, key = make_client(), ann.pk
    deactivate(ann)
    ann.delete()
    receipts.take(support, [word(key, 2)])
    assert versions(support) == [(2, 2)]
    assert is_open(key) == [False, True]


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("order", [1, -1], ids=["in order", "out of order"])
def test_any_order_and_repetition_comes_to_the_same(ann: User, order: int, together: bool) -> None:
    support, key = make_client(), ann.pk
    deactivate(ann)
    ann.delete()
    words = [word(key, 2, after=1, sockets=2), word(key, 3, after=5, sockets=1, erased=True)]
    words = words[::order]
    for batch in [words] if together else [[one] for one in [*words, *words]]:
        receipts.take(support, batch)
    assert versions(support) == [(2, 2), (3, 3)]
    found = Receipt.objects.order_by("dismissal__version")
    assert [(receipt.sockets_closed, receipt.erased) for receipt in found] == [
        (2, False),
        (1, True),
    ]
    after = found[0].applied_at - found[0].dismissal.at
    assert after == timedelta(seconds=1)


def test_first_time_stays_and_sockets_grow(ann: User) -> None:
    support = make_client()
    deactivate(ann)
    receipts.take(support, [word(ann.pk, 2, after=1)])
    receipts.take(support, [word(ann.pk, 2, after=1, sockets=4)])
    receipts.take(support, [word(ann.pk, 2, after=9, sockets=1)])
    receipt = Receipt.objects.get()
    assert receipt.applied_at - receipt.dismissal.at == timedelta(seconds=1)
    assert receipt.sockets_closed == 4


def test_what_fits_nothing_is_passed_over(ann: User) -> None:
    support = make_client()
    deactivate(ann)
    receipts.take(support, [])
    receipts.take(support, [word(uuid7(), 7), word(ann.pk, 1)])
    assert not Receipt.objects.exists()


def test_as_many_as_a_report_holds_cost_the_same() -> None:
    support = make_client()
    User.objects.bulk_create(User(username=f"u{number}") for number in range(500))
    User.objects.update(is_active=False)
    words = [word(key, 2) for key in User.objects.values_list("pk", flat=True)]
    with CaptureQueriesContext(connection) as queries:
        receipts.take(support, words)
    assert len(queries) <= 5
    assert not Dismissal.objects.filter(is_open=True).exists()
    assert Receipt.objects.count() == 500


def test_client_registered_later_owes_nothing(ann: User) -> None:
    support = make_client()
    make_client("found", registered_at=None)
    deactivate(ann)
    make_client("later", registered_at=timezone.now())
    receipts.take(support, [word(ann.pk, 2)])
    assert is_open(ann.pk) == [False]


# Closed


def test_without_clients_there_is_nothing_to_wait_for(ann: User) -> None:
    deactivate(ann)
    assert receipts.close() == 1
    assert receipts.close() == 0


def test_removed_client_owes_nothing(ann: User) -> None:
    support = make_client()
    deactivate(ann)
    assert receipts.close() == 0
    support.delete()
    assert receipts.close() == 1
    assert is_open(ann.pk) == [False]


BACK: dict[str, tuple[Callable[[User], Any], Callable[[User], Any], bool]] = {
    "active again": (deactivate, reactivate, True),
    "inactive and edited": (deactivate, lambda ann: User.objects.update(first_name="A"), False),
    "in scope again": (
        lambda ann: User.objects.update(is_staff=True),
        lambda ann: User.objects.update(is_staff=False),
        True,
    ),
    "in scope again, inactive": (
        lambda ann: User.objects.update(is_staff=True),
        lambda ann: User.objects.update(is_staff=False, is_active=False),
        False,
    ),
    "active again, but as staff": (
        deactivate,
        lambda ann: User.objects.update(is_staff=True, is_active=True),
        False,
    ),
}


@pytest.mark.parametrize("way", BACK)
def test_superseded_once_the_user_may_come_in_again(way: str, ann: User, settings: Any) -> None:
    make_client()
    lose, come_back, is_superseded = BACK[way]
    lose(ann)
    Dismissal.objects.update(at=timezone.now() - timedelta(minutes=1))
    come_back(ann)
    first = Dismissal.objects.order_by("pk")[:1]
    assert (receipts.overdue().dismissals >= 1) is not is_superseded
    assert receipts.close() == int(is_superseded)
    assert first[0].is_open is not is_superseded


def test_next_dismissal_is_no_receipt_for_one_that_was_superseded(ann: User) -> None:
    support = make_client()
    deactivate(ann)
    reactivate(ann)
    receipts.close()
    deactivate(ann)
    receipts.take(support, [word(ann.pk, 4)])
    assert versions(support) == [(4, 4)]


def test_superseded_one_takes_its_own_receipt(ann: User) -> None:
    """Which was on its way as access was given back."""
    support = make_client()
    deactivate(ann)
    reactivate(ann)
    receipts.close()
    receipts.take(support, [word(ann.pk, 2)])
    assert versions(support) == [(2, 2)]


def age(seconds: float, **which: Any) -> None:
    Dismissal.objects.filter(**which).update(at=timezone.now() - timedelta(seconds=seconds))


def test_overdue_counts_what_is_outstanding_past_the_objective(ann: User, settings: Any) -> None:
    settings.USERCAST_DISMISSAL_SECONDS = 30
    support = make_client()
    bob = User.objects.create(username="bob")
    assert receipts.overdue() == (0, None)
    deactivate(ann)
    deactivate(bob)
    age(29)
    assert receipts.overdue().dismissals == 0
    age(40, user_id=ann.pk)
    assert receipts.overdue() == (1, Dismissal.objects.get(user_id=ann.pk).at)
    receipts.take(support, [word(ann.pk, 2)])
    assert receipts.overdue() == (0, None)


def test_trimmed_after_so_many_days_but_not_while_open(ann: User, settings: Any) -> None:
    settings.USERCAST_RECEIPT_DAYS = 100
    support = make_client()
    bob, cem = (User.objects.create(username=name) for name in ("bob", "cem"))
    for user in (ann, bob, cem):
        deactivate(user)
    receipts.take(support, [word(ann.pk, 2), word(bob.pk, 2)])
    age(101 * 86_400, user_id__in=[ann.pk, cem.pk])
    assert receipts.trim() == 1
    assert {user_id for user_id, *_ in recorded()} == {bob.pk, cem.pk}
    assert Receipt.objects.count() == 1


# At the desk


@pytest.fixture
def desk() -> Browser:
    browser = Browser()
    browser.force_login(User.objects.create_superuser("root", password="correct horse battery"))
    return browser


def text(browser: Browser, address: str, **query: Any) -> str:
    answer = browser.get(address, query)
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


def page_of(user_id: UUID) -> str:
    return f"{LIST}{user_id}/"


def test_page_proves_an_erasure_and_names_nobody(desk: Browser) -> None:
    ann = User.objects.create(username="secret-name", first_name="Secret", email="s@secret.org")
    support, billing, key = make_client(), make_client("billing"), ann.pk
    ann.delete()
    receipts.take(support, [word(key, 2, sockets=2, erased=True)])
    receipts.take(billing, [word(key, 2, after=-0.3)])
    page = text(desk, page_of(key))
    for said in (
        f"deleted: {key}",
        "access ended, 0.8 s after",
        "access ended, &lt; 0.1 s after",
        "erased",
        "kept: another table needs the row",
        "ended on 2 of 2 clients",
    ):
        assert said in page
    listed = text(desk, LIST)
    assert f"deleted: {key}" in listed
    assert "ended on 2 of 2 clients" in listed
    assert "secret" not in (page + listed).lower()


def test_what_is_outstanding_past_the_objective_stands_out_and_is_counted(
    desk: Browser, ann: User
) -> None:
    make_client()
    receipts_of = make_client("billing")
    deactivate(ann)
    receipts.take(receipts_of, [word(ann.pk, 2)])
    page = text(desk, page_of(ann.pk))
    assert "outstanding for" in page
    assert 'data-state="bad"' not in page
    assert "ended on 1 of 2 clients" in text(desk, LIST)
    age(200)
    page = text(desk, page_of(ann.pk))
    assert '<td data-state="bad">outstanding for 3 min</td>' in page
    listed = text(desk, LIST)
    assert "support has not ended it, 3 min" in listed
    assert "One dismissal is outstanding for more than 10 s." in listed


def test_page_of_who_came_back_and_of_who_never_lost_access(desk: Browser, ann: User) -> None:
    make_client()
    assert "has never been deactivated" in text(desk, page_of(ann.pk))
    deactivate(ann)
    reactivate(ann)
    assert "superseded before it was heard of" in text(desk, page_of(ann.pk))
    receipts.close()
    assert "superseded: access was given back" in text(desk, LIST)
    assert desk.get(page_of(uuid7())).status_code == 404


def test_row_of_who_came_back_before_the_client_heard_is_not_called_kept(
    desk: Browser, ann: User
) -> None:
    support, only_ann = make_client(), User.objects.filter(pk=ann.pk)
    only_ann.update(is_staff=True)
    only_ann.update(is_staff=False)
    deactivate(User.objects.get(pk=ann.pk))
    receipts.take(support, [word(ann.pk, 4)])
    page = text(desk, page_of(ann.pk))
    assert "the user came back before the client heard of it" in page
    assert "No longer replicated" in page
    assert "kept" not in page.partition("desk-proof-one")[2]


def test_page_shows_the_latest_and_says_so(desk: Browser, ann: User) -> None:
    Dismissal.objects.bulk_create(
        Dismissal(user_id=ann.pk, version=number, at=timezone.now(), is_deletion=False)
        for number in range(1, dismissals.SHOWN_AT_MOST + 2)
    )
    page = text(desk, page_of(ann.pk))
    assert "version 51 " in page
    assert "version 1 " not in page
    assert "Older ones are not shown." in page


def rows(browser: Browser, **query: Any) -> set[UUID]:
    found = browser.get(LIST, query).context["cl"].result_list
    return {dismissal.user_id for dismissal in found}


def test_list_is_filtered_and_searched(desk: Browser, ann: User) -> None:
    support = make_client()
    bob, cem = (User.objects.create(username=name) for name in ("bob", "cem"))
    for user in (ann, bob, cem):
        deactivate(user)
    receipts.take(support, [word(cem.pk, 2)])
    age(60, user_id=ann.pk)
    assert rows(desk) == {ann.pk, bob.pk, cem.pk}
    assert rows(desk, receipts="open") == {ann.pk, bob.pk}
    assert rows(desk, receipts="overdue") == {ann.pk}
    assert rows(desk, q="BO") == {bob.pk}
    assert rows(desk, q=str(cem.pk)) == {cem.pk}
    assert rows(desk, q=str(uuid7())) == set()


def test_empty_list_says_so(desk: Browser) -> None:
    assert "Nobody has been deactivated or deleted yet." in text(desk, LIST)


def test_long_list_costs_no_more(desk: Browser, django_assert_max_num_queries: Any) -> None:
    for name in ("a", "b", "c"):
        make_client(name)
    User.objects.bulk_create(User(username=f"u{number}") for number in range(40))
    User.objects.exclude(username="root").update(is_active=False)
    with django_assert_max_num_queries(8):
        desk.get(LIST)


def test_users_form_says_how_the_latest_stands(desk: Browser, ann: User) -> None:
    form = f"/admin/accounts/user/{ann.pk}/change/"
    assert "access on clients" not in text(desk, form).lower()
    make_client()
    deactivate(ann)
    page = text(desk, form)
    assert "deactivated: ended on 0 of 1 clients" in page
    assert page_of(ann.pk) in page


def test_who_may_see_users_may_see_and_nobody_may_edit(desk: Browser, ann: User) -> None:
    deactivate(ann)
    clerk = User.objects.create_user("clerk", password="correct horse battery", is_staff=True)
    browser = Browser()
    assert browser.get(LIST).status_code == 302
    browser.force_login(clerk)
    one = f"{LIST}{Dismissal.objects.get().pk}/change/"
    for address in (LIST, page_of(ann.pk)):
        assert browser.get(address).status_code == 403
    assert browser.get(one).status_code == 404
    clerk.user_permissions.add(Permission.objects.get(codename="view_user"))
    for address in (LIST, page_of(ann.pk)):
        assert browser.get(address).status_code == 200
    assert browser.get(one)["Location"] == page_of(ann.pk)
    assert desk.get(f"{LIST}add/").status_code == 403
    assert desk.get(f"{LIST}{Dismissal.objects.get().pk}/delete/").status_code == 403


def test_names_of_several_are_listed(ann: User) -> None:
    for name in ("c", "a", "b"):
        make_client(name)
    deactivate(ann)
    age(200)
    assert standing.said(standing.newest(ann.pk)) == "a, b and c have not ended it, 3 min"
