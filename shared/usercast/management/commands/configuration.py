from hashlib import sha256
from importlib import import_module
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from usercast.env import Environment, Given


class Command(BaseCommand):
    help = (
        "Which settings this service was given, and how: by a variable, by a file, or not at all. "
        "For a value stands its fingerprint, the first 8 digits of its SHA-256: so that two places,"
        " or a secret before and after its rotation, can be compared without being shown."
    )
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        env: Environment = import_module(settings.SETTINGS_MODULE).env
        for name, given in sorted(env.given.items()):
            self.stdout.write(f"{name:<30} {_fingerprint(given):<8}  {_source(given)}")


def _fingerprint(given: Given) -> str:
    return "-" if given.value is None else sha256(given.value.encode()).hexdigest()[:8]


def _source(given: Given) -> str:
    if given.value is None:
        return "default"
    return given.file or "variable"
