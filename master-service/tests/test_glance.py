"""The desk's start page: what it says of users, the outbox, publishing, and the clients."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client as Browser
from django.utils import timezone

from usercast_master.accounts.models import User
from usercast_master.clients.models import Client
from usercast_master.desk import glance
from usercast_master.desk.templatetags import desk as times
from usercast_master.outbox.models import Minute, OutboxEntry

pytestmark = pytest.mark.django_db


def minute(ago: int) -> Any:
    return timezone.now().replace(second=0, microsecond=0) - timedelta(minutes=ago)


def test_nothing_yet() -> None:
    seen = glance.look()
    assert (seen.users, seen.changes_today, seen.undelivered, seen.parked) == (0, 0, 0, 0)
    assert (seen.lateness, seen.errors, seen.clients, seen.log) == ("good", 0, [], [])


def test_users_are_the_replicated_ones() -> None:
    User.objects.create_superuser("root")
    User.objects.create(username="ann")
    User.objects.create(username="bob", is_active=False)
    seen = glance.look()
    assert (seen.users, seen.active) == (2, 1)


@pytest.mark.parametrize(("seconds", "lateness"), [(1, "good"), (11, "late"), (61, "bad")])
def test_old_debt_stands_out(seconds: int, lateness: str) -> None:
    User.objects.create(username="ann")
    OutboxEntry.objects.update(owed_since=timezone.now() - timedelta(seconds=seconds))
    seen = glance.look()
    assert (seen.undelivered, seen.lateness) == (1, lateness)


def test_the_last_hour() -> None:
    Minute.objects.create(minute=minute(3), changes=7, slowest_seconds=1.5, refused=2)
    Minute.objects.create(minute=minute(2), failures=3, failure_reason="connection refused")
    Minute.objects.create(minute=minute(61), changes=900, refused=9, failures=9)
    seen = glance.look()
    assert seen.errors == 5
    assert seen.failure_reason == "connection refused"
    assert len(seen.chart["minutes"]) == 60
    assert seen.chart["changes"][-4:] == [7, 0, 0, 0]
    assert seen.chart["slowest"][-4:] == [1.5, None, None, None]
    assert sum(seen.chart["changes"]) == 7


@pytest.fixture
def root() -> Browser:
    browser = Browser()
    browser.force_login(User.objects.create_superuser("root"))
    return browser


@pytest.mark.parametrize("address", ["/admin/", "/admin/glance/"])
def test_page_and_its_renewal_show_the_same(root: Browser, address: str) -> None:
    User.objects.create(username="ann")
    Client.objects.create(name="billing", waiting=1234, dead=2, looked_at=timezone.now())
    Client.objects.create(name="support", waiting=None, dead=None, looked_at=timezone.now())
    Minute.objects.create(minute=minute(1), failures=3, failure_reason="<b>refused</b>")
    page = root.get(address).content.decode()
    told = ("Owed to the clients", "billing", "not registered", "2 dead letters", "never")
    for text in (*told, "not known", "&lt;b&gt;refused"):
        assert text in page


def test_costs_the_same_however_many(root: Browser, django_assert_max_num_queries: Any) -> None:
    User.objects.bulk_create(User(username=f"u{number}") for number in range(200))
    with django_assert_max_num_queries(10):
        root.get("/admin/glance/")


def test_strangers_see_nothing() -> None:
    assert Browser().get("/admin/glance/").status_code == 302


def test_side_bar_has_what_one_may_see() -> None:
    clerk = User.objects.create_user("clerk", is_staff=True)
    clerk.user_permissions.add(Permission.objects.get(codename="view_user"))
    browser = Browser()
    browser.force_login(clerk)
    page = browser.get("/admin/").content.decode()
    assert "/admin/accounts/user/" in page
    for hidden in ("/admin/auth/group/", "/admin/master_api/apitoken/", "/admin/axes/"):
        assert f'href="{hidden}' not in page


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.0 s"),
        (0.44, "0.4 s"),
        (12.3, "12 s"),
        (200, "3 min"),
        (7300, "2 h"),
        (200_000, "2 d"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert times.duration(seconds) == text
