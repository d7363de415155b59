"""Users and groups over REST: what is read and written, page by page, and who may."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from usercast.serializers import USER_FIELDS
from usercast_master.accounts.models import User
from usercast_master.api import idempotency, paging
from usercast_master.api.models import ApiToken, IdempotentAnswer, Scope
from usercast_master.outbox.models import OutboxEntry

pytestmark = pytest.mark.django_db

USERS = "/api/v1/users/"
GROUPS = "/api/v1/groups/"


@pytest.fixture
def operator() -> User:
    return User.objects.create_superuser("operator", password="correct horse battery")


def caller(user: User, *scopes: Scope, **options: Any) -> APIClient:
    _, token = ApiToken.objects.create(user, name="test", scopes=list(scopes), **options)
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Token {token}")
    return client


@pytest.fixture
def api(operator: User) -> APIClient:
    return caller(operator, Scope.READ, Scope.WRITE)


def problem_of(answer: Any) -> str:
    """The short name of an answer's problem, after its form has been checked."""
    assert answer.headers["Content-Type"] == "application/problem+json", answer.content
    body = answer.json()
    assert body["status"] == answer.status_code
    assert body["detail"]
    return str(body["type"].removeprefix("urn:usercast:problem:"))


def pages(api: APIClient, address: str) -> Iterator[list[dict[str, Any]]]:
    while address:
        answer = api.get(address)
        assert answer.status_code == 200, answer.content
        yield answer.json()["results"]
        address = answer.json()["next"]


# Users


def test_created_user_has_a_version_and_an_entry(api: APIClient, operator: User) -> None:
    Group.objects.create(name="editors")
    answer = api.post(USERS, {"username": "ann", "email": "a@x.org", "groups": ["editors"]})
    assert answer.status_code == 201, answer.content
    body = answer.json()
    assert set(body) == set(USER_FIELDS)
    assert body["groups"] == ["editors"]
    assert body["version"] == OutboxEntry.objects.get(user_id=body["id"]).version
    assert answer.headers["ETag"] == f'"{body["version"]}"'
    assert not User.objects.get(pk=body["id"]).has_usable_password()
    entry = LogEntry.objects.get(object_id=body["id"])
    assert entry.user == operator
    assert "API, token test" in entry.change_message


def test_partial_update_raises_the_version(api: APIClient) -> None:
    user = User.objects.create(username="ann")
    answer = api.patch(f"{USERS}{user.pk}/", {"first_name": "Ann"})
    assert (answer.status_code, answer.json()["version"]) == (200, 2)
    assert answer.headers["ETag"] == '"2"'


def test_replacement_wants_every_field_and_the_version(api: APIClient) -> None:
    user = User.objects.create(username="ann", first_name="Ann")
    address = f"{USERS}{user.pk}/"
    whole = {k: v for k, v in api.get(address).json().items() if k not in ("id", "version")}
    assert problem_of(api.put(address, whole)) == "precondition-required"
    part = api.put(address, {"username": "bob"}, headers={"If-Match": '"1"'})
    assert {error["code"] for error in part.json()["errors"]} == {"required"}
    answer = api.put(address, {**whole, "first_name": "Anna"}, headers={"If-Match": '"1"'})
    assert (answer.status_code, answer.json()["first_name"]) == (200, "Anna")


def test_deleted_user_is_gone(api: APIClient) -> None:
    user = User.objects.create(username="ann")
    answer = api.delete(f"{USERS}{user.pk}/")
    assert (answer.status_code, answer.headers["ETag"]) == (204, '"2"')
    assert problem_of(api.get(f"{USERS}{user.pk}/")) == "not-found"


def test_who_has_acted_here_is_not_deleted(api: APIClient, operator: User) -> None:
    user = User.objects.create(username="ann")
    LogEntry.objects.create(user=user, action_flag=2)
    assert problem_of(api.delete(f"{USERS}{user.pk}/")) == "conflict"


def test_staff_are_not_here(api: APIClient, operator: User) -> None:
    assert api.get(USERS).json()["results"] == []
    assert api.patch(f"{USERS}{operator.pk}/", {"is_active": False}).status_code == 404


def test_id_and_version_are_not_the_callers_to_choose(api: APIClient) -> None:
    chosen = "0198c8a0-0000-7000-8000-000000000001"
    body = api.post(USERS, {"username": "ann", "id": chosen, "version": 99}).json()
    assert body["id"] != chosen
    assert body["version"] == 1


