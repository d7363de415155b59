"""The client's admin: what the master owns of a user cannot be changed there."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from django.test import Client

from usercast.contract import UserChange, UserState
from usercast_client.replica.apply import apply
from usercast_client.replica.models import OWNED_BY_MASTER, User

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
KEY = UUID(int=0x0198C8A0 << 96)
PAGE = f"/admin/replica/user/{KEY}/change/"
TRIED = {
    "username": "by-hand",
    "email": "by-hand@example.org",
    "first_name": "By",
    "last_name": "Hand",
    "version": "99",
    "master_groups": "x",
    "date_joined_0": "2000-01-01",
    "date_joined_1": "00:00",
    "is_staff": "on",
}


@pytest.fixture
def replicated() -> User:
    state = UserState(
        id=KEY,
        version=7,
        username="ann",
        email="ann@example.org",
        first_name="Ann",
        last_name="Other",
        is_active=True,
        date_joined=NOW,
        groups=("editors",),
    )
    apply([UserChange(changed_at=NOW, data=state)])
    return User.objects.get(pk=KEY)


def owned(user: User) -> dict[str, Any]:
    return {name: getattr(user, name) for name in OWNED_BY_MASTER}


def test_of_a_replicated_user_only_what_is_local_is_saved(
    admin_client: Client, replicated: User
) -> None:
    """``is_active`` is missing in what is posted, which is how a form takes it away."""
    assert admin_client.post(PAGE, TRIED).status_code == 302
    after = User.objects.get(pk=KEY)
    assert owned(after) == owned(replicated)
    assert after.is_staff


def test_a_replicated_user_cannot_be_deleted(admin_client: Client, replicated: User) -> None:
    delete = f"/admin/replica/user/{KEY}/delete/"
    assert admin_client.post(delete, {"post": "yes"}).status_code == 403
    chosen = {"action": "delete_selected", "_selected_action": [str(KEY)], "post": "yes"}
    admin_client.post("/admin/replica/user/", chosen)
    assert User.objects.filter(pk=KEY).exists()


def test_the_form_has_no_field_for_it(admin_client: Client, replicated: User) -> None:
    page = admin_client.get(PAGE).content.decode()
    for name in OWNED_BY_MASTER:
        assert f'name="{name}"' not in page


def test_a_local_account_is_edited_and_deleted(admin_client: Client) -> None:
    local = User.objects.create_user("local")
    page = f"/admin/replica/user/{local.pk}/"
    answer = admin_client.post(f"{page}change/", {**TRIED, "is_active": "on"})
    assert answer.status_code == 302
    assert User.objects.get(pk=local.pk).email == "by-hand@example.org"
    assert admin_client.post(f"{page}delete/", {"post": "yes"}).status_code == 302
    assert not User.objects.filter(pk=local.pk).exists()
