"""Who may call the API, with which token, and how often."""

from datetime import timedelta
from typing import Any

import pytest
from calling import GROUPS, USERS, caller, problem_of
from django.contrib.auth.models import Group, Permission
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.test import Client
from django.utils import timezone
from knox.crypto import hash_token
from rest_framework.test import APIClient

from usercast_master.accounts.models import User
from usercast_master.api.models import ApiToken, Scope

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator() -> User:
    return User.objects.create_superuser("operator", password="correct horse battery")


@pytest.fixture
def api(operator: User) -> APIClient:
    return caller(operator, Scope.READ, Scope.WRITE)


# Who may


@pytest.mark.parametrize("method", ["get", "post"])
def test_only_staff_may(method: str) -> None:
    ordinary = User.objects.create_user("ordinary", password="correct horse battery")
    anonymous, signed_in = APIClient(), APIClient()
    signed_in.force_login(ordinary)
    refused = getattr(anonymous, method)(USERS)
    assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Token")
    assert problem_of(getattr(signed_in, method)(USERS)) == "permission-denied"


def test_session_of_a_staff_user_may(operator: User) -> None:
    browser = APIClient()
    browser.force_login(operator)
    assert browser.get(USERS).status_code == 200


def test_session_cannot_be_used_by_another_site(operator: User) -> None:
    browser = APIClient(enforce_csrf_checks=True)
    browser.force_login(operator)
    assert browser.post(USERS, {"username": "ann"}).status_code == 403


@pytest.mark.parametrize(
    ("scope", "method", "status"),
    [
        (Scope.READ, "get", 200),
        (Scope.READ, "post", 403),
        (Scope.WRITE, "get", 403),
        (Scope.WRITE, "post", 201),
        (Scope.SNAPSHOT, "get", 403),
        (Scope.SNAPSHOT, "post", 403),
    ],
)
def test_scopes(operator: User, scope: Scope, method: str, status: int) -> None:
    answer = getattr(caller(operator, scope), method)(
        USERS, {"username": "ann"} if method == "post" else None
    )
    assert answer.status_code == status
    if status == 403:
        assert problem_of(answer) == "scope-missing"


def test_token_may_no_more_than_its_user() -> None:
    clerk = User.objects.create_user("clerk", password="correct horse battery", is_staff=True)
    clerk.user_permissions.add(Permission.objects.get(codename="view_user"))
    api = caller(clerk, *Scope)
    assert api.get(USERS).status_code == 200
    assert api.post(USERS, {"username": "ann"}).status_code == 403
    assert api.get(GROUPS).status_code == 403
    assert api.get("/api/v1/outbox/status/").status_code == 403


@pytest.fixture
def clerk() -> APIClient:
    """Staff with all permissions on users and groups, and a token with all scopes."""
    user = User.objects.create_user("clerk", password="correct horse battery", is_staff=True)
    models = ("user", "group")
    user.user_permissions.set(Permission.objects.filter(content_type__model__in=models))
    return caller(user, *Scope)


@pytest.mark.parametrize(("method", "body"), [("patch", {"is_active": False}), ("delete", None)])
@pytest.mark.parametrize("name", ["operator", "clerk"])
def test_replicated_staff_are_changed_by_superusers_only(
    clerk: APIClient, operator: User, settings: Any, method: str, body: Any, name: str
) -> None:
    settings.USERCAST_REPLICATE_STAFF = True
    staff = User.objects.get(username=name)
    answer = getattr(clerk, method)(f"{USERS}{staff.pk}/", body)
    assert problem_of(answer) == "permission-denied"
    by_superuser = caller(operator, *Scope)
    assert by_superuser.patch(f"{USERS}{staff.pk}/", {"first_name": "A"}).status_code == 200


@pytest.mark.parametrize("method", ["patch", "delete"])
def test_groups_that_give_rights_are_changed_by_superusers_only(
    clerk: APIClient, operator: User, method: str
) -> None:
    with_rights, with_staff, plain = (Group.objects.create(name=name) for name in "abc")
    with_rights.permissions.set(Permission.objects.filter(codename="view_user"))
    operator.groups.add(with_staff)
    for group in (with_rights, with_staff):
        answer = getattr(clerk, method)(f"{GROUPS}{group.pk}/", {"name": "x"})
        assert problem_of(answer) == "permission-denied"
    assert getattr(clerk, method)(f"{GROUPS}{plain.pk}/", {"name": "x"}).status_code in (200, 204)


