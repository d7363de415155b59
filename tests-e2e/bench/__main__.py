"""Measure, show a table for each part, and keep the figures in .bench/results.json."""

import argparse
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.text import Text

from bench import (
    audit,
    backlog,
    bootstrap,
    cost,
    flood,
    one_change,
    reconcile,
    report,
    save,
    sockets,
    system,
    transfer,
)
from bench.session import Session
from usercast.errors import UsercastError

PARTS: dict[str, Callable[[Session], report.Findings]] = {
    "save": save.run,
    "backlog": backlog.run,
    "cost": cost.run,
    "one-change": one_change.run,
    "flood": flood.run,
    "audit": audit.run,
    "transfer": transfer.run,
    "bootstrap": bootstrap.run,
    "reconcile": reconcile.run,
    "sockets": sockets.run,
}


def main() -> int:
    """Run the parts; 1 when one could not be measured to its end, 130 after ctrl-C."""
    options = _options()
    # What it starts imports ``bench`` too, from other directories.
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])
    # The way out is the same for a terminal's ctrl-C and for a SIGTERM.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    session = Session(console, users=options.users, sampled=options.profile)
    command = " ".join(["python -m bench", *sys.argv[1:]])
    try:
        with system.alone():
            for part in options.parts or PARTS:
                _run(part, session, command)
    except KeyboardInterrupt:
        console.print("Stopped.")
        return 130
    except UsercastError as error:
        console.print(Text.assemble(("bench: ", "bold red"), str(error)))
        return 1
    console.print(f"Figures: {report.RESULTS}")
    return 0


def _run(part: str, session: Session, command: str) -> None:
    session.console.rule(Text(part, style="bold"), align="left")
    about = report.machine()
    findings = PARTS[part](session)
    report.show(session.console, findings, about=about, command=command)
    report.keep(part, findings, about=about, command=command)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(PARTS))
    parser.add_argument("--users", type=int, default=backlog.USERS, help="of the backlog")
    parser.add_argument("--profile", action="store_true", help="show where the backlog's time goes")
    options = parser.parse_args()
    if options.users <= backlog.PLAIN_USERS:
        parser.error(f"--users: more than the {backlog.PLAIN_USERS} that go the plain way, please")
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
