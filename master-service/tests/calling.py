"""What the tests of the REST API share: how it is called, and what a refusal looks like."""

from typing import Any

from rest_framework.test import APIClient

from usercast_master.accounts.models import User
from usercast_master.api.models import ApiToken, Scope

USERS = "/api/v1/users/"
GROUPS = "/api/v1/groups/"


def caller(user: User, *scopes: Scope, **options: Any) -> APIClient:
    _, token = ApiToken.objects.create(user, name="test", scopes=list(scopes), **options)
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Token {token}")
    return client


def problem_of(answer: Any) -> str:
    """The short name of an answer's problem, after its form has been checked."""
    assert answer.headers["Content-Type"] == "application/problem+json", answer.content
    body = answer.json()
    assert body["status"] == answer.status_code
    assert body["detail"]
    return str(body["type"].removeprefix("urn:usercast:problem:"))
