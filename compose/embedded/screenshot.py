"""``make screenshot``: docs/images/propagation.png, the admin and a dashboard showing one change.

A system of its own is started for it in a temporary directory and stopped again, whatever happens;
a running demo is not touched. An admin edits a user in one browser window, the dashboard in another
shows it without a reload, and both windows are put side by side.
"""

import base64
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

from embedded.deployment import Deployment
from embedded.errors import StackError
from embedded.leftovers import end_leftovers
from embedded.people import email_of
from embedded.ports import free_port, http_answers
from embedded.seed import PEOPLE
from embedded.servers import REPOSITORY
from embedded.traffic import Master, User
from usercast.errors import UsercastError
from usercast.testing import eventually

PICTURE = REPOSITORY / "docs" / "images" / "propagation.png"
CLIENT = "billing"
#: The dashboard is wide enough to have its feed beside the table.
ADMIN_WIDTH = 770
DASHBOARD_WIDTH = 1200
HEIGHT = 860
GAP = 8
START_SECONDS = 60.0
PAGE_SECONDS = 30.0

#: What happens before the picture's own change: whom of the list it concerns, and what changes.
EARLIER: tuple[tuple[int, User], ...] = (
    (1, {"email": "adele@example.com"}),
    (12, {"is_active": True}),
    (10, {"groups": ["people", "support"]}),
    (6, {"first_name": "Alexa"}),
    (11, {"groups": ["engineering", "support"]}),
    (9, {"is_active": False}),
    (4, {"last_name": "Lindqvist"}),
    (7, {"email": "front.desk@example.com"}),
    (2, {"groups": ["editors", "finance"]}),
)
#: Whom of the list the picture's own change concerns, and the family name they take.
SUBJECT = 3
FAMILY_NAME = "Moreau"

_SIDE_BY_SIDE = """<!doctype html>
<style>
  body {{ margin: 0; display: flex; gap: {gap}px; background: #8a94a0 }}
  img {{ display: block }}
</style>
{images}"""


@contextmanager
def running_system() -> Iterator[Deployment]:
    """A seeded master and its client, answering; both are gone after the block.

    Raises:
        StackError: a server or a service did not come up.
    """
    with tempfile.TemporaryDirectory(prefix="usercast-", ignore_cleanup_errors=True) as directory:
        deployment = Deployment(
            Path(directory),
            master_port=free_port(),
            client_ports={CLIENT: free_port()},
            durable=False,
        )
        try:
            deployment.set_up()
            deployment.start_all()
            for service in deployment.services.values():
                answers = partial(http_answers, service.url)
                eventually(answers, within=START_SECONDS, what=f"an answer of {service.name}")
            deployment.seed()
            yield deployment
        finally:
            deployment.close()
            end_leftovers(deployment.state_dir)


@contextmanager
def chromium() -> Iterator[Browser]:
    """The machine's Chromium, without a window.

    Raises:
        StackError: there is none.
    """
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        raise StackError("There is no Chromium here: install it (apt-get install chromium).")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def take(deployment: Deployment, browser: Browser) -> bytes:
    """Edit a user in the admin and return both windows, side by side, as a PNG."""
    expect.set_options(timeout=PAGE_SECONDS * 1000)
    credentials = deployment.state_dir / "credentials.json"
    logins = json.loads(credentials.read_text())
    dashboard = _signed_in(
        browser, logins["clients"][CLIENT], "/", button="Sign in", width=DASHBOARD_WIDTH
    )
    expect(dashboard.locator("[data-total=users]")).to_have_text(str(PEOPLE))
    expect(dashboard.locator("#connection")).to_have_attribute("data-state", "live")

    master = Master(credentials)
    users = master.users()
    _make_earlier_changes(master, users, dashboard)
    subject = users[SUBJECT]
    admin = _signed_in(
        browser,
        logins["master"],
        f"/admin/accounts/user/{subject['id']}/change/",
        button="Log in",
        width=ADMIN_WIDTH,
    )
    username = _edit(admin, subject)
    row = dashboard.locator(f'#rows tr[data-id="{subject["id"]}"]')
    expect(row).to_contain_text(username)
    expect(dashboard.locator("#feed > li").first).to_contain_text(username)
    expect(admin.locator(".messagelist")).to_contain_text("changed successfully")
    # The dashboard first: it marks what has just changed, for two seconds.
    return _side_by_side(browser, right=dashboard.screenshot(), left=admin.screenshot())


def _signed_in(
    browser: Browser, login: dict[str, str], path: str, *, button: str, width: int
) -> Page:
    page = browser.new_context(
        viewport={"width": width, "height": HEIGHT},
        color_scheme="light",
        locale="en-GB",
        timezone_id="UTC",
    ).new_page()
    page.set_default_timeout(PAGE_SECONDS * 1000)
    page.goto(login["url"] + path)
    page.get_by_label("Username").fill(login["username"])
    page.get_by_label("Password").fill(login["password"])
    page.get_by_role("button", name=button).click()
    page.wait_for_url(login["url"] + path)
    return page


def _make_earlier_changes(master: Master, users: list[User], dashboard: Page) -> None:
    newest = dashboard.locator("#feed > li").first
    for position, fields in EARLIER:
        user = master.change(users[position], fields)
        # One after the other, as people make them.
        expect(newest).to_contain_text(user["username"])
    # Only what is new when the picture is taken shall be marked as new.
    dashboard.evaluate(
        "Promise.allSettled(document.getAnimations().map(({finished}) => finished)).then(() => {})"
    )


def _edit(admin: Page, user: User) -> str:
    """Give the user another family name, and what goes with it; return the new username."""
    # Only the form is of interest here, not the list of all that the admin holds.
    admin.locator("#toggle-nav-sidebar").click()
    username = f"{user['username'].partition('.')[0]}.{FAMILY_NAME.lower()}"
    admin.get_by_label("Username").fill(username)
    admin.get_by_label("Last name").fill(FAMILY_NAME)
    admin.get_by_label("Email address").fill(email_of(username))
    admin.get_by_role("button", name="Save and continue editing").click()
    return username


def _side_by_side(browser: Browser, *, left: bytes, right: bytes) -> bytes:
    images = "".join(
        f'<img alt="" src="data:image/png;base64,{base64.b64encode(picture).decode()}">'
        for picture in (left, right)
    )
    width = ADMIN_WIDTH + GAP + DASHBOARD_WIDTH
    page = browser.new_page(viewport={"width": width, "height": HEIGHT})
    page.set_content(_SIDE_BY_SIDE.format(gap=GAP, images=images))
    return page.screenshot()


def main() -> int:
    """Write the picture; 0 when it is there, 1 when it could not be taken."""
    # The way out is the same for a terminal's ctrl-C and for a SIGTERM.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        # The browser first: without one, nothing need be started.
        with chromium() as browser, running_system() as deployment:
            picture = take(deployment, browser)
    except UsercastError as error:
        print(f"screenshot: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("screenshot: stopped; the picture is as it was.", file=sys.stderr)
        return 1
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.write_bytes(picture)
    print(f"wrote {PICTURE.relative_to(REPOSITORY)} ({len(picture) // 1000} kB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
