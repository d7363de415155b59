"""The dashboard in a browser: complete at first paint, then live, and nothing moves meanwhile."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from conftest import SOON_SECONDS, Api, System, query, sign_in
from pages import (
    cursors,
    entries,
    field,
    flashes,
    fresh,
    live,
    marked,
    row,
    seen,
    stays,
    ticks,
    tops,
    usernames,
)
from usercast.testing import eventually

Visit = Callable[..., Page]
Users = list[dict[str, Any]]
LAPTOP = {"viewport": {"width": 1280, "height": 700}}
PHONE = {"viewport": {"width": 390, "height": 844}}
GROUP = "crowd's own"
PAGE_SIZE = 50
#: Browsers lay out in fractions of a pixel, and scroll by whole ones.
SAME_PIXEL = 0.75


@pytest.fixture(scope="module")
def crowd(system: System, master: Api, clients: dict[str, Api]) -> Users:
    """More users than a page shows, in the order of their usernames; every third is inactive.

    Those with a 5 changed hours ago, as billing tells it. No test changes them.
    """
    query(
        system,
        "master",
        "INSERT INTO auth_group (name) VALUES (%s) ON CONFLICT DO NOTHING RETURNING id",
        GROUP,
    )
    name = fresh("crowd")
    users = [
        master.create(
            username=f"{name}.{number:02}",
            first_name="Ada" if number % 2 else "Bo",
            last_name=f"Number{60 - number:02}",
            email=f"{60 - number:02}@crowd.example",
            is_active=number % 3 > 0,
            groups=[GROUP] if number % 2 else [],
        )
        for number in range(60)
    ]
    for user in users:
        eventually(lambda user=user: clients["billing"].user(user["id"]), within=SOON_SECONDS)
    query(
        system,
        "billing",
        "UPDATE replica_user SET changed_at = changed_at - interval '3 hours'"
        " WHERE username LIKE %s RETURNING id",
        f"{name}.%5",
    )
    return users


@pytest.fixture
def people(master: Api, clients: dict[str, Api]) -> Callable[[int], Users]:
    """So many users, whom a search for the first's username without its last part finds."""

    def new(count: int) -> Users:
        name = fresh("people")
        users = [
            master.create(username=f"{name}.{number:02}", email=f"{number}@example.org")
            for number in range(count)
        ]
        eventually(lambda: len(clients["billing"].search(name)) == count, within=SOON_SECONDS)
        return users

    return new


def search(users: Users) -> str:
    return "/?q=" + users[0]["username"].rpartition(".")[0]


def shows(page: Page, first: int, last: int, *, of: int) -> None:
    expect(page.locator("#range")).to_have_text(f"{first}\N{EN DASH}{last} of {of}")


# First paint


def test_first_paint_is_complete_without_javascript(
    visit: Visit, clients: dict[str, Api], crowd: Users
) -> None:
    def state() -> dict[str, Any]:
        return clients["billing"].http.get("/api/v1/live/state/").raise_for_status().json()

    # The numbers are the last tick's.
    eventually(lambda: state()["clock"]["users"] == state()["users"], within=SOON_SECONDS)
    page = visit(search(crowd), java_script_enabled=False)
    expect(page.locator("#rows > tr")).to_have_count(PAGE_SIZE)
    assert usernames(page) == [user["username"] for user in crowd[:PAGE_SIZE]]
    first = row(page, crowd[1])
    for text in ("Ada Number59", "59@crowd.example", GROUP, "Active"):
        expect(first).to_contain_text(text)
    shows(page, 1, 50, of=60)
    expect(page.locator("#connection")).to_be_hidden()
    expect(page.locator("#clock")).to_contain_text(re.compile(r"\d\d:\d\d:\d\d\s*UTC"))
    expect(page.locator("[data-total=heartbeat]")).to_have_text(re.compile("^(now|[0-9]+ s ago)$"))
    expect(page.locator("[data-total=lag]")).to_have_text(re.compile(r"^[\d.]+ (ms|s)$"))
    expect(page.locator("[data-total=rate]")).to_have_text(re.compile(r"^[\d,]+$"))
    expect(page.locator("[data-total=users]")).to_have_text(f"{state()['users']:,}")
    assert cursors(page)[0] == state()["cursor"]
    assert all(entries(page))


