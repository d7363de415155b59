from typing import Any

from django.core.management.base import BaseCommand, CommandError

from usercast import topology
from usercast.errors import UsercastError


class Command(BaseCommand):
    help = "Create or update the SNS topic (infra/aws/topic.yaml); prints its ARN."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self.stdout.write(topology.deploy_topic())
        except UsercastError as error:
            raise CommandError(str(error)) from error
