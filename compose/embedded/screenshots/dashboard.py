"""The dashboard: with nobody yet, amid changes, with filters that nobody matches, in an import."""

from playwright.sync_api import Page, expect

from embedded.people import People
from embedded.screenshots import looks
from embedded.screenshots.stage import Pages, Stage, are
from embedded.service import MASTER
from embedded.traffic import User

#: Whom of the list a change concerns, and what changes, oldest first.
CHANGES: tuple[tuple[int, User], ...] = (
    (8, {"email": "hello@example.com"}),
    (2, {"groups": ["editors", "finance", "marketing"]}),
    (6, {"last_name": "Sandberg", "email": "a.sandberg@example.com"}),
    (1, {"is_active": False}),
)
DELETED = 4
ARRIVING = 3
IMPORTED = 12_000

_IMPORT = """
from embedded.people import People
from usercast_master.accounts.models import User
people = People(seed=2, taken=set(User.objects.values_list("username", flat=True)))
User.objects.bulk_create(User(**vars(people.next()), password="!") for _ in range({count}))
"""

_SCROLL = """(element) => scrollTo(0, scrollY + element.getBoundingClientRect().top
    - document.querySelector("header").offsetHeight - 12)"""


def take_empty(stage: Stage) -> None:
    """The dashboard of a client that nobody was sent to yet."""
    with stage.pages("/", login=stage.staff, chosen=looks.TWO) as pages:
        are(pages, "live")
        for page in pages.values():
            expect(page.locator("#no-users")).to_be_visible()
        stage.take("empty", pages)


def take_changes(stage: Stage) -> None:
    """Some users have just changed, one was deleted, and some have come who are counted only."""
    users = stage.master.users()
    with stage.pages("/", login=stage.staff) as pages:
        are(pages, "live")
        people = People(seed=3, taken={user["username"] for user in users})
        for _ in range(ARRIVING):
            person = stage.master.create(vars(people.next()))
            _tells(pages, person["username"])
        stage.master.delete(users[DELETED])
        _tells(pages, users[DELETED]["username"])
        for position, fields in CHANGES:
            _tells(pages, stage.master.change(users[position], fields)["username"])
        for page in pages.values():
            expect(page.locator("#new-users")).to_have_text(f"{ARRIVING} new")
            await_tick(page)
        stage.take("dashboard", pages)
        phones = _phones(pages)
        _scroll(phones, "#range")
        stage.take("rows", phones)


def take_no_match(stage: Stage) -> None:
    """Filters that nobody matches."""
    path = "/?q=lindqvist&active=no&group=finance"
    with stage.pages(path, login=stage.staff, chosen=looks.TWO) as pages:
        are(pages, "live")
        for page in pages.values():
            expect(page.locator("#no-users")).to_be_visible()
        stage.take("no-match", pages)


def take_import(stage: Stage) -> None:
    """An import of many users: one entry of the feed, which has grown with it."""
    users = stage.master.users()
    with stage.pages("/", login=stage.staff, chosen=looks.TWO) as pages:
        are(pages, "live")
        stage.deployment.manage(MASTER, "shell", "-c", _IMPORT.format(count=IMPORTED))
        _tells(pages, f"{IMPORTED:,} users created")
        for page in pages.values():
            expect(page.locator("#new-users")).to_have_text(f"{IMPORTED:,} new")
            expect(page.locator("[data-total=users]")).to_have_text(f"{len(users) + IMPORTED:,}")
        # A phone has the strip and the feed not on one screen.
        _scroll(_phones(pages), "#changes")
        stage.take("import", pages)


def await_tick(page: Page) -> None:
    """Wait until the strip tells of the newest change, too: its figures come twice a second."""
    lag = page.locator("#feed > li .lag").first.inner_text()
    expect(page.locator("[data-total=lag]")).to_have_text(lag)


def _tells(pages: Pages, what: str) -> None:
    """Wait until this is in the newest entry of the feed, so that changes come one by one."""
    for page in pages.values():
        expect(page.locator("#feed > li").first).to_contain_text(what)


def _phones(pages: Pages) -> Pages:
    return {look: page for look, page in pages.items() if look.device == "phone"}


def _scroll(pages: Pages, selector: str) -> None:
    """Bring an element to the top, below the header that stays there."""
    for page in pages.values():
        page.locator(selector).evaluate(_SCROLL)
