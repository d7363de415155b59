import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from usercast import healthy


class Command(BaseCommand):
    """For `manage.py help`; manage.py itself answers, without Django."""

    help = "Whether a process is alive: exit code 0, or 1 and a line that says what is wrong."

    def add_arguments(self, parser: ArgumentParser) -> None:
        healthy.add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        if wrong := healthy.problem(options["process"], ready=options["ready"]):
            self.stdout.write(wrong)
            sys.exit(1)
