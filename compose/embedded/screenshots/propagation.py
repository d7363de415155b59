"""propagation.png: an admin edits a user in one window, a dashboard in another shows it."""

import base64

from playwright.sync_api import Browser, Page, expect

from embedded.people import email_of
from embedded.screenshots.dashboard import await_tick
from embedded.screenshots.looks import PLACE
from embedded.screenshots.stage import PAGE_SECONDS, Login, Stage, sign_in
from embedded.seed import PEOPLE
from embedded.traffic import Master, User

#: The dashboard is wide enough to have its feed beside the table.
ADMIN_WIDTH = 770
DASHBOARD_WIDTH = 1280
HEIGHT = 860
GAP = 8

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


def take(stage: Stage) -> None:
    """Have some users edited over the API, and one in the admin; both windows, side by side."""
    users = stage.master.users()
    subject = users[SUBJECT]
    dashboard = _window(stage.browser, stage.staff, "/", button="Sign in", width=DASHBOARD_WIDTH)
    expect(dashboard.locator("[data-total=users]")).to_have_text(str(PEOPLE))
    expect(dashboard.locator("#connection")).to_have_attribute("data-state", "live")
    _make_earlier_changes(stage.master, users, dashboard)

    path = f"/admin/accounts/user/{subject['id']}/change/"
    admin = _window(stage.browser, stage.admin, path, button="Log in", width=ADMIN_WIDTH)
    username = _edit(admin, subject)
    row = dashboard.locator(f'#rows tr[data-id="{subject["id"]}"]')
    expect(row).to_contain_text(username)
    expect(dashboard.locator("#feed > li").first).to_contain_text(username)
    expect(admin.get_by_text("changed successfully")).to_be_visible()
    await_tick(dashboard)
    # The dashboard first: it marks what has just changed, for two seconds.
    right, left = dashboard.screenshot(), admin.screenshot()
    stage.pictures["propagation.png"] = _side_by_side(stage.browser, left=left, right=right)
    for page in (dashboard, admin):
        page.context.close()


def _window(browser: Browser, login: Login, path: str, *, button: str, width: int) -> Page:
    page = browser.new_context(
        viewport={"width": width, "height": HEIGHT}, color_scheme="light", **PLACE
    ).new_page()
    page.set_default_timeout(PAGE_SECONDS * 1000)
    page.goto(login["url"] + path)
    sign_in(page, login, button=button)
    return page


def _make_earlier_changes(master: Master, users: list[User], dashboard: Page) -> None:
    newest = dashboard.locator("#feed > li").first
    for position, fields in EARLIER:
        user = master.change(users[position], fields)
        # One after the other, as people make them.
        expect(newest).to_contain_text(user["username"])
    # Only what is new when the picture is taken shall be marked as new.
    for mark in (".flashed", ".changed"):
        expect(dashboard.locator(mark)).to_have_count(0)


def _edit(admin: Page, user: User) -> str:
    """Give the user another family name, and what goes with it; return the new username."""
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
    try:
        return page.screenshot()
    finally:
        page.context.close()
