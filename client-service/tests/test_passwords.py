"""A replicated user's password: the client's own, set in its admin or by a one-time link."""

import re
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from usercast.testing import upsert
from usercast_client.replica.apply import apply
from usercast_client.replica.models import User
from usercast_client.replica.passwords import link_path

pytestmark = pytest.mark.django_db
PASSWORD = "a quite long password"


def replica(username: str = "ann", **fields: object) -> User:
    apply([upsert(username=username, **fields)])
    return User.objects.get(username=username)


def set_by(link: str, password: str = PASSWORD) -> bool:
    """Follow a link as a browser does; whether it let a password be set."""
    browser = Client()
    form = browser.get(link, follow=True)
    if "new_password1" not in form.content.decode():
        return False
    answer = browser.post(
        form.redirect_chain[-1][0], {"new_password1": password, "new_password2": password}
    )
    assert answer.status_code == 302, answer.content.decode()
    return True


def test_user_comes_without_a_password_and_keeps_what_is_set_here() -> None:
    user = replica()
    assert not user.has_usable_password()
    user.set_password(PASSWORD)
    user.save()
    apply([upsert(user.pk, 2, username="ann", email="new@example.org")])
    user.refresh_from_db()
    assert user.check_password(PASSWORD)
    assert user.email == "new@example.org"


def test_link_sets_a_password_once() -> None:
    user = replica()
    link = link_path(user)
    assert set_by(link)
    assert Client().login(username="ann", password=PASSWORD)
    assert not set_by(link)


def test_link_of_somebody_else_or_made_up_sets_nothing() -> None:
    ann, bob = replica(), replica("bob")
    forged = link_path(ann).replace(link_path(ann).split("/")[2], link_path(bob).split("/")[2])
    assert not set_by(forged)
    assert not set_by("/password/x/y/")


def test_command_prints_the_link_of_an_active_user() -> None:
    user = replica()
    out = StringIO()
    call_command("password_link", "ann", stdout=out)
    assert set_by(out.getvalue().strip())
    with pytest.raises(CommandError, match="no user"):
        call_command("password_link", "nobody")
    apply([upsert(user.pk, 2, username="ann", is_active=False)])
    with pytest.raises(CommandError, match="not active"):
        call_command("password_link", "ann")


def test_admin_makes_links_for_those_chosen(admin_client: Client) -> None:
    users = [replica(), replica("bob"), replica("gone", is_active=False)]
    page = admin_client.post(
        "/admin/replica/user/",
        {"action": "make_password_links", "_selected_action": [user.pk for user in users]},
        follow=True,
    ).content.decode()
    links = re.findall(r"<code>http://testserver(/password/\S+)</code>", page)
    assert len(links) == 2
    assert "one: not active, no link made" in page
    assert all(set_by(link) for link in links)


def test_admin_sets_a_replicated_users_password(admin_client: Client) -> None:
    user = replica()
    answer = admin_client.post(
        f"/admin/replica/user/{user.pk}/password/",
        {"password1": PASSWORD, "password2": PASSWORD, "usable_password": "true"},
    )
    assert answer.status_code == 302
    assert Client().login(username="ann", password=PASSWORD)
