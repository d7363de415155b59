"""One user's pages in a browser: as staff sees them, and their own, which nobody else sees."""

import re
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

import httpx
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from conftest import SOON_SECONDS, Api, Member, System, query, sign_in
from pages import field, fresh, live, row, stays
from usercast.testing import eventually

Visit = Callable[..., Page]
NewMember = Callable[..., Member]
UNKNOWN_ID = "01a20e80-0000-7000-8000-000000000000"


def history(page: Page) -> list[list[str]]:
    """What is said to have changed, newest first; of each change its parts."""
    lists = page.locator("#history li.change .parts")
    return lists.evaluate_all(
        "all => all.map(one => [...one.children].map(part => part.textContent))"
    )


# As staff sees them


def test_users_page_is_live(visit: Visit, master: Api, clients: dict[str, Api]) -> None:
    user = master.create(username=fresh("una"), email="una@example.org")
    other = master.create(username=fresh("other"))
    for each in (user, other):
        eventually(lambda each=each: clients["billing"].user(each["id"]), within=SOON_SECONDS)
    page = live(visit(f"/?q={user['username']}"))
    row(page, user).get_by_role("link").click()
    live(page)
    data = page.locator("#person")
    expect(page.locator("#history li.change")).to_have_text([re.compile("created")])
    changes = [
        (
            {"email": "new@example.org", "is_active": False, "first_name": "Una"},
            "e-mail una@example.org → new@example.org",
        ),
        ({"username": fresh("renamed")}, f"username {user['username']}"),
    ]
    for fields, words in changes:
        master.change(user["id"], **fields)
        expect(page.locator("#history li.change").first).to_contain_text(words)
    expect(page.locator("#history li.change")).to_have_count(3)
    expect(field(data, "username")).to_contain_text("renamed")
    expect(field(data, "username")).to_have_class(re.compile(r"\bchanged\b"))
    expect(field(data, "email")).to_have_text("new@example.org")
    expect(field(data, "name")).to_have_text("Una")
    expect(field(data, "status")).to_have_text("Inactive")
    expect(field(data, "version")).to_have_text("3")
    expect(page.get_by_role("heading", level=1)).to_contain_text("renamed")
    expect(page).to_have_title(re.compile("renamed"))
    # Of others nothing is shown, nor asked for.
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    cursor = int(page.locator("body").get_attribute("data-cursor") or 0)
    master.change(other["id"], first_name="Nobody")
    expect(page.locator("body")).to_have_attribute("data-cursor", str(cursor + 1))
    assert not asked
    said = history(page)
    assert stays(page)
    page.reload()
    assert history(page) == said


def test_page_of_a_user_who_is_deleted_says_so_and_stays(
    visit: Visit, master: Api, clients: dict[str, Api]
) -> None:
    user = master.create(username=fresh("del"), email="del@example.org")
    eventually(lambda: clients["billing"].user(user["id"]), within=SOON_SECONDS)
    page = live(visit(f"/users/{user['id']}/"))
    expect(page.locator("#notice")).to_be_empty()
    master.delete(user["id"])
    expect(page.locator("#notice")).to_contain_text("Deleted on the master")
    assert stays(page)
    for _ in range(2):
        expect(field(page.locator("#person"), "status")).to_have_text("Deleted")
        expect(field(page.locator("#person"), "email")).to_have_text("del@example.org")
        expect(page.locator("#history li.change")).to_have_text(
            [re.compile("deleted"), re.compile("created")]
        )
        page.reload()
        live(page)


@pytest.mark.parametrize("path", [f"/users/{UNKNOWN_ID}/", "/users/42/", "/nowhere/"])
def test_what_is_not_there_is_said_to_be_so(visit: Visit, path: str) -> None:
    page = visit(path)
    expect(page.get_by_role("heading", level=1)).to_have_text("Page not found")
    page.get_by_role("link", name="start page").click()
    live(page)


# One's own