def test_token_ends(api: APIClient, operator: User) -> None:
    def detail() -> str:
        answer = api.get(USERS)
        assert problem_of(answer) in ("authentication-failed", "not-authenticated")
        assert answer.status_code == 401
        return str(answer.json()["detail"])

    tokens = ApiToken.objects.filter(user=operator)
    tokens.update(expiry=timezone.now() - timedelta(seconds=1))
    assert "expired" in detail()
    assert tokens.exists()  # The list goes on showing it.
    tokens.update(expiry=None)
    User.objects.filter(pk=operator.pk).update(is_active=False)
    assert "inactive" in detail()
    tokens.delete()
    assert "not known" in detail()


def test_token_is_stored_as_a_hash(operator: User) -> None:
    row, token = ApiToken.objects.create(operator, name="payroll", scopes=[Scope.READ])
    columns = ApiToken.objects.filter(pk=row.pk).values().get()
    # Knox keeps the first characters, for people to tell tokens apart.
    assert all(token not in str(value) for value in columns.values())
    assert len(columns["token_key"]) < len(token) / 2
    assert row.expiry - timezone.now() > timedelta(days=89)


def test_use_is_noted(api: APIClient) -> None:
    api.get(USERS)
    assert timezone.now() - ApiToken.objects.get().last_used < timedelta(minutes=1)


# Throttling


@pytest.fixture
def two_a_day(settings: Any) -> None:
    settings.API_RATES = {"read": "2/day", "write": "1/day"}


def test_too_many_requests(two_a_day: None, api: APIClient) -> None:
    assert [api.get(USERS).status_code for _ in range(3)] == [200, 200, 429]
    refused = api.get(USERS)
    assert problem_of(refused) == "throttled"
    assert 0 < int(refused.headers["Retry-After"]) <= 86_400
    # Writing is counted apart.
    assert [api.post(USERS, {"username": f"u{i}"}).status_code for i in range(2)] == [201, 429]


def test_each_caller_has_their_own_count(two_a_day: None, api: APIClient, operator: User) -> None:
    for _ in range(3):
        api.get(USERS)
    browser = APIClient()
    browser.force_login(operator)
    assert browser.get(USERS).status_code == 200


def test_strangers_are_counted_by_address(two_a_day: None) -> None:
    stranger = APIClient(REMOTE_ADDR="192.0.2.7")
    assert [stranger.get(USERS).status_code for _ in range(3)] == [401, 401, 429]


def test_redis_away_holds_nobody_up(
    two_a_day: None, api: APIClient, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from usercast_master.api import throttling

    caches = {
        **settings.CACHES,
        "throttle": {**settings.CACHES["throttle"], "LOCATION": "redis://127.0.0.1:1/0"},
    }
    settings.CACHES = caches
    monkeypatch.setattr(throttling, "counter", throttling.Counter())
    assert {api.get(USERS).status_code for _ in range(4)} == {200}


# Tokens at the desk, and from the command line


@pytest.fixture
def desk(operator: User) -> Client:
    browser = Client()
    browser.force_login(operator)
    return browser


TOKENS = "/admin/master_api/apitoken/"


def test_token_is_made_shown_once_and_revoked_at_the_desk(desk: Client, operator: User) -> None:
    form = {"name": "payroll", "user": operator.pk, "scopes": ["read"], "days": "30"}
    page = desk.post(f"{TOKENS}add/", form)
    assert page.status_code == 200
    assert "no-store" in page.headers["Cache-Control"]
    token = page.context["token"]
    assert token in page.content.decode()
    row = ApiToken.objects.get()
    assert (row.name, row.scopes) == ("payroll", ["read"])
    assert timedelta(days=29) < row.expiry - timezone.now() <= timedelta(days=30)
    api = APIClient()
    api.credentials(HTTP_AUTHORIZATION=f"Token {token}")
    assert api.get(USERS).status_code == 200
    listed = desk.get(TOKENS).content.decode()
    assert "payroll" in listed
    assert token not in listed
    shown = desk.get(f"{TOKENS}{row.pk}/change/").content.decode()
    assert "payroll" in shown
    assert token not in shown
    desk.post(TOKENS, {"action": "delete_selected", "_selected_action": row.pk, "post": "yes"})
    assert api.get(USERS).status_code == 401


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"scopes": []}, "required"),
        ({"name": "test"}, "revoke it first"),
        ({"days": "8"}, "valid"),
        ({"days": ""}, "required"),
    ],
)
def test_token_that_cannot_be_made(
    desk: Client, api: APIClient, operator: User, changed: dict[str, Any], message: str
) -> None:
    form = {"name": "payroll", "user": operator.pk, "scopes": ["read"], "days": "never", **changed}
    assert message in desk.post(f"{TOKENS}add/", form).content.decode()
    assert ApiToken.objects.count() == 1


