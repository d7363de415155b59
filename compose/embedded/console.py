"""What the demo says in the terminal: its steps, the services' troubles, and the closing panel."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from embedded.deployment import Deployment
from embedded.guest import Guest

_TROUBLE = re.compile(r"level=(warning|error|critical)|\b(WARNING|ERROR|CRITICAL)\b|^Traceback ")
_STARTED = re.compile(r"^(\S+) started \(pid=")
_STOPPED = re.compile(r"^(\S+) stopped \(rc=(-?\d+)\)")


@contextmanager
def step(console: Console, title: str) -> Iterator[Callable[[str], None]]:
    """Show that a step goes on and, once it is done, how long it took; yields ``note``."""
    notes: list[str] = []
    began = time.monotonic()
    with console.status(Text(title)):
        yield notes.append
    line = Text.assemble(
        ("✓ ", "green"), f"{title:<34}", (f"{time.monotonic() - began:5.1f} s", "dim")
    )
    if notes:
        line.append(f"   {', '.join(notes)}", "dim")
    console.print(line)


class ProcessOutput:
    """Honcho's printer: every line to its process's log, only troubles to the terminal.

    Args:
        logs: the log file of each process.
    """

    width = 0

    def __init__(self, console: Console, logs: dict[str, Path]) -> None:
        self._console = console
        self._files = {name: path.open("a", buffering=1) for name, path in logs.items()}
        self._pending = set(logs)
        self._spoken: set[str] = set()
        #: Called as soon as all processes have been started.
        self.on_started: Callable[[], None] = lambda: None
        #: Set once the end has begun, whoever asked for it.
        self.stopping = threading.Event()
        #: The process that ended first, and its exit status.
        self.first_stopped: tuple[str, int] | None = None

    def write(self, message: Any) -> None:
        """Take one of Honcho's messages: a line of a process, or of Honcho itself."""
        text = (
            message.data if isinstance(message.data, str) else message.data.decode(errors="replace")
        )
        if message.name in self._files:
            self._line(message.name, text)
        else:
            self._event(text)

    def has_spoken(self, name: str) -> bool:
        """Whether a process has written anything yet."""
        return name in self._spoken

    def close(self) -> None:
        """Close the log files."""
        for file in self._files.values():
            file.close()

    def _line(self, name: str, text: str) -> None:
        self._spoken.add(name)
        self._files[name].write(text)
        if _TROUBLE.search(text) and not self.stopping.is_set():
            self._console.print(Text.assemble((f"{name:<15} ", "yellow"), (text.rstrip(), "dim")))

    def _event(self, text: str) -> None:
        if started := _STARTED.match(text):
            self._pending.discard(started[1])
            if not self._pending:
                self.on_started()
        elif stopped := _STOPPED.match(text):
            if not self.stopping.is_set():
                self.first_stopped = stopped[1], int(stopped[2])
            self._stop()
        elif text.startswith("SIG"):
            self._stop()

    def _stop(self) -> None:
        if not self.stopping.is_set():
            self.stopping.set()
            self._console.print("\nStopping …")


def welcome(deployment: Deployment, credentials: dict[str, Any]) -> Panel:
    """The addresses, the logins and what to try."""
    table = _logins({"master": credentials["master"], **credentials["clients"]})
    directory = deployment.state_dir.name
    client = next(iter(deployment.clients))
    tries = Text.assemble(
        ("\nTry it\n", "bold"),
        "1. Open the master's admin and a client's dashboard side by side.\n",
        "2. Edit a user in the admin; the dashboard shows it without a reload.\n",
        "3. Sign in at /me/ as a user, in a private window: their own data, live too.\n",
        "4. In a second terminal, watch many changes:\n",
        ("   make traffic\n", "bold"),
        "5. Add another client, in a second terminal:\n",
        ("   make client NAME=warehouse\n", "bold"),
        f"6. Look inside {client}, in a second terminal:\n",
        (f"   . {directory}/{client}.env\n", "bold"),
        ("   .venv/bin/python client-service/manage.py shell\n\n", "bold"),
        (f"Logs: {directory}/logs   API tokens: {directory}/credentials.json\n", "dim"),
        ("ctrl-C stops everything.", "dim"),
    )
    return _panel("Usercast is running", table, tries)


def guest_welcome(guest: Guest, login: dict[str, Any]) -> Panel:
    """A guest's address and logins, and what becomes of it."""
    directory = f"{guest.host.state_dir.name}/{guest.name}"
    more = Text.assemble(
        ("\nTake it away, queues and token included, once it is stopped:\n", "bold"),
        (f"   . {guest.host.state_dir.name}/master.env\n", "bold"),
        (
            f"   .venv/bin/python master-service/manage.py clients remove {guest.name}\n\n",
            "bold",
        ),
        (f"Logs: {directory}/logs   API token: {directory}/credentials.json\n", "dim"),
        ("ctrl-C stops this client; the same command starts it again.", "dim"),
    )
    return _panel(f"{guest.name} is running", _logins({guest.name: login}), more)


def _logins(logins: dict[str, Any]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("", "open in a browser", "user", "password"):
        # Only a username may be long.
        table.add_column(heading, no_wrap=heading != "user", overflow="fold")
    for name, login in logins.items():
        page = f"{login['url']}/admin/" if name == "master" else f"{login['url']}/"
        table.add_row(Text(name, style="bold"), page, login["username"], login["password"])
        if member := login.get("member"):
            table.add_row("", f"{login['url']}/me/", member["username"], member["password"])
    return table


def _panel(title: str, table: Table, text: Text) -> Panel:
    return Panel(
        Group(table, text), title=title, border_style="green", expand=False, padding=(1, 1)
    )
