"""Whether a stack's processes do their work yet."""

import os
import signal
import threading
import time
from collections.abc import Callable

from embedded.errors import StackError
from embedded.ports import http_answers
from embedded.stack import Stack

TIMEOUT_SECONDS = 60.0
_TALKATIVE = ("-poller", "-clock")


class Readiness:
    """Waits in a thread until every web process answers and all that log their start have done so.

    Args:
        has_spoken: whether a process has logged anything yet.
        cancelled: set once waiting is pointless.
        on_ready: called in the thread once all are ready.
    """

    def __init__(
        self,
        stack: Stack,
        *,
        has_spoken: Callable[[str], bool],
        cancelled: threading.Event,
        on_ready: Callable[[], None],
    ) -> None:
        self._stack = stack
        self._has_spoken = has_spoken
        self._cancelled = cancelled
        self._on_ready = on_ready
        #: What was still missing when the time was over.
        self.failure: StackError | None = None

    def watch(self) -> None:
        """Begin to wait; after 60 s, ask this process to stop (SIGTERM) and keep the failure."""
        threading.Thread(target=self._wait, name="readiness", daemon=True).start()

    def missing(self) -> list[str]:
        """The names of the processes that are not ready."""
        services = self._stack.services.values()
        webs = [f"{service.name}-web" for service in services if not http_answers(service.url)]
        # Without pollers nothing arrives, and without clocks the pages say that they are stale.
        others = [name for name in self._stack.processes if name.endswith(_TALKATIVE)]
        return webs + [name for name in others if not self._has_spoken(name)]

    def _wait(self) -> None:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while missing := self.missing():
            if self._cancelled.wait(0.1):
                return
            if time.monotonic() > deadline:
                self.failure = StackError(
                    f"Not ready after {TIMEOUT_SECONDS:.0f} s: {', '.join(missing)}. "
                    f"Look into {self._stack.state_dir / 'logs'}."
                )
                os.kill(os.getpid(), signal.SIGTERM)
                return
        self._on_ready()
