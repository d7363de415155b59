"""The heartbeat: a file that a process without web renews from its own main loops.

``usercast.healthy`` reads it. Only the loops beat: a thread beside them would beat while they hang.
Written to ``$USERCAST_RUN_DIR/<process>.json``; without the variable to ``usercast-<uid>`` in the
system's directory of temporary files. Processes of one name need directories of their own.
"""

# Imports little: `manage.py healthy` runs every few seconds for each process.
import json
import os
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

#: A loop that has not turned for so long hangs. The slowest turn there is waits for a database that
#: vanished from the network: 30 s until the kernel gives up (``tcp_user_timeout``), 3 s to connect.
LIVE_SECONDS = 45.0
#: A loop that waits for longer than this does not do its work, whatever it said last. Idle, the
#: slowest loops turn every 3 s.
READY_SECONDS = 10.0
#: A beat that says nothing new is written no sooner than this after the last.
WRITE_SECONDS = 1.0
_MAIN = "main"


def path(process: str) -> Path:
    """Where the heartbeat of a process is."""
    return _directory() / f"{process}.json"


def start(process: str, *, loops: Iterable[str] = (_MAIN,), also: Iterable[str] = ()) -> None:
    """From now on this process has a heartbeat, alive while each of its loops beats.

    Without it, ``beat`` does nothing: code that beats runs in commands and tests too.

    Args:
        process: its name, as ``usercast.process.process_name`` gives it.
        loops: with more than one, the thread of each says by ``enter`` which it is.
        also: other heartbeats that count towards its own: of programs that it has started.
    """
    global _current
    _current = Heartbeat(process, loops=loops, also=also)


def enter(loop: str) -> None:
    """What this thread beats from now on is the beat of that loop."""
    _thread.loop = loop


def beat(*, lacks: str | None = None) -> None:
    """This thread's loop has turned; never fails, and costs next to nothing if called often.

    Args:
        lacks: what it would need for its work and does not have, in a few words.
    """
    if _current is not None:
        _current.beat(getattr(_thread, "loop", _MAIN), lacks=lacks)


def is_ready() -> bool:
    """Whether each loop of this process has lately turned and lacks nothing."""
    return _current is not None and _current.is_ready()


class Heartbeat:
    """A process's heartbeat; its methods may be called from any thread."""

    def __init__(self, process: str, *, loops: Iterable[str], also: Iterable[str]) -> None:
        self._process = process
        self._also = [*also]
        self._turned_at = dict.fromkeys(loops, time.monotonic())
        self._lacks: dict[str, str | None] = dict.fromkeys(self._turned_at, "still starting")
        self._written_at = 0.0
        self._failed = False
        self._lock = threading.Lock()
        with self._lock:
            self._write()

    def beat(self, loop: str, *, lacks: str | None) -> None:
        """The loop has turned."""
        with self._lock:
            now = self._turned_at[loop] = time.monotonic()
            is_news, self._lacks[loop] = lacks != self._lacks[loop], lacks
            if is_news or now - self._written_at >= WRITE_SECONDS:
                self._written_at = now
                self._write()

    def is_ready(self) -> bool:
        """Whether each loop has lately turned and lacks nothing."""
        with self._lock:
            oldest = min(self._turned_at.values())
            return not self._reason() and time.monotonic() - oldest <= READY_SECONDS

    def _reason(self) -> str:
        lacks = {loop: lack for loop, lack in self._lacks.items() if lack}
        return "; ".join(f"{loop}: {lack}" for loop, lack in lacks.items())

    def _write(self) -> None:
        reason = self._reason()
        told = {
            "process": self._process,
            "pid": os.getpid(),
            "boot": boot(),
            # For people; the loops' times are those of the machine's monotonic clock.
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "ready": not reason,
            "reason": reason,
            "loops": self._turned_at,
            "also": self._also,
        }
        try:
            _replace(path(self._process), told)
            self._failed = False
        except OSError as error:
            # It will count as dead, and whoever looks must find why; but its work goes on.
            if not self._failed:
                _log_failure(error)
            self._failed = True


_current: Heartbeat | None = None
_thread = threading.local()


def boot() -> str:
    """Which run of the machine this is: the monotonic clock begins anew with each."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def _directory() -> Path:
    if given := os.environ.get("USERCAST_RUN_DIR"):
        return Path(given)
    import tempfile

    return Path(tempfile.gettempdir()) / f"usercast-{os.getuid()}"


def _replace(file: Path, told: Mapping[str, object]) -> None:
    directory = file.parent
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    # In a directory for all, somebody else may have been there first.
    if "USERCAST_RUN_DIR" not in os.environ and directory.lstat().st_uid != os.getuid():
        raise PermissionError(f"{directory} is somebody else's; set USERCAST_RUN_DIR")
    unfinished = directory / f".{file.name}.{os.getpid()}"
    unfinished.write_text(json.dumps(told))
    unfinished.replace(file)


def _log_failure(error: OSError) -> None:
    import structlog

    from usercast.errors import reason

    structlog.get_logger(__name__).error("heartbeat_unwritable", reason=reason(error))