#: What is asked for besides the crowd, and whom of it that leaves, by their numbers.
CHOICES: dict[str, Callable[[int], bool]] = {
    "": lambda number: True,
    "&active=no": lambda number: number % 3 == 0,
    "&active=yes": lambda number: number % 3 > 0,
    f"&group={GROUP}": lambda number: number % 2 == 1,
    "&changed=hour": lambda number: number % 10 != 5,
    "&changed=day": lambda number: True,
    f"&active=no&group={GROUP}&changed=hour": lambda number: number % 6 == 3 and number % 10 != 5,
    "+number07": lambda number: number == 53,
    "+59%40crowd": lambda number: number == 1,
}


def test_first_paint_is_searched_and_filtered(visit: Visit, crowd: Users) -> None:
    page = visit(search(crowd), java_script_enabled=False)
    address = page.url
    for asked, is_chosen in CHOICES.items():
        page.goto(address + asked)
        chosen = [user["username"] for number, user in enumerate(crowd) if is_chosen(number)]
        assert usernames(page) == chosen[:PAGE_SIZE], asked


def test_forms_and_links_need_no_javascript(visit: Visit, crowd: Users) -> None:
    """Search, filter, sort, go on to the next page, and reset; what was asked for stays."""
    page = visit("/", java_script_enabled=False)
    page.get_by_label("Search").fill(search(crowd).partition("=")[2])
    page.get_by_label("Status").select_option("Active")
    page.get_by_role("button", name="Search").click()
    shows(page, 1, 40, of=40)
    page.get_by_label("Status").select_option("Any status")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("link", name="E-mail").click()
    header = page.get_by_role("columnheader", name="E-mail")
    expect(header).to_have_attribute("aria-sort", "ascending")
    backwards = [user["username"] for user in reversed(crowd)]
    assert usernames(page) == backwards[:PAGE_SIZE]
    page.get_by_role("link", name="Next").click()
    shows(page, 51, 60, of=60)
    assert usernames(page) == backwards[PAGE_SIZE:]
    page.get_by_role("link", name="E-mail").click()
    expect(header).to_have_attribute("aria-sort", "descending")
    assert usernames(page) == backwards[::-1][:PAGE_SIZE]
    page.get_by_role("link", name="Reset").click()
    expect(page.get_by_label("Search")).to_have_value("")
    expect(header).to_have_attribute("aria-sort", "descending")


def test_times_are_the_viewers_and_exact_on_hover(visit: Visit, crowd: Users) -> None:
    page = live(visit(search(crowd), timezone_id="Asia/Tokyo", locale="en-GB"))
    expect(page.locator("#clock .zone")).to_have_text("GMT+9")
    for time in (
        page.locator("#clock time"),
        field(row(page, crowd[0]), "changed").locator("time"),
    ):
        # At once: the clock goes on.
        there, shown = time.evaluate(
            """time => [
                new Date(time.dateTime).toLocaleTimeString('en-GB', {timeZone: 'Asia/Tokyo'}),
                time.textContent + time.title,
            ]"""
        )
        assert there in shown
    expect(time).to_have_attribute("title", re.compile(r"20\d\d.*GMT\+9"))


# Live


def test_what_an_admin_does_shows_on_both_dashboards(
    contexts: Callable[..., BrowserContext], visit: Visit, master: Api, clients: dict[str, Api]
) -> None:
    """Create, rename, deactivate and delete in the master's admin; nobody reloads anything."""
    name = fresh("anna")
    pages = [live(visit(f"/?q={name}", client=client)) for client in clients]
    admin = contexts().new_page()
    sign_in(admin, master.login, "/admin/")

    admin.goto(master.login["url"] + "/admin/accounts/user/add/")
    admin.get_by_label("Username").fill(name)
    admin.get_by_label("First name").fill("Anna")
    admin.get_by_label("Disabled", exact=False).check()
    admin.get_by_role("button", name="Save", exact=True).click()
    admin.wait_for_url("**/change/")
    for page in pages:
        expect(page.locator("#feed > li").first).to_contain_text(name)
        page.get_by_role("button", name="1 new").click()
        expect(page.locator("#rows > tr")).to_contain_text("Anna")

    admin.get_by_label("Username").fill(f"{name}.renamed")
    admin.get_by_label("Email address").fill("anna@example.org")
    admin.get_by_role("button", name="Save and continue editing").click()
    for page in pages:
        expect(page.locator("#rows > tr")).to_contain_text(f"{name}.renamed")
        expect(page.locator("#rows > tr")).to_contain_text("anna@example.org")

    admin.get_by_label("Active").uncheck()
    admin.get_by_role("button", name="Save and continue editing").click()
    for page in pages:
        expect(page.locator("#rows > tr")).to_contain_text("Inactive")

    admin.get_by_role("link", name="Delete user").click()
    admin.get_by_role("button", name=re.compile("^Yes")).click()
    for page in pages:
        expect(page.locator("#rows > tr .gone")).to_have_text("deleted")
        expect(page.locator("#rows > tr .clamp").first).to_have_css(
            "text-decoration-line", "line-through"
        )
        assert stays(page)
        page.reload()
        expect(page.locator("#rows > tr")).to_have_count(0)


