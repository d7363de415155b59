from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from usercast_client.replica.models import User
from usercast_client.replica.passwords import link_path


class Command(BaseCommand):
    help = (
        "Print a one-time link by which a user of this client sets their password here. It is the "
        "path below this client's address; give it to nobody but that user."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")

    def handle(self, *args: Any, username: str, **options: Any) -> None:
        user = User.objects.filter(username=username).first()
        if user is None:
            raise CommandError(f"There is no user {username!r} on this client")
        if not user.is_active:
            raise CommandError(f"{username} is not active and could not sign in")
        self.stdout.write(link_path(user))
