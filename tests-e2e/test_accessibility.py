"""For everybody: axe finds nothing serious, a phone shows it whole, a keyboard is enough.

And every page keeps to its own policy: no script and no style in its HTML.
"""

import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from conftest import SOON_SECONDS, Api, Member, System, query
from faults import Faults
from pages import connection, fits, fresh, live, row
from usercast.testing import eventually
from wire import Wire

Visit = Callable[..., Page]
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
LOOKS = [(size, scheme) for size in (DESKTOP, PHONE) for scheme in ("light", "dark")]
LONG = 150


@pytest.fixture(scope="module")
def longest(
    system: System, master: Api, clients: dict[str, Api], new_member: Callable[..., Member]
) -> Member:
    """A member, of the staff too, whose every name is as long as it may be, without a space."""
    group = fresh("g").ljust(LONG, "g")
    query(system, "master", "INSERT INTO auth_group (name) VALUES (%s) RETURNING id", group)
    me = new_member(
        is_staff=True,
        username=fresh("long").ljust(LONG, "w"),
        first_name="F" * LONG,
        last_name="L" * LONG,
        email=f"{'e' * 64}@{'d' * 60}.{'d' * 60}.example",
        groups=[group],
    )
    # The history is as long as the data.
    changes: list[dict[str, Any]] = [
        {"first_name": "G" * LONG},
        {"groups": []},
        {"groups": [group]},
    ]
    for fields in changes:
        user = master.change(me.user["id"], **fields)
        eventually(lambda user=user: clients["billing"].user(user["id"]) == user, within=60)
    return me


@pytest.fixture(scope="module")
def deleted(master: Api, clients: dict[str, Api]) -> dict[str, Any]:
    user = master.create(username=fresh("gone").ljust(LONG, "w"))
    eventually(lambda: clients["billing"].user(user["id"]), within=SOON_SECONDS)
    master.delete(user["id"])
    eventually(lambda: not clients["billing"].user(user["id"]), within=SOON_SECONDS)
    return user


@pytest.fixture(scope="module")
def link(system: System, longest: Member) -> str:
    code = (
        "from usercast_client.replica.models import User;"
        "from usercast_client.replica.passwords import link_path;"
        f"print(link_path(User.objects.get(pk='{longest.user['id']}')))"
    )
    return system.manage("billing", "shell", "-v", "0", "-c", code).splitlines()[-1]


#: Every page: its path, and who looks at it.
PAGES = {
    "sign in": ("/login/", "nobody"),
    "dashboard": ("/?q={username}", "longest"),
    "dashboard, last page": ("/?sort=-changed&page=9999", "longest"),
    "nobody matches": ("/?q=" + "n" * LONG, "longest"),
    "user": ("/users/{id}/", "longest"),
    "deleted user": ("/users/{deleted}/", "longest"),
    "own page": ("/me/", "longest"),
    "change password": ("/me/password/", "longest"),
    "one-time link": ("{link}", "nobody"),
    "void link": ("/password/MQ/abc-def/", "nobody"),
    "no access": ("/me/", "staff"),
    "not found": ("/users/01a20e80-0000-7000-8000-000000000000/", "longest"),
}


@pytest.fixture
def opened(
    visit: Visit, longest: Member, deleted: dict[str, Any], link: str
) -> Callable[[str], Page]:
    cookies = {"nobody": "", "longest": longest.cookie, "staff": None}

    def open_page(name: str) -> Page:
        path, who = PAGES[name]
        path = path.format(**longest.user, deleted=deleted["id"], link=link)
        page = visit(path, cookie=cookies[who], reduced_motion="reduce")
        if page.locator("#connection").count():
            live(page)
        return page

    return open_page


def looks(page: Page) -> Iterator[str]:
    """The page in each size and colour scheme, one after the other."""
    for size, scheme in LOOKS:
        page.set_viewport_size(size)
        page.emulate_media(color_scheme=scheme)
        yield f"{size['width']} px, {scheme}"


def fits_in_each_look(page: Page) -> None:
    """Unfold's side bar follows a new width by a script: a moment later."""
    for look in looks(page):
        eventually(lambda: fits(page), within=10, what=f"{page.url} fitting {look}")


