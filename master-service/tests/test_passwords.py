"""Passwords: every way of storing one is remembered, and the last few are refused."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from django.contrib.auth import authenticate
from django.contrib.auth.hashers import make_password
from django.contrib.auth.password_validation import (
    password_validators_help_texts,
    validate_password,
)
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import connections
from django.db.migrations.executor import MigrationExecutor
from django.test import Client, RequestFactory

from usercast_master.accounts.models import PasswordHistory, User

pytestmark = pytest.mark.django_db
MD5 = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(autouse=True)
def _cheap_hashes(settings: object) -> None:
    settings.PASSWORD_HASHERS = MD5


def word(number: int) -> str:
    return f"a fine long word {number}"


def hashes(user: User) -> list[str]:
    newest_first = PasswordHistory.objects.filter(user=user).order_by("-pk")
    return list(newest_first.values_list("password", flat=True))


def refusal(user: User, password: str) -> list[str]:
    try:
        validate_password(password, user)
    except ValidationError as error:
        return [each.code for each in error.error_list]
    return []


def test_the_last_ten_of_eleven_are_refused_and_kept() -> None:
    user = User.objects.create_user("ann", password=word(1))
    for number in range(2, 12):
        user.set_password(word(number))
        user.save()
    assert refusal(user, word(3)) == ["password_has_been_used"]
    assert refusal(user, word(11)) == ["password_has_been_used"], "the current one"
    assert refusal(user, word(1)) == []
    assert len(hashes(user)) == 10
    assert any("last 10 passwords" in text for text in password_validators_help_texts())


def _save(user: User) -> None:
    user.set_password(word(2))
    user.save()


def _save_field(user: User) -> None:
    user.set_password(word(2))
    user.save(update_fields=["password"])


def _update(user: User) -> None:
    User.objects.filter(username="ann").update(password=make_password(word(2)))


def _bulk_update(user: User) -> None:
    user.password = make_password(word(2))
    User.objects.bulk_update([user], ["password"])


def _bulk_upsert(user: User) -> None:
    row = User(username="ann", password=make_password(word(2)))
    User.objects.bulk_create(
        [row], update_conflicts=True, update_fields=["password"], unique_fields=["username"]
    )


def _at_the_desk(user: User) -> None:
    desk = Client()
    desk.force_login(User.objects.create_superuser("root", password=word(99)))
    answer = desk.post(
        f"/admin/accounts/user/{user.pk}/password/",
        {"usable_password": "true", "password1": word(2), "password2": word(2)},
    )
    assert answer.status_code == 302, answer.content.decode()


def _changepassword(user: User) -> None:
    from django.contrib.auth.management.commands import changepassword

    command = changepassword.Command()
    command._get_pass = lambda *_args, **_kwargs: word(2)
    call_command(command, "ann", verbosity=0)


WAYS = [_save, _save_field, _update, _bulk_update, _bulk_upsert, _at_the_desk, _changepassword]


@pytest.mark.parametrize("way", WAYS)
def test_each_way_is_remembered(way: Callable[[User], None]) -> None:
    User.objects.create_user("ann", password=word(1))
    user = User.objects.get(username="ann")
    way(user)
    user = User.objects.get(username="ann")
    assert user.check_password(word(2))
    assert len(hashes(user)) == 2
    assert hashes(user)[0] == user.password
    assert refusal(user, word(1)) == refusal(user, word(2)) == ["password_has_been_used"]


def test_creation_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", word(1))
    call_command("createsuperuser", username="root", email="", interactive=False, verbosity=0)
    User.objects.bulk_create(
        [User(username="bob", password=make_password(word(1))), User(username="eve", password="!")]
    )
    assert {h.user.username for h in PasswordHistory.objects.all()} == {"root", "bob"}


def test_same_hash_again_is_no_new_entry() -> None:
    user = User.objects.create_user("ann", password=word(1))
    user.save()
    User.objects.filter(pk=user.pk).update(password=user.password)
    assert len(hashes(user)) == 1


def test_save_that_leaves_the_password_asks_nothing() -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    User.objects.create_user("ann", password=word(1))
    user = User.objects.get(username="ann")
    user.first_name = "Ann"
    with CaptureQueriesContext(connection) as queries:
        user.save()
    assert not [q for q in queries if "passwordhistory" in q["sql"]]


def test_no_more_than_ten_hashes_are_checked_and_the_first_hit_ends_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from usercast_master.accounts import passwords

    user = User.objects.create_user("ann", password=word(1))
    for number in range(2, 15):
        user.set_password(word(number))
        user.save()
    # Past Django: current without being remembered.
    with connections["default"].cursor() as cursor:
        cursor.execute("UPDATE accounts_user SET password = %s", [make_password(word(50))])
    user.refresh_from_db()
    checked: list[str] = []
    real = passwords.check_password
    monkeypatch.setattr(
        passwords, "check_password", lambda raw, known: checked.append(known) or real(raw, known)
    )
    assert refusal(user, word(77)) == []
    assert len(checked) == 10
    checked.clear()
    assert refusal(user, word(50)) == ["password_has_been_used"]
    assert len(checked) == 1


def test_renewed_hash_replaces_its_entry(settings: object) -> None:
    user = User.objects.create_user("ann", password=word(1))
    user.set_password(word(2))
    user.save()
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.PBKDF2SHA1PasswordHasher", *MD5]
    request = RequestFactory().post("/")
    request.session = Client().session
    assert authenticate(request, username="ann", password=word(2)) == user
    user.refresh_from_db()
    assert user.password.startswith("pbkdf2_sha1")
    assert len(hashes(user)) == 2
    assert hashes(user)[0] == user.password
    assert refusal(user, word(1)) == refusal(user, word(2)) == ["password_has_been_used"]


PAGES = [
    "/api/v1/users/",
    "/api/v1/users/{pk}/",
    "/api/schema/",
    "/admin/accounts/user/{pk}/history/",
    "/admin/accounts/user/",
]


@pytest.mark.parametrize("page", PAGES)
def test_nothing_of_it_is_in_what_the_master_shows(page: str) -> None:
    user = User.objects.create_user("ann", password=word(1))
    root = Client()
    root.force_login(User.objects.create_superuser("root", password=word(99)))
    root.post(
        f"/admin/accounts/user/{user.pk}/password/",
        {"usable_password": "true", "password1": word(2), "password2": word(2)},
    )
    shown = root.get(page.format(pk=user.pk))
    assert shown.status_code == 200
    text = shown.content.decode()
    assert len(hashes(user)) == 2
    assert not [known for known in hashes(user) if known.rsplit("$", 1)[1] in text]
    assert "passwordhistory" not in text.lower()


def test_nothing_of_it_is_exported() -> None:
    from usercast_master.transfer.exporting import to_csv

    user = User.objects.create_user("ann", password=word(1))
    text = "".join(to_csv(User.objects.all()))
    assert "ann" in text
    assert hashes(user)[0] not in text
    assert "password" not in text


def test_nothing_of_it_is_sent(deliveries: Callable[[], list]) -> None:
    from usercast.contract import json_schema
    from usercast_master.outbox import publisher

    user = User.objects.create_user("ann", password=word(1))
    publisher.publish_pending()
    [(attributes, [change])] = deliveries()
    assert change.data.username == "ann"
    assert "password" not in repr((attributes, change)) + json_schema()
    user.set_password(word(2))
    user.save()
    assert publisher.publish_pending() == 0, "a new password is no change for the clients"


@pytest.mark.django_db(transaction=True)
def test_passwords_of_before_the_history_are_remembered() -> None:
    def migrate(name: str) -> None:
        MigrationExecutor(connections["default"]).migrate([("accounts", name)])

    ann = User.objects.create_user("ann", password=word(1))
    eve = User.objects.create_user("eve", password=None)
    migrate("0001_initial")
    try:
        with connections["default"].cursor() as cursor:
            cursor.execute("SELECT to_regclass('accounts_passwordhistory')")
            assert cursor.fetchone() == (None,)
    finally:
        migrate("0002_passwordhistory")
    assert (hashes(ann), hashes(eve)) == ([ann.password], [])
    assert refusal(ann, word(1)) == ["password_has_been_used"]


@pytest.fixture
def _closing() -> Iterator[None]:
    yield
    connections.close_all()


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("_closing")
def test_writers_at_once_keep_ten() -> None:
    user = User.objects.create_user("ann", password=word(0))
    for number in range(1, 10):
        user.set_password(word(number))
        user.save()
    barrier = Barrier(4)

    def write(writer: int) -> None:
        mine = User.objects.get(pk=user.pk)
        barrier.wait(timeout=10)
        for number in range(3):
            mine.set_password(word(100 * writer + number))
            mine.save()
        connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(1, 5)))
    assert len(hashes(user)) == 10
    user.refresh_from_db()
    assert hashes(user)[0] == user.password
