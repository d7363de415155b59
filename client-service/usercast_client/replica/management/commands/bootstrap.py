import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, InterfaceError

from usercast.errors import UsercastError
from usercast.lifecycle import Stop
from usercast.meter import Meter
from usercast_client.replica import bootstrap
from usercast_client.replica.models import Bootstrap

#: Exit codes: some lines were rejected; as a shell has it after ctrl-C.
SOME_REJECTED, STOPPED = 1, 130


class Command(BaseCommand):
    help = (
        "Fetch all users from the master: for a new client, or one that was away for too long. "
        "Safe while changes arrive, to stop, and to repeat."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only look what would change")

    def handle(self, *args: Any, dry_run: bool, **options: Any) -> None:
        stop = Stop.on_signals()
        try:
            with Meter(self.stdout, "users") as meter:
                found = bootstrap.run(stop, _watch(meter), dry_run=dry_run)
        except UsercastError as error:
            raise CommandError(f"{error}. The same command goes on where it was.") from error
        except (DatabaseError, InterfaceError) as error:
            raise CommandError(
                f"The database: {error}. The same command goes on where it was."
            ) from error
        self._report(found, dry_run=dry_run)
        if found.finished_at is None:
            sys.exit(STOPPED)
        if found.rejected:
            sys.exit(SOME_REJECTED)

    def _report(self, found: Bootstrap, *, dry_run: bool) -> None:
        same = found.lines - found.created - found.changed - found.rejected
        would = "would be " if dry_run else ""
        self.stdout.write(
            f"{would}new {found.created:,}, {would}changed {found.changed:,}, "
            f"known or deleted {same:,}, rejected {found.rejected:,}"
        )
        if found.finished_at is None:
            self.stdout.write(f"Stopped after {found.lines:,}; the same command goes on.")


def _watch(meter: Meter) -> bootstrap.Watch:
    def rejected(line: bootstrap.Rejected) -> None:
        whom = line.user_id or "unknown"
        meter.say(f"line {line.line}, user {whom}: {line.reason}")

    def progress(found: Bootstrap, total: int) -> None:
        meter.show("bootstrap", found.lines, max(total, found.lines))

    return bootstrap.Watch(progress=progress, rejected=rejected, waiting=meter.wait)
