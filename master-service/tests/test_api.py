"""Users and groups over REST: what is read and written, and page by page."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from calling import GROUPS, USERS, caller, problem_of
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from usercast.serializers import USER_FIELDS
from usercast_master.accounts.models import User
from usercast_master.api import idempotency, paging
from usercast_master.api.models import IdempotentAnswer, Scope
from usercast_master.outbox.models import OutboxEntry

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator() -> User:
    return User.objects.create_superuser("operator", password="correct horse battery")


@pytest.fixture
def api(operator: User) -> APIClient:
    return caller(operator, Scope.READ, Scope.WRITE)


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