def test_changed_row_flashes_and_its_changed_fields_are_marked(
    visit: Visit, master: Api, people: Callable[[int], Users]
) -> None:
    users = people(2)
    page = live(visit(search(users)))
    master.change(users[0]["id"], email="other@example.org")
    flashes(page, users[0])
    expect(field(row(page, users[0]), "email")).to_have_text("other@example.org")
    assert marked(page, users[0]) == ["email"]
    assert marked(page, users[1]) == []
    # The mark of a field stays longer than the flash of its row.
    expect(row(page, users[0])).not_to_have_class(re.compile("flashed"))
    assert marked(page, users[0]) == ["email"]
    assert users[1]["id"] not in seen(page)["flashed"]
    master.change(users[0]["id"], first_name="Zoe", is_active=False)
    expect(row(page, users[0])).to_contain_text("Inactive")
    assert {"name", "status"} <= set(marked(page, users[0]))


@pytest.mark.parametrize(("look", "scrolled"), [(LAPTOP, 0), (LAPTOP, 400), (PHONE, 400)])
def test_nothing_moves_under_the_reader(
    visit: Visit, master: Api, people: Callable[[int], Users], look: dict[str, Any], scrolled: int
) -> None:
    users = people(24)
    page = live(visit(search(users), **look))
    page.evaluate(f"scrollTo(0, {scrolled})")
    before = tops(page)
    # Above, among and below what is in sight; one who would come first, one who would come last.
    name = users[0]["username"]
    master.create(username=name.removesuffix("00") + "+")
    master.create(username=name.removesuffix("00") + "99")
    master.delete(users[0]["id"])
    master.delete(users[5]["id"])
    master.change(users[1]["id"], username="z" * 100 + name, first_name="Long " * 20)
    master.change(users[6]["id"], is_active=False, last_name="x" * 100)
    last = master.change(users[23]["id"], username=name.removesuffix("00") + "++")
    expect(page.get_by_role("button", name="2 new")).to_be_visible()
    expect(field(row(page, last), "username")).to_have_text(last["username"])
    assert tops(page) == pytest.approx(before, abs=SAME_PIXEL)
    assert page.evaluate("scrollY") == scrolled
    assert row(page, users[0]).get_attribute("data-gone") == "deleted"
    assert stays(page)


@pytest.mark.parametrize("look", [LAPTOP, PHONE])
def test_reader_of_the_feed_goes_on_reading_the_same_entry(
    visit: Visit, master: Api, people: Callable[[int], Users], look: dict[str, Any]
) -> None:
    users = people(31)
    page = live(visit(search(users), **look))
    reading = page.locator(f'#feed > li[data-cursor="{cursors(page)[20]}"]')
    reading.scroll_into_view_if_needed()
    before = reading.bounding_box()
    master.change(users[0]["id"], username="long" * 30 + users[0]["username"], email="")
    user = master.create()
    expect(page.locator("#feed")).to_contain_text(user["username"])
    assert reading.bounding_box() == pytest.approx(before, abs=SAME_PIXEL)


def test_new_users_are_counted_and_shown_when_asked_for(
    visit: Visit, master: Api, people: Callable[[int], Users]
) -> None:
    users = people(2)
    page = live(visit(search(users)))
    name = users[0]["username"]
    expect(page.locator("#new-users")).to_be_hidden()
    new = [
        master.create(username=name.removesuffix("00") + f"{last}") for last in ("+", "01a", "z")
    ]
    expect(page.get_by_role("button", name="3 new")).to_be_visible()
    master.delete(new.pop(0)["id"])
    button = page.get_by_role("button", name="2 new")
    expect(button).to_be_visible()
    assert usernames(page) == [user["username"] for user in users]
    button.click()
    for user in new:
        flashes(page, user)
    assert users[0]["id"] not in seen(page)["flashed"]
    assert usernames(page) == [user["username"] for user in (*users, *new)]
    expect(field(row(page, new[0]), "username").get_by_role("link")).to_be_focused()
    expect(page.locator("#new-users")).to_be_hidden()
    shows(page, 1, 4, of=4)
    assert stays(page)


