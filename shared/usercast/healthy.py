"""``manage.py healthy``: whether one of a service's processes is alive, told by its exit code.

A container's health check runs it every few seconds for each process, so manage.py calls ``main``
before it sets Django up, and nothing here may import Django.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from usercast import heartbeat

WEB = "web"
#: More than readyz takes with a database that hangs.
ANSWER_SECONDS = 5.0


def main(arguments: Sequence[str]) -> int:
    """0 if the process is healthy; 1 if not, with one line that says what is wrong."""
    parser = argparse.ArgumentParser(prog="manage.py healthy", description=main.__doc__)
    add_arguments(parser)
    asked = parser.parse_args(arguments)
    wrong = problem(asked.process, ready=asked.ready)
    if wrong:
        print(wrong)
    return 1 if wrong else 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("process", help="web, relay, poller, worker, clock or beat")
    parser.add_argument("--ready", action="store_true", help="and has all that it needs")


def problem(process: str, *, ready: bool) -> str | None:
    """What is wrong with a process, and where to look; None if nothing is.

    Args:
        ready: also demand that it has what it needs for its work. A dependency that is away makes
            a process unready, never dead.
    """
    wrong = _of_web(ready=ready) if process == WEB else _of_loops(process, ready=ready)
    return f"{process}: {wrong}" if wrong else None


def _of_web(*, ready: bool) -> str | None:
    from http.client import HTTPConnection, HTTPException

    port = os.environ.get("PORT", "")
    if not port.isdecimal():
        return "PORT is not set; it has to be the one that the process listens at"
    asked = "/readyz" if ready else "/livez"
    try:
        with closing(HTTPConnection("127.0.0.1", int(port), timeout=ANSWER_SECONDS)) as connection:
            connection.request("GET", asked)
            answer = connection.getresponse()
            body = answer.read(500).decode(errors="replace")
    except (OSError, HTTPException) as error:
        return (
            f"{asked} does not answer at port {port} ({error!r}): "
            "it is starting, gone, or hangs; see its log"
        )
    return None if answer.status == 200 else f"{asked} answers {answer.status}: {body}"


def _of_loops(process: str, *, ready: bool) -> str | None:
    file = heartbeat.path(process)
    try:
        told: dict[str, Any] = json.loads(file.read_text())
    except FileNotFoundError:
        return f"there is no {file}: it is starting, or has another USERCAST_RUN_DIR; see its log"
    except (OSError, ValueError) as error:
        return f"cannot read {file}: {error}"
    if told["boot"] != heartbeat.boot() or not _lives(told["pid"]):
        return (
            f"process {told['pid']} is gone, last seen {told['time']}; the end of its log says why"
        )
    limit = heartbeat.READY_SECONDS if ready else heartbeat.LIVE_SECONDS
    for loop, turned_at in told["loops"].items():
        age = time.monotonic() - turned_at
        if age > limit:
            return (
                f"the loop {loop!r} of process {told['pid']} has not turned for {age:.0f} s "
                f"(at most {limit:.0f}): it hangs; see the end of its log"
            )
    if ready and told["reason"]:
        return f"not ready: {told['reason']}"
    return next((wrong for other in told["also"] if (wrong := problem(other, ready=ready))), None)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    # One that ended, but whose parent has not asked how, still has its id.
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
