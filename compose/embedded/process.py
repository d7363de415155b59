"""One program of the stack: started in a session of its own, stopped with all its children."""

import json
import os
import pwd
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from embedded.errors import StackError

# Everything the stack starts carries its state directory here, so that whatever a crashed run
# left behind can be told from all other processes (see leftovers.py).
STACK_VARIABLE = "USERCAST_STACK"


class Process:
    """A program whose output goes to a log file and whose end leaves none of its children.

    Its own session keeps the terminal's ctrl-C away from it: the stack decides who stops when.
    It can be started again after it stopped.

    Args:
        command: an argument list, or a line for ``/bin/sh`` (begin it with ``exec``).
        user: run as this system user (only root may).
        stop_signal: what asks the program for an orderly end.
    """

    def __init__(
        self,
        command: Sequence[str] | str,
        *,
        env: Mapping[str, str],
        cwd: Path,
        log: Path,
        user: str | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.log = log
        self._command = command
        self._env = dict(env)
        self._cwd = cwd
        self._user = user
        self._stop_signal = stop_signal
        self._child: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._lock = threading.Lock()

    @property
    def running(self) -> bool:
        """Whether the program runs at this moment."""
        return self._child is not None and self._child.poll() is None

    @property
    def pid(self) -> int | None:
        """The process id of the latest start."""
        return self._child.pid if self._child else None

    @property
    def returncode(self) -> int | None:
        """How the latest start ended (negative: the signal that ended it)."""
        return self._child.poll() if self._child else None

    def start(self) -> None:
        """Start the program; its output is appended to the log.

        Raises:
            StackError: it is running already, or ``close`` forbade it.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self._lock, self.log.open("ab") as output:
            if self._closed:
                raise StackError(f"{self.log.stem} is not started: the stack is stopping.")
            if self.running:
                raise StackError(f"{self.log.stem} is running already (pid {self.pid}).")
            self._child = subprocess.Popen(
                self._command,
                shell=isinstance(self._command, str),
                env=self._env,
                cwd=self._cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=self._user,
                group=pwd.getpwnam(self._user).pw_gid if self._user else None,
                extra_groups=[] if self._user else None,
            )

    def stop(self, *, timeout_seconds: float = 10) -> None:
        """Ask the program to end, and end it by force when it takes longer than the timeout."""
        if self._child is None:
            return
        if self.running:
            self._child.send_signal(self._stop_signal)
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(timeout_seconds)
        self.kill()

    def kill(self) -> None:
        """End the program and its children at once, as a crash would."""
        if self._child is None:
            return
        # The session's leader may be gone while a child of it lives on in the same group.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()

    def close(self) -> None:
        """Stop the program, also one that another thread is about to start, for good."""
        with self._lock:
            self._closed = True
        self.stop()

    def tail(self, *, lines: int = 15) -> str:
        """The last lines of the log, indented for an error message."""
        return log_tail(self.log, lines=lines)


def log_tail(log: Path, *, lines: int = 15) -> str:
    """The last lines of a log file, indented; says so when there are none."""
    try:
        text = log.read_text(errors="replace")
    except OSError:
        text = ""
    last = [readable(line) for line in text.splitlines()[-lines:]]
    return "\n".join(f"    {line}" for line in last) or "    (nothing logged)"


def readable(line: str) -> str:
    """A line of a log for people: what is one of ours, without what each line says again."""
    try:
        told = json.loads(line)
        time, level, message = told["@timestamp"], told["log.level"], told["message"]
    except (ValueError, KeyError, TypeError):
        return line
    error = told.get("error", {})
    fields = {**told.get("usercast", {}), **told.get("labels", {})}
    said = "".join(f" {name}={value}" for name, value in fields.items())
    reason = f": {error['message']}" if "message" in error else ""
    trace = f"\n{error['stack_trace']}" if "stack_trace" in error else ""
    return f"{time} {level:<8} {message}{reason}{said}{trace}"