def test_new_users_of_another_page_are_shown_by_sorting_the_latest_first(
    visit: Visit, master: Api, people: Callable[[int], Users]
) -> None:
    users = people(PAGE_SIZE)
    page = live(visit(search(users)))
    new = master.create(username=users[0]["username"].removesuffix("00") + "last")
    page.get_by_role("button", name="1 new").click()
    page.wait_for_url("**sort=-changed*")
    expect(page.locator("#rows > tr").first).to_have_attribute("data-id", new["id"])


def test_row_that_no_longer_matches_says_so_and_stays(
    visit: Visit, master: Api, people: Callable[[int], Users]
) -> None:
    users = people(3)
    idle = master.change(users[2]["id"], is_active=False)
    page = live(visit(search(users) + "&active=yes"))
    if row(page, idle).count():  # it was still on its way
        expect(row(page, idle)).to_have_attribute("data-gone", "unmatched")
        page.reload()
        live(page)
    before = tops(page)
    master.change(users[0]["id"], is_active=False)
    expect(row(page, users[0])).to_have_attribute("data-gone", "unmatched")
    expect(row(page, users[0]).locator(".gone")).to_have_text("no longer matches")
    # And one who matches now is counted.
    master.change(idle["id"], is_active=True)
    expect(page.get_by_role("button", name="1 new")).to_be_visible()
    assert tops(page) == pytest.approx(before, abs=SAME_PIXEL)
    master.change(users[0]["id"], is_active=True)
    expect(row(page, users[0])).not_to_have_attribute("data-gone", "unmatched")


def test_feed_reads_the_same_after_a_reload(system: System, visit: Visit, master: Api) -> None:
    """The page says it in HTML and in JavaScript; both must say the same."""
    query(
        system,
        "master",
        "INSERT INTO auth_group (name) VALUES (%s) ON CONFLICT DO NOTHING RETURNING id",
        "<b>&amp;",
    )
    page = live(visit("/"))
    user = master.create(
        username=fresh("fee"),
        email="a@example.org",
        first_name="Fee",
        date_joined="2019-12-31T12:00:00Z",
    )
    renamed = fresh("dee")
    told = [
        ({}, ["created"]),
        (
            {"email": "", "is_active": False, "last_name": "<i>Dee"},
            ["deactivated", "name Fee → Fee <i>Dee", "e-mail a@example.org → (none)"],
        ),
        ({"groups": ["<b>&amp;"], "is_active": True}, ["activated", "groups + <b>&amp;"]),
        (
            {"groups": [], "username": renamed},
            [
                f"username {user['username']} → {renamed}",
                "groups \N{MINUS SIGN} <b>&amp;",
            ],
        ),
        (
            {"date_joined": "2020-01-02T03:04:05Z"},
            ["joining date 2019-12-31 → 2020-01-02"],
        ),
        (None, ["deleted"]),
    ]
    for fields, words in told:
        # Each by itself: what is changed twice before it is sent travels once.
        if fields:
            master.change(user["id"], **fields)
        elif fields is None:
            master.delete(user["id"])
        expect(page.locator("#feed > li").first.locator(".parts li")).to_have_text(words)
    said = entries(page), cursors(page)
    page.reload()
    # The page keeps more than it is given at first.
    count = page.locator("#feed > li").count()
    assert (entries(page), cursors(page)) == (said[0][:count], said[1][:count])


WATCH_BULK = """
window.titles = [];
new MutationObserver(() => {
  const top = document.querySelector("#feed > li.bulk .who")?.textContent;
  if (top && top !== titles.at(-1)) titles.push(top);
}).observe(document.getElementById("feed"), { subtree: true, childList: true });
"""


@pytest.fixture
def imported(system: System) -> Iterator[str]:
    """What the usernames of a bulk write begin with; they are deleted by another."""
    name = fresh("import")
    yield name
    _bulk(system, f"User.objects.filter(username__startswith='{name}').delete()")


def _bulk(system: System, statement: str) -> None:
    code = f"from usercast_master.accounts.models import User; {statement}"
    system.manage("master", "shell", "-c", code)


