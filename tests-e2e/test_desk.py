"""The master's desk in a real browser: what an admin sees and does there reaches the clients."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from conftest import SOON_SECONDS, Api, System
from pages import fresh
from test_accessibility import findings, fits_in_each_look, looks
from usercast.testing import eventually

ADMIN = "/admin/accounts/user/"


@pytest.fixture
def people(master: Api) -> list[dict[str, Any]]:
    """Three users with a name of their own to search for."""
    name = fresh("desk")
    return [master.create(username=f"{name}.{number}") for number in range(3)]


def select_all(page: Page, action: str) -> None:
    page.locator("#action-toggle").check()
    page.locator("select[name=action]").select_option(action)
    page.get_by_role("button", name="Run").click()


# The start page


def test_start_page_renews_itself(desk: Callable[..., Page], master: Api) -> None:
    page = desk("/admin/")
    tile = page.locator(".desk-tile", has_text="Changes today").locator(".desk-figure")
    before = int(tile.inner_text().replace(",", ""))
    master.create()
    eventually(
        lambda: int(tile.inner_text().replace(",", "")) > before,
        within=SOON_SECONDS,
        what="the figure rising without a reload",
    )
    for client in ("billing", "support"):
        row = page.get_by_role("row").filter(has_text=client)
        expect(row).to_contain_text(re.compile(r"ago|now"))


def test_start_page_says_that_it_is_old(desk: Callable[..., Page], faults: Any) -> None:
    page = desk("/admin/")
    page.context.set_offline(True)
    expect(page.locator("#glance-stale")).to_contain_text("does not answer")
    page.context.set_offline(False)
    expect(page.locator("#glance-stale")).to_be_hidden()
    # That requests failed is what was asked for.
    faults.found = [fault for fault in faults.found if "Failed to load" not in fault]


# Many users


def test_deactivated_at_the_desk_and_on_the_clients(
    desk: Callable[..., Page], people: list[dict[str, Any]], clients: dict[str, Api]
) -> None:
    page = desk(f"{ADMIN}?q={people[0]['username'][:-2]}")
    select_all(page, "deactivate")
    expect(page.get_by_text("3 users deactivated")).to_be_visible()
    for user in people:
        for client in clients.values():
            eventually(
                lambda client=client, user=user: (
                    (found := client.user(user["id"])) and not found["is_active"]
                ),
                within=SOON_SECONDS,
            )
    page.goto(page.url)
    listed = page.locator("#result_list")
    expect(listed.get_by_text("delivered", exact=True)).to_have_count(3)


def test_added_to_a_group_at_the_desk_and_on_the_clients(
    desk: Callable[..., Page],
    people: list[dict[str, Any]],
    master: Api,
    clients: dict[str, Api],
) -> None:
    group = fresh("editors")
    master.http.post("/api/v1/groups/", json={"name": group}).raise_for_status()
    page = desk(f"{ADMIN}?q={people[0]['username'][:-2]}")
    select_all(page, "add_to_group")
    expect(page.get_by_text("3 users are chosen")).to_be_visible()
    page.locator("select[name=group]").select_option(label=group)
    page.get_by_role("button", name="Add to the group").click()
    expect(page.get_by_text(f"3 users added to {group}")).to_be_visible()
    for client in clients.values():
        eventually(
            lambda client=client: (client.user(people[0]["id"]) or {}).get("groups") == [group],
            within=SOON_SECONDS,
        )
    page.goto(master.login["url"] + f"{ADMIN}{people[0]['id']}/history/")
    expect(page.get_by_text(f"groups: none → {group}")).to_be_visible()


def test_file_is_checked_then_imported(
    desk: Callable[..., Page], clients: dict[str, Api], master: Api
) -> None:
    name = fresh("row")
    rows = [f"{name}.{number},{name}{number}@example.org" for number in range(30)]
    page = desk("/admin/transfer/import/add/")
    page.locator("input[type=file]").set_input_files(
        {
            "name": "staff.csv",
            "mimeType": "text/csv",
            "buffer": "\n".join(["username,email", *rows, f"{name}.bad,no address"]).encode(),
        }
    )
    page.get_by_role("button", name="Check the file").click()
    go = page.get_by_role("button", name="Import 30 rows")
    expect(go).to_be_visible()
    line = page.get_by_role("cell", name="32", exact=True)
    refused = page.get_by_role("row").filter(has=line)
    expect(refused).to_contain_text("email")
    assert master.search(name) == [], "nothing is changed before somebody says yes"
    fits_in_each_look(page)
    assert not findings(page)
    go.click()
    expect(page.locator("[data-state=done]")).to_be_visible()
    for client in clients.values():
        eventually(lambda client=client: len(client.search(name)) == 30, within=SOON_SECONDS)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the refused rows").click()
    assert f"{name}.bad" in download.value.path().read_text()


# The API's pages


def test_documentation_calls_the_api(
    desk: Callable[..., Page], people: list[dict[str, Any]], master: Api
) -> None:
    """As who is signed in, without a token; to write too."""
    page = desk("/api/docs/")
    found = page.locator("#operations-users-users_list")
    found.locator(".opblock-summary-control").click()
    found.get_by_role("button", name="Try it out").click()
    found.get_by_placeholder("search").fill(people[0]["username"])
    found.get_by_role("button", name="Execute").click()
    expect(found.locator(".live-responses-table")).to_contain_text(people[0]["id"])
    name = fresh("docs")
    created = page.locator("#operations-users-users_create")
    created.locator(".opblock-summary-control").click()
    created.get_by_role("button", name="Try it out").click()
    created.locator("textarea").fill(f'{{"username": "{name}"}}')
    created.get_by_role("button", name="Execute").click()
    expect(created.locator(".live-responses-table")).to_contain_text("201")
    assert len(master.search(name)) == 1


def test_token_is_shown_once_and_works(desk: Callable[..., Page], master: Api) -> None:
    name = fresh("payroll")
    page = desk(
        "/admin/master_api/apitoken/add/", permissions=["clipboard-read", "clipboard-write"]
    )
    page.get_by_label("Name").fill(name)
    page.locator("input[name=scopes][value=read]").check()
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    token = page.evaluate("navigator.clipboard.readText()")
    answer = master.http.get("/api/v1/users/", headers={"Authorization": f"Token {token}"})
    assert answer.status_code == 200
    page.get_by_role("link", name="Done").click()
    expect(page.get_by_role("row").filter(has_text=name)).to_contain_text("VALID", ignore_case=True)
    assert token not in page.content()


# For everybody

PAGES = (
    "/admin/",
    ADMIN,
    f"{ADMIN}?q=nobody-has-such-a-name",
    f"{ADMIN}add/",
    f"{ADMIN}{{id}}/change/",
    f"{ADMIN}{{id}}/history/",
    "/admin/auth/group/",
    "/admin/outbox/outboxentry/",
    "/admin/transfer/import/",
    "/admin/transfer/import/add/",
    "/admin/master_api/apitoken/",
    "/admin/master_api/apitoken/add/",
    "/admin/axes/accessattempt/",
    "/api/docs/",
)


@pytest.mark.parametrize("path", PAGES)
def test_page_fits_a_phone_and_asks_nobody_else(
    desk: Callable[..., Page], people: list[dict[str, Any]], path: str
) -> None:
    page = desk(path.format(**people[0]))
    fits_in_each_look(page)


@pytest.mark.parametrize("path", ["/admin/", "/admin/login/"])
def test_own_pages_are_accessible(
    desk: Callable[..., Page], contexts: Callable[..., BrowserContext], master: Api, path: str
) -> None:
    if path == "/admin/":
        page = desk(path)
    else:
        page = contexts().new_page()
        page.goto(master.login["url"] + path)
    faults = {look: found for look in looks(page) if (found := findings(page))}
    assert not faults


def test_wrong_passwords_lock_with_a_clear_page(
    system: System, contexts: Callable[..., BrowserContext], master: Api
) -> None:
    page = contexts().new_page()
    page.goto(master.login["url"] + "/admin/login/")
    name = fresh("guessed")
    for _ in range(5):
        page.get_by_label("Username").fill(name)
        page.get_by_label("Password").fill("wrong")
        page.get_by_role("button", name="Log in").click()
    expect(page.get_by_text(re.compile(r"15 minutes"))).to_be_visible()
    fits_in_each_look(page)
