from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from usercast_master.accounts.models import User
from usercast_master.signin import second_factor


class Command(BaseCommand):
    help = (
        "second_factor reset <username>: forget the user's authenticator app and recovery codes. "
        "Ends the sessions they opened; the next sign-in sets up an app anew."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("what", choices=["reset"])
        parser.add_argument("username")

    def handle(self, *args: Any, **options: Any) -> None:
        username = options["username"]
        user = User.objects.filter(username=username).first()
        if user is None:
            raise CommandError(f"there is no user {username}")
        if not second_factor.reset(user, by=None):
            raise CommandError(f"{username} has no second factor")
        self.stdout.write(f"{username} sets up a new one at the next sign-in")
