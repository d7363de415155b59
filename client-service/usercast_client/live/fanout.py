"""The fan-out: takes what ``live.hub`` has heard, offers it to all sockets of the process.

What comes while it offers goes together in one frame. So a process that cannot keep up with the
changes sends fewer and larger frames, and a tick waits for one of them at most.
"""

import asyncio
import time
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Any, Protocol

import structlog

from usercast import tracing
from usercast_client import metrics
from usercast_client.live.access import Grant, Reason, View
from usercast_client.live.broadcast import frame_of

log = structlog.get_logger(__name__)

#: So many sockets are offered a frame before it is written to them and anybody else has a turn.
_AT_A_TIME = 100


class Socket(Protocol):
    """What the hub knows of a WebSocket; no call waits for the browser."""

    grant: Grant
    #: When its session ends, as far as known.
    expires_at: datetime | None
    #: By the loop's clock, when it has to be opened anew.
    closes_at: float

    def offer(self, frame: str) -> None:
        """Have a frame sent."""

    def end(self, reason: Reason) -> None:
        """Tell the page that access ended, and close."""

    def renew(self) -> None:
        """Close, so that the page connects again."""


class FanOut:
    """Offers each frame to those who look at what it tells of."""

    def __init__(self, sockets: AbstractSet[Socket]) -> None:
        self._sockets = sockets
        #: What has not been offered yet; of ticks, the newest is enough.
        self._pushes: list[dict[str, Any]] = []
        self._tick: dict[str, Any] | None = None
        self._is_due = asyncio.Event()

    def push(self, message: dict[str, Any]) -> None:
        """Have changes told to the dashboards."""
        self._pushes.append(message)
        self._is_due.set()

    def tick(self, message: dict[str, Any]) -> None:
        """Have a tick told to every page."""
        self._tick = message
        self._is_due.set()

    async def run(self) -> None:
        """Tell what there is to tell, for ever."""
        while True:
            await self._is_due.wait()
            self._is_due.clear()
            try:
                await self._tell()
            except Exception:
                log.exception("fan_out_failed")

    async def _tell(self) -> None:
        pushes, self._pushes = self._pushes, []
        if pushes:
            with tracing.span("push", of=[one for push in pushes for one in push.get("of", ())]):
                sockets = await self._offer(frame_of(pushes), View.DASHBOARD)
            if sockets:
                _count(pushes, sockets)
        tick, self._tick = self._tick, None
        if tick:
            await self._offer(tick["text"], View.DASHBOARD)
            await self._offer(tick["own_text"], View.OWN)

    async def _offer(self, frame: str, view: View) -> int:
        sockets = [socket for socket in self._sockets if socket.grant.view is view]
        for start in range(0, len(sockets), _AT_A_TIME):
            for socket in sockets[start : start + _AT_A_TIME]:
                socket.offer(frame)
            await asyncio.sleep(0)
        return len(sockets)


def _count(pushes: Sequence[dict[str, Any]], sockets: int) -> None:
    """Have log and metrics tell what these sockets were told just now."""
    now = time.time()
    for push in pushes:
        if "first" not in push:
            continue  # an announcement: of what, the hub was not told
        for changed_at in push.get("changed_at", ()):
            metrics.PUSHED_LAG.observe(max(0.0, now - changed_at))
        log.info(
            "pushed",
            cursor=push["cursor"],
            changes=push["cursor"] - push["first"] + 1,
            sockets=sockets,
            trace=tracing.trace_ids(push.get("of", ())),
        )
