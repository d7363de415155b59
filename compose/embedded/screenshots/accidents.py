"""What may happen to a page that is open: the service goes, the clock stops, access ends."""

from playwright.sync_api import expect

from embedded.screenshots import looks
from embedded.screenshots.person import member
from embedded.screenshots.stage import Stage, are
from embedded.screenshots.system import CLIENT, await_answer

#: Whom of the list is watching when they are dismissed.
DISMISSED = 10


def take_reconnecting(stage: Stage) -> None:
    """The web process was stopped: the page tries to reach it again."""
    web = f"{CLIENT}-web"
    with stage.pages("/", login=stage.staff, chosen=looks.TWO) as pages:
        are(pages, "live")
        stage.deployment.stop(web)
        are(pages, "reconnecting")
        stage.take("reconnecting", pages)
    stage.deployment.start(web)
    await_answer(stage.deployment, CLIENT)


def take_stale(stage: Stage) -> None:
    """The clock was stopped: the page cannot know whether it is up to date."""
    clock = f"{CLIENT}-clock"
    with stage.pages("/", login=stage.staff, chosen=looks.TWO) as pages:
        are(pages, "live")
        stage.deployment.stop(clock)
        are(pages, "stale")
        stage.take("stale", pages)
    stage.deployment.start(clock)


def take_ended(stage: Stage) -> None:
    """Whoever is watching was deactivated on the master."""
    watching = stage.master.users()[DISMISSED]
    login = member(stage, watching)
    # Only the client says who of the users is its staff.
    promote = f"User.objects.filter(pk='{watching['id']}').update(is_staff=True)"
    stage.deployment.manage(CLIENT, "shell", "-c", promote)
    with stage.pages("/", login=login, chosen=looks.TWO) as pages:
        are(pages, "live")
        stage.master.change(watching, {"is_active": False})
        are(pages, "ended")
        for page in pages.values():
            expect(page.locator("#ended")).to_contain_text("deactivated")
        stage.take("ended", pages)
