import json
from argparse import ArgumentTypeError
from datetime import datetime
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from usercast_master.accounts.models import User
from usercast_master.outbox import audit, status


class Command(BaseCommand):
    help = "Look after the outbox: what it owes the clients, and what slipped by it."

    def add_arguments(self, parser: CommandParser) -> None:
        subcommands = parser.add_subparsers(dest="subcommand", required=True)
        shown = subcommands.add_parser("status", help="what is owed, how old, and what is parked")
        shown.add_argument("--json", action="store_true", help="for programs")
        audited = subcommands.add_parser(
            "audit", help="find users changed past Django (raw SQL, say), and mark them"
        )
        audited.add_argument("--dry-run", action="store_true", help="only count them")
        again = subcommands.add_parser(
            "republish", help="send users again: their queues were lost, or they are parked"
        )
        which = again.add_mutually_exclusive_group(required=True)
        which.add_argument("--all", action="store_true", help="every user")
        which.add_argument(
            "--user", action="append", metavar="ID_OR_USERNAME", help="this user; may be repeated"
        )
        which.add_argument(
            "--since", type=_moment, metavar="TIME", help="who changed since then: 2026-11-24T09:30"
        )

    def handle(self, *args: Any, subcommand: str, **options: Any) -> None:
        {"status": self._status, "audit": self._audit, "republish": self._republish}[subcommand](
            options
        )

    def _status(self, options: dict[str, Any]) -> None:
        found = status.status()
        if options["json"]:
            self.stdout.write(json.dumps(found._asdict()))
            return
        for priority, count in found.undelivered.items():
            self.stdout.write(f"{priority:10} {count:>9,}")
        oldest = "none" if found.oldest_seconds is None else f"{found.oldest_seconds:,.1f} s"
        self.stdout.write(f"{'oldest':10} {oldest:>9}")
        self.stdout.write(f"{'refused':10} {found.waiting:>9,}  waiting for their next try")
        self.stdout.write(f"{'parked':10} {found.parked:>9,}  set aside; see the admin for reasons")

    def _audit(self, options: dict[str, Any]) -> None:
        drift = audit.find()
        self.stdout.write(
            f"{drift.changed} changed, {drift.missing} never published, {drift.gone} gone"
        )
        if not options["dry_run"] and drift.total:
            self.stdout.write(f"{audit.mark()} marked: the clients will hear of them")

    def _republish(self, options: dict[str, Any]) -> None:
        users = [_user_id(text) for text in options["user"]] if options["user"] else None
        count = status.republish(user_ids=users, since=options["since"])
        self.stdout.write(f"{count} users will be sent again")


def _moment(text: str) -> datetime:
    moment = parse_datetime(text)
    if moment is None:
        raise ArgumentTypeError(f"{text!r} is no time; write it as 2026-11-24T09:30")
    return moment if timezone.is_aware(moment) else timezone.make_aware(moment)


def _user_id(text: str) -> UUID:
    """An id as it is, for the user may be deleted; a username by looking it up."""
    try:
        return UUID(text)
    except ValueError:
        pass
    try:
        return User._base_manager.get(username=text).id
    except User.DoesNotExist:
        raise CommandError(f"No user is called {text!r}. Of a deleted user, give the id.") from None
