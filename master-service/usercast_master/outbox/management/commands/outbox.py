from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction

from usercast import postgres
from usercast_master.outbox import publisher
from usercast_master.outbox.capture import CHANNEL


class Command(BaseCommand):
    help = "Look after the outbox."

    def add_arguments(self, parser: CommandParser) -> None:
        subcommands = parser.add_subparsers(dest="subcommand", required=True)
        republish = subcommands.add_parser(
            "republish", help="send users again, for clients whose queues were lost"
        )
        republish.add_argument("--all", action="store_true", required=True, help="every user")

    def handle(self, *args: Any, **options: Any) -> None:
        with transaction.atomic():
            count = publisher.republish_all()
            postgres.notify(CHANNEL)
        self.stdout.write(f"{count} users will be sent again")
