"""The stage: a running system, the browsers that look at its pages, and the pictures they took."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Page, expect

from embedded.deployment import Deployment
from embedded.screenshots import looks
from embedded.screenshots.looks import Look
from embedded.screenshots.system import CLIENT
from embedded.traffic import Master

#: For whatever a page is waited for.
PAGE_SECONDS = 30.0
#: Much less than a mark lasts.
FREEZE_WITHIN_SECONDS = 0.5

Login = Mapping[str, str]
Pages = dict[Look, Page]


class Stage:
    """Opens pages in several looks at once, and keeps the pictures taken of them."""

    def __init__(self, deployment: Deployment, browser: Browser) -> None:
        self.deployment = deployment
        self.browser = browser
        #: PNGs by file name, in the order in which they were taken.
        self.pictures: dict[str, bytes] = {}
        credentials = deployment.state_dir / "credentials.json"
        logins = json.loads(credentials.read_text())
        self.admin: Login = logins["master"]
        self.staff: Login = logins["clients"][CLIENT]
        self.master = Master(credentials)
        self._sessions: dict[str, Any] = {}

    @contextmanager
    def pages(
        self, path: str, *, login: Login | None, chosen: Sequence[Look] = looks.ALL
    ) -> Iterator[Pages]:
        """A page, open in each of the looks until the block ends.

        Args:
            path: of the service to which the login belongs, without one of the client.
            login: who looks; None for nobody.
        """
        session = None if login is None else self._session(login)
        opened = {}
        try:
            for look in chosen:
                context = self.browser.new_context(storage_state=session, **look.options)
                context.set_default_timeout(PAGE_SECONDS * 1000)
                # In charge of the page's timers, to stop them for a picture.
                context.clock.install()
                opened[look] = context.new_page()
                opened[look].goto((login or self.staff)["url"] + path)
            yield opened
        finally:
            for page in opened.values():
                page.context.close()

    def take(self, name: str, pages: Pages) -> None:
        """Take a picture of each page, all of one moment: from then on, nothing fades in them."""
        for page in pages.values():
            _freeze(page)
        for look, page in pages.items():
            self.pictures[f"{name}-{look}.png"] = page.screenshot()

    def _session(self, login: Login) -> Any:
        if login["username"] not in self._sessions:
            context = self.browser.new_context()
            page = context.new_page()
            is_master = login["url"] == self.admin["url"]
            page.goto(login["url"] + ("/admin/login/" if is_master else "/login/"))
            sign_in(page, login, button="Log in" if is_master else "Sign in")
            self._sessions[login["username"]] = context.storage_state()
            context.close()
        return self._sessions[login["username"]]


def sign_in(page: Page, login: Login, *, button: str) -> None:
    """Fill in the form that is shown, and wait for what comes after it."""
    page.get_by_label("Username").fill(login["username"])
    page.get_by_label("Password").fill(login["password"])
    page.get_by_role("button", name=button).click()
    expect(page.get_by_label("Password")).to_have_count(0)


def are(pages: Pages, state: str) -> None:
    """Wait until all pages say of their connection that this is its state."""
    for page in pages.values():
        expect(page.locator("#connection")).to_have_attribute("data-state", state)


def _freeze(page: Page) -> None:
    # A mark of something new lasts for seconds only. A page's time can be stopped in its future
    # alone, and this machine may be busy.
    now = page.evaluate("Date.now()") / 1000
    page.clock.pause_at(now + FREEZE_WITHIN_SECONDS)
    page.evaluate("document.getAnimations().forEach((animation) => animation.pause())")
