"""Users, groups and the outbox at the desk: what is done there, by whom, and what the log keeps."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission
from django.db import OperationalError, connection
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone
from psycopg2.errors import DeadlockDetected

from usercast_master.accounts import history
from usercast_master.accounts.models import User
from usercast_master.desk.deadlocks import again_after_deadlock
from usercast_master.outbox.delivery import Delivery
from usercast_master.outbox.models import OutboxEntry

pytestmark = pytest.mark.django_db

USERS = "/admin/accounts/user/"
OUTBOX = "/admin/outbox/outboxentry/"


@pytest.fixture
def root() -> User:
    return User.objects.create_superuser("root", password="correct horse battery")


@pytest.fixture
def desk(root: User) -> Client:
    browser = Client()
    browser.force_login(root)
    return browser


@pytest.fixture
def clerk_with() -> Callable[..., Client]:
    """A desk of staff with these permissions."""

    def signed_in(*permissions: str) -> Client:
        clerk = User.objects.create_user("clerk", password="correct horse battery", is_staff=True)
        clerk.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        browser = Client()
        browser.force_login(clerk)
        return browser

    return signed_in


def act(desk: Client, action: str, *users: User, **more: Any) -> Any:
    chosen = {"action": action, "_selected_action": [user.pk for user in users]}
    return desk.post(USERS, {**chosen, **more}, follow=True)


def told(answer: Any) -> str:
    return " ".join(str(message) for message in answer.context["messages"])


def names(answer: Any) -> set[str]:
    return {str(row) for row in answer.context["cl"].result_list}


def edit(desk: Client, user: User, **changed: Any) -> Any:
    address = f"{USERS}{user.pk}/change/"
    initial = desk.get(address).context["adminform"].form.initial
    form = {key: value for key, value in initial.items() if value not in (None, False)}
    form["groups"] = [group.pk for group in initial.get("groups", [])]
    return desk.post(address, {**form, **changed})


# One user


def test_user_is_created_edited_and_deleted_at_the_desk(desk: Client) -> None:
    form = {"username": "ann", "usable_password": "false", "email": "a@x.org"}
    added = desk.post(f"{USERS}add/", {**form, "first_name": "", "last_name": ""})
    assert added.status_code == 302, added.content.decode()
    ann = User.objects.get(username="ann")
    edited = edit(desk, ann, username="anna", first_name="Ann")
    assert edited.status_code == 302, edited.content.decode()
    entry = OutboxEntry.objects.get(user_id=ann.pk)
    assert entry.version == 2, "one save, one version"
    desk.post(f"{USERS}{ann.pk}/delete/", {"post": "yes"})
    entry.refresh_from_db()
    assert (entry.version, entry.deleted_at is None) == (3, False)


def test_history_says_who_changed_what_from_what(desk: Client, root: User) -> None:
    ann = User.objects.create(username="ann", first_name="Ann")
    editors = Group.objects.create(name="editors")
    edit(desk, ann, first_name="Anna", groups=[editors.pk])
    line = LogEntry.objects.get(object_id=str(ann.pk))
    assert line.user == root
    for part in ("Ann → Anna", "editors", "the desk"):
        assert part in line.change_message
    page = desk.get(f"{USERS}{ann.pk}/history/").content.decode()
    assert "Ann → Anna" in page


def test_saved_without_a_change_is_no_history(desk: Client) -> None:
    ann = User.objects.create(username="ann", first_name="Ann")
    edit(desk, ann)
    assert not LogEntry.objects.exists()


def test_who_has_acted_here_cannot_be_deleted(desk: Client, root: User) -> None:
    ann = User.objects.create(username="ann")
    LogEntry.objects.create(user=ann, action_flag=2)
    page = desk.post(f"{USERS}{ann.pk}/delete/", {"post": "yes"})
    assert "deactivate instead" in page.content.decode()
    assert User.objects.filter(pk=ann.pk).exists()


def test_new_password_is_in_the_history_but_not_what_it_is(desk: Client, root: User) -> None:
    ann = User.objects.create(username="ann")
    new = "an unheard-of one"
    form = {"password1": new, "password2": new, "usable_password": "true"}
    assert desk.post(f"{USERS}{ann.pk}/password/", form).status_code == 302
    line = LogEntry.objects.get(object_id=str(ann.pk))
    assert (line.user, line.change_message) == (root, "Password set.")


def test_form_opened_before_somebody_elses_change_is_refused(desk: Client) -> None:
    """Or it would put back what they changed: here, bring back who was dismissed."""
    ann = User.objects.create(username="ann", email="old@x.org")
    address = f"{USERS}{ann.pk}/change/"
    form = {k: v for k, v in desk.get(address).context["adminform"].form.initial.items() if v}
    User.objects.filter(pk=ann.pk).update(is_active=False, email="new@x.org")
    answer = desk.post(address, {**form, "groups": [], "first_name": "Ann"})
    assert "Somebody else has changed this user" in answer.content.decode()
    ann.refresh_from_db()
    assert (ann.is_active, ann.email, ann.first_name) == (False, "new@x.org", "")


# The list


def of_each_delivery() -> None:
    for state in ("delivered", "waiting", "parked", "on-its-way"):
        User.objects.create(username=state)
    entries = {e.user_id: e for e in OutboxEntry.objects.all()}
    keys = dict(User.objects.values_list("username", "pk"))
    OutboxEntry.objects.filter(user_id=keys["delivered"]).update(published_version=1)
    OutboxEntry.objects.filter(user_id=keys["waiting"]).update(attempts=2)
    OutboxEntry.objects.filter(user_id=keys["parked"]).update(parked_reason="too large")
    assert len(entries) == 4


@pytest.mark.parametrize("state", [state for state in Delivery if state != Delivery.LOCAL])
def test_delivery_of_each_user_is_shown_and_filtered(desk: Client, state: Delivery) -> None:
    of_each_delivery()
    page = desk.get(USERS, {"delivery": state.value})
    assert names(page) == {state.value}
    assert state.label in page.content.decode().lower()


def test_staff_stay_here(desk: Client) -> None:
    of_each_delivery()
    assert names(desk.get(USERS, {"delivery": "local"})) == {"root"}


def test_list_is_searched_and_shows_versions(desk: Client) -> None:
    ann = User.objects.create(username="ann", email="someone@x.org")
    User.objects.create(username="bob")
    OutboxEntry.objects.filter(user_id=ann.pk).update(version=12, published_version=9)
    page = desk.get(USERS, {"q": "someone"})
    assert names(page) == {"ann"}
    assert "12\N{NO-BREAK SPACE}(9\N{NO-BREAK SPACE}sent)" in page.content.decode()


def test_list_costs_the_same_however_long(desk: Client, django_assert_max_num_queries: Any) -> None:
    for number in range(30):
        User.objects.create(username=f"u{number}").groups.add(
            Group.objects.get_or_create(name="editors")[0]
        )
    with django_assert_max_num_queries(9):
        desk.get(USERS)


# Many users at once


def test_deactivated_and_activated_again(desk: Client) -> None:
    ann, bob = (User.objects.create(username=name) for name in ("ann", "bob"))
    assert "2 users deactivated" in told(act(desk, "deactivate", ann, bob))
    assert not User.objects.filter(is_active=True, is_superuser=False).exists()
    entry = OutboxEntry.objects.get(user_id=ann.pk)
    assert (entry.version, entry.priority) == (2, 0), "a dismissal is urgent"
    assert "active: yes → no" in LogEntry.objects.get(object_id=str(bob.pk)).change_message
    assert "1 user activated" in told(act(desk, "activate", ann))
    assert "Nobody" in told(act(desk, "activate", ann))


def test_added_to_a_group(desk: Client) -> None:
    ann, bob = (User.objects.create(username=name) for name in ("ann", "bob"))
    editors = Group.objects.create(name="editors")
    bob.groups.add(editors)
    before = OutboxEntry.objects.get(user_id=bob.pk).version
    asked = act(desk, "add_to_group", ann, bob)
    assert "2 users are chosen" in asked.content.decode()
    done = act(desk, "add_to_group", ann, bob, group=editors.pk)
    assert "1 user added to editors" in told(done)
    assert set(editors.user_set.all()) == {ann, bob}
    assert OutboxEntry.objects.get(user_id=ann.pk).version == 2
    assert OutboxEntry.objects.get(user_id=bob.pk).version == before
    assert "editors" in LogEntry.objects.get(object_id=str(ann.pk)).change_message


def test_sent_again(desk: Client) -> None:
    ann = User.objects.create(username="ann")
    OutboxEntry.objects.update(parked_reason="too large")
    assert "1 user will be sent again" in told(act(desk, "send_again", ann))
    assert OutboxEntry.objects.get(user_id=ann.pk).parked_reason == ""


# Who may


def test_own_account_is_left_alone(desk: Client, root: User) -> None:
    assert "left as they are" in told(act(desk, "deactivate", root))
    assert User.objects.get(pk=root.pk).is_active


@pytest.mark.parametrize("action", ["deactivate", "add_to_group"])
def test_staff_are_changed_by_superusers_only(
    clerk_with: Callable[..., Client], root: User, action: str
) -> None:
    editors = Group.objects.create(name="editors")
    clerk = clerk_with("view_user", "change_user")
    assert "left as they are" in told(act(clerk, action, root, group=editors.pk))
    root.refresh_from_db()
    assert root.is_active
    assert not root.groups.exists()


@pytest.mark.parametrize("address", ["change", "password", "delete"])
def test_accounts_of_staff_are_closed_to_other_staff(
    clerk_with: Callable[..., Client], root: User, address: str
) -> None:
    clerk = clerk_with("view_user", "change_user", "delete_user")
    form = {
        "post": "yes",
        "username": "mine",
        "password1": "owned by clerk",
        "password2": "owned by clerk",
    }
    assert clerk.post(f"{USERS}{root.pk}/{address}/", form).status_code == 403


def test_rights_are_given_by_superusers_only(clerk_with: Callable[..., Client]) -> None:
    ann = User.objects.create(username="ann")
    clerk = clerk_with("view_user", "change_user")
    edited = edit(clerk, ann, first_name="Ann", is_staff="on", is_superuser="on")
    assert edited.status_code == 302
    ann.refresh_from_db()
    assert (ann.first_name, ann.is_staff, ann.is_superuser) == ("Ann", False, False)


def test_selected_staff_are_not_deleted_by_other_staff(
    clerk_with: Callable[..., Client], root: User
) -> None:
    act(clerk_with("view_user", "delete_user"), "delete_selected", root, post="yes")
    assert User.objects.filter(pk=root.pk).exists()


def test_who_may_only_look_has_no_actions(clerk_with: Callable[..., Client]) -> None:
    ann = User.objects.create(username="ann")
    act(clerk_with("view_user"), "deactivate", ann)
    assert User.objects.get(pk=ann.pk).is_active


# The outbox


def test_outbox_shows_what_is_owed_and_cannot_be_edited(desk: Client) -> None:
    of_each_delivery()
    assert len(desk.get(OUTBOX).context["cl"].result_list) == 3
    parked = desk.get(OUTBOX, {"state": "parked"})
    assert "too large" in parked.content.decode()
    assert len(parked.context["cl"].result_list) == 1
    assert desk.get(f"{OUTBOX}add/").status_code == 403
    key = OutboxEntry.objects.get(parked_reason="too large").pk
    assert desk.post(f"{OUTBOX}{key}/change/", {"version": 99}).status_code == 403
    assert desk.post(f"{OUTBOX}{key}/delete/", {"post": "yes"}).status_code == 403


def test_parked_and_waiting_are_tried_again(desk: Client) -> None:
    of_each_delivery()
    OutboxEntry.objects.filter(attempts=2).update(claimed_until=timezone.now() + timedelta(hours=1))
    held_up = OutboxEntry.objects.filter(attempts=2) | OutboxEntry.objects.exclude(parked_reason="")
    keys = held_up.values_list("pk", flat=True)
    answer = desk.post(OUTBOX, {"action": "try_again", "_selected_action": keys}, follow=True)
    assert "2 of 2 will be tried again" in told(answer)
    assert not OutboxEntry.objects.exclude(
        parked_reason="", attempts=0, claimed_until=None
    ).exists()


def test_nothing_owed_is_good_news(desk: Client) -> None:
    assert "told of every change" in desk.get(OUTBOX).content.decode()


# Groups


def test_groups_say_how_many_are_in_them(desk: Client) -> None:
    editors = Group.objects.create(name="editors")
    for name in ("ann", "bob"):
        User.objects.create(username=name).groups.add(editors)
    page = desk.get("/admin/auth/group/").content.decode()
    assert f"?groups__id__exact={editors.pk}" in page


def test_rights_of_groups_are_given_by_superusers_only(clerk_with: Callable[..., Client]) -> None:
    editors = Group.objects.create(name="editors")
    clerk = clerk_with("view_group", "change_group", "delete_group")
    address = f"/admin/auth/group/{editors.pk}/"
    right = Permission.objects.get(codename="delete_user")
    clerk.post(f"{address}change/", {"name": "authors", "permissions": [right.pk]})
    editors.refresh_from_db()
    assert (editors.name, editors.permissions.count()) == ("authors", 0)
    editors.permissions.add(right)
    assert clerk.post(f"{address}change/", {"name": "x"}).status_code == 403
    assert clerk.post(f"{address}delete/", {"post": "yes"}).status_code == 403


def test_deadlock_with_another_admin_is_tried_again() -> None:
    undone = OperationalError()
    undone.__cause__ = DeadlockDetected()
    outcomes = iter([undone, HttpResponse("saved")])

    def view() -> HttpResponse:
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    assert again_after_deadlock(view).content == b"saved"


# At once


@pytest.mark.django_db(transaction=True)
def test_added_twice_at_once_is_added_once(desk: Client) -> None:
    ann = User.objects.create(username="ann")
    editors = Group.objects.create(name="editors")

    def press() -> int:
        try:
            return act(desk, "add_to_group", ann, group=editors.pk).status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(3) as pool:
        answers = [future.result() for future in [pool.submit(press) for _ in range(3)]]
    assert answers == [200, 200, 200]
    assert editors.user_set.count() == 1


@pytest.mark.django_db(transaction=True)
def test_renaming_a_group_and_editing_its_members_at_once(desk: Client) -> None:
    """Each locks what the other wants next; both come through."""
    editors = Group.objects.create(name="editors")
    users = [User.objects.create(username=f"u{number}") for number in range(3)]

    def rename(number: int) -> int:
        try:
            address = f"/admin/auth/group/{editors.pk}/change/"
            return desk.post(address, {"name": f"editors {number}"}).status_code
        finally:
            connection.close()

    def join(number: int) -> int:
        try:
            user = users[number % 3]
            return edit(desk, user, groups=[editors.pk] if number % 2 else []).status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        work = [pool.submit(what, number) for number in range(12) for what in (rename, join)]
        answers = [future.result() for future in work]
    # A form may be refused as stale, never fail.
    assert {*answers} <= {200, 302}


@pytest.mark.django_db(transaction=True)
def test_nobody_elses_change_is_put_down_to_who_is_recorded(root: User) -> None:
    """Who is watched is held: others wait, and what they then do is not between the two looks."""
    ann = User.objects.create(username="ann")
    other = connection.copy()
    try:
        with history.recorded({ann.pk}, by=root, via="a test"), other.cursor() as cursor:
            cursor.execute("SET lock_timeout = '100ms'")
            with pytest.raises(OperationalError, match="lock timeout"):
                cursor.execute(
                    "UPDATE accounts_user SET email = 'b@x.org' WHERE id = %s", [str(ann.pk)]
                )
    finally:
        other.close()
    assert not LogEntry.objects.exists()
