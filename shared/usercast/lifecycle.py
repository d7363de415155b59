"""How a long-running process ends: SIGTERM and SIGINT ask, the loop finishes what it holds."""

import os
import select
import signal
from types import FrameType


class Stop:
    """A request to stop, raised by SIGTERM or SIGINT, which also wakes whoever waits.

    A signal handler that raised an exception could cut a transaction in two; this one only sets a
    flag and writes to a pipe, so a loop notices between two pieces of work, or at once when idle.
    """

    def __init__(self) -> None:
        self._read_fd, self._write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._requested = False

    @classmethod
    def on_signals(cls) -> "Stop":
        """A Stop that SIGTERM and SIGINT request; only the main thread may call this."""
        stop = cls()
        signal.signal(signal.SIGTERM, stop._on_signal)
        signal.signal(signal.SIGINT, stop._on_signal)
        return stop

    def _on_signal(self, _signum: int, _frame: FrameType | None) -> None:
        self.request()

    def request(self) -> None:
        if not self._requested:
            self._requested = True
            os.write(self._write_fd, b"x")

    @property
    def requested(self) -> bool:
        return self._requested

    def fileno(self) -> int:
        """Readable once stopping is requested, for ``select``."""
        return self._read_fd

    def wait(self, seconds: float) -> bool:
        """Wait, no longer than asked; True when stopping is requested."""
        if not self._requested:
            select.select([self], [], [], seconds)
        return self._requested
