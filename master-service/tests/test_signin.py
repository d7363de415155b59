"""Signing in at the desk: guessing is stopped, and a new password ends the other sessions."""

from datetime import timedelta

import pytest
from axes.models import AccessAttempt, AccessLog
from django.db.models import F
from django.test import Client
from django.utils import timezone
from knox.models import get_token_model

from usercast_master.accounts.models import User
from usercast_master.signin.tasks import trim_sign_ins

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery staple"
HERE, ELSEWHERE = "192.0.2.1", "192.0.2.2"


@pytest.fixture(autouse=True)
def _cheap_hashes(settings: object) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def root() -> User:
    return User.objects.create_superuser("root", password=PASSWORD)


def try_in(name: str, password: str, *, address: str = HERE, agent: str = "") -> object:
    """One try to sign in; its answer is a redirect if it succeeds."""
    return Client(REMOTE_ADDR=address, HTTP_USER_AGENT=agent).post(
        "/admin/login/?next=/admin/", {"username": name, "password": password}
    )


def statuses(name: str, times: int, **kwargs: str) -> list[int]:
    return [try_in(name, "wrong", **kwargs).status_code for _ in range(times)]


def test_fifth_failure_locks_this_name_at_this_address_only(root: User) -> None:
    User.objects.create_superuser("other", password=PASSWORD)
    assert statuses("root", 4) == [200] * 4
    assert statuses("root", 2) == [429] * 2
    refused = try_in("root", PASSWORD)
    assert refused.status_code == 429
    assert try_in("other", PASSWORD).status_code == 302
    assert try_in("root", PASSWORD, address=ELSEWHERE).status_code == 302


def test_page_tells_until_when(root: User) -> None:
    statuses("root", 5)
    AccessAttempt.objects.update(attempt_time=F("attempt_time") - timedelta(minutes=10))
    answer = try_in("root", PASSWORD)
    assert "Try again in 5 minutes, at " in answer.content.decode()
    assert 290 <= int(answer["Retry-After"]) <= 300
    assert "script-src 'self' 'unsafe-eval'" in answer["Content-Security-Policy"]


def test_lock_ends_after_fifteen_minutes(root: User) -> None:
    statuses("root", 5)
    AccessAttempt.objects.update(attempt_time=F("attempt_time") - timedelta(minutes=15))
    assert try_in("root", PASSWORD).status_code == 302


def test_further_tries_do_not_prolong_the_lock(root: User) -> None:
    statuses("root", 5)
    AccessAttempt.objects.update(attempt_time=F("attempt_time") - timedelta(minutes=14, seconds=55))
    statuses("root", 3)
    AccessAttempt.objects.update(attempt_time=F("attempt_time") - timedelta(seconds=5))
    assert try_in("root", PASSWORD).status_code == 302


@pytest.mark.parametrize("spelling", [" root", "root ", "\uff52oot"])
def test_other_spellings_and_browsers_count_as_the_same(root: User, spelling: str) -> None:
    for number in range(5):
        try_in(spelling if number % 2 else "root", "wrong", agent=f"browser {number}")
    assert try_in("root", PASSWORD).status_code == 429
    assert try_in(spelling, PASSWORD).status_code == 429


def test_success_forgets_the_failures(root: User) -> None:
    statuses("root", 4)
    assert try_in("root", PASSWORD).status_code == 302
    assert statuses("root", 4) == [200] * 4
    assert try_in("root", PASSWORD).status_code == 302


def test_fifty_failures_lock_an_address_whatever_the_names(root: User) -> None:
    for number in range(13):
        statuses(f"guess{number}", 4)
    answer = try_in("root", PASSWORD)
    assert answer.status_code == 429
    assert 0 < int(answer["Retry-After"]) <= 900
    assert try_in("root", PASSWORD, address=ELSEWHERE).status_code == 302


def test_own_success_does_not_forget_the_failures_of_others(root: User) -> None:
    for number in range(12):
        statuses(f"guess{number}", 4)
        assert try_in("root", PASSWORD).status_code == 302
    statuses("last", 2)
    assert try_in("root", PASSWORD).status_code == 429


def test_forwarded_header_of_a_stranger_is_no_other_address(root: User) -> None:
    for number in range(5):
        Client(REMOTE_ADDR=HERE, HTTP_X_FORWARDED_FOR=f"198.51.100.{number}").post(
            "/admin/login/", {"username": "root", "password": "wrong"}
        )
    assert try_in("root", PASSWORD).status_code == 429


def test_lock_is_in_the_database_and_a_superuser_can_lift_it(root: User, settings: object) -> None:
    settings.CACHES = {
        name: {**cache, "LOCATION": "redis://127.0.0.1:1/0"}
        for name, cache in settings.CACHES.items()
    }
    statuses("root", 5)
    assert try_in("root", PASSWORD).status_code == 429
    desk = Client()
    desk.force_login(root)
    chosen = [attempt.pk for attempt in AccessAttempt.objects.all()]
    done = desk.post(
        "/admin/axes/accessattempt/",
        {"action": "unlock", "_selected_action": chosen},
        follow=True,
    )
    assert "forgotten" in done.content.decode()
    assert try_in("root", PASSWORD).status_code == 302


def test_api_tokens_go_on_from_a_locked_address(root: User) -> None:
    _, token = get_token_model().objects.create(root, name="payroll", scopes=["read"])
    statuses("root", 5)
    answer = Client(REMOTE_ADDR=HERE).get(
        "/api/v1/users/", headers={"Authorization": f"Token {token}"}
    )
    assert answer.status_code == 200


def test_lockout_is_logged_by_id_without_what_was_typed(
    root: User, caplog: pytest.LogCaptureFixture
) -> None:
    statuses("root", 5)
    statuses("my secret pass phrase", 5)
    lines = [r.msg for r in caplog.records if isinstance(r.msg, dict)]
    locked = [line["user_id"] for line in lines if line["event"] == "signin_locked"]
    assert locked == [str(root.pk), None]
    assert "secret" not in caplog.text


def test_new_password_ends_the_other_sessions_and_not_this_one(root: User) -> None:
    mine, other = Client(), Client()
    for browser in (mine, other):
        browser.post("/admin/login/", {"username": "root", "password": PASSWORD})
        assert browser.get("/admin/accounts/user/").status_code == 200
    new = "a quite different long one"
    changed = mine.post(
        "/admin/password_change/",
        {"old_password": PASSWORD, "new_password1": new, "new_password2": new},
    )
    assert changed.status_code == 302, changed.content.decode()
    assert mine.get("/admin/accounts/user/").status_code == 200
    assert other.get("/admin/accounts/user/").url.startswith("/admin/login/")


@pytest.mark.django_db(transaction=True)  # The task sees to its connection.
def test_old_sign_ins_are_forgotten(root: User) -> None:
    try_in("root", PASSWORD)
    try_in("root", "wrong")
    trim_sign_ins()
    assert (AccessLog.objects.count(), AccessAttempt.objects.count()) == (1, 1)
    AccessLog.objects.update(attempt_time=timezone.now() - timedelta(days=91))
    AccessAttempt.objects.update(attempt_time=timezone.now() - timedelta(days=2))
    trim_sign_ins()
    assert (AccessLog.objects.count(), AccessAttempt.objects.count()) == (0, 0)
