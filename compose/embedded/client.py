"""``make client NAME=warehouse``: one more client of the running demo, until ctrl-C.

Registers it with the demo's master, fetches all users, and keeps its processes running under
Honcho. The same command starts it again. It ends when the demo does.
"""

import json
import os
import signal
import sys
import threading

from rich.console import Console
from rich.text import Text

from embedded.console import guest_welcome, step
from embedded.demo import STATE_DIR
from embedded.errors import CommandFailed, DemoNotRunning
from embedded.foreground import in_terminal, keep_running, set_logs_aside
from embedded.guest import Guest, Host
from embedded.private_files import write_json
from usercast.errors import UsercastError

NAME_VARIABLE = "NAME"
_LOOK_SECONDS = 0.5


class Watch:
    """Asks this process to stop (SIGTERM) as soon as the demo stops."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._over = threading.Event()
        #: Whether the demo has stopped.
        self.has_ended = False

    def begin(self) -> None:
        """Look twice a second from now on, in a thread."""
        threading.Thread(target=self._look, name="watch", daemon=True).start()

    def end(self) -> None:
        """Look no more."""
        self._over.set()

    def check(self) -> None:
        """Return while the demo runs.

        Raises:
            DemoNotRunning: it has stopped.
        """
        self.has_ended = self.has_ended or not self._host.is_running
        if self.has_ended:
            raise DemoNotRunning(
                "The demo has stopped, and this client with it. Start the demo with `make demo`, "
                "then this client by the same command."
            )

    def _look(self) -> None:
        while not self._over.wait(_LOOK_SECONDS):
            if not self._host.is_running:
                self.has_ended = True
                os.kill(os.getpid(), signal.SIGTERM)
                return


def main() -> int:
    """Run the client; 0 when the user stopped it, 1 when something else did."""
    return in_terminal("client", _run_as_guest)


def _run_as_guest(console: Console) -> None:
    guest = Guest(Host.at(STATE_DIR), os.environ.get(NAME_VARIABLE) or "")
    with guest.present() as left:
        if left:
            console.print(f"Ended {left} processes that an earlier run left.", style="yellow")
        _run(guest, console)


def _run(guest: Guest, console: Console) -> None:
    watch = Watch(guest.host)
    watch.begin()
    try:
        set_logs_aside(guest.state_dir)
        _set_up(guest, console)
        keep_running(guest, console, on_ready=lambda stopping: _welcome(guest, console, stopping))
    except (KeyboardInterrupt, UsercastError):
        # Whatever it was that broke off: the demo's end explains it.
        watch.check()
        raise
    finally:
        watch.end()
        # An impatient second ctrl-C must not leave anything behind.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    watch.check()


def _set_up(guest: Guest, console: Console) -> None:
    with step(console, f"Database of {guest.name}"):
        guest.migrate()
    with step(console, "Registered: queues, token"):
        guest.register(guest.name)
    console.print("Fetching all users from the master:")
    guest.bootstrap()
    with step(console, "Login"):
        guest.create_operator()


def _welcome(guest: Guest, console: Console, stopping: threading.Event) -> None:
    path = guest.state_dir / "credentials.json"
    login = json.loads(path.read_text())
    trouble = None
    try:
        login["member"] = guest.create_member(guest.name)
        write_json(path, login)
    except CommandFailed as error:
        trouble = Text(f"No user can sign in: {error}", style="yellow")
    if stopping.is_set():
        return
    if trouble:
        console.print(trouble)
    console.print(guest_welcome(guest, login), soft_wrap=False)


if __name__ == "__main__":
    sys.exit(main())
