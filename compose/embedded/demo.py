"""``make demo``: the whole system on this machine until ctrl-C.

Claims the state directory, ends what a crashed run left, checks the ports, sets everything up step
by step, and then keeps the processes of the Procfiles running under Honcho.
"""

import json
import signal
import sys
import threading

from rich.console import Console
from rich.text import Text

from embedded.console import step, welcome
from embedded.deployment import Deployment
from embedded.errors import CommandFailed
from embedded.foreground import in_terminal, keep_running, set_logs_aside
from embedded.leftovers import end_leftovers, locked
from embedded.ports import base_port, check_free
from embedded.servers import REPOSITORY

STATE_DIR = REPOSITORY / ".demo"
CLIENTS = ("billing", "support")


def main() -> int:
    """Run the demo; 0 when the user stopped it, 1 when something else did."""
    return in_terminal("demo", _run_alone)


def _run_alone(console: Console) -> None:
    STATE_DIR.mkdir(mode=0o700, exist_ok=True)
    with locked(STATE_DIR):
        _run(console)


def _run(console: Console) -> None:
    base = base_port()
    if count := end_leftovers(STATE_DIR):
        console.print(f"Ended {count} processes that an earlier run left behind.", style="yellow")
    ports = {"master": base} | {name: base + n for n, name in enumerate(CLIENTS, start=1)}
    check_free(ports)
    set_logs_aside(STATE_DIR)
    deployment = Deployment(
        STATE_DIR,
        master_port=ports["master"],
        client_ports={name: ports[name] for name in CLIENTS},
    )
    try:
        _set_up(deployment, console)
        keep_running(
            deployment, console, on_ready=lambda stopping: _welcome(deployment, console, stopping)
        )
    finally:
        _tear_down(deployment)


def _set_up(deployment: Deployment, console: Console) -> None:
    with step(console, "PostgreSQL, Valkey, LocalStack"):
        deployment.servers.start()
    with step(console, "Databases"):
        deployment.migrate()
    with step(console, "SNS topic, SQS queues, logins"):
        deployment.deploy_and_create_operators()
    with step(console, "Users") as note:
        created = deployment.seed()
        note(f"{created} created" if created else "there already, sent to the clients again")
        if not created:
            # LocalStack forgets its queues when it stops, and with them what was on its way.
            deployment.republish()


def _welcome(deployment: Deployment, console: Console, stopping: threading.Event) -> None:
    trouble = None
    try:
        deployment.create_members()
    except CommandFailed as error:
        trouble = Text(f"No user can sign in: {error}", style="yellow")
    if stopping.is_set():
        return
    if trouble:
        console.print(trouble)
    credentials = json.loads((STATE_DIR / "credentials.json").read_text())
    console.print(welcome(deployment, credentials), soft_wrap=False)


def _tear_down(deployment: Deployment) -> None:
    # From here on the way is short; an impatient second ctrl-C must not leave anything behind.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    deployment.close()
    end_leftovers(STATE_DIR)


if __name__ == "__main__":
    sys.exit(main())
