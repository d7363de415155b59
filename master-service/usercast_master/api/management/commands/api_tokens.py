import argparse
from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import IntegrityError, transaction
from knox.settings import knox_settings

from usercast_master.api.models import ApiToken, Scope


class Command(BaseCommand):
    help = "Make, list and revoke tokens of the REST API. A token is printed once, when it is made."

    def add_arguments(self, parser: CommandParser) -> None:
        tasks = parser.add_subparsers(dest="task", required=True)
        create = tasks.add_parser("create", help="print a new token of a staff user")
        create.add_argument("username")
        create.add_argument("name", help="the program that calls")
        create.add_argument("--scope", action="append", choices=Scope.values, required=True)
        create.add_argument(
            "--days", type=_days, default=knox_settings.TOKEN_TTL, help="or: never; default 90"
        )
        tasks.add_parser("list", help="all tokens, without what they are")
        revoke = tasks.add_parser("revoke", help="end a token at once")
        revoke.add_argument("username")
        revoke.add_argument("name")

    def handle(self, *args: Any, **options: Any) -> None:
        getattr(self, f"_{options['task']}")(**options)

    def _create(self, *, username: str, name: str, **options: Any) -> None:
        user = get_user_model()._default_manager.filter(username=username, is_staff=True).first()
        if user is None:
            raise CommandError(f"{username} is no staff user: only staff can use the API")
        try:
            ApiToken(name=name).clean_fields(exclude={"digest", "token_key", "user", "scopes"})
            with transaction.atomic():
                _, token = ApiToken.objects.create(
                    user, name=name, scopes=sorted(set(options["scope"])), expiry=options["days"]
                )
        except ValidationError as error:
            raise CommandError(
                f"the name {name[:20]!r} will not do: {error.messages[0]}"
            ) from error
        except IntegrityError as error:
            raise CommandError(f"{username} has a token {name!r}: revoke it first") from error
        self.stdout.write(token)

    def _list(self, **options: Any) -> None:
        for token in ApiToken.objects.select_related("user"):
            expiry = f"{token.expiry:%Y-%m-%d}" if token.expiry else "never"
            used = f"{token.last_used:%Y-%m-%d %H:%M}" if token.last_used else "never"
            self.stdout.write(
                f"{token.user}\t{token.name}\t{','.join(token.scopes)}"
                f"\texpires {expiry}\tused {used}"
            )

    def _revoke(self, *, username: str, name: str, **options: Any) -> None:
        count, _ = ApiToken.objects.filter(user__username=username, name=name).delete()
        if not count:
            raise CommandError(f"{username} has no token {name!r}")
        self.stdout.write("Revoked.")


def _days(text: str) -> timedelta | None:
    if text == "never":
        return None
    if text.isascii() and text.isdigit() and 0 < int(text) <= 3650:
        return timedelta(days=int(text))
    raise argparse.ArgumentTypeError("1 to 3650, or never")
