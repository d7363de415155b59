"""Changes users on the master and looks at the client's pages, through both nginx, for a while.

``traffic.py MASTER CLIENT --seconds N`` or ``--until FILE``. Tokens are in TOKEN_MASTER and
TOKEN_CLIENT; with a session's Cookie header in COOKIE a live page is open too. Ends with 0 once the
client has every user as the master gave it last; says how many changes there were, and for how long
at most no page came.
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

from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

SOON_SECONDS = 60.0
PAUSE_SECONDS = 0.05
#: More than one nginx's end, with a page open, and the start of the next; less than Docker's
#: patience with one that does not end.
AWAY_SECONDS = 6.0


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
    """Asks for a page ten times a second; knows for how long none came."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.url, self.ended = url, threading.Event()
        self.all = self.failed = 0
        self.away = 0.0

    def run(self) -> None:
        seen = time.monotonic()
        while not self.ended.wait(0.1):
            self.all += 1
            try:
                urlopen(self.url, timeout=10).close()
            except (HTTPError, URLError, OSError):
                self.failed += 1
                self.away = max(self.away, time.monotonic() - seen)
            else:
                seen = time.monotonic()


class OpenPage(threading.Thread):
    """A live page's socket, opened anew whenever it is closed, as the page does."""

    def __init__(self, client: str, cookie: str) -> None:
        super().__init__(daemon=True)
        self.client, self.cookie = client, cookie
        self.opened = 0

    def run(self) -> None:
        while True:
            try:
                self.stay()
            except (WebSocketException, OSError):
                time.sleep(0.5)

    def stay(self) -> None:
        address = f"{self.client.replace('http', 'ws', 1)}/ws/live/"
        cookie = {"Cookie": self.cookie}
        with connect(address, origin=self.client, additional_headers=cookie, proxy=None) as socket:
            self.opened += 1
            for _frame in socket:
                pass


def change(users: str, token: str, number: int, known: list[Any]) -> None:
    """Every other one makes a user, so that none is hidden by later ones; the next alters it."""
    if number % 2 == 0:
        known.append(call(users, token, "POST", {"username": f"u{uuid.uuid4().hex[:12]}"}))
    else:
        fields = {"first_name": f"change {number}"}
        known[-1] = call(f"{users}{known[-1]['id']}/", token, "PATCH", fields)


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
    if cookie := os.environ.get("COOKIE"):
        page = OpenPage(asked.client, cookie)
        page.start()
    known: list[Any] = []
    changes, end = 0, time.monotonic() + asked.seconds
    while time.monotonic() < end and not asked.until.exists():
        change(users, own, changes, known)
        changes += 1
        time.sleep(PAUSE_SECONDS)
    looks.ended.set()
    looks.join()
    missing = wait_for(known, asked.client)
    print(f"{changes} changes of {len(known)} users, {missing} not as they were left; ", end="")
    print(f"{looks.failed} of {looks.all} looks failed, for {looks.away:.1f} s at most", end="")
    print(f"; a live page came {page.opened} times" if cookie else "")
    return 1 if missing or looks.away > AWAY_SECONDS or (cookie and not page.opened) else 0


def wait_for(expected: list[Any], client: str) -> int:
    """How many users the client does not have so, at last."""
    deadline = time.monotonic() + SOON_SECONDS
    while True:
        expected = [user for user in expected if not has(client, user)]
        if not expected or time.monotonic() > deadline:
            return len(expected)
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
