import sys
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, InterfaceError
from django.utils import timezone

from usercast.errors import UsercastError
from usercast.meter import Meter
from usercast_client.inbox import probes
from usercast_client.replica import reconcile
from usercast_client.replica.reconcile import Found, TooManyDeletions, words

#: Exit codes: there is drift (``--check``), or some is left; it could not be compared.
DRIFT, NOT_COMPARED = 1, 2
PROBE_OLD_AFTER = timedelta(minutes=1)
#: For a comparison that the beat has begun.
WAIT_SECONDS = 120.0
#: Users that are listed; the number tells the rest.
LISTED = 50


class Command(BaseCommand):
    help = (
        "Compare this client's users with the master's, and repair what differs. "
        "Exit code 1 if something differs after it, 2 if it could not be compared."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--check", action="store_true", help="only report, repair nothing")
        parser.add_argument(
            "--delete-many",
            action="store_true",
            help="repair, though a tenth of the users or more would be deleted here",
        )

    def handle(self, *args: Any, check: bool, delete_many: bool, **options: Any) -> None:
        try:
            found = self._check()
            self._report(found)
            if found.drift and not check:
                found = self._repair(found, may_delete_many=delete_many)
        except TooManyDeletions as error:
            raise CommandError(
                f"{error}. If it is the right master: --delete-many", returncode=DRIFT
            ) from error
        except UsercastError as error:
            raise CommandError(f"{error}.", returncode=NOT_COMPARED) from error
        except (DatabaseError, InterfaceError) as error:
            reason = str(error).partition("\n")[0]
            raise CommandError(f"The database: {reason}", returncode=NOT_COMPARED) from error
        if found.drift:
            sys.exit(DRIFT)

    def _check(self) -> Found:
        probe = probes.newest_of_both()
        if probe is None or timezone.now() - probe.received_at > PROBE_OLD_AFTER:
            # By an old probe, everything since would be left out, and nothing proved.
            self.stderr.write(
                "No probe of the master's has come down both lanes in the last minute: what waits "
                "in the queues is taken for lost. Is the poller running?"
            )
            probe = None
        before = probe.sent_at if probe else None
        return reconcile.check(before, wait_seconds=WAIT_SECONDS)

    def _report(self, found: Found) -> None:
        for one in found.drift[:LISTED]:
            self.stdout.write(f"{one.user_id}  {words(one)}")
        if len(found.drift) > LISTED:
            self.stdout.write(f"… and {len(found.drift) - LISTED:,} more")
        differ = len(found.drift)
        self.stdout.write(
            f"{found.users:,} users and {found.deleted:,} deleted ones compared, "
            f"as of {found.at:%Y-%m-%d %H:%M:%S} UTC: "
            + (f"{differ:,} differ" if differ else "in step with the master")
            + (f"; {found.behind:,} changes are on their way" if found.behind else "")
            + ("; not all differences were looked at" if found.is_cut else "")
        )

    def _repair(self, found: Found, *, may_delete_many: bool) -> Found:
        with Meter(self.stdout, "users") as meter:
            repaired, left = reconcile.repair(
                found,
                lambda done: meter.show("repair", done, len(found.drift)),
                may_delete_many=may_delete_many,
            )
        self.stdout.write(
            f"{repaired:,} repaired"
            + (f", {left:,} left alone; the log says whom and why" if left else "")
        )
        after = self._check()
        self._report(after)
        if after.drift and not left and not found.is_cut:
            self.stdout.write(
                "What still differs was changed on the master past its own code: "
                "`manage.py outbox audit` there finds it and sends it to every client."
            )
        return after
