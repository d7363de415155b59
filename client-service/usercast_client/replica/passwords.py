"""Passwords of replicated users: this client's own, not the master's, and untouched by an apply.

A user comes without one. They get it in this client's admin, or set it themselves by a one-time
link.
"""

from django.contrib.auth.tokens import default_token_generator
from django.urls import reverse
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode

from usercast_client.replica.models import User


def link_path(user: User) -> str:
    """The path of a page where this user sets a password, once.

    It is void once the password is set, the user has signed in or their e-mail has changed, and
    after ``PASSWORD_RESET_TIMEOUT`` (Django's default: three days).
    """
    return reverse(
        "password-link",
        kwargs={
            "uidb64": urlsafe_base64_encode(force_bytes(user.pk)),
            "token": default_token_generator.make_token(user),
        },
    )
