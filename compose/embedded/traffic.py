"""Random plausible changes on the running demo's master until ctrl-C: ``make traffic``.

Every change goes through the master's REST API, as another program's would.
"""

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import httpx
from rich.console import Console
from rich.text import Text

from embedded.errors import BadSetting, DemoNotRunning
from embedded.people import People, email_of
from embedded.seed import PEOPLE
from embedded.servers import REPOSITORY
from usercast.errors import UsercastError

CREDENTIALS = REPOSITORY / ".demo" / "credentials.json"
RATE_VARIABLE = "RATE"
MAX_RATE_PER_SECOND = 1000.0
_PAUSE_SECONDS = 1.0
_COLOURS = {"create": "green", "delete": "red", "deactivate": "yellow", "reactivate": "green"}

User = dict[str, Any]


class Master:
    """The users of the running demo's master, through its REST API.

    Raises:
        DemoNotRunning: there are no credentials, or nothing answers at their address.
    """

    def __init__(self, credentials: Path) -> None:
        try:
            login = json.loads(credentials.read_text())["master"]
        except FileNotFoundError as error:
            raise DemoNotRunning from error
        self.url = login["url"]
        self._http = httpx.Client(
            base_url=f"{login['url']}/api/v1/users/",
            headers={"Authorization": f"Token {login['api_token']}"},
            timeout=10,
            # The master is on this machine, whatever proxy the environment names.
            trust_env=False,
        )

    def users(self) -> list[User]:
        """All users but the staff."""
        try:
            return list(self._pages())
        except httpx.TransportError as error:
            raise DemoNotRunning(
                f"The demo does not answer at {self.url}: start it with `make demo` first."
            ) from error

    def create(self, fields: User) -> User:
        """Create a user; return what the master made of it."""
        return self._send("POST", "", fields)

    def change(self, user: User, fields: User) -> User:
        """Change some fields of a user; return the user as they are now."""
        return self._send("PATCH", f"{user['id']}/", fields)

    def delete(self, user: User) -> None:
        """Delete a user."""
        self._http.delete(f"{user['id']}/").raise_for_status()

    def _pages(self) -> Iterator[User]:
        address = ""
        while True:
            answer = self._http.get(address).raise_for_status().json()
            yield from answer["results"]
            if not answer["next"]:
                return
            address = answer["next"]

    def _send(self, method: str, path: str, fields: User) -> User:
        answer: User = self._http.request(method, path, json=fields).raise_for_status().json()
        return answer


class Traffic:
    """Makes one random change after the other and remembers what the users look like by now."""

    def __init__(self, master: Master) -> None:
        self._master = master
        self._users = {user["id"]: user for user in master.users()}
        self._people = People(taken={user["username"] for user in self._users.values()})
        self._random = self._people.random
        self.made: Counter[str] = Counter()

    def change(self) -> tuple[str, str]:
        """Make one change; return its kind and what it did to whom.

        Raises:
            httpx.HTTPError: the master refused it or could not be reached; nothing is remembered.
        """
        kind = self._kind()
        if kind == "create":
            told = self._create()
        else:
            user = self._random.choice(list(self._users.values()))
            try:
                told = self._changes[kind](self, user)
            except httpx.HTTPStatusError as error:
                if error.response.status_code == httpx.codes.NOT_FOUND:
                    # Someone else deleted the user meanwhile.
                    self._users.pop(user["id"], None)
                raise
        self.made[kind] += 1
        return kind, told

    def _kind(self) -> str:
        # The further the population is from its size, the surer it goes back there.
        drift = (PEOPLE - len(self._users)) / PEOPLE
        weights = {
            "rename": 25,
            "e-mail": 20,
            "groups": 25,
            "active": 14,
            "create": max(0.0, 8 + 80 * drift),
            "delete": max(0.0, 8 - 80 * drift),
        }
        if not self._users:
            return "create"
        return self._random.choices(list(weights), list(weights.values()))[0]

    def _create(self) -> str:
        person = self._people.next()
        user = self._master.create({**vars(person), "groups": self._people.groups()})
        self._users[user["id"]] = user
        return f"{_name(user)} joins as {user['username']}"

    def _rename(self, user: User) -> str:
        before = _name(user)
        last = self._people.last_name()
        username = self._people.username(user["first_name"], last)
        after = self._update(user, {"last_name": last, "username": username})
        return f"{before} is now {_name(after)} ({after['username']})"

    def _email(self, user: User) -> str:
        local = f"{user['username']}{self._random.randrange(2, 100)}"
        after = self._update(user, {"email": email_of(local)})
        return f"{_name(after)} has the address {after['email']}"

    def _regroup(self, user: User) -> str:
        after = self._update(user, {"groups": self._people.groups()})
        return f"{_name(after)} is in {', '.join(after['groups']) or 'no group'}"

    def _toggle(self, user: User) -> str:
        # Most of the inactive come back, so that they stay few.
        if user["is_active"] and self._random.random() < 0.8:
            idle = [other for other in self._users.values() if not other["is_active"]]
            if len(idle) > PEOPLE * 0.06:
                user = self._random.choice(idle)
        after = self._update(user, {"is_active": not user["is_active"]})
        return f"{_name(after)} {'may sign in again' if after['is_active'] else 'is locked out'}"

    def _delete(self, user: User) -> str:
        self._master.delete(user)
        del self._users[user["id"]]
        return f"{_name(user)} leaves"

    def _update(self, user: User, fields: User) -> User:
        after = self._master.change(user, fields)
        self._users[after["id"]] = after
        return after

    _changes: ClassVar[dict[str, Callable[["Traffic", User], str]]] = {
        "rename": _rename,
        "e-mail": _email,
        "groups": _regroup,
        "active": _toggle,
        "delete": _delete,
    }


