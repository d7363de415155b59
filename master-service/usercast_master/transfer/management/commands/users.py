import shutil
import sys
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Q, QuerySet

from usercast.lifecycle import Stop
from usercast.meter import Meter
from usercast_master.accounts.models import User
from usercast_master.transfer import exporting, files, importing, leases, reports
from usercast_master.transfer.errors import UnusableFile
from usercast_master.transfer.models import AT_WORK, Import, State

#: Exit codes: every row was taken; some were refused; the file, or who asks, is unusable.
ALL_TAKEN, SOME_REFUSED, UNUSABLE = 0, 1, 2
#: As a shell has it after ctrl-C.
STOPPED = 130


class Command(BaseCommand):
    help = "Import users from a file, and export them to one; .csv or .xlsx."

    def add_arguments(self, parser: CommandParser) -> None:
        subcommands = parser.add_subparsers(dest="subcommand", required=True)
        taken = subcommands.add_parser(
            "import", help="create and change users; see docs/transfer.md"
        )
        _add_import_arguments(taken)
        given = subcommands.add_parser("export", help="write users to a file")
        given.add_argument("file", type=Path, metavar="FILE")
        given.add_argument("--search", default="", metavar="TEXT", help="in names and e-mails")

    def handle(self, *args: Any, subcommand: str, **options: Any) -> None:
        code = self._import(**options) if subcommand == "import" else self._export(**options)
        if code:
            sys.exit(code)

    def _import(self, *, file: Path, by: str | None, dry_run: bool, **options: Any) -> int:
        found = self._received(file, _admin(by))
        stop = Stop.on_signals()
        with Meter(self.stdout, "rows") as meter:
            while _goes_on(found, dry_run=dry_run) and not stop.requested:
                if leases.claim(found.pk):
                    importing.run(found, stopped=lambda: stop.requested, watch=_shown_by(meter))
                else:
                    meter.wait("another import is being worked on")
                    stop.wait(1.0)
                found.refresh_from_db()
        self._report(found, options["errors"] or file.with_name(f"{file.name}.errors.csv"))
        return self._ended(found, dry_run=dry_run)

    def _received(self, file: Path, by: User | None) -> Import:
        """The file as an import; the one that this command was stopped in, if there is one."""
        try:
            with file.open("rb") as content:
                found = files.stopped_import(content)
                if found:
                    self.stdout.write(f"Going on with what was begun at {found.created_at:%c}.")
                return found or files.receive(content, file.name, by=by, by_command=True)
        except (OSError, UnusableFile) as error:
            raise CommandError(str(error), returncode=UNUSABLE) from None

    def _report(self, found: Import, path: Path) -> None:
        if not found.refused:
            return
        with path.open("w", encoding="utf-8", newline="") as report:
            report.writelines(reports.as_csv(reports.error_rows(found)))
        self.stdout.write(f"{found.refused:,} refused rows, with their lines: {path}")

    def _ended(self, found: Import, *, dry_run: bool) -> int:
        would = "would be " if found.state == State.CHECKED else ""
        self.stdout.write(
            f"{would}new {found.new:,}, {would}changed {found.changed:,}, "
            f"unchanged {found.unchanged:,}, refused {found.refused:,}"
        )
        if found.state in (State.FAILED, State.CANCELLED):
            raise CommandError(found.failure or "It was cancelled.", returncode=UNUSABLE)
        if found.state == State.DONE or (dry_run and found.state == State.CHECKED):
            return SOME_REFUSED if found.refused else ALL_TAKEN
        self.stdout.write(f"Stopped after row {found.next_row:,}; the same command goes on.")
        return STOPPED

    def _export(self, *, file: Path, search: str, **options: Any) -> int:
        users = User.objects.filter(_matches(search))
        try:
            _write(users, file)
        except OSError as error:
            raise CommandError(str(error), returncode=UNUSABLE) from None
        self.stdout.write(f"{users.count():,} users: {file}")
        return ALL_TAKEN


def _shown_by(meter: Meter) -> Callable[[Import], None]:
    return lambda found: meter.show(found.state, found.next_row, found.row_count)


def _write(users: QuerySet[User], file: Path) -> None:
    match file.suffix.lower():
        case ".csv":
            with file.open("w", encoding="utf-8", newline="") as target:
                target.writelines(exporting.to_csv(users))
        case ".xlsx":
            with exporting.to_xlsx(users) as source, file.open("wb") as target:
                shutil.copyfileobj(source, target)
        case _:
            raise CommandError("The file's name must end in .csv or .xlsx.", returncode=UNUSABLE)


def _add_import_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--by", metavar="ADMIN", help="whom the users' history shall name")
    parser.add_argument("--dry-run", action="store_true", help="check every row, change nothing")
    parser.add_argument(
        "--errors", type=Path, metavar="FILE", help="for refused rows; default FILE.errors.csv"
    )


def _goes_on(found: Import, *, dry_run: bool) -> bool:
    if found.state == State.CHECKED and not dry_run:
        leases.confirm(found.pk)
        found.refresh_from_db()
    return found.state in AT_WORK


def _admin(username: str | None) -> User | None:
    if username is None:
        return None
    found: User | None = User.objects.filter(
        username=username, is_staff=True, is_active=True
    ).first()
    if found is None:
        raise CommandError(f"No staff is called {username!r}.", returncode=UNUSABLE)
    return found


def _matches(search: str) -> Q:
    fields = ("username", "first_name", "last_name", "email")
    found = Q()
    for word in search.split():
        found &= Q(*((f"{name}__icontains", word) for name in fields), _connector=Q.OR)
    return found