def findings(page: Page) -> list[str]:
    """What axe finds serious or critical."""
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{violation['id']}: {node['html'][:120]} {node['failureSummary']}"
        for violation in found
        if violation["impact"] in {"serious", "critical"}
        for node in violation["nodes"]
    ]


def is_accessible(page: Page) -> None:
    faults = {look: found for look in looks(page) if (found := findings(page))}
    assert not faults


@pytest.mark.parametrize("name", PAGES)
def test_page_is_accessible_and_fits_a_phone(opened: Callable[[str], Page], name: str) -> None:
    page = opened(name)
    assert all(fits(page) for _ in looks(page))
    is_accessible(page)


def test_dashboard_with_news_is_accessible(
    visit: Visit, master: Api, clients: dict[str, Api]
) -> None:
    """A row that is gone, one that has changed, new users, and a bulk write in the feed."""
    name = fresh("news")
    users = [master.create(username=f"{name}.{number}") for number in range(3)]
    eventually(lambda: len(clients["billing"].search(name)) == 3, within=SOON_SECONDS)
    page = live(visit(f"/?q={name}&active=yes", reduced_motion="reduce"))
    master.delete(users[0]["id"])
    master.change(users[1]["id"], is_active=False)
    master.create(username=f"{name}.new")
    master.change(users[2]["id"], email="marked@example.org")
    expect(row(page, users[0])).to_have_attribute("data-gone", "deleted")
    expect(row(page, users[1])).to_have_attribute("data-gone", "unmatched")
    expect(page.get_by_role("button", name="1 new")).to_be_visible()
    expect(row(page, users[2])).to_contain_text("marked@example.org")
    assert all(fits(page) for _ in looks(page))
    is_accessible(page)


def test_page_that_is_cut_off_or_over_is_accessible(
    visit: Visit, master: Api, new_member: Callable[..., Member], wire: Callable[[Page], Wire]
) -> None:
    me = new_member(is_staff=True)
    wires: list[Wire] = []
    path = f"/?q={me.user['username']}"
    page = live(visit(path, cookie=me.cookie, wired=lambda page: wires.append(wire(page))))
    wires[0].cut()
    connection(page, "stale")
    assert all(fits(page) for _ in looks(page))
    is_accessible(page)
    wires[0].mend()
    live(page)
    master.change(me.user["id"], is_active=False)
    connection(page, "ended")
    assert all(fits(page) for _ in looks(page))
    is_accessible(page)


def test_form_that_was_refused_is_accessible(visit: Visit) -> None:
    page = visit("/login/", cookie="")
    page.get_by_label("Username").fill("nobody")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_be_visible()
    is_accessible(page)
    page.context.clear_cookies()
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("This form has expired")
    is_accessible(page)


# The keyboard


def tab_to(page: Page, target: Locator, *, key: str = "Tab", presses: int = 80) -> None:
    """Go on by the keyboard until the target has the focus, which must be seen at every step."""
    for _ in range(presses):
        page.keyboard.press(key)
        style = page.evaluate(
            "(({outlineStyle, outlineWidth}) => outlineStyle + outlineWidth)"
            "(getComputedStyle(document.activeElement))"
        )
        assert not style.startswith("none"), page.evaluate("document.activeElement.outerHTML")
        if target.evaluate("element => element === document.activeElement"):
            return
    raise AssertionError(f"{presses} times {key}, and {target} has no focus")


