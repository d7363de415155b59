from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from usercast.errors import UsercastError
from usercast_master.api.models import ApiToken
from usercast_master.clients import registration
from usercast_master.clients.models import Client


class Command(BaseCommand):
    help = (
        "Register clients and remove them: queues, token, environment file. Safe to repeat, "
        "also after a failure."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        tasks = parser.add_subparsers(dest="task", required=True)
        add = tasks.add_parser(
            "add", help="register one, or repair what is missing; print its environment file"
        )
        add.add_argument("name", help="such as billing")
        add.add_argument(
            "--without-queues",
            action="store_true",
            help="others make them, from infra/aws/client.yaml",
        )
        remove = tasks.add_parser("remove", help="take one away, and all that waits for it")
        remove.add_argument("name")
        remove.add_argument("--yes", action="store_true", help="do not ask for the name again")
        token = tasks.add_parser("token", help="print a new token; the old one ends at once")
        token.add_argument("name")
        tasks.add_parser("list", help="all that are known")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            getattr(self, f"_{options['task']}")(**options)
        except UsercastError as error:
            raise CommandError(str(error)) from error

    def _add(self, *, name: str, without_queues: bool, **options: Any) -> None:
        found = registration.register(name)
        # Before the queues: a failure there must not swallow the token.
        self.stdout.write(
            registration.environment_file(found.client, found.token, settings.USERCAST_MASTER_URL)
        )
        self.stdout.flush()
        if without_queues:
            self._say(f"{name} is registered; its queues are left to others.")
            return
        self._say(f"Making the queues of {name} …")
        try:
            registration.deploy(found.client)
        except UsercastError as error:
            raise CommandError(
                f"{name} is registered, but its queues were not made: {error}. "
                f"When this is mended, go on with: manage.py clients add {name}"
            ) from error
        self._say(f"{name} is registered, and its queues are there.")

    def _remove(self, *, name: str, yes: bool, **options: Any) -> None:
        client = _known(name)
        self._say(_losses(client))
        if not yes:
            self._confirm(name)
        self._say(f"Removing {name} …")
        try:
            registration.remove(client)
        except UsercastError as error:
            raise CommandError(
                f"{error}. Its token has ended; go on with: manage.py clients remove {name}"
            ) from error
        self._say(f"{name} is removed.")

    def _token(self, *, name: str, **options: Any) -> None:
        self.stdout.write(registration.new_token(_known(name)))

    def _list(self, **options: Any) -> None:
        for client in Client.objects.all():
            since = client.registered_at
            token = ApiToken.objects.filter(user=client.account_id, name=client.name).first()
            used = token.last_used if token else None
            parts = [
                client.name,
                f"registered {since:%Y-%m-%d}" if since else "not registered",
                f"waiting {_number(client.waiting)}",
                f"dead {_number(client.dead)}",
                f"token used {used:%Y-%m-%d %H:%M}" if used else "token not used",
                client.get_setup_display() or client.setup_problem,
            ]
            self.stdout.write("\t".join(part for part in parts if part))

    def _confirm(self, name: str) -> None:
        self.stderr.write("Type its name to go on: ", ending="")
        self.stderr.flush()
        try:
            typed = input()
        except EOFError:
            typed = ""
        if typed.strip() != name:
            raise CommandError("That was not its name: nothing was removed")

    def _say(self, text: str) -> None:
        self.stderr.write(text, style_func=str)


def _known(name: str) -> Client:
    client = Client.objects.filter(name=name).first()
    if client is None:
        known = ", ".join(Client.objects.values_list("name", flat=True)) or "none"
        raise CommandError(f"There is no client {name!r}; known are: {known}")
    return client


def _losses(client: Client) -> str:
    return (
        f"This takes away, for good, of {client.name}:\n"
        f"  its queues, with the messages in them"
        f" (waiting: {_number(client.waiting)}, dead: {_number(client.dead)})\n"
        f"  its token, and the account client.{client.name}\n"
        f"  its receipts for dismissals ({client.receipts.count():,})"
    )


def _number(count: int | None) -> str:
    return "not known" if count is None else f"{count:,}"