def test_own_page_is_live(
    visit: Visit, master: Api, clients: dict[str, Api], new_member: NewMember
) -> None:
    me = new_member(username=fresh("me"), email="me@example.org", first_name="Mia")
    other = master.create(username=fresh("other"))
    page = live(visit("/me/", cookie=me.cookie))
    data = page.locator("#person")
    expect(page.get_by_role("heading", level=1)).to_have_text("Mia")
    master.change(me.user["id"], email="mia@example.org")
    expect(field(data, "email")).to_have_text("mia@example.org")
    expect(field(data, "email")).to_have_class(re.compile(r"\bchanged\b"))
    master.change(me.user["id"], last_name="Moss", username=fresh("mia"))
    expect(page.get_by_role("heading", level=1)).to_have_text("Mia Moss")
    expect(page.locator("#history li.change")).to_have_text(
        [re.compile("username"), re.compile("e-mail me@example.org"), re.compile("created")]
    )
    # Of another's change one's page asks and shows nothing.
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    master.change(other["id"], first_name="Stranger")
    billing = clients["billing"]
    eventually(
        lambda: (billing.user(other["id"]) or {}).get("first_name") == "Stranger",
        within=SOON_SECONDS,
    )
    master.change(me.user["id"], first_name="Lia")
    expect(page.get_by_role("heading", level=1)).to_have_text("Lia Moss")
    assert len(asked) == 1
    expect(page.locator("body")).not_to_contain_text("Stranger")
    said = history(page)
    assert stays(page)
    page.reload()
    assert history(page) == said


def test_own_socket_tells_nothing_of_others(
    visit: Visit, master: Api, clients: dict[str, Api], new_member: NewMember
) -> None:
    me = new_member()
    frames: list[str] = []

    def listen(page: Page) -> None:
        page.on(
            "websocket",
            lambda socket: socket.on("framereceived", lambda frame: frames.append(str(frame))),
        )

    page = live(visit("/me/", cookie=me.cookie, wired=listen))
    other = master.create(username=fresh("secret"))
    eventually(lambda: clients["billing"].user(other["id"]), within=SOON_SECONDS)
    master.change(me.user["id"], email="changed@example.org")
    expect(field(page.locator("#person"), "email")).to_have_text("changed@example.org")
    pushes = [frame for frame in frames if '"changes"' in frame and '"tick"' not in frame]
    assert len(pushes) == 1
    assert not any(other["id"] in frame or "secret" in frame for frame in frames)


def test_password_is_changed_on_ones_own_page(
    visit: Visit, new_member: NewMember, contexts: Callable[..., BrowserContext]
) -> None:
    me = new_member()
    page = live(visit("/me/", cookie=me.cookie))
    page.get_by_role("link", name="Change my password").click()
    page.get_by_label("Old password").fill(me.login["password"])
    page.get_by_label("New password", exact=True).fill("brand-new-words")
    page.get_by_label("New password confirmation").fill("brand-new-words")
    page.get_by_role("button", name="Change my password").click()
    expect(page.get_by_role("status")).to_have_text("Your password is changed.")
    live(page)
    again = contexts().new_page()
    sign_in(again, {**me.login, "password": "brand-new-words"}, "/me/")
    live(again)


def test_one_time_link_leads_to_ones_own_page(
    visit: Visit,
    contexts: Callable[..., BrowserContext],
    clients: dict[str, Api],
    master: Api,
) -> None:
    """An admin of the client makes it, hands it over, and it works once."""
    user = master.create(username=fresh("link"))
    eventually(lambda: clients["billing"].user(user["id"]), within=SOON_SECONDS)
    admin = visit(f"/admin/replica/user/?q={user['username']}")
    admin.locator("input.action-select").check()
    admin.get_by_role("combobox", name="Action").select_option(
        "Make one-time links to set a password"
    )
    admin.get_by_role("button", name="Run").or_(admin.get_by_role("button", name="Go")).click()
    link = admin.locator(".messagelist code").inner_text()

    page = contexts().new_page()
    page.goto(link)
    page.get_by_label("New password", exact=True).fill("chosen-by-myself")
    page.get_by_label("New password confirmation").fill("chosen-by-myself")
    page.get_by_role("button", name="Set the password").click()
    expect(page.get_by_role("status")).to_have_text("Your password is set. Sign in with it.")
    page.get_by_label("Username").fill(user["username"])
    page.get_by_label("Password").fill("chosen-by-myself")
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/me/")
    live(page)
    expect(field(page.locator("#person"), "username")).to_have_text(user["username"])
    # Used once, it is void.
    page.goto(link)
    expect(page.get_by_role("heading", level=1)).to_have_text("This link does not work any more")


