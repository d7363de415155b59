"""A replicated user who can sign in on a client: ``python -m embedded.member [username]``.

Runs in the client's environment, with the password in ``MEMBER_PASSWORD``. Passwords are not
replicated: this one is the client's own, and no change on the master touches it.
"""

import argparse
import json
import os
import sys
import time
from typing import Any

import django

PASSWORD_VARIABLE = "MEMBER_PASSWORD"
_ARRIVAL_SECONDS = 30.0
_ASK_SECONDS = 0.1


def member(password: str, username: str | None) -> Any:
    """An active replicated user who has this password from now on; None if none came within 30 s.

    Args:
        username: whom to give it; None for the one who has it already, or else the first of those
            without a password. Nobody's password is replaced unasked.
    """
    deadline = time.monotonic() + _ARRIVAL_SECONDS
    while True:
        found = _keeper(password) if username is None else None
        if found is not None:
            return found
        found = _candidate(username)
        if found is not None:
            found.set_password(password)
            found.save(update_fields=["password"])
            return found
        if time.monotonic() > deadline:
            return None
        time.sleep(_ASK_SECONDS)


def _keeper(password: str) -> Any:
    # A password of another sort was set by somebody who tried it out; it is theirs.
    with_password = _active().exclude(password__startswith="!")
    return next((user for user in with_password if user.check_password(password)), None)


def _candidate(username: str | None) -> Any:
    if username is not None:
        return _active().filter(username=username).first()
    return _active().filter(password__startswith="!").first()


def _active() -> Any:
    from usercast_client.replica.models import User

    # In the order of their creation on the master: the same one on each client.
    return User.objects.replicated().filter(is_active=True).order_by("pk")


def main() -> int:
    """Print the user's name as JSON; 1 when there is no user to give the password to."""
    parser = argparse.ArgumentParser(prog="embedded.member")
    parser.add_argument("username", nargs="?")
    username = parser.parse_args().username
    django.setup()
    found = member(os.environ[PASSWORD_VARIABLE], username)
    if found is None:
        print(f"There is no active replicated user {username or ''}".rstrip(), file=sys.stderr)
        return 1
    print(json.dumps({"username": found.username}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
