"""A third client on a system that runs: registered, caught up, live; then removed again."""

import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import boto3
import httpx
import pytest

from conftest import SOON_SECONDS, Api, System
from embedded.errors import BadSetting, CommandFailed
from embedded.guest import Guest, Host
from embedded.ports import http_answers
from usercast.testing import eventually


@pytest.fixture
def guest(system: System) -> Iterator[Guest]:
    guest = Guest(Host.at(system.state_dir), f"g{uuid.uuid4().hex[:8]}")
    with guest.present():
        yield guest


@pytest.fixture
def aws(system: System) -> Callable[[str], Any]:
    variables = system.master.variables

    def client(service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=variables["AWS_ENDPOINT_URL"],
            region_name=variables["AWS_DEFAULT_REGION"],
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    return client


def in_aws(aws: Callable[[str], Any], system: System, name: str) -> tuple[int, int]:
    """How many queues and subscriptions a client has."""
    queues = aws("sqs").list_queues(QueueNamePrefix=f"usercast-{name}-").get("QueueUrls", [])
    pages = (
        aws("sns")
        .get_paginator("list_subscriptions_by_topic")
        .paginate(TopicArn=system.master.variables["USERCAST_TOPIC_ARN"])
    )
    endpoints = [found["Endpoint"] for page in pages for found in page["Subscriptions"]]
    return len(queues), sum(f":usercast-{name}-" in endpoint for endpoint in endpoints)


def status(system: System, token: str) -> int:
    """How the master answers to a client's token."""
    with httpx.stream(
        "GET",
        f"{system.master.url}/api/v1/snapshot/",
        headers={"Authorization": f"Token {token}"},
        trust_env=False,
        timeout=20,
    ) as answer:
        return answer.status_code


@pytest.mark.timeout(240)
def test_third_client_comes_is_live_and_goes(
    system: System, master: Api, guest: Guest, aws: Callable[[str], Any]
) -> None:
    before = master.create(first_name="Before")
    guest.migrate()
    guest.register(guest.name)
    assert in_aws(aws, system, guest.name) == (4, 2)
    token = guest.service.token_file.read_text()
    assert f"USERCAST_MASTER_TOKEN={token}" in (
        guest.state_dir / f"{guest.name}.env"
    ).read_text().replace("'", "")
    assert guest.service.token_file.stat().st_mode & 0o077 == 0
    guest.bootstrap()
    login = guest.create_operator()
    guest.start_all()
    eventually(lambda: http_answers(guest.service.url), within=SOON_SECONDS)
    with closing(
        httpx.Client(
            base_url=guest.service.url,
            headers={"Authorization": f"Token {login['api_token']}"},
            timeout=20,
            trust_env=False,
            limits=httpx.Limits(max_keepalive_connections=0),
        )
    ) as http:
        api = Api(http, login)
        assert api.user(before["id"]) == before
        user = master.change(before["id"], first_name="After")
        eventually(
            lambda: api.user(user["id"]) == user or None,
            within=SOON_SECONDS,
            what="the change on the third client",
        )
    assert guest.name in system.manage("master", "clients", "list")
    guest.close()
    system.manage("master", "clients", "remove", guest.name, "--yes")
    assert in_aws(aws, system, guest.name) == (0, 0)
    assert status(system, token) == 401
    assert guest.name not in system.manage("master", "clients", "list")
    for name in system.clients:
        assert in_aws(aws, system, name) == (4, 2)


def test_token_that_was_lost_is_replaced(system: System, guest: Guest) -> None:
    guest.register(guest.name)
    first = guest.service.token_file.read_text()
    guest.register(guest.name)
    assert guest.service.token_file.read_text() == first
    guest.service.token_file.unlink()
    guest.register(guest.name)
    second = guest.service.token_file.read_text()
    assert (status(system, first), status(system, second)) == (401, 200)
    system.manage("master", "clients", "remove", guest.name, "--yes")


def test_removal_without_a_yes_removes_nothing(system: System, guest: Guest) -> None:
    guest.register(guest.name)
    with pytest.raises(CommandFailed, match="nothing was removed"):
        system.manage("master", "clients", "remove", guest.name)
    assert status(system, guest.service.token_file.read_text()) == 200
    system.manage("master", "clients", "remove", guest.name, "--yes")


@pytest.mark.parametrize("name", ["", "Warehouse", "master", "users", "billing", "postgres"])
def test_name_that_is_no_name_or_taken_is_refused(system: System, name: str) -> None:
    with pytest.raises(BadSetting, match="NAME"):
        Guest(Host.at(system.state_dir), name)


def test_without_a_demo_there_is_one_clear_line(tmp_path: Any) -> None:
    command = (
        "import sys; from pathlib import Path; from embedded import client;"
        f"client.STATE_DIR = Path({str(tmp_path)!r}); sys.exit(client.main())"
    )
    ended = subprocess.run(
        ["python", "-c", command], capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode == 1
    assert (
        ended.stderr.strip() == "client: The demo is not running: start it with `make demo` first."
    )
