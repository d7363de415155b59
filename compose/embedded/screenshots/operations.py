"""alerts-desktop-light.png: what whoever is called sees, of a client whose poller has died."""

from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import Error, Page, expect

from embedded.observing import prometheus
from embedded.screenshots.looks import TWO
from embedded.screenshots.stage import Stage

#: The probe has to grow old first, and Prometheus to see it.
_LOOKS = 120
_POLLER = "support-poller"


def take_alerts(stage: Stage) -> None:
    """Prometheus's own page of alerts, with one that fires; the poller runs again afterwards."""
    look = TWO[0]
    with TemporaryDirectory() as directory, prometheus(stage.deployment, Path(directory)) as url:
        stage.deployment.stop(_POLLER)
        page = stage.browser.new_page(**look.options)
        for _ in range(_LOOKS):
            if _shows_one(page, f"{url}/classic/alerts"):
                break
            page.wait_for_timeout(1000)
        page.get_by_text("Show annotations").click()
        page.get_by_text("UsercastPollerSilent (1 active)").click()
        expect(page.get_by_text("Nothing comes down a lane of support")).to_be_visible()
        page.wait_for_timeout(500)  # it unfolds
        stage.pictures[f"alerts-{look}.png"] = page.screenshot(full_page=True)
        page.context.close()
        stage.deployment.start(_POLLER)


def _shows_one(page: Page, url: str) -> bool:
    try:
        page.goto(url)
    except Error:
        return False  # it does not answer yet
    return page.get_by_text("Firing (1)").is_visible()