# Two editors


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_stale_version_is_refused(api: APIClient, method: str) -> None:
    user = User.objects.create(username="ann")
    address = f"{USERS}{user.pk}/"
    read = api.get(address)
    User.objects.filter(pk=user.pk).update(first_name="by another editor")
    mine = {k: v for k, v in read.json().items() if k not in ("id", "version")}
    answer = getattr(api, method)(address, mine, headers={"If-Match": read.headers["ETag"]})
    assert problem_of(answer) == "stale"
    assert (answer.status_code, answer.headers["ETag"]) == (412, '"2"')
    assert User.objects.get(pk=user.pk).first_name == "by another editor"


@pytest.mark.parametrize("match", ['"1"', "*", '"7", "1"'])
def test_version_that_matches_is_written(api: APIClient, match: str) -> None:
    user = User.objects.create(username="ann")
    answer = api.patch(f"{USERS}{user.pk}/", {"first_name": "A"}, headers={"If-Match": match})
    assert answer.status_code == 200


@pytest.mark.parametrize("match", ['W/"1"', '"2"'])
def test_weak_or_other_etag_does_not_match(api: APIClient, match: str) -> None:
    user = User.objects.create(username="ann")
    answer = api.patch(f"{USERS}{user.pk}/", {"first_name": "A"}, headers={"If-Match": match})
    assert answer.status_code == 412


def test_no_etag_at_all_is_told(api: APIClient) -> None:
    user = User.objects.create(username="ann")
    answer = api.patch(f"{USERS}{user.pk}/", {"first_name": "A"}, headers={"If-Match": "1"})
    assert answer.status_code == 400
    assert "If-Match" in answer.json()["detail"]


def test_known_version_is_not_sent_again(api: APIClient) -> None:
    user = User.objects.create(username="ann")
    answer = api.get(f"{USERS}{user.pk}/", headers={"If-None-Match": '"1"'})
    assert (answer.status_code, answer.content) == (304, b"")


# The list


@pytest.mark.parametrize("ordering", paging.ORDERINGS)
def test_pages_leave_nobody_out(api: APIClient, ordering: str) -> None:
    # Many share a name, and a moment.
    now = timezone.now()
    User.objects.bulk_create(
        User(username=f"u{i:02}", last_name="ab"[i % 2], date_joined=now) for i in range(25)
    )
    found = [
        user for page in pages(api, f"{USERS}?ordering={ordering}&page_size=7") for user in page
    ]
    field, descending = ordering.removeprefix("-"), ordering.startswith("-")
    assert len({user["id"] for user in found}) == len(found) == 25
    assert found == sorted(found, key=lambda user: (user[field], user["id"]), reverse=descending)


def test_pages_stand_while_users_come_and_go(api: APIClient) -> None:
    User.objects.bulk_create(User(username=f"u{i:02}") for i in range(20))
    seen = []
    for page in pages(api, f"{USERS}?page_size=5"):
        seen += [user["username"] for user in page]
        User.objects.filter(username="u02").delete()
        User.objects.get_or_create(username="a-newcomer")
    assert seen == [f"u{i:02}" for i in range(20)]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("search=ANN", {"ann", "bob"}),
        ("search=ann smith", {"bob"}),
        ("is_active=false", {"cid"}),
        ("group=editors", {"ann"}),
        ("username=ann", {"ann"}),
        ("email=b@x.org", {"bob"}),
        ("changed_since=2100-01-01T00:00:00Z", set()),
        ("changed_since=2020-01-01T00:00:00Z&is_active=true", {"ann", "bob"}),
    ],
)
def test_filters(api: APIClient, query: str, names: set[str]) -> None:
    ann = User.objects.create(username="ann", email="a@x.org")
    ann.groups.add(Group.objects.create(name="editors"))
    User.objects.create(username="bob", email="b@x.org", first_name="Joanna", last_name="Smith")
    User.objects.create(username="cid", is_active=False)
    found = api.get(f"{USERS}?{query}").json()
    assert {user["username"] for user in found["results"]} == names


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("ordering=password", "ordering"),
        ("is_staff=true", "is_staff"),
        ("is_active=1", "is_active"),
        ("page_size=0", "page_size"),
        ("page_size=1001", "page_size"),
        ("page_size=" + "9" * 5000, "page_size"),
        ("cursor=nonsense", "cursor"),
        ("cursor=%00", "cursor"),
        ("changed_since=yesterday", "changed_since"),
        ("search=%00", "search"),
        ("username=" + "x" * 151, "username"),
    ],
)
def test_bad_query_is_told_by_parameter(api: APIClient, query: str, parameter: str) -> None:
    answer = api.get(f"{USERS}?{query}")
    assert (answer.status_code, problem_of(answer)) == (400, "invalid")
    assert {error["parameter"] for error in answer.json()["errors"]} == {parameter}


def test_cursor_of_another_ordering_is_refused(api: APIClient) -> None:
    User.objects.bulk_create(User(username=f"u{i}") for i in range(3))
    address = api.get(f"{USERS}?page_size=1").json()["next"]
    assert api.get(f"{address}&ordering=email").status_code == 400