def test_keyboard_is_enough(visit: Visit, master: Api, clients: dict[str, Api]) -> None:
    """Skip link, search, filter, header, row, pill, pager; each does what a click does."""
    name = fresh("keys")
    users = [master.create(username=f"{name}.{number:02}") for number in range(51)]
    eventually(lambda: len(clients["billing"].search(name)) == 51, within=SOON_SECONDS)
    page = live(visit("/"))
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()

    tab_to(page, page.get_by_label("Search"))
    page.keyboard.type(name)
    tab_to(page, page.get_by_label("Status"), presses=1)
    page.keyboard.press("ArrowDown")
    expect(page.get_by_label("Status")).to_have_value("yes")
    tab_to(page, page.get_by_role("button", name="Search"), presses=3)
    page.keyboard.press("Enter")
    page.wait_for_url(f"**q={name}&active=yes*")

    live(page)
    tab_to(page, page.get_by_role("columnheader", name="Username").get_by_role("link"))
    page.keyboard.press("Enter")
    page.wait_for_url("**sort=-username*")
    live(page)
    expect(page.get_by_role("columnheader", name="Username")).to_have_attribute(
        "aria-sort", "descending"
    )

    tab_to(page, row(page, users[49]).get_by_role("link"))
    new = master.create(username=f"{name}.99")
    pill = page.get_by_role("button", name="1 new")
    expect(pill).to_be_visible()
    tab_to(page, pill, key="Shift+Tab")
    page.keyboard.press("Enter")
    expect(row(page, new).get_by_role("link")).to_be_focused()
    expect(row(page, new).get_by_role("link")).to_be_in_viewport()

    following = page.get_by_role("link", name="Next")
    tab_to(page, following, presses=60)
    expect(following).to_be_in_viewport()
    page.keyboard.press("Enter")
    page.wait_for_url("**page=2*")
    live(page)

    tab_to(page, row(page, users[0]).get_by_role("link"))
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/users/{users[0]['id']}/")


def test_focus_is_not_hidden_beneath_what_sticks(
    visit: Visit, master: Api, clients: dict[str, Api]
) -> None:
    """Going back through the rows, the focused one is below the head that stays in sight."""
    name = fresh("stick")
    for number in range(45):
        last = master.create(username=f"{name}.{number:02}")
    eventually(lambda: clients["billing"].user(last["id"]), within=SOON_SECONDS)
    page = live(visit(f"/?q={name}", viewport={"width": 1280, "height": 500}))
    page.locator("#rows > tr a").last.focus()
    for _ in range(40):
        page.keyboard.press("Shift+Tab")
        hidden = page.evaluate(
            """() => {
              const { left, top, height } = document.activeElement.getBoundingClientRect();
              const there = document.elementFromPoint(left + 2, top + height / 2);
              return !document.activeElement.contains(there);
            }"""
        )
        assert not hidden, page.evaluate("document.activeElement.outerHTML")


def test_motion_is_reduced_for_those_who_wish_so(visit: Visit, master: Api) -> None:
    page = live(visit("/", reduced_motion="reduce"))
    user = master.create()
    expect(page.locator("#feed > li").first).to_contain_text(user["username"])
    moving = page.evaluate(
        "document.getAnimations().filter(({playState}) => playState === 'running').length"
    )
    assert moving == 0


# The policy


class Inline(HTMLParser):
    """The scripts, styles and handlers that are written into a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = {name for name, _ in attrs}
        if tag == "style" or (tag == "script" and "src" not in names):
            self.found.append(tag)
        self.found += [name for name in names if name == "style" or name.startswith("on")]
        for _, value in attrs:
            if re.match("(javascript:|https?:|//)", value or ""):
                self.found.append(str(value))


@pytest.mark.parametrize("name", PAGES)
def test_html_has_no_script_or_style_and_names_no_other_site(
    clients: dict[str, Api],
    staff: dict[str, str],
    longest: Member,
    deleted: dict[str, Any],
    link: str,
    name: str,
) -> None:
    path, who = PAGES[name]
    cookie = {"nobody": "", "longest": longest.cookie, "staff": staff["billing"]}[who]
    path = path.format(**longest.user, deleted=deleted["id"], link=link)
    answer = httpx.get(
        clients["billing"].login["url"] + path,
        headers={"Cookie": cookie} if cookie else {},
        follow_redirects=True,
        trust_env=False,
    )
    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    page = Inline()
    page.feed(answer.text)
    assert not page.found


def test_policy_is_enforced_and_a_breach_is_a_fault(visit: Visit, faults: Faults) -> None:
    """Else the fixture that listens for breaches could be deaf."""
    page = visit("/login/", cookie="")
    with page.expect_event("console", lambda message: "breach of" in message.text) as breach:
        page.evaluate(
            """() => {
              const script = document.createElement("script");
              script.textContent = "window.inline = true";
              document.head.append(script);
            }"""
        )
    assert "script-src" in breach.value.text
    assert page.evaluate("window.inline") is None
    eventually(lambda: faults.found, within=SOON_SECONDS)
    faults.found.clear()
