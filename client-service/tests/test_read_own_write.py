"""Who has written on the master reads it here, however soon they ask."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from rest_framework.test import APIClient

from usercast.contract import UserChange, UserGone, UserState
from usercast_client.replica.apply import apply
from usercast_client.replica.models import User

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
KEY = UUID(int=0x0198C8A0 << 96)
ADDRESS = f"/api/v1/users/{KEY}/"


def living(version: int) -> UserChange:
    state = UserState(
        id=KEY,
        version=version,
        username="ann",
        email=f"v{version}@example.org",
        first_name="",
        last_name="",
        is_active=True,
        date_joined=NOW,
        groups=(),
    )
    return UserChange(changed_at=NOW, data=state)


def gone(version: int) -> UserChange:
    return UserChange(changed_at=NOW, data=UserGone(id=KEY, version=version))


@pytest.fixture
def api(db: None) -> Iterator[APIClient]:
    client = APIClient()
    client.force_authenticate(User.objects.create_superuser("boss"))
    return client


def test_a_version_that_is_there_is_answered_at_once(api: APIClient) -> None:
    apply([living(7)])
    for wanted in (1, 7):
        answer = api.get(ADDRESS, {"min_version": wanted, "wait_seconds": 10})
        assert (answer.status_code, answer.data["version"]) == (200, 7)


def test_one_that_does_not_come_is_a_time_out_that_says_what_there_is(api: APIClient) -> None:
    assert api.get(ADDRESS, {"min_version": 1}).data["version"] == 0
    apply([living(6)])
    began = time.monotonic()
    answer = api.get(ADDRESS, {"min_version": 7, "wait_seconds": 0.2})
    assert time.monotonic() - began >= 0.2
    assert (answer.status_code, answer.data["version"]) == (504, 6)
    assert "Version 7 has not been applied" in answer.data["detail"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("change", "status"), [(living(7), 200), (gone(8), 404)])
def test_one_that_comes_meanwhile_is_waited_for(
    api: APIClient, change: UserChange, status: int
) -> None:
    apply([living(6)])

    def comes() -> None:
        time.sleep(0.3)
        apply([change])
        connection.close()

    poller = threading.Thread(target=comes)
    poller.start()
    answer = api.get(ADDRESS, {"min_version": 7, "wait_seconds": 10})
    poller.join()
    assert answer.status_code == status
    if status == 200:
        assert answer.data["email"] == "v7@example.org"


@pytest.mark.parametrize(
    "query",
    [
        {"min_version": 0},
        {"min_version": "x"},
        {"min_version": 2**63},
        {"min_version": 1, "wait_seconds": 11},
        {"min_version": 1, "wait_seconds": -1},
        {"min_version": 1, "wait_seconds": "nan"},
    ],
)
def test_bad_questions_are_refused(api: APIClient, query: dict[str, Any]) -> None:
    assert api.get(ADDRESS, query).status_code == 400


def test_an_id_that_is_none_is_not_found(api: APIClient) -> None:
    assert api.get("/api/v1/users/x/", {"min_version": 1}).status_code == 404