def test_bulk_import_is_one_entry_that_grows(
    system: System, visit: Visit, clients: dict[str, Api], imported: str
) -> None:
    page = live(visit(f"/?q={imported}"))
    before = page.locator("#feed > li.bulk").count()
    page.evaluate(WATCH_BULK)
    _bulk(
        system,
        f"User.objects.bulk_create([User(username=f'{imported}.{{i}}') for i in range(700)])",
    )
    entry = page.locator("#feed > li").first
    expect(entry.locator(".who")).to_have_text("700 users created")
    titles = page.evaluate("titles")
    assert titles == sorted(titles, key=lambda title: int(title.split()[0]))
    assert page.locator("#feed > li.bulk").count() == before + 1
    count = clients["billing"].http.get("/api/v1/live/state/").json()["users"]
    assert count >= 700
    expect(page.locator("[data-total=users]")).to_have_text(f"{count:,}")
    expect(page.get_by_role("button", name="700 new")).to_be_visible()
    said = entries(page)
    page.get_by_role("button", name="700 new").click()
    expect(page.locator("#rows > tr")).to_have_count(PAGE_SIZE)
    shows(page, 1, 50, of=700)
    expect(page.locator("#new-users")).to_be_hidden()
    assert stays(page)
    page.reload()
    assert entries(page) == said[: page.locator("#feed > li").count()]


# The health strip


def test_clock_ticks_and_the_strip_follows(
    visit: Visit, master: Api, people: Callable[[int], Users]
) -> None:
    users = people(1)
    page = live(visit("/"))
    count = page.locator("[data-total=users]")
    active = page.locator("[data-total=active]")
    ticks(page, 1)
    began = int(count.inner_text().replace(",", "")), int(active.inner_text().replace(",", ""))
    faces = [page.locator("#clock time").inner_text()]
    user = master.create()
    expect(count).to_have_text(f"{began[0] + 1:,}")
    expect(active).to_have_text(f"{began[1] + 1:,}")
    master.change(user["id"], is_active=False)
    expect(active).to_have_text(f"{began[1]:,}")
    master.delete(user["id"])
    master.delete(users[0]["id"])
    expect(count).to_have_text(f"{began[0] - 1:,}")
    expect(page.locator("[data-total=rate]")).not_to_have_text("0")
    expect(page.locator("[data-total=lag]")).to_have_text(re.compile(r"^[\d.]+ (ms|s)$"))
    expect(page.locator("[data-total=heartbeat]")).to_have_text("now")
    expect(page.locator("#clock time")).not_to_have_text(faces[0])
    drawn = page.locator("#sparkline").evaluate(
        """canvas => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height)
             .data.some(Boolean)"""
    )
    assert drawn


def test_those_who_listen_are_told_of_changes_but_not_of_ticks(visit: Visit, master: Api) -> None:
    page = live(visit("/"))
    page.evaluate(
        """() => {
          window.said = [];
          new MutationObserver(() => said.push(document.getElementById("announcer").textContent))
            .observe(document.getElementById("announcer"), { childList: true });
        }"""
    )
    names = [fresh("listen"), fresh("listen")]
    user = master.create(username=names[0])
    expect(page.locator("#announcer")).to_contain_text(names[0])
    master.change(user["id"], username=names[1])
    expect(page.locator("#feed > li").first).to_contain_text(names[1])
    ticks(page, 3)
    assert page.evaluate("said.length") == 1
    assert page.locator("#clock").locator("xpath=ancestor-or-self::*[@aria-live]").count() == 0


def test_two_browsers_show_the_same(
    visit: Visit, master: Api, clients: dict[str, Api], people: Callable[[int], Users]
) -> None:
    users = people(6)
    pages = [live(visit(search(users))), live(visit(search(users), **PHONE))]
    for number, user in enumerate(users):
        if number % 3:
            master.change(user["id"], first_name=f"Number {number}", is_active=number % 2 > 0)
        else:
            master.delete(user["id"])
    last = master.create(username=users[0]["username"])
    for page in pages:
        expect(page.locator("#feed > li").first).to_contain_text(last["username"])
        expect(page.get_by_role("button", name="1 new")).to_be_visible()
    assert entries(pages[0]) == entries(pages[1])
    shown = [page.locator("#rows").text_content() for page in pages]
    assert shown[0] == shown[1]
    newest = clients["billing"].http.get("/api/v1/live/state/").json()["cursor"]
    assert [page.locator("body").get_attribute("data-cursor") for page in pages] == [
        str(newest)
    ] * 2