# Bad input


@pytest.mark.parametrize(
    ("field", "value", "pointer"),
    [
        ("username", "has space", "/username"),
        ("username", "x" * 151, "/username"),
        ("username", "", "/username"),
        ("username", None, "/username"),
        ("username", 7, "/username"),
        ("email", "no", "/email"),
        ("email", f"{'x' * 250}@x.org", "/email"),
        ("groups", ["nobody"], "/groups/0"),
        ("groups", ["editors", "editors"], "/groups"),
        ("groups", "editors", "/groups"),
        ("groups", ["nul\0"], "/groups/0"),
        ("first_name", "nul\0", "/first_name"),
        ("first_name", ["a"], "/first_name"),
        ("is_active", "maybe", "/is_active"),
        ("is_active", 1, "/is_active"),
        ("is_active", "false", "/is_active"),
        ("is_active", None, "/is_active"),
        ("date_joined", "yesterday", "/date_joined"),
        ("date_joined", "0001-01-01T00:00:00Z", "/date_joined"),
        ("date_joined", 10**400, "/date_joined"),
        ("is_staff", True, "/is_staff"),
        ("password", "x", "/password"),
        ("a/b~c", 1, "/a~1b~0c"),
    ],
)
def test_bad_input_is_told_by_place(api: APIClient, field: str, value: Any, pointer: str) -> None:
    Group.objects.create(name="editors")
    answer = api.post(USERS, {"username": "ann", field: value})
    assert (answer.status_code, problem_of(answer)) == (400, "invalid")
    assert {error["pointer"] for error in answer.json()["errors"]} == {pointer}
    assert not User.objects.filter(username="ann").exists()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b'"text"', 400),
        (b'{"username": NaN}', 400),
        (b'{"username": "\\ud800"}', 400),
        (b'{"username": "\xff"}', 400),
        (b"[" * 100_000, 400),
        (b'{"username": ' + b"9" * 5000 + b"}", 400),
        (b'{"username": "' + b"x" * 300_000 + b'"}', 413),
    ],
)
def test_body_that_is_none(api: APIClient, body: bytes, status: int) -> None:
    answer = api.generic("POST", USERS, body, content_type="application/json")
    assert answer.status_code == status
    problem_of(answer)


@pytest.mark.parametrize(
    ("method", "address", "status"),
    [
        ("get", f"{USERS}not-a-uuid/", 404),
        ("get", f"{USERS}0198c8a0-0000-7000-8000-000000000001/", 404),
        ("get", f"{USERS}%00/", 404),
        ("get", f"{GROUPS}{10**30}/", 404),
        ("get", f"{GROUPS}none/", 404),
        ("get", "/api/v2/users/", 404),
        ("get", "/api/v1/users", 404),
        ("post", f"{USERS}0198c8a0-0000-7000-8000-000000000001/", 405),
        ("delete", USERS, 405),
    ],
)
def test_address_that_is_none(api: APIClient, method: str, address: str, status: int) -> None:
    answer = getattr(api, method)(address)
    assert answer.status_code == status
    problem_of(answer)


def test_other_media_types_are_refused(api: APIClient) -> None:
    posted = api.generic("POST", USERS, b"username=ann", content_type="text/plain")
    assert problem_of(posted) == "unsupported-media-type"
    assert problem_of(api.get(USERS, headers={"Accept": "text/html"})) == "not-acceptable"


def test_name_is_stored_as_one_signs_in_with_it(api: APIClient) -> None:
    """Two spellings that look alike are one name."""
    assert (
        api.post(USERS, {"username": "\N{LATIN SMALL LIGATURE FI}sh"}).json()["username"] == "fish"
    )
    assert api.post(USERS, {"username": "fish"}).status_code == 400


def test_taken_username_is_refused(api: APIClient) -> None:
    User.objects.create(username="ann")
    answer = api.post(USERS, {"username": "ann"})
    assert answer.json()["errors"][0]["pointer"] == "/username"


# Creation sent twice


def test_creation_sent_again_creates_nothing_more(api: APIClient) -> None:
    key = {"Idempotency-Key": "monday-1"}
    first = api.post(USERS, {"username": "ann"}, headers=key)
    User.objects.filter(username="ann").update(first_name="changed since")
    again = api.post(USERS, {"username": "ann"}, headers=key)
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["ETag"] == first.headers["ETag"]
    assert (again.headers["Idempotent-Replayed"], "Idempotent-Replayed" in first.headers) == (
        "true",
        False,
    )


