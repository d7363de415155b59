import pytest
from django.test import Client

from usercast_master.accounts.models import User
from usercast_master.outbox.models import OutboxEntry

pytestmark = pytest.mark.django_db


@pytest.fixture
def desk() -> Client:
    browser = Client()
    browser.force_login(User.objects.create_superuser("root", password="correct horse battery"))
    return browser


def test_user_is_created_edited_and_deleted_at_the_desk(desk: Client) -> None:
    added = desk.post(
        "/admin/accounts/user/add/",
        {
            "username": "ann",
            "usable_password": "false",
            "email": "a@x.org",
            "first_name": "",
            "last_name": "",
        },
    )
    assert added.status_code == 302, added.content.decode()
    ann = User.objects.get(username="ann")
    form = desk.get(f"/admin/accounts/user/{ann.pk}/change/").context["adminform"].form.initial
    edited = desk.post(
        f"/admin/accounts/user/{ann.pk}/change/",
        {"username": "anna", "email": form["email"], "first_name": "Ann", "last_name": ""},
    )
    assert edited.status_code == 302, edited.content.decode()
    entry = OutboxEntry.objects.get(user_id=ann.pk)
    assert entry.version == 2, "one save, one version"
    desk.post(f"/admin/accounts/user/{ann.pk}/delete/", {"post": "yes"})
    entry.refresh_from_db()
    assert (entry.version, entry.deleted_at is None) == (3, False)


def test_outbox_is_shown_and_cannot_be_edited(desk: Client) -> None:
    User.objects.create(username="ann")
    assert desk.get("/admin/outbox/outboxentry/").status_code == 200
    assert desk.get("/admin/outbox/outboxentry/add/").status_code == 403
