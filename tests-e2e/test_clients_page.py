"""The page of the clients in a real browser: what an admin sees when a client is not in step."""

import re
import time
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from conftest import SOON_SECONDS, Api, System, query
from embedded.errors import CommandFailed
from test_accessibility import findings, fits_in_each_look, looks
from usercast.contract import CONTRACT_VERSION
from usercast.testing import eventually

PAGE = "/admin/clients/client/"
#: Within so long a poller that has died has to show.
POLLER_SILENT_SECONDS = 30
_LOST = "DELETE FROM replica_user WHERE id = %s RETURNING 1"
#: What was published within half a minute may still be on its way.
_LONG_AGO = """
UPDATE outbox_entry SET published_at = now() - interval '1 hour' WHERE user_id = %s RETURNING 1
"""
_WRONG = "UPDATE replica_user SET email = 'by-hand@example.org' WHERE id = %s RETURNING 1"
_EXTRA = """
INSERT INTO replica_user (id, version, username, email, first_name, last_name, is_active,
    date_joined, master_groups, password, is_staff, is_superuser)
VALUES (gen_random_uuid(), 1, %s, '', '', '', true, now(), '{}', '!', false, false) RETURNING 1
"""


def row(page: Page, client: str) -> Locator:
    return page.locator(f"tr[data-client={client}]")


def state(page: Page, client: str) -> Locator:
    return row(page, client).locator(".desk-pill")


def is_in_step(page: Page, client: str) -> None:
    expect(state(page, client)).to_have_text("in step", timeout=2 * SOON_SECONDS * 1000)


@pytest.fixture(autouse=True)
def mended(system: System) -> Iterator[None]:
    """What other tests have done to the clients' tables by hand is repaired, and what these do."""
    for client in system.clients:
        system.manage(client, "reconcile")
    yield
    system.manage("billing", "reconcile")


def test_each_client_is_in_step_and_says_how_late(
    desk: Callable[..., Page], master: Api, arrives: Callable[..., None]
) -> None:
    page = desk(PAGE)
    user = master.create()
    arrives(user["id"], user)
    for client in ("billing", "support"):
        is_in_step(page, client)
        expect(row(page, client)).to_contain_text(f"contract {CONTRACT_VERSION}")
        lanes = [re.compile(rf"{lane}\s+\d+") for lane in ("live", "bulk")]
        expect(row(page, client).locator(".desk-lane")).to_have_text(lanes)
        expect(row(page, client).locator(".desk-spark")).to_be_visible()


def test_changed_by_hand_is_found_within_a_beat_and_repaired_by_one_command(
    desk: Callable[..., Page],
    system: System,
    master: Api,
    arrives: Callable[..., None],
) -> None:
    users = [master.create(email=f"u{number}@example.org") for number in range(2)]
    for user in users:
        arrives(user["id"], user)
    page = desk(PAGE)
    is_in_step(page, "billing")
    for user in users:
        query(system, "master", _LONG_AGO, user["id"])
    query(system, "billing", _LOST, users[0]["id"])
    query(system, "billing", _WRONG, users[1]["id"])
    query(system, "billing", _EXTRA, f"extra-{time.time_ns()}")
    expect(state(page, "billing")).to_have_text("drift", timeout=SOON_SECONDS * 1000)
    # Whoever was inserted just now is looked at once they have stood for a moment.
    expect(row(page, "billing")).to_contain_text("3 users", timeout=SOON_SECONDS * 1000)
    expect(state(page, "support")).to_have_text("in step")
    with pytest.raises(CommandFailed, match="3 differ"):
        system.manage("billing", "reconcile", "--check")
    assert "3 repaired" in system.manage("billing", "reconcile")
    for user in users:
        arrives(user["id"], user)
    is_in_step(page, "billing")


def test_a_poller_that_died_in_silence_shows_though_no_user_changes(
    desk: Callable[..., Page], system: System, everything_runs: None
) -> None:
    page = desk(PAGE)
    is_in_step(page, "support")
    system.kill("support-poller")
    expect(state(page, "support")).to_have_text(
        "poller is silent", timeout=POLLER_SILENT_SECONDS * 1000
    )
    expect(row(page, "support")).to_contain_text("silent for")
    system.start("support-poller")
    is_in_step(page, "support")


def test_own_write_is_read_at_once_on_each_client(master: Api, clients: dict[str, Api]) -> None:
    user = master.create()
    for number in range(10):
        user = master.change(user["id"], last_name=f"{number}")
        for client in clients.values():
            asked = {"min_version": user["version"], "wait_seconds": 10}
            answer = client.http.get(f"/api/v1/users/{user['id']}/", params=asked)
            assert answer.json() == user
    asked = {"min_version": user["version"] + 1, "wait_seconds": 0.1}
    answer = clients["billing"].http.get(f"/api/v1/users/{user['id']}/", params=asked)
    assert (answer.status_code, answer.json()["version"]) == (504, user["version"])


def test_dismissed_and_erased_is_proved_on_the_users_page(
    desk: Callable[..., Page], system: System, master: Api, clients: dict[str, Api]
) -> None:
    user = master.create()
    master.change(user["id"], is_active=False)
    page = desk(f"/admin/outbox/dismissal/{user['id']}/")
    for name in clients:
        ended = page.get_by_role("row").filter(has_text=name).filter(has_text="access ended")
        eventually(
            lambda ended=ended: page.reload() and ended.count(), within=SOON_SECONDS, what=name
        )
    master.delete(user["id"])
    for name in clients:
        erased = page.get_by_role("row").filter(has_text=name).filter(has_text="erased")
        eventually(
            lambda erased=erased: page.reload() and erased.count(), within=SOON_SECONDS, what=name
        )
    assert user["username"] not in page.content()
    fits_in_each_look(page)
    assert not {look: found for look in looks(page) if (found := findings(page))}


def test_the_page_fits_and_is_accessible(desk: Callable[..., Page]) -> None:
    page = desk(PAGE)
    is_in_step(page, "billing")
    fits_in_each_look(page)
    assert not {look: found for look in looks(page) if (found := findings(page))}
