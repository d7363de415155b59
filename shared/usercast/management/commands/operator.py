import json
import os
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction
from knox.models import get_token_model


class Command(BaseCommand):
    help = (
        "Create or update a local superuser with the password in OPERATOR_PASSWORD, and give them "
        "a fresh API token, which replaces their earlier ones. Prints JSON: username, api_token."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        password = os.environ.get("OPERATOR_PASSWORD")
        if not password:
            raise CommandError("OPERATOR_PASSWORD is not set: put the new password in it")
        users = get_user_model()._default_manager
        user = users.filter(username=options["username"]).first()
        if user is None:
            user = get_user_model()(username=options["username"])
        elif not (user.is_staff and user.is_superuser):
            raise CommandError(
                f"{options['username']} exists and is no superuser: choose another name"
            )
        user.is_active = user.is_staff = user.is_superuser = True
        user.set_password(password)
        user.save()
        tokens = get_token_model()
        # A service's own token model says what else its operator's token is.
        of_operator = getattr(tokens, "OPERATOR", {})
        named = {"name": of_operator["name"]} if of_operator else {}
        tokens.objects.filter(user=user, **named).delete()
        _, token = tokens.objects.create(user, expiry=None, **of_operator)
        self.stdout.write(json.dumps({"username": options["username"], "api_token": token}))
