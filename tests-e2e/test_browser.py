"""An admin edits on the master; both dashboards, open and not reloaded, show it."""

import re
from collections.abc import Callable

from playwright.sync_api import BrowserContext, Page, expect

from conftest import Api, sign_in
from embedded.deployment import Deployment

NewContext = Callable[..., BrowserContext]


def dashboard(contexts: NewContext, client: Api, search: str = "", **options: object) -> Page:
    page = contexts(**options).new_page()
    sign_in(page, client.login, "/")
    if search:
        page.goto(f"{client.login['url']}/?q={search}")
    expect(page.locator("#connection")).to_have_attribute("data-state", "live")
    page.evaluate("window.notReloaded = true")
    return page


def test_what_an_admin_does_shows_on_both_dashboards(
    contexts: NewContext, master: Api, clients: dict[str, Api]
) -> None:
    pages = [dashboard(contexts, client) for client in clients.values()]
    admin = contexts().new_page()
    sign_in(admin, master.login, "/admin/")

    # The table is sorted by username, and "+" comes early enough to be on its first page.
    admin.goto(master.login["url"] + "/admin/accounts/user/add/")
    admin.get_by_label("Username").fill("+anna.browser")
    admin.get_by_label("First name").fill("Anna")
    admin.get_by_label("Disabled", exact=False).check()
    admin.get_by_role("button", name="Save", exact=True).click()
    admin.wait_for_url("**/change/")
    for page in pages:
        row = page.locator("#rows tr", has_text="+anna.browser")
        expect(row).to_contain_text("Anna")
        expect(page.locator("#feed > li").first).to_contain_text("+anna.browser")

    admin.get_by_label("Username").fill("+anna.renamed")
    admin.get_by_label("Email address").fill("anna@example.org")
    admin.get_by_role("button", name="Save and continue editing").click()
    for page in pages:
        expect(page.locator("#rows tr", has_text="+anna.renamed")).to_contain_text(
            "anna@example.org"
        )
        expect(page.locator("#rows tr", has_text="+anna.browser")).to_have_count(0)

    admin.get_by_label("Active").uncheck()
    admin.get_by_role("button", name="Save and continue editing").click()
    for page in pages:
        expect(page.locator("#rows tr", has_text="+anna.renamed")).to_contain_text("nactive")

    admin.get_by_role("link", name="Delete", exact=True).click()
    admin.get_by_role("button", name=re.compile("^Yes")).click()
    for page in pages:
        expect(page.locator("#rows tr", has_text="+anna.renamed")).to_have_count(0)
        assert page.evaluate("window.notReloaded"), "the dashboard was reloaded"


def test_feed_reads_the_same_after_a_reload(
    contexts: NewContext, master: Api, clients: dict[str, Api]
) -> None:
    """The page says it in HTML and in JavaScript; both must say the same."""
    page = dashboard(contexts, clients["billing"])
    user = master.create(username="+feed.first", email="a@example.org", first_name="Fee")
    master.change(user["id"], email="b@example.org", is_active=False, last_name="Dee")
    master.delete(user["id"])
    entries = page.locator("#feed > li")
    expect(entries.first).to_contain_text("+feed.first")
    expect(entries.first).to_contain_text("deleted")
    live = [" ".join(text.split()) for text in entries.locator(".parts").all_inner_texts()[:3]]
    page.reload()
    expect(entries.first).to_contain_text("deleted")
    assert [
        " ".join(text.split()) for text in entries.locator(".parts").all_inner_texts()[:3]
    ] == live


def test_dashboard_that_missed_pushes_catches_up(
    contexts: NewContext, system: Deployment, master: Api, clients: dict[str, Api]
) -> None:
    """The client's web process is killed, and the change comes while it is away."""
    page = dashboard(contexts, clients["support"])
    row = page.locator("#rows tr", has_text="+while.away")
    system.kill("support-web")
    expect(page.locator("#connection")).to_have_attribute("data-state", "reconnecting")
    user = master.create(username="+while.away")
    expect(row).to_have_count(0)
    system.start("support-web")
    expect(row).to_have_count(1)
    assert page.evaluate("window.notReloaded")
    master.delete(user["id"])
    expect(row).to_have_count(0)


def test_phone_shows_the_dashboard_without_sideways_scrolling(
    contexts: NewContext, clients: dict[str, Api]
) -> None:
    page = dashboard(
        contexts, clients["billing"], viewport={"width": 390, "height": 844}, color_scheme="dark"
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_page_without_javascript_is_complete(
    contexts: NewContext, master: Api, clients: dict[str, Api]
) -> None:
    user = master.create(username="+no.script")
    page = contexts(java_script_enabled=False).new_page()
    sign_in(page, clients["billing"].login, "/?q=no.script")
    for _ in range(50):
        if page.locator("#rows tr").count():
            break
        page.reload()
    expect(page.locator("#rows tr")).to_contain_text("+no.script")
    master.delete(user["id"])
