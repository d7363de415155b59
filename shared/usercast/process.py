"""Which of a service's processes this one is: for its logs, metrics, traces and heartbeat."""

import os
import sys
from functools import cache
from pathlib import Path

#: One that ends by itself: its output is for whoever called it.
COMMAND = "command"
#: By the program, and the first word after it that is one of these.
_SERVERS = ("gunicorn", "uvicorn", "daphne")
_WORDS = {
    "runserver": "web",
    "relay": "relay",
    "poll": "poller",
    "worker": "worker",
    "beat": "beat",
}


@cache
def process_name() -> str:
    """``web``, ``relay``, ``poller``, ``worker``, ``beat``, or ``command`` for all others.

    ``USERCAST_PROCESS`` names it otherwise, where there are several of a kind.
    """
    if name := os.environ.get("USERCAST_PROCESS"):
        return name
    program = Path(sys.argv[0]).name if sys.argv else ""
    if program in _SERVERS or (
        program == "__main__.py" and Path(sys.argv[0]).parent.name in _SERVERS
    ):
        return "web"
    if program in ("manage.py", "celery"):
        return next((_WORDS[word] for word in sys.argv[1:] if word in _WORDS), COMMAND)
    return COMMAND
