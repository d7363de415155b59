"""What happens to an open page: its clock stops, pushes are lost, services go, access ends.

The page says so at once and is right again afterwards, without being loaded anew.
"""

import os
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import Page, expect

import wire as losing
from conftest import SOON_SECONDS, Api, Member, System, query
from pages import (
    connection,
    cursors,
    entries,
    field,
    fresh,
    live,
    row,
    seen,
    stays,
    ticks,
    tops,
    usernames,
)
from sockets import cookie_of
from standstill import family, suspended
from usercast.testing import eventually
from wire import Wire

Visit = Callable[..., Page]
NewMember = Callable[..., Member]
NewWire = Callable[[Page], Wire]
Users = list[dict[str, Any]]


@pytest.fixture
def trio(master: Api, clients: dict[str, Api]) -> Users:
    """Three users, whom a search for the first's username without its last part finds."""
    name = fresh("trio")
    users = [master.create(username=f"{name}.{number}") for number in range(3)]
    for client in clients.values():
        eventually(lambda client=client: len(client.search(name)) == 3, within=SOON_SECONDS)
    return users


def search(users: Users) -> str:
    return "/?q=" + users[0]["username"].rpartition(".")[0]


def newest(client: Api) -> int:
    return client.http.get("/api/v1/live/state/").raise_for_status().json()["cursor"]


def disturb(master: Api, users: Users) -> dict[str, Any]:
    """Create, change and delete one; the new one, whom the same search finds."""
    new = master.create(username=users[0]["username"].removesuffix("0") + "new")
    master.change(users[1]["id"], email="meanwhile@example.org", is_active=False)
    master.delete(users[2]["id"])
    return new


def is_applied(client: Api, users: Users, new: dict[str, Any]) -> bool:
    changed = client.user(users[1]["id"])
    return bool(
        changed
        and not changed["is_active"]
        and client.user(new["id"])
        and not client.user(users[2]["id"])
    )


def is_right(page: Page, users: Users, client: Api) -> None:
    """The page shows what ``disturb`` did, and every change of the feed once."""
    expect(page.locator("#new-users")).to_have_text("1 new")
    expect(field(row(page, users[1]), "email")).to_have_text("meanwhile@example.org")
    expect(row(page, users[1])).to_contain_text("Inactive")
    expect(row(page, users[2])).to_have_attribute("data-gone", "deleted")
    assert usernames(page) == [user["username"] for user in users]
    expect(page.locator("body")).to_have_attribute("data-cursor", str(newest(client)))
    told = cursors(page)
    assert told[0] == newest(client)
    since = client.http.get("/api/v1/live/changes/", params={"since": max(0, told[0] - 20)}).json()
    there = [change["cursor"] for change in since["changes"] if change["batch_size"] <= 25][::-1]
    assert told[: len(there)] == there
    said = entries(page)
    assert stays(page)
    page.reload()
    assert entries(page) == said[: page.locator("#feed > li").count()]


# The clock


def test_page_says_that_it_is_stale_when_the_clock_stops(
    system: System,
    visit: Visit,
    master: Api,
    clients: dict[str, Api],
    trio: Users,
    everything_runs: None,
) -> None:
    """Within 3 s of the last tick; changes go on coming, and the clock's return is seen."""
    page = live(visit(search(trio)))
    ticks(page, 2)
    system.stop("billing-clock")
    connection(page, "stale")
    found = seen(page)
    stale_ms = found["states"][-1]["at"] - found["tickedAt"]
    print(f"stale {stale_ms:.0f} ms after the last tick")
    assert stale_ms <= 3000
    expect(page.locator("#connection-text")).to_have_text(
        re.compile(r"^stale since \d\d:\d\d:\d\d$")
    )
    face = page.locator("#clock time").inner_text()
    assert face in page.locator("#connection-text").inner_text()
    # The socket is fine, and so is what it brings.
    new = disturb(master, trio)
    eventually(lambda: is_applied(clients["billing"], trio, new), within=SOON_SECONDS)
    expect(page.locator("#new-users")).to_have_text("1 new")
    expect(page.locator("[data-total=heartbeat]")).to_have_text(re.compile("^[0-9]+ s ago$"))
    # A page that is opened now is whole, and says the same at once, also without JavaScript.
    for scripted in (True, False):
        other = visit(search(trio), java_script_enabled=scripted)
        connection(other, "stale")
        expect(other.locator("#connection-text")).to_contain_text("stale since")
        expect(other.locator("#rows > tr")).to_have_count(3)
        expect(other.locator("[data-total=users]")).to_have_text(re.compile(r"^[\d,]+$"))
        expect(other.locator("#clock time")).to_have_text(face)
    system.start("billing-clock")
    connection(page, "live")
    assert seen(page)["opened"] == 1
    is_right(page, trio, clients["billing"])


