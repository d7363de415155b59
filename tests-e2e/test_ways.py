"""However a user is written on the master, every client ends with what the master has."""

import json
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from conftest import SOON_SECONDS, Api, System
from usercast.testing import eventually
from ways import PREFIX, WAYS

SCRIPT = Path(__file__).parent / "ways.py"
Told = dict[str, dict[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def told(system: System, master: Api, clients: dict[str, Api]) -> Told:
    """Every way, carried out: by way, its users ``before`` and ``after`` it by their ids, and what
    each service answered about them; the clients when they agreed, or when it was time.
    """
    output = _python(system, f"import runpy; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')")
    told: Told = json.loads(output.splitlines()[-1])
    _ask({"master": master}, told)
    with suppress(AssertionError):  # Each way has a test of its own to say so.
        eventually(lambda: _ask(clients, told), within=SOON_SECONDS)
    return told


def _python(system: System, code: str) -> str:
    return system.manage("master", "shell", "--no-imports", "-c", code)


def _ask(services: dict[str, Api], told: Told) -> bool:
    """Note what services know of all ways' users; whether it is right."""
    for name, api in services.items():
        answer = api.http.get("/api/v1/users/", params={"search": PREFIX, "page_size": 1000}).json()
        assert answer["next"] is None, "more users than an answer holds"
        known = {user["id"]: _in_order(user) for user in answer["results"]}
        for way in told.values():
            way[name] = {key: known.get(key) for key in way["after"]}
    return all(way[name] == way["after"] for way in told.values() for name in services)


def _in_order(user: dict[str, Any]) -> dict[str, Any]:
    """The master's API gives groups in the order in which the database finds them."""
    return {**user, "groups": sorted(user["groups"])}


@pytest.mark.parametrize("way", WAYS)
def test_what_was_written_reaches_every_client(
    way: str, told: Told, clients: dict[str, Api]
) -> None:
    found = told[way]
    assert found["before"] != found["after"], "nothing was written"
    assert found["master"] == found["after"]
    for name in clients:
        assert found[name] == found["after"], f"{name} differs"


#: What no signal tells of. In braces: ids of users, and names of groups.
UNSEEN = """
from django.contrib.auth.models import Group
from django.db import connection
from usercast_master.accounts.models import User

def sql(statement):
    with connection.cursor() as cursor:
        cursor.execute(statement)

sql("UPDATE accounts_user SET email = 'sql@example.org' WHERE id = '{changed}'")
sql("UPDATE accounts_user SET is_active = false WHERE id = '{dismissed}'")
sql("UPDATE accounts_user SET is_staff = true WHERE id = '{promoted}'")
sql("DELETE FROM accounts_user WHERE id = '{deleted}'")
sql("DELETE FROM accounts_user_groups WHERE user_id = '{leaving}'")
sql('''INSERT INTO accounts_user SELECT (jsonb_populate_record(
           old, '{{"id": "{new}", "username": "{new}"}}'
       )).* FROM accounts_user AS old WHERE id = '{changed}' ''')
Group.objects.filter(name="{group}").update(name="{group}-renamed")
User.groups.through.objects.create(user_id="{joining}", group=Group.objects.get(name="{readers}"))
"""


def test_what_no_signal_told_of_arrives_after_an_audit(
    told: Told, system: System, master: Api, arrives: Callable[..., None]
) -> None:
    """``told`` is there first, since an audit would also mend what a way above had missed."""
    names = {name: f"{name}-{uuid.uuid4().hex[:8]}" for name in ("group", "readers")}
    _python(
        system,
        "from django.contrib.auth.models import Group\n"
        f"for name in {list(names.values())}: Group.objects.create(name=name)",
    )
    groups = {"member": [names["group"]], "leaving": [names["readers"]]}
    people = ("changed", "dismissed", "promoted", "deleted", "leaving", "joining", "member")
    users = {who: master.create(groups=groups.get(who, [])) for who in people}
    for user in users.values():
        arrives(user["id"], user)
    ids = {who: user["id"] for who, user in users.items()} | {"new": str(uuid.uuid4())}

    _python(system, UNSEEN.format(**ids, **names))
    found = "5 changed, 1 never published, 2 gone"
    assert system.manage("master", "outbox", "audit", "--dry-run").strip() == found
    assert system.manage("master", "outbox", "audit").splitlines()[0] == found
    for user_id in ids.values():
        arrives(user_id, master.user(user_id))
    assert master.user(ids["member"])["groups"] == [f"{names['group']}-renamed"]
    assert master.user(ids["promoted"]) is None
    assert "0 changed, 0 never published, 0 gone" in system.manage("master", "outbox", "audit")
