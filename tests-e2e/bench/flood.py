"""A dismissal under flood: a deactivation saved in the middle of a 200,000-row import.

The import is what an administrator's script would do: ``bulk_create`` by 10,000 users, each chunk
a transaction, in a process of its own. Meanwhile single users, whom the client knows, are
deactivated by ``save()`` one after the other, for as long as the client has not all of the import.
"""

import random
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from psycopg2.extensions import connection

from bench import system
from bench.report import Findings, Sheet, aim, percentiles
from bench.session import Session
from bench.system import PIPELINE, BenchFailed
from bench.watch import PREFIX, Watch, watching
from embedded.deployment import Deployment
from embedded.errors import CommandFailed

ROWS = 200_000
DISMISSALS = 20
PAUSE_SECONDS = 0.3
AIM_SECONDS = 2

_IMPORT = f"""
from usercast_master.accounts.models import User
for start in range(0, {ROWS}, 10_000):
    User.objects.bulk_create(
        [
            User(
                username=f"import-{{n}}", first_name="First", last_name=f"Last {{n}}",
                email=f"import-{{n}}@example.org", password="!",
            )
            for n in range(start, start + 10_000)
        ]
    )
"""


class Dismissal(NamedTuple):
    """One deactivation: how long it took, and how much of the import was there at its start."""

    seconds: float
    imported: int


def run(session: Session) -> Findings:
    """The worst and the median of 20 deactivations, from commit to the client's commit."""
    with (
        system.running(session, PIPELINE) as deployment,
        system.client_database(deployment) as client,
        watching(deployment) as watch,
    ):
        users = _known_users(watch)
        before = system.newest_cursor(client)
        failed: list[CommandFailed] = []
        # Not waited for: closing the deployment ends what is left of it.
        threading.Thread(target=_import, args=[deployment, failed], daemon=True).start()
        with session.step(f"{DISMISSALS} deactivations"):
            system.wait_until(
                lambda: failed or system.newest_cursor(client) > before,
                programs=system.pipeline(deployment),
                within=60,
            )
            dismissals = list(_dismiss(users, watch, client, before))
        if failed:
            raise failed[0]
        if len(dismissals) < 2:
            raise BenchFailed("The import was over before anybody could be dismissed during it.")
        return _findings(dismissals)


def _known_users(watch: Watch) -> list[Any]:
    """Users to be dismissed, once the client has them."""
    from usercast_master.accounts.models import User

    users = [User.objects.create(username=f"{PREFIX}{n}") for n in range(DISMISSALS)]
    for user in users:
        watch.committed(user.username, "", within=60)
    return users


def _import(deployment: Deployment, failed: list[CommandFailed]) -> None:
    try:
        deployment.manage("master", "shell", "-c", _IMPORT)
    except CommandFailed as error:
        failed.append(error)


def _dismiss(
    users: list[Any], watch: Watch, client: connection, before: int
) -> Iterator[Dismissal]:
    for user in users:
        time.sleep(random.uniform(0.5, 1.5) * PAUSE_SECONDS)
        imported = system.newest_cursor(client) - before
        if imported >= ROWS:
            return
        user.is_active = False
        user.save()
        committed = time.time()
        arrived = watch.committed(user.username, "", is_active=False, within=120)
        yield Dismissal(arrived - committed, imported)


def _findings(dismissals: list[Dismissal]) -> Findings:
    found = percentiles([dismissal.seconds for dismissal in dismissals])
    first, last = dismissals[0].imported, dismissals[-1].imported
    sheet = Sheet(f"Deactivation during an import of {ROWS:,} users, s", ("", "p50", "worst", ""))
    sheet.rows.append(
        (
            f"commit → applied on the client, {len(dismissals)} times",
            f"{found['p50']:.3f}",
            f"{found['worst']:.3f}",
            aim(found["worst"], at_most=AIM_SECONDS),
        )
    )
    sheet.notes.append(f"while the client went from {first:,} to {last:,} of the import's users")
    if len(dismissals) < DISMISSALS:
        sheet.notes.append(f"the import was over after {len(dismissals)} of {DISMISSALS}")
    figures = {"dismissals": len(dismissals), "imported": [first, last], "seconds": found}
    return Findings([sheet], figures)