# What is lost on the way


def test_page_is_right_though_pushes_are_lost(
    visit: Visit, master: Api, clients: dict[str, Api], trio: Users, wire: NewWire
) -> None:
    """By the cursor in the next tick."""
    wires: list[Wire] = []
    page = live(visit(search(trio), wired=lambda page: wires.append(wire(page))))
    wires[0].loses = losing.pushes
    disturb(master, trio)
    is_right(page, trio, clients["billing"])
    assert wires[0].lost > 0


def test_connection_that_is_dead_without_knowing_is_found_out(
    visit: Visit, master: Api, clients: dict[str, Api], trio: Users, wire: NewWire
) -> None:
    """Silence, a ping that nobody answers, a new connection."""
    wires: list[Wire] = []
    page = live(visit(search(trio), wired=lambda page: wires.append(wire(page))))
    wires[0].loses = losing.everything
    disturb(master, trio)
    # For a moment only, which a look now and then could miss.
    eventually(
        lambda: any(state["socket"] == "reconnecting" for state in seen(page)["states"]),
        within=SOON_SECONDS,
    )
    assert '{"type":"ping"}' in wires[0].sent
    live(page)
    is_right(page, trio, clients["billing"])


def service_time(client: Api) -> datetime:
    return datetime.fromisoformat(client.http.get("/api/v1/live/state/").json()["time"])


def test_page_is_right_after_a_laptops_sleep(
    visit: Visit, master: Api, clients: dict[str, Api], trio: Users
) -> None:
    """Of three seconds: longer than a page bears without a tick."""
    billing = clients["billing"]
    page = live(visit(search(trio)))
    with suspended(family(os.getpid(), named="chrom")):
        new = disturb(master, trio)
        eventually(lambda: is_applied(billing, trio, new), within=SOON_SECONDS)
        wakes_at = service_time(billing) + timedelta(seconds=3)
        eventually(lambda: service_time(billing) > wakes_at, within=SOON_SECONDS)
    live(page)
    is_right(page, trio, billing)


def test_page_that_was_off_the_network_is_right_afterwards(
    visit: Visit, master: Api, clients: dict[str, Api], trio: Users, wire: NewWire
) -> None:
    wires: list[Wire] = []
    page = live(visit(search(trio), wired=lambda page: wires.append(wire(page))))
    wires[0].cut()
    new = disturb(master, trio)
    eventually(lambda: is_applied(clients["billing"], trio, new), within=SOON_SECONDS)
    # For a moment only, which a look now and then could miss.
    eventually(
        lambda: any(state["socket"] == "reconnecting" for state in seen(page)["states"]),
        within=SOON_SECONDS,
    )
    wires[0].mend()
    live(page)
    is_right(page, trio, clients["billing"])


@pytest.mark.parametrize("focused", ["#q", "#rows tr:nth-child(2) a"])
def test_page_is_refreshed_in_place_when_the_feed_is_trimmed(
    system: System,
    visit: Visit,
    master: Api,
    clients: dict[str, Api],
    trio: Users,
    wire: NewWire,
    focused: str,
) -> None:
    """Focus, scroll and a search that is half typed survive it."""
    wires: list[Wire] = []
    page = live(
        visit(
            search(trio),
            wired=lambda page: wires.append(wire(page)),
            viewport={"width": 1000, "height": 400},
        )
    )
    page.locator("#q").press("End")
    page.locator("#q").press_sequentially(" half")
    page.locator(focused).focus()
    page.evaluate("scrollTo(0, 150)")
    focus = "[document.activeElement.id, document.activeElement.href, q.selectionEnd]"
    before = page.evaluate(focus), tops(page)
    refreshed: list[str] = []
    page.on("request", lambda request: refreshed.append(request.url))
    wires[0].cut()
    new = disturb(master, trio)
    eventually(lambda: is_applied(clients["billing"], trio, new), within=SOON_SECONDS)
    code = "from usercast_client.live import feed; feed.trim(keep=1)"
    system.manage("billing", "shell", "-c", code)
    refreshed.clear()
    wires[0].mend()
    live(page)
    expect(page.locator("body")).to_have_attribute("data-cursor", str(newest(clients["billing"])))
    assert any("/refresh/" in url for url in refreshed)
    assert (page.evaluate(focus), tops(page)) == before
    expect(page.locator("#q")).to_have_value(re.compile(" half$"))
    assert page.evaluate("scrollY") == 150
    is_right(page, trio, clients["billing"])


# Servers


