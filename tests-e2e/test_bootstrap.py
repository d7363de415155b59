"""A new client catches up: the real snapshot and the real command, killed on either side."""

import subprocess
import sys
from collections.abc import Callable

import psutil
import pytest
from playwright.sync_api import Page, expect

from conftest import SOON_SECONDS, Api, System, query
from embedded.ports import http_answers
from pages import fresh, live
from usercast.testing import eventually

MANY = 2_000
KILLS_OF_EACH = 5
#: The command in small chunks, so that there is much to be killed in.
COMMAND = """
import django
django.setup()
from django.core.management import call_command
from usercast_client.replica import bootstrap
bootstrap.CHUNK = 100
call_command("bootstrap")
"""
_CREATE = """
from usercast_master.accounts.models import User
User.objects.bulk_create(
    User(username=f"{name}.{{n}}", first_name="A", password="!") for n in range({count})
)
"""
_ON_CLIENT = """
SELECT id::text, version, username, first_name, is_active, extract(epoch FROM changed_at)
FROM replica_user WHERE username LIKE %s ORDER BY id
"""
_ON_MASTER = """
SELECT id::text, version, username, first_name, is_active, extract(epoch FROM changed_at)
FROM accounts_user JOIN outbox_entry ON user_id = id WHERE username LIKE %s ORDER BY id
"""


@pytest.fixture
def environment(system: System) -> dict[str, str]:
    """The client's, with a token that may fetch the snapshot and no more."""
    made = ("api_tokens", "create", system.master.operator, fresh("billing"))
    token = system.manage("master", *made, "--scope", "snapshot").splitlines()[-1]
    return {
        **system.environment("billing"),
        "USERCAST_MASTER_URL": system.master.url,
        "USERCAST_MASTER_TOKEN": token,
    }


@pytest.fixture
def lost(system: System) -> str:
    """The name of users whom the client has lost, as if it had been made today."""
    name = fresh("lost")
    system.manage("master", "shell", "-c", _CREATE.format(name=name, count=MANY))
    eventually(lambda: known(system, name) == MANY, within=SOON_SECONDS, what="all on the client")
    query(
        system,
        "billing",
        "DELETE FROM replica_user WHERE username LIKE %s RETURNING 1",
        f"{name}.%",
    )
    return name


def held(system: System, service: str, name: str) -> list[tuple[object, ...]]:
    """These users, field by field."""
    sql = _ON_MASTER if service == "master" else _ON_CLIENT
    return query(system, service, sql, f"{name}.%")


def known(system: System, name: str) -> int:
    sql = "SELECT count(*) FROM replica_user WHERE username LIKE %s"
    return int(query(system, "billing", sql, f"{name}.%")[0][0])


def begin(system: System, environment: dict[str, str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND],
        cwd=system.services["billing"].directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.timeout(400)
def test_interrupted_ten_times_by_kills_on_either_side_it_ends_equal(
    system: System,
    master: Api,
    lost: str,
    environment: dict[str, str],
    visit: Callable[..., Page],
    everything_runs: None,
) -> None:
    users = master.search(f"{lost}.1")
    page = live(visit(f"/?q={lost}."))
    command = begin(system, environment)
    for kill in range(2 * KILLS_OF_EACH):
        # Changes go on arriving.
        master.change(users[kill]["id"], first_name=f"changed {kill}")
        before = known(system, lost)
        eventually(
            lambda before=before, command=command: (
                known(system, lost) > before or command.poll() is not None
            ),
            within=SOON_SECONDS,
            what="some more",
        )
        if kill % 2:
            # The one that streams; gunicorn starts another.
            (worker,) = psutil.Process(system.process("master-web").pid).children()
            worker.kill()
            eventually(lambda: http_answers(system.master.url), within=SOON_SECONDS)
        else:
            command.kill()
            command.communicate()
            command = begin(system, environment)
    output, _ = command.communicate(timeout=SOON_SECONDS)
    if command.returncode != 0:
        command = begin(system, environment)
        output, _ = command.communicate(timeout=SOON_SECONDS)
    assert command.returncode == 0, output
    eventually(
        lambda: held(system, "billing", lost) == held(system, "master", lost),
        within=SOON_SECONDS,
        what="the client equal to the master",
    )
    assert len(held(system, "billing", lost)) == MANY
    told = page.locator("#feed > li").filter(has_text="bootstrap:")
    expect(told).to_have_count(1)
    expect(told).not_to_contain_text("undefined")
    page.get_by_role("button", name=f"{MANY:,} new").click()
    expect(page.locator("#count")).to_have_text(f"{MANY:,}")


def test_token_without_the_scope_is_told(system: System, environment: dict[str, str]) -> None:
    made = ("api_tokens", "create", system.master.operator, fresh("reader"), "--scope", "read")
    token = system.manage("master", *made).splitlines()[-1]
    refused = begin(system, {**environment, "USERCAST_MASTER_TOKEN": token})
    output, _ = refused.communicate(timeout=SOON_SECONDS)
    assert refused.returncode != 0
    assert "snapshot" in output
