"""Changes users on the master and looks at the client's pages, through both nginx, for a while.

``traffic.py MASTER CLIENT --seconds N`` or ``--until FILE``. Tokens are in TOKEN_MASTER and
TOKEN_CLIENT. Ends with 0 once the client has every user as the master gave it last; says how many
changes there were, and how many looks at a page found nobody.
"""

import argparse
import json
import os
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

USERS = 10
SOON_SECONDS = 60.0
PAUSE_SECONDS = 0.05


def call(url: str, token: str, method: str = "GET", body: dict[str, Any] | None = None) -> Any:
    """A JSON answer of a REST API."""
    request = Request(
        url,
        method=method,
        headers={"Authorization": f"Token {token}", "Content-Type": "application/json"},
        data=None if body is None else json.dumps(body).encode(),
    )
    with urlopen(request, timeout=10) as answer:
        return json.load(answer)


class Looks(threading.Thread):
    """Asks for a page ten times a second; counts what was no page."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.url, self.ended = url, threading.Event()
        self.all = self.failed = 0

    def run(self) -> None:
        while not self.ended.wait(0.1):
            self.all += 1
            try:
                urlopen(self.url, timeout=10).close()
            except (HTTPError, URLError, OSError):
                self.failed += 1


def main() -> int:
    """Make the changes, then wait for the last of each user to arrive."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("master")
    parser.add_argument("client")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--until", type=Path, default=Path("/nonexistent"))
    asked = parser.parse_args()
    users, own = f"{asked.master}/api/v1/users/", os.environ["TOKEN_MASTER"]
    looks = Looks(f"{asked.client}/login/")
    looks.start()
    last = [
        call(users, own, "POST", {"username": f"u{uuid.uuid4().hex[:12]}"}) for _ in range(USERS)
    ]
    changes, end = USERS, time.monotonic() + asked.seconds
    while time.monotonic() < end and not asked.until.exists():
        number = changes % USERS
        last[number] = call(
            f"{users}{last[number]['id']}/", own, "PATCH", {"first_name": f"change {changes}"}
        )
        changes += 1
        time.sleep(PAUSE_SECONDS)
    looks.ended.set()
    looks.join()
    missing = wait_for(last, asked.client)
    print(f"{changes} changes, {missing} users not as they were left; ", end="")
    print(f"{looks.failed} of {looks.all} looks at a page failed")
    return 1 if missing else 0


def wait_for(expected: list[Any], client: str) -> int:
    """How many users the client does not have so, at last."""
    deadline = time.monotonic() + SOON_SECONDS
    while True:
        missing = sum(not has(client, user) for user in expected)
        if not missing or time.monotonic() > deadline:
            return missing
        time.sleep(0.2)


def has(client: str, user: Any) -> bool:
    """Whether the client has the user exactly so."""
    try:
        url = f"{client}/api/v1/users/{user['id']}/"
        return bool(call(url, os.environ["TOKEN_CLIENT"]) == user)
    except (HTTPError, URLError, OSError):
        return False


if __name__ == "__main__":
    sys.exit(main())