def test_page_goes_on_while_redis_is_away(
    system: System,
    visit: Visit,
    master: Api,
    clients: dict[str, Api],
    trio: Users,
    everything_runs: None,
) -> None:
    """The socket stays, the page is right, says that it is stale, and the ticks come back."""
    page = live(visit(search(trio)))
    system.servers.valkey.process.kill()
    disturb(master, trio)
    connection(page, "stale")
    is_right_at = "meanwhile@example.org"
    expect(field(row(page, trio[1]), "email")).to_have_text(is_right_at)
    other = visit(search(trio), java_script_enabled=False)
    expect(other.locator("#connection-text")).to_contain_text("stale")
    expect(other.locator("[data-total=users]")).to_have_text(re.compile(r"^[\d,]+$"))
    system.servers.valkey.start()
    began = page.evaluate("performance.now()")
    live(page)
    print(f"live {seen(page)['states'][-1]['at'] - began:.0f} ms after Valkey answered")
    found = seen(page)
    assert (found["opened"], found["closed"]) == (1, [])
    assert {state["socket"] for state in found["states"]} <= {None, "connecting", "live"}
    is_right(page, trio, clients["billing"])


@pytest.mark.parametrize(("end", "code"), [("stop", 1012), ("kill", 1006)])
def test_page_comes_back_with_its_web_process(
    system: System,
    visit: Visit,
    master: Api,
    clients: dict[str, Api],
    trio: Users,
    everything_runs: None,
    end: str,
    code: int,
) -> None:
    """It counts down to the next attempt, and catches up."""
    page = live(visit(search(trio), client="support"))
    getattr(system, end)("support-web")
    # For a moment only, which a look now and then could miss.
    eventually(
        lambda: any(state["socket"] == "reconnecting" for state in seen(page)["states"]),
        within=SOON_SECONDS,
    )
    expect(page.locator("#connection-text")).to_have_text(
        re.compile(r"reconnecting in \d+ s|retry in \d+ s")
    )
    disturb(master, trio)
    system.start("support-web")
    live(page)
    found = seen(page)
    assert found["closed"][0] == code
    assert any(re.fullmatch(r"reconnecting in \d+ s", text) for text in found["texts"])
    is_right(page, trio, clients["support"])


# The end of access


def is_over(page: Page, why: str) -> None:
    """The page says why, its socket was closed with 4001, and it does not come back."""
    expect(page.locator("#ended")).to_contain_text(why)
    expect(page.locator("#ended")).to_be_visible()
    connection(page, "ended")
    eventually(lambda: seen(page)["closed"], within=SOON_SECONDS, what="a closed socket")
    assert seen(page)["closed"] == [4001]
    # Not even on waking up, when it would try at once, does it open another.
    page.evaluate("dispatchEvent(new Event('online'))")
    found = seen(page)
    assert found["opened"] == 1
    assert found["states"][-1]["state"] == "ended"


def ended_after(system: System, page: Page, user: dict[str, Any]) -> float:
    """The ms from the user's latest change being applied to the page's saying that it is over."""
    ((applied_at,),) = query(
        system,
        "billing",
        "SELECT max(applied_at) FROM live_change WHERE user_id = %s",
        user["id"],
    )
    ended = next(state for state in seen(page)["states"] if state["state"] == "ended")
    return ended["date"] - applied_at.timestamp() * 1000


@pytest.mark.parametrize("what", ["deactivated", "deleted"])
@pytest.mark.parametrize("path", ["/", "/me/", "/users/{id}/"])
def test_whoever_is_dismissed_on_the_master_sees_why(
    system: System,
    visit: Visit,
    master: Api,
    new_member: NewMember,
    what: str,
    path: str,
) -> None:
    me = new_member(is_staff=path != "/me/")
    page = live(visit(path.format(**me.user), cookie=me.cookie))
    if what == "deleted":
        master.delete(me.user["id"])
    else:
        master.change(me.user["id"], is_active=False)
    is_over(page, f"Your account was {what}.")
    print(f"{path} {what}: over {ended_after(system, page, me.user):.0f} ms after")
    page.get_by_role("link", name="Sign in again").click()
    page.get_by_label("Username").fill(me.login["username"])
    page.get_by_label("Password").fill(me.login["password"])
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("correct username and password")


def again(page: Page, me: Member, password: str = "") -> None:
    """Sign in from the ended page; it leads back."""
    path = page.url
    page.get_by_role("link", name="Sign in again").click()
    page.get_by_label("Username").fill(me.login["username"])
    page.get_by_label("Password").fill(password or me.login["password"])
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(path)
    live(page)


