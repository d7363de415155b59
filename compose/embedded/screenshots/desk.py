"""The master's desk: at a glance, the users, an import that waits for a yes; and the API's page."""

from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import expect

from embedded.people import People
from embedded.screenshots import looks
from embedded.screenshots.stage import Stage
from embedded.service import MASTER

#: Nobody waits an hour for a picture: the hour before it is made up, and only that.
_HOUR = """
import random
from datetime import timedelta
from django.utils import timezone
from usercast_master.outbox.models import Minute
rng = random.Random(7)
now = timezone.now().replace(second=0, microsecond=0)
for ago in range(3, 60):
    busy = 4 if 22 <= ago <= 25 else 1
    Minute.objects.update_or_create(
        minute=now - timedelta(minutes=ago),
        defaults={
            "changes": rng.randint(8, 60) * busy,
            "slowest_seconds": rng.uniform(0.05, 0.35) * busy,
        },
    )
"""
_IMPORT_ROWS = 240
_BY_HAND = """
from usercast_client.replica.models import User
User.objects.filter(pk="{user_id}").update(email="by-hand@example.org")
"""
#: Now, rather than at the next beat.
_COMPARE = "from usercast_client.report import tasks; tasks.compare(); tasks.send_report()"


def take_glance(stage: Stage) -> None:
    """The start page, after changes at the desk."""
    stage.deployment.manage(MASTER, "shell", "-c", _HOUR)
    with stage.pages("/admin/", login=stage.admin) as pages:
        for page in pages.values():
            for client in stage.deployment.clients:
                expect(page.get_by_role("row").filter(has_text=client)).to_be_visible()
            expect(page.locator("#changes-chart")).to_be_visible()
        stage.take("desk", pages)


def take_users(stage: Stage) -> None:
    """The user list, and the page of one of them."""
    with stage.pages("/admin/accounts/user/", login=stage.admin, chosen=looks.TWO) as pages:
        stage.take("desk-users", pages)


def take_import(stage: Stage) -> None:
    """A file that was checked: what it would change, and the rows that it cannot."""
    people = People(seed=5, taken={user["username"] for user in stage.master.users()})
    rows = ["username,first_name,last_name,email"]
    for number in range(_IMPORT_ROWS):
        person = people.next()
        email = "no address" if number in (3, 90) else person.email
        rows.append(f"{person.username},{person.first_name},{person.last_name},{email}")
    with TemporaryDirectory() as directory:
        path = Path(directory) / "new-staff.csv"
        path.write_text("\n".join(rows))
        with stage.pages(
            "/admin/transfer/import/add/", login=stage.admin, chosen=looks.TWO[:1]
        ) as pages:
            (page,) = pages.values()
            page.locator("input[type=file]").set_input_files(path)
            page.get_by_role("button", name="Check the file").click()
            expect(page.locator("[data-state=checked]")).to_be_visible()
            address = page.url.removeprefix(stage.admin["url"])
    with stage.pages(address, login=stage.admin, chosen=looks.TWO) as pages:
        stage.take("desk-import", pages)


def take_clients(stage: Stage) -> None:
    """The clients: one in step, and one with a user who was changed there by hand."""
    (user, *_) = stage.master.users()
    name = next(iter(stage.deployment.clients))
    stage.deployment.manage(name, "shell", "-c", _BY_HAND.format(user_id=user["id"]))
    stage.deployment.manage(name, "shell", "-c", _COMPARE)
    with stage.pages("/admin/clients/client/", login=stage.admin) as pages:
        for page in pages.values():
            expect(page.get_by_text("drift", exact=True)).to_be_visible()
            expect(page.get_by_text("in step", exact=True)).to_be_visible()
        stage.take("desk-clients", pages)
    stage.deployment.manage(name, "reconcile")


def take_dismissal(stage: Stage) -> None:
    """The page of a user who was dismissed, and then deleted."""
    (*_, user) = stage.master.users()
    stage.master.change(user, {"is_active": False})
    stage.master.delete(user)
    path = f"/admin/outbox/dismissal/{user['id']}/"
    with stage.pages(path, login=stage.admin, chosen=looks.TWO) as pages:
        for page in pages.values():
            for _ in range(30):
                if page.get_by_text("erased", exact=True).count() == len(stage.deployment.clients):
                    break
                page.wait_for_timeout(1000)
                page.reload()
        stage.take("desk-dismissal", pages)


def take_documentation(stage: Stage) -> None:
    """The API's documentation."""
    with stage.pages("/api/docs/", login=stage.admin, chosen=looks.TWO) as pages:
        for page in pages.values():
            expect(page.locator("#operations-users-users_list")).to_be_visible()
        stage.take("api", pages)