def rate_per_second() -> float:
    """How many changes to make in a second.

    Raises:
        BadSetting: ``RATE`` is no number above 0 and up to 1000.
    """
    text = os.environ.get(RATE_VARIABLE) or "5"
    try:
        rate = float(text)
    except ValueError:
        rate = 0
    if not 0 < rate <= MAX_RATE_PER_SECOND:
        raise BadSetting(
            f"{RATE_VARIABLE} is {text!r}: give it a number above 0, at most "
            f"{MAX_RATE_PER_SECOND:.0f} (changes per second)."
        )
    return rate


def run(console: Console, *, rate: float) -> None:
    """Make changes at this rate until interrupted, a line for each; then sum them up."""
    master = Master(CREDENTIALS)
    traffic = Traffic(master)
    console.print(f"{rate:g} changes per second on {master.url}; ctrl-C ends it.\n", style="bold")
    began = due = time.monotonic()
    try:
        while True:
            _one_change(traffic, console)
            # Late changes are caught up with, but not those of a whole second's hiccup.
            due = max(due + 1 / rate, time.monotonic() - 1)
            time.sleep(max(0.0, due - time.monotonic()))
    except KeyboardInterrupt:
        seconds = time.monotonic() - began
        kinds = ", ".join(f"{count} {kind}" for kind, count in traffic.made.most_common())
        total = traffic.made.total()
        console.print(
            f"\n{total} changes in {seconds:.0f} s ({total / seconds:.1f} per second)"
            + (f": {kinds}" if kinds else ""),
            style="bold",
        )


def _one_change(traffic: Traffic, console: Console) -> None:
    now = time.strftime("%H:%M:%S")
    try:
        kind, told = traffic.change()
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        if status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            raise DemoNotRunning(
                "The master does not know this token any more: the demo was started anew. "
                "Start the traffic anew, too."
            ) from error
        reason = " ".join(error.response.text.split())[:80] if status < 500 else "it is in trouble"
        console.print(Text(f"{now}  the master answered {status}: {reason}", style="dim"))
        if status >= 500:
            time.sleep(_PAUSE_SECONDS)
    except httpx.TransportError as error:
        what = type(error).__name__
        console.print(Text(f"{now}  the master is away ({what}); going on", style="dim"))
        time.sleep(_PAUSE_SECONDS)
    else:
        console.print(Text.assemble((f"{now}  ", "dim"), (f"{kind:<8}", _colour(kind)), told))


def _colour(kind: str) -> str:
    return _COLOURS.get(kind, "cyan")


def _name(user: User) -> str:
    return f"{user['first_name']} {user['last_name']}".strip() or str(user["username"])


def main() -> int:
    """Make traffic; 0 when the user ended it, 1 when it could not go on."""
    console = Console(highlight=False, markup=False, soft_wrap=True)
    try:
        run(console, rate=rate_per_second())
    except KeyboardInterrupt:
        pass
    except UsercastError as error:
        print(f"traffic: {error}", file=sys.stderr)
        return 1
    except httpx.HTTPError as error:
        print(f"traffic: the master refuses to list its users: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