def sign_out_elsewhere(page: Page) -> None:
    """In another tab of the same browser."""
    other = page.context.new_page()
    other.goto(page.url)
    # A socket that it opened after its session's end would be refused.
    live(other)
    other.get_by_role("button", name="Sign out").click()
    other.wait_for_url("**/login/")


def test_end_of_access_is_told_after_redis_was_away(
    system: System, visit: Visit, new_member: NewMember, everything_runs: None
) -> None:
    """By the web process, whose connection to Redis nobody has used since."""
    pages = [live(visit("/me/", cookie=new_member().cookie)) for _ in range(2)]
    # The first has the connection made, if there is none yet.
    sign_out_elsewhere(pages[0])
    is_over(pages[0], "You signed out.")
    system.servers.valkey.process.kill()
    system.servers.valkey.start()
    live(pages[1])
    ticks(pages[1], 1)
    began = pages[1].evaluate("Date.now()")
    sign_out_elsewhere(pages[1])
    is_over(pages[1], "You signed out.")
    # The session would be looked at anew within 30 s, whatever was told.
    assert seen(pages[1])["states"][-1]["date"] - began < 10_000


@pytest.mark.parametrize("path", ["/", "/me/"])
def test_page_ends_when_one_signs_out_in_another_tab(
    visit: Visit, new_member: NewMember, path: str
) -> None:
    me = new_member(is_staff=True)
    page = live(visit(path, cookie=me.cookie))
    sign_out_elsewhere(page)
    is_over(page, "You signed out.")
    again(page, me)


@pytest.mark.parametrize(
    ("change", "why"),
    [("password", "Your password was changed."), ("staff", "You no longer have access")],
)
def test_page_ends_by_what_an_admin_of_the_client_does(
    visit: Visit, clients: dict[str, Api], new_member: NewMember, change: str, why: str
) -> None:
    # In a session of the admin's own: Django gives it a new key with each password it sets.
    login = clients["billing"].login
    at_work = cookie_of(login["url"], login)
    me = new_member(is_staff=True)
    page = live(visit("/", cookie=me.cookie))
    own = live(visit("/me/", cookie=me.cookie))
    if change == "password":
        admin = visit(f"/admin/replica/user/{me.user['id']}/password/", cookie=at_work)
        admin.locator("#id_password1").fill("from-the-admin")
        admin.locator("#id_password2").fill("from-the-admin")
        admin.locator("#id_password2").press("Enter")
    else:
        admin = visit(f"/admin/replica/user/{me.user['id']}/change/", cookie=at_work)
        admin.get_by_label("Staff status").uncheck()
        admin.get_by_role("button", name="Save", exact=True).click()
    expect(admin.locator(".messagelist")).to_contain_text("successfully")
    is_over(page, why)
    if change == "password":
        is_over(own, why)
        again(page, me, password="from-the-admin")
    else:
        connection(own, "live")


def test_page_ends_when_its_session_expires(
    system: System, visit: Visit, new_member: NewMember
) -> None:
    me = new_member(is_staff=True)
    key = re.search("session=(\\w+)", me.cookie)
    assert key
    query(
        system,
        "billing",
        "UPDATE django_session SET expire_date = now() + interval '3 s'"
        " WHERE session_key = %s RETURNING session_key",
        key[1],
    )
    page = live(visit("/", cookie=me.cookie))
    is_over(page, "Your session expired.")
    again(page, me)


def test_page_that_is_refused_before_it_is_told_still_says_why(
    visit: Visit, master: Api, new_member: NewMember, wire: NewWire
) -> None:
    """A user's page asks at once for what has changed, and may be faster than the socket."""
    me = new_member(is_staff=True)
    path = f"/users/{me.user['id']}/"
    wires: list[Wire] = []
    page = live(visit(path, cookie=me.cookie, wired=lambda page: wires.append(wire(page))))
    wires[0].hold()
    with page.expect_response(lambda answer: path in answer.url and answer.status == 302):
        master.delete(me.user["id"])
    wires[0].release()
    is_over(page, "Your account was deleted.")


def test_page_that_was_away_when_access_ended_says_so(
    visit: Visit, master: Api, clients: dict[str, Api], new_member: NewMember, wire: NewWire
) -> None:
    """Nobody could tell it why; it finds out by asking."""
    me = new_member(is_staff=True)
    wires: list[Wire] = []
    page = live(visit("/", cookie=me.cookie, wired=lambda page: wires.append(wire(page))))
    wires[0].cut()
    master.change(me.user["id"], is_active=False)
    eventually(
        lambda: not (clients["billing"].user(me.user["id"]) or {})["is_active"],
        within=SOON_SECONDS,
    )
    wires[0].mend()
    connection(page, "ended")
    expect(page.locator("#ended")).to_contain_text("You are no longer signed in.")
