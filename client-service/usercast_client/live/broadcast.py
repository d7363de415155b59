"""Broadcast: takes committed changes from ``inbox.poller``, sends them to every open dashboard.

A push is a hint. It may be lost (Redis away, a browser asleep); the browser notices by the cursor
and asks the feed. So nothing here may fail or hold up the poller.
"""

import asyncio
import json
import threading

import structlog
from channels.layers import get_channel_layer

from usercast_client.live.feed import Told

log = structlog.get_logger(__name__)

#: The group of every open dashboard.
GROUP = "live"
#: A larger batch is announced by its cursor alone, and the browser fetches it in pages.
MAX_CHANGES_PER_PUSH = 50
SEND_SECONDS = 2.0


class Broadcaster:
    """Sends to the channel layer from a thread with an event loop of its own.

    The layer's connection lives as long as its loop does; a loop per push, as ``async_to_sync``
    would make, would connect to Redis anew each time.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="broadcast", daemon=True
        )
        self._thread.start()

    def push(self, told: Told) -> None:
        """Send changes that have been committed; returns at once, whatever Redis does."""
        if not told.entries:
            return
        text = encode_push(told)
        asyncio.run_coroutine_threadsafe(self._send(text), self._loop)

    def close(self) -> None:
        """Send what was pushed, for at most ``SEND_SECONDS``, and end the thread."""
        asyncio.run_coroutine_threadsafe(self._drain(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _send(self, text: str) -> None:
        layer = get_channel_layer()
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await layer.group_send(GROUP, {"type": "live.push", "text": text})
        except Exception as error:  # noqa: BLE001 - a hint that is lost costs nothing but a log line
            log.warning("push_lost", reason=repr(error))

    async def _drain(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=SEND_SECONDS)
        layer = get_channel_layer()
        await layer.flush()


def encode_push(told: Told) -> str:
    """The frame as every browser gets it: encoded once, here, not once a socket."""
    small = len(told.entries) <= MAX_CHANGES_PER_PUSH
    return json.dumps(
        {"type": "changes", "cursor": told.cursor, "changes": told.as_json() if small else []}
    )
