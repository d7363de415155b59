import pytest
from django.contrib.auth.models import Group
from django.test import Client
from knox.models import AuthToken
from rest_framework.test import APIClient

from usercast.serializers import USER_FIELDS
from usercast_master.accounts.models import User
from usercast_master.outbox.models import OutboxEntry

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator() -> User:
    return User.objects.create_superuser("operator", password="correct horse battery")


@pytest.fixture
def api(operator: User) -> APIClient:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Token {AuthToken.objects.create(operator)[1]}")
    return client


def test_created_user_has_a_version_and_an_entry(api: APIClient) -> None:
    Group.objects.create(name="editors")
    answer = api.post(
        "/api/v1/users/", {"username": "ann", "email": "a@x.org", "groups": ["editors"]}
    )
    assert answer.status_code == 201, answer.content
    body = answer.json()
    assert set(body) == set(USER_FIELDS)
    assert body["groups"] == ["editors"]
    assert body["version"] == OutboxEntry.objects.get(user_id=body["id"]).version
    assert not User.objects.get(pk=body["id"]).has_usable_password()


def test_partial_update_raises_the_version(api: APIClient) -> None:
    user = User.objects.create(username="ann")
    answer = api.patch(f"/api/v1/users/{user.pk}/", {"first_name": "Ann"})
    assert (answer.status_code, answer.json()["version"]) == (200, 2)


def test_deleted_user_is_gone(api: APIClient) -> None:
    user = User.objects.create(username="ann")
    assert api.delete(f"/api/v1/users/{user.pk}/").status_code == 204
    assert api.get(f"/api/v1/users/{user.pk}/").status_code == 404


def test_list_is_paginated_and_searchable_without_staff(api: APIClient) -> None:
    User.objects.bulk_create([User(username=f"user{i:03}") for i in range(130)])
    page = api.get("/api/v1/users/").json()
    assert (page["count"], len(page["results"])) == (130, 100)
    found = api.get("/api/v1/users/", {"search": "user07"}).json()
    assert [user["username"] for user in found["results"]] == [f"user07{i}" for i in range(10)]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("username", "has space"),
        ("username", "x" * 151),
        ("email", "no"),
        ("groups", ["nobody"]),
        ("first_name", "nul\0"),
        ("is_active", "maybe"),
    ],
)
def test_bad_input_is_told_by_field(api: APIClient, field: str, value: object) -> None:
    answer = api.post("/api/v1/users/", {"username": "ann", field: value})
    assert answer.status_code == 400
    assert field in answer.json()


def test_id_and_version_are_not_the_callers_to_choose(api: APIClient) -> None:
    chosen = "0198c8a0-0000-7000-8000-000000000001"
    body = api.post("/api/v1/users/", {"username": "ann", "id": chosen, "version": 99}).json()
    assert body["id"] != chosen
    assert body["version"] == 1


def test_taken_username_is_refused(api: APIClient) -> None:
    User.objects.create(username="ann")
    assert api.post("/api/v1/users/", {"username": "ann"}).status_code == 400


@pytest.mark.parametrize("method", ["get", "post"])
def test_only_staff_may(method: str) -> None:
    ordinary = User.objects.create_user("ordinary", password="correct horse battery")
    anonymous, signed_in = APIClient(), APIClient()
    signed_in.force_login(ordinary)
    assert getattr(anonymous, method)("/api/v1/users/").status_code == 401
    assert getattr(signed_in, method)("/api/v1/users/").status_code == 403


def test_session_of_a_staff_user_may(operator: User) -> None:
    browser = APIClient()
    browser.force_login(operator)
    assert browser.get("/api/v1/users/").status_code == 200


def test_schema_and_its_page_are_served_locally(operator: User, api: APIClient) -> None:
    schema = api.get("/api/schema/")
    assert schema.status_code == 200
    assert "/api/v1/users/{id}/" in schema.content.decode()
    browser = Client()
    browser.force_login(operator)
    page = browser.get("/api/docs/").content.decode()
    assert "swagger" in page
    assert "https://" not in page