# Who sees what

STAFF_ONLY = (
    "/",
    "/refresh/",
    "/users/{other}/",
    "/api/v1/live/state/",
    "/api/v1/live/changes/?since=0",
    "/api/v1/users/",
    "/api/v1/users/{other}/",
    "/ws/live/",
)
OWN_ONLY = ("/me/", "/me/password/", "/api/v1/me/", "/ws/me/")
#: Who may see what; whoever is named elsewhere is refused the rest.
SEES: dict[str, tuple[str, ...]] = {
    "nobody": (),
    "local": (),
    "inactive": (),
    "staff": STAFF_ONLY,
    "member": OWN_ONLY,
    "member who is staff": STAFF_ONLY + OWN_ONLY,
}


@pytest.fixture(scope="module")
def people(
    system: System, master: Api, clients: dict[str, Api], new_member: NewMember, staff: Any
) -> Iterator[dict[str, str]]:
    """Everybody's session, as a Cookie header, and under "other" the id of one they may look up."""
    inactive, local = new_member(), new_member()
    found = {
        "nobody": "",
        "staff": staff["billing"],
        "member": new_member().cookie,
        "member who is staff": new_member(is_staff=True).cookie,
        "inactive": inactive.cookie,
        "local": local.cookie,
        "other": master.create()["id"],
    }
    master.change(inactive.user["id"], is_active=False)
    # A local account that is not staff: signed in, but of no interest to anybody.
    query(
        system,
        "billing",
        "UPDATE replica_user SET version = NULL WHERE id = %s RETURNING id",
        local.user["id"],
    )
    billing = clients["billing"]
    eventually(lambda: billing.user(found["other"]), within=SOON_SECONDS)
    eventually(
        lambda: not billing.http.get(f"/api/v1/users/{inactive.user['id']}/").json()["is_active"],
        within=SOON_SECONDS,
    )
    yield found
    query(
        system,
        "billing",
        "UPDATE replica_user SET version = %s WHERE id = %s RETURNING id",
        local.user["version"],
        local.user["id"],
    )


@pytest.mark.parametrize("path", STAFF_ONLY + OWN_ONLY)
@pytest.mark.parametrize("who", SEES)
def test_is_shown_to_those_who_may_see_it_only(
    clients: dict[str, Api], people: dict[str, str], who: str, path: str
) -> None:
    """Pages, REST, sockets and initial state refuse the same people in the same way."""
    url = clients["billing"].login["url"]
    headers = {"Cookie": people[who]} if people[who] else {}
    is_socket = path.startswith("/ws/")
    if is_socket:
        headers |= {
            "Origin": url,
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        }
    with httpx.stream(
        "GET", url + path.format(**people), headers=headers, trust_env=False
    ) as answer:
        found = answer.status_code
    if path in SEES[who]:
        assert found == (HTTPStatus.SWITCHING_PROTOCOLS if is_socket else HTTPStatus.OK)
    elif is_socket or who not in {"nobody", "inactive"}:
        assert found == HTTPStatus.FORBIDDEN
    elif path.startswith("/api/"):
        assert found == HTTPStatus.UNAUTHORIZED
    else:
        assert found == HTTPStatus.FOUND
        assert answer.headers["Location"].startswith("/login/?next=")


def test_refused_page_says_why_and_where_to_go(visit: Visit, people: dict[str, str]) -> None:
    page = visit("/", cookie=people["member"])
    expect(page.get_by_role("heading", level=1)).to_have_text("No access")
    expect(page.locator("main")).to_contain_text("staff")
    page.get_by_role("link", name="Open my page").click()
    live(page)
    page = visit("/me/", cookie=people["staff"])
    expect(page.locator("main")).to_contain_text("your account is local")
    page.get_by_role("link", name="Open the dashboard").click()
    live(page)
