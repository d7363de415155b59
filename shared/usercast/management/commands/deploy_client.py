from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from usercast import topology
from usercast.errors import UsercastError


class Command(BaseCommand):
    help = "Create or update one client's queues (infra/aws/client.yaml); prints their URLs."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="the client's name, such as billing")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            urls = topology.deploy_client(options["name"], topic_arn=settings.USERCAST_TOPIC_ARN)
        except UsercastError as error:
            raise CommandError(str(error)) from error
        for name, url in sorted(urls.items()):
            self.stdout.write(f"{name} {url}")
