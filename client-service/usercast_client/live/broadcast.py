"""Broadcast: sends over the channel layer to the ``live.hub`` of every web process.

Takes committed changes from ``inbox.poller``, ticks from ``live.clock``, and news of lost access
from ``live.revocation``.

What is sent is a hint. It may be lost (Redis away, a process restarting); the hub and the browsers
notice by the cursor and ask. So nothing here may fail or hold up the sender.
"""

import asyncio
import atexit
import json
import threading
from collections.abc import Sequence
from functools import cache
from operator import itemgetter
from typing import Any

import redis
import structlog
from channels.layers import get_channel_layer

from usercast import tracing
from usercast.errors import reason
from usercast.process import COMMAND, process_name
from usercast_client.live.feed import BULK, Told

log = structlog.get_logger(__name__)

#: The group of every web process's hub.
GROUP = "live"
SEND_SECONDS = 2.0


class Broadcaster:
    """Sends to the channel layer from a thread with an event loop of its own.

    The layer's connection lives as long as its loop does; a loop per message, as ``async_to_sync``
    would make, would connect to Redis anew each time.

    Args:
        waits: whether a send waits until it is through, as a command's has to: where an interpreter
            is about to end, asyncio can no longer look up a host's name.
    """

    def __init__(self, *, waits: bool = False) -> None:
        self._waits = waits
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="broadcast", daemon=True
        )
        self._thread.start()

    def push(self, told: Told, *, of: Sequence[str | None] = ()) -> None:
        """Send changes that have been committed; never fails, and see ``send``.

        Args:
            of: the traceparents of what made them.
        """
        if told.entries:
            self.send(push_of(told) | {"of": tracing.representatives(of)})

    def send(self, message: dict[str, Any]) -> None:
        """Send a message to every hub; returns at once, whatever Redis does.

        One that waits returns after at most ``SEND_SECONDS``, and at once after a send that failed.
        """
        sending = asyncio.run_coroutine_threadsafe(self._send(message), self._loop)
        if self._waits:
            self._waits = sending.result()

    def close(self) -> None:
        """Send what was pushed, for at most ``SEND_SECONDS``, and end the thread."""
        asyncio.run_coroutine_threadsafe(self._drain(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _send(self, message: dict[str, Any]) -> bool:
        """Whether it was sent."""
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await _send_to_group(message)
        except Exception as error:  # noqa: BLE001 - a hint that is lost costs nothing but a log line
            log.warning("push_lost", reason=reason(error))
            return False
        return True

    async def _drain(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=SEND_SECONDS)
        layer = get_channel_layer()
        await layer.flush()


async def _send_to_group(message: dict[str, Any]) -> None:
    layer = get_channel_layer()
    try:
        await layer.group_send(GROUP, message)
    except redis.ConnectionError:
        # Redis was restarted since the last send, and only this one has noticed.
        await layer.group_send(GROUP, message)


@cache
def shared() -> Broadcaster:
    """This process's broadcaster; what was sent through it is sent before the process ends."""
    broadcaster = Broadcaster(waits=process_name() == COMMAND)
    atexit.register(broadcaster.close)
    return broadcaster


def push_of(told: Told) -> dict[str, Any]:
    """The message for changes: each as every browser gets it, and whom they are about.

    They are encoded here, once, and not once a socket. A bulk write is announced by its cursor
    alone: whoever shows some of it asks.
    """
    changes = told.as_json() if len(told.entries) <= BULK else []
    return {
        "type": "changes",
        "first": told.first,
        "cursor": told.cursor,
        "users": [change["user_id"] for change in changes],
        "changes": [json.dumps(change) for change in changes],
        # When the master committed them; of a bulk write, the first of them.
        "changed_at": sorted(entry.changed_at.timestamp() for entry in told.entries)[
            : len(changes) or 1
        ],
    }


def frame_of(pushes: Sequence[dict[str, Any]]) -> str:
    """One frame for all of these, in the order of their cursors, whatever order they came in.

    Too much for one is announced by the newest cursor alone, as a bulk write is.
    """
    pushes = sorted(pushes, key=itemgetter("cursor"))
    changes = [change for push in pushes for change in push["changes"]]
    if len(changes) > BULK or not all(push["changes"] for push in pushes):
        changes = []
    cursor = pushes[-1]["cursor"]
    return f'{{"type":"changes","cursor":{cursor},"changes":[{",".join(changes)}]}}'
