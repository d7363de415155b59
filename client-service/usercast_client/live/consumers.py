"""The WebSockets of the pages: hand each browser what ``live.hub`` offers, in order.

The browser asks nothing over the socket but whether it is alive; what it missed it fetches by REST.
"""

import asyncio
import json
import random
from datetime import datetime
from typing import Any, NamedTuple

import structlog
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.db import DatabaseError, InterfaceError

from usercast.errors import reason
from usercast_client import metrics
from usercast_client.live import access, feed, hub
from usercast_client.live.access import Grant, Reason, View
from usercast_client.live.hub import in_database

log = structlog.get_logger(__name__)

#: Close codes. After 4001 a page does not come back; after the others it does, after 4002 at once.
ACCESS_ENDED = 4001
RENEW = 4002
TOO_SLOW = 1013
UNKNOWN_MESSAGE = 1008
TOO_LARGE = 1009

#: A browser that is further behind is closed, and catches up by its cursor when it comes back.
FRAMES_WAITING_AT_MOST = 256
MESSAGE_AT_MOST_BYTES = 256
#: So long at most, and somewhat less at random, so that sockets do not end all at once.
LONGEST_LIFE_SECONDS = 12 * 3600.0


class Greeting(NamedTuple):
    """What a socket that has joined has to know of how things stand."""

    ended: Reason | None
    expires_at: datetime | None
    #: The feed's newest change, and the newest that concerns this view.
    cursor: int
    own_cursor: int


class LiveConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """The dashboard's socket; whoever may not see the dashboard is refused at the handshake."""

    view = View.DASHBOARD
    # The hub listens to the channel layer, once for all sockets.
    channel_layer_alias = None
    _writer: asyncio.Task[None] | None = None

    async def __call__(self, *args: Any) -> None:
        self.grant: Grant
        self.expires_at: datetime | None = None
        self.closes_at = (
            asyncio.get_running_loop().time() + random.uniform(0.9, 1.0) * LONGEST_LIFE_SECONDS
        )
        self._hub = hub.current()
        self._closing = False
        self._frames: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        try:
            await super().__call__(*args)
        finally:
            # However the connection ended; a server that is killed calls no disconnect().
            self._hub.leave(self)
            if self._writer is not None:
                self._writer.cancel()

    async def connect(self) -> None:
        try:
            greeting = await self._join()
        except (DatabaseError, InterfaceError) as error:
            # Refused for now: the page asks by REST why, and tries again.
            log.warning("database_unreachable", reason=reason(error))
            greeting = None
        if greeting is None or greeting.ended:
            await self.close()
            return
        self.expires_at = greeting.expires_at
        self._hub.begin(greeting.cursor)
        await self.accept()
        hello = {
            "type": "hello",
            "cursor": greeting.own_cursor,
            "spread_ms": self._hub.spread_ms,
        }
        await self.send(json.dumps(hello))
        self._writer = asyncio.create_task(self._write())

    async def _join(self) -> Greeting | None:
        """Join the hub and look after that: what happens in between comes twice, not never."""
        session_key = self.scope["cookies"].get(settings.SESSION_COOKIE_NAME)
        grant = await in_database(access.admit)(session_key, self.view)
        if grant is None:
            return None
        self.grant = grant
        self._hub.join(self)
        greeting: Greeting = await in_database(_greet)(grant)
        return greeting

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if len(text_data or bytes_data or "") > MESSAGE_AT_MOST_BYTES:
            self._close(TOO_LARGE)
        elif _type_of(text_data) == "ping":
            self.offer('{"type":"pong"}')
        else:
            self._close(UNKNOWN_MESSAGE)

    # What the hub asks of a socket (``fanout.Socket``).

    def offer(self, frame: str) -> None:
        if self._closing:
            return
        if self._frames.qsize() >= FRAMES_WAITING_AT_MOST:
            self._close(TOO_SLOW)
            return
        self._frames.put_nowait({"type": "websocket.send", "text": frame})

    def end(self, reason: Reason) -> None:
        self.offer(json.dumps({"type": "ended", "reason": reason}))
        self._close(ACCESS_ENDED)

    def renew(self) -> None:
        self._close(RENEW)

    def _close(self, code: int) -> None:
        """Close once what waits is sent; nothing is taken any more."""
        if not self._closing:
            self._closing = True
            self._frames.put_nowait({"type": "websocket.close", "code": code})

    async def _write(self) -> None:
        try:
            while True:
                await self.base_send(await self._frames.get())
                metrics.FRAMES.inc()
        except Exception as error:  # noqa: BLE001 - gone; the server says so by disconnect() as well
            log.debug("socket_gone", reason=reason(error))


class OwnConsumer(LiveConsumer):
    """The socket of a user's own page: says only that something of theirs has changed."""

    view = View.OWN


def _greet(grant: Grant) -> Greeting:
    ended, expires_at = access.standing([grant])[grant]
    newest = feed.newest_cursor()
    own = feed.newest_cursor(grant.user_id) if grant.view is View.OWN else newest
    return Greeting(ended, expires_at, cursor=newest, own_cursor=own)


def _type_of(text: str | None) -> Any:
    try:
        message = json.loads(text or "")
    except ValueError:
        return None
    return message.get("type") if isinstance(message, dict) else None