def test_others_make_and_see_their_own_tokens_only(api: APIClient, operator: User) -> None:
    clerk = User.objects.create_user("clerk", password="correct horse battery", is_staff=True)
    for name in ("add", "view", "delete"):
        clerk.user_permissions.add(Permission.objects.get(codename=f"{name}_apitoken"))
    browser = Client()
    browser.force_login(clerk)
    form = {"name": "payroll", "scopes": ["read"], "days": "never"}
    browser.post(f"{TOKENS}add/", {**form, "user": operator.pk})
    assert not ApiToken.objects.filter(name="payroll").exists()
    browser.post(f"{TOKENS}add/", {**form, "user": clerk.pk})
    assert [row.name for row in browser.get(TOKENS).context["cl"].result_list] == ["payroll"]


def test_tokens_from_the_command_line(operator: User, capsys: Any) -> None:
    call_command("api_tokens", "create", "operator", "payroll", "--scope", "read", "--days", "7")
    token = capsys.readouterr().out.strip()
    api = APIClient()
    api.credentials(HTTP_AUTHORIZATION=f"Token {token}")
    assert api.get(USERS).status_code == 200
    call_command("api_tokens", "list")
    listed = capsys.readouterr().out
    assert "operator\tpayroll\tread\texpires" in listed
    assert token not in listed
    with pytest.raises(CommandError, match="revoke it first"):
        call_command("api_tokens", "create", "operator", "payroll", "--scope", "read")
    call_command("api_tokens", "revoke", "operator", "payroll")
    assert api.get(USERS).status_code == 401


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("create", "nobody", "x", "--scope", "read"), "no staff user"),
        (("create", "operator", "x", "--scope", "all"), "invalid choice"),
        (("create", "operator", "x", "--scope", "read", "--days", "0"), "1 to 3650"),
        (("create", "operator", "x" * 101, "--scope", "read"), "at most 100"),
        (("create", "operator", "", "--scope", "read"), "blank"),
        (("revoke", "operator", "x"), "has no token"),
    ],
)
def test_command_says_what_is_wrong(operator: User, arguments: Any, message: str) -> None:
    with pytest.raises(CommandError, match=message):
        call_command("api_tokens", *arguments)


def test_token_made_before_there_were_scopes_goes_on(operator: User) -> None:
    """Of a database in use: knox's own table, as its migrations had made it."""

    def migrate(name: str) -> None:
        MigrationExecutor(connection).migrate([("master_api", name)])

    migrate("0002_snapshot_scope")
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE knox_authtoken (digest varchar(128) PRIMARY KEY, token_key varchar(25),"
            " created timestamptz, expiry timestamptz,"
            " user_id uuid REFERENCES accounts_user DEFERRABLE INITIALLY DEFERRED)"
        )
        for token in ("of-before", "of-then"):
            cursor.execute(
                "INSERT INTO knox_authtoken VALUES (%s, %s, now(), NULL, %s)",
                [hash_token(token), token, operator.pk],
            )
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    migrate("0003_tokens_of_before")
    for token in ("of-before", "of-then"):
        api = APIClient()
        api.credentials(HTTP_AUTHORIZATION=f"Token {token}")
        assert api.post(USERS, {"username": token}).status_code == 201
    names = ApiToken.objects.values_list("name", flat=True)
    assert set(names) == {"operator", "operator 2"}