@pytest.mark.parametrize(
    ("address", "body"), [(USERS, {"username": "bob"}), (GROUPS, {"name": "ann"})]
)
def test_key_is_of_one_request(api: APIClient, address: str, body: Any) -> None:
    key = {"Idempotency-Key": "monday-1"}
    api.post(USERS, {"username": "ann"}, headers=key)
    assert problem_of(api.post(address, body, headers=key)) == "key-reused"


def test_refused_creation_may_be_mended_under_its_key(api: APIClient) -> None:
    key = {"Idempotency-Key": "monday-1"}
    assert api.post(USERS, {"username": "a b"}, headers=key).status_code == 400
    assert api.post(USERS, {"username": "ab"}, headers=key).status_code == 201


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\t"])
def test_key_of_no_use_is_told(api: APIClient, key: str) -> None:
    answer = api.post(USERS, {"username": "ann"}, headers={"Idempotency-Key": key})
    assert answer.status_code == 400
    assert "Idempotency-Key" in answer.json()["detail"]


def test_keys_are_each_callers_own(api: APIClient, operator: User) -> None:
    key = {"Idempotency-Key": "monday-1"}
    api.post(USERS, {"username": "ann"}, headers=key)
    browser = APIClient()
    browser.force_login(operator)
    assert browser.post(USERS, {"username": "bob"}, headers=key).status_code == 201


def test_answers_are_forgotten_after_a_day(api: APIClient) -> None:
    for number in (1, 2):
        api.post(USERS, {"username": f"u{number}"}, headers={"Idempotency-Key": str(number)})
    yesterday = timezone.now() - timedelta(hours=24, minutes=1)
    IdempotentAnswer.objects.filter(key="1").update(created_at=yesterday)
    # It is not given again, whether it has been trimmed or not.
    assert api.post(USERS, {"username": "u1"}, headers={"Idempotency-Key": "1"}).status_code == 400
    IdempotentAnswer.objects.create(caller="x", key="1", created_at=yesterday)
    assert idempotency.trim() == 2, "its refused creation has undone the trimming too"
    assert [answer.key for answer in IdempotentAnswer.objects.all()] == ["2"]


# Groups


def test_group_is_created_renamed_and_deleted(api: APIClient) -> None:
    group = api.post(GROUPS, {"name": "editors"})
    assert (group.status_code, group.json()["members"]) == (201, 0)
    address = f"{GROUPS}{group.json()['id']}/"
    user = api.post(USERS, {"username": "ann", "groups": ["editors"]}).json()
    assert api.get(GROUPS).json() == [{**group.json(), "members": 1}]
    assert api.patch(address, {"name": "authors"}).json()["name"] == "authors"
    renamed = api.get(f"{USERS}{user['id']}/").json()
    assert (renamed["groups"], renamed["version"]) == (["authors"], user["version"] + 1)
    assert api.get(address).json()["name"] == "authors"
    assert api.delete(address).status_code == 204
    alone = api.get(f"{USERS}{user['id']}/").json()
    assert (alone["groups"], alone["version"]) == ([], user["version"] + 2)
    log = LogEntry.objects.filter(content_type__model="group").order_by("id")
    assert [entry.change_message for entry in log] == [
        "Created (by API, token test)",
        "Name: editors → authors (by API, token test)",
        "Deleted (by API, token test)",
    ]


@pytest.mark.parametrize("name", ["", "x" * 151, "editors", "nul\0", 7, None])
def test_bad_name_of_a_group(api: APIClient, name: Any) -> None:
    Group.objects.create(name="editors")
    assert api.post(GROUPS, {"name": name}).json()["errors"][0]["pointer"] == "/name"


# The outbox


def test_outbox_status(api: APIClient) -> None:
    User.objects.bulk_create(User(username=f"u{i}") for i in range(3))
    parked = User.objects.create(username="parked")
    OutboxEntry.objects.filter(user_id=parked.pk).update(parked_reason="too large")
    found = api.get("/api/v1/outbox/status/").json()
    assert found["undelivered"] == {"urgent": 0, "single": 0, "bulk": 3}
    assert found["oldest_seconds"] >= 0
    assert (found["waiting"], found["parked"]) == (0, 1)
    assert [entry["user_id"] for entry in found["parked_entries"]] == [str(parked.pk)]


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


# The schema


def test_schema_and_its_page_are_served_locally(operator: User, api: APIClient) -> None:
    schema = api.get("/api/schema/")
    assert schema.status_code == 200
    assert "/api/v1/users/{id}/" in schema.content.decode()
    browser = Client()
    browser.force_login(operator)
    page = browser.get("/api/docs/")
    assert "swagger" in page.content.decode()
    assert "https://" not in page.content.decode()
    assert "script-src" not in page.headers["Content-Security-Policy"]  # As strict as elsewhere.


def test_schema_has_no_gaps() -> None:
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", "/dev/null")


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
