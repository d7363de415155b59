"""The hub: receives from ``live.broadcast`` once for a web process, hands each socket what is its.

It follows the feed by its cursor, as the browsers do: what it is told of a change it takes, and
what it was not told (a push was lost, Redis is away, a bulk write) it reads from the database. So a
socket whose user has lost access is closed, and a page of their own is told, whatever becomes of a
push.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

import structlog
from channels.db import database_sync_to_async
from channels.layers import get_channel_layer
from django.db import DatabaseError, InterfaceError
from django.utils import timezone

from usercast.errors import reason
from usercast_client import metrics
from usercast_client.live import access, feed, receipts
from usercast_client.live.access import Reason, View
from usercast_client.live.broadcast import GROUP, frame_of
from usercast_client.live.fanout import FanOut, Socket

log = structlog.get_logger(__name__)

#: In a thread of the pool, not in the one that all sockets would share.
in_database = partial(database_sync_to_async, thread_sensitive=False)

WATCH_SECONDS = 1.0
#: Without a tick for so long, the hub looks into the feed itself.
SILENCE_SECONDS = 2.0
#: Each session is looked at anew this often, whatever was told.
RECHECK_SECONDS = 30.0
RETRY_SECONDS = 1.0
#: What it takes to answer one page that fetches, and the longest to spread them over.
_FETCH_MS = 20
_SPREAD_AT_MOST_MS = 60_000
_SPREAD_WORTH_TELLING_MS = 1000
#: Why a socket ends that counts towards a receipt.
_DISMISSED = (Reason.DEACTIVATED, Reason.DELETED)


class Hub:
    """The sockets of one event loop. It listens from the first socket on, as long as the loop runs.

    Never in between: a subscription given up while a message is handled would stay in the layer.
    """

    def __init__(self) -> None:
        self._sockets: set[Socket] = set()
        self._fan_out = FanOut(self._sockets)
        self._tasks: list[asyncio.Task[None]] = []
        #: Up to which change users have been told of changes to themselves; None: not known yet.
        self._cursor: int | None = None
        self._ticked_at = 0.0
        #: Since when there has been a socket.
        self._joined_at = 0.0
        self._told_spread_ms = 0
        self._rechecked_at = 0.0
        #: Told to end, and not gone yet: counted already.
        self._ended: set[Socket] = set()
        #: Nobody else holds a task that nobody waits for.
        self._counting: set[asyncio.Task[None]] = set()

    def join(self, socket: Socket) -> None:
        """From now on this socket is told, and closed when its user loses access."""
        if not self._sockets:
            self._joined_at = _now()
        self._sockets.add(socket)
        metrics.SOCKETS.set(len(self._sockets))
        if not self._tasks:
            work = (self._listen, self._fan_out.run, self._watch)
            self._tasks = [asyncio.create_task(do()) for do in work]

    def begin(self, cursor: int) -> None:
        """A socket that has joined has seen the feed as it stands at this cursor."""
        if self._cursor is None:
            self._cursor = cursor

    def leave(self, socket: Socket) -> None:
        """The socket is closed; may be said twice."""
        self._sockets.discard(socket)
        metrics.SOCKETS.set(len(self._sockets))
        self._ended.discard(socket)
        if not self._sockets:
            self._cursor = None

    @property
    def spread_ms(self) -> int:
        """Over how long the pages of this process spread what all of them would fetch at once."""
        return min(_SPREAD_AT_MOST_MS, len(self._sockets) * _FETCH_MS)

    # Told

    async def _listen(self) -> None:
        while not _is_cancelled():
            try:
                layer = get_channel_layer()
                channel = await layer.new_channel()
                await layer.group_add(GROUP, channel)
                # Python 3.11's wait_for, in which redis connects, can swallow a cancellation.
                while not _is_cancelled():
                    await self._receive(await layer.receive(channel))
            except Exception as error:  # noqa: BLE001 - Redis is away; meanwhile the hub looks itself
                log.warning("layer_unreachable", reason=reason(error))
                with suppress(Exception):
                    await get_channel_layer().flush()
                await asyncio.sleep(RETRY_SECONDS)

    async def _receive(self, message: dict[str, Any]) -> None:
        handle: Callable[[dict[str, Any]], Coroutine[Any, Any, None]] | None = {
            "changes": self._on_changes,
            "tick": self._on_tick,
            "ended": self._on_ended,
            "recheck": self._on_recheck,
        }.get(message["type"])
        if handle is None:
            log.warning("message_unknown", type=message["type"])
            return
        await self._whatever_happens(handle(message))

    async def _on_changes(self, message: dict[str, Any]) -> None:
        self._fan_out.push(message)
        is_next = self._cursor is not None and message["first"] <= self._cursor + 1
        await self._reach(message["cursor"], message["users"] if is_next else [])

    async def _on_tick(self, message: dict[str, Any]) -> None:
        self._ticked_at = _now()
        self._fan_out.tick(message)
        await self._reach(message["cursor"], [])

    async def _on_ended(self, message: dict[str, Any]) -> None:
        """A session was ended by its user; the database may not show it yet."""
        for socket in [s for s in self._sockets if s.grant.session_key == message["session_key"]]:
            socket.end(Reason(message["reason"]))

    async def _on_recheck(self, message: dict[str, Any]) -> None:
        user_id = message["user_id"]
        await self._recheck(s for s in self._sockets if str(s.grant.user_id) == user_id)

    # Watching

    async def _watch(self) -> None:
        """Do what nobody tells the hub to do."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            heard_at = max(self._ticked_at, self._joined_at)
            metrics.HEARTBEAT_AGE.set(_now() - heard_at if self._sockets else 0.0)
            if self._sockets:
                await self._whatever_happens(self._look())

    async def _look(self) -> None:
        now = _now()
        for socket in [s for s in self._sockets if s.closes_at <= now]:
            socket.renew()
        self._tell_spread()
        is_silent = now - self._ticked_at > SILENCE_SECONDS
        if is_silent:
            await self._reach(await in_database(feed.newest_cursor)(), [], announce=True)
        # In silence, what ends a session here is not heard of either.
        if is_silent or now - self._rechecked_at > RECHECK_SECONDS:
            self._rechecked_at = now
            await self._recheck(self._sockets)
        else:
            await self._recheck(s for s in self._sockets if _has_expired(s))

    def _tell_spread(self) -> None:
        """Tell all pages anew once there are twice as many, or half as many, as when last told."""
        told, now = self._told_spread_ms, self.spread_ms
        if max(told, now) >= _SPREAD_WORTH_TELLING_MS and not told / 2 < now < told * 2:
            self._told_spread_ms = now
            frame = json.dumps({"type": "spread", "spread_ms": now})
            for socket in self._sockets:
                socket.offer(frame)

    async def _whatever_happens(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except (DatabaseError, InterfaceError) as error:
            # What was not done is done when the next tick, or the watch, finds the cursor behind.
            self._rechecked_at = 0.0
            log.warning("database_unreachable", reason=reason(error))
        except Exception:
            log.exception("hub_failed")

    # Following the feed

    async def _reach(self, cursor: int, told: Iterable[str], *, announce: bool = False) -> None:
        """Come to a cursor: tell users of changes to themselves, and see whether they may stay.

        Args:
            told: whom the changes up to there are about; empty if not known, and then read.
            announce: the dashboards have not been told of this cursor.
        """
        since, self._cursor = self._cursor, cursor
        if since is not None and cursor <= since:
            return  # lower if the feed has begun anew, or if a push overtook a tick
        try:
            concerned = await self._concerned(since, cursor, set(told))
            await self._recheck(concerned)
        except (DatabaseError, InterfaceError):
            self._cursor = since
            raise
        for socket in concerned:
            if socket.grant.view is View.OWN:
                socket.offer(frame_of([_announcement(cursor)]))
        if announce:
            self._fan_out.push(_announcement(cursor))

    async def _concerned(self, since: int | None, upto: int, told: set[str]) -> list[Socket]:
        replicated = [socket for socket in self._sockets if socket.grant.is_replicated]
        if since is None or not replicated:
            return replicated
        if not told:
            ids = {socket.grant.user_id for socket in replicated}
            told = await in_database(feed.of_users)(ids, after=since, upto=upto)
        return [socket for socket in replicated if str(socket.grant.user_id) in told]

    async def _recheck(self, sockets: Iterable[Socket]) -> None:
        """End those sockets whose users may no longer look."""
        asked = list(sockets)
        if not asked:
            return
        standing = await in_database(access.standing)({socket.grant for socket in asked})
        dismissed: Counter[UUID] = Counter()
        for socket in asked:
            ended, socket.expires_at = standing[socket.grant]
            if not ended:
                continue
            if ended in _DISMISSED and socket.grant.is_replicated and self._is_there(socket):
                dismissed[socket.grant.user_id] += 1
                self._ended.add(socket)
            socket.end(ended)
        if dismissed:
            self._count(dismissed)

    def _is_there(self, socket: Socket) -> bool:
        """It has neither gone, nor been told to."""
        return socket in self._sockets and socket not in self._ended

    def _count(self, dismissed: Mapping[UUID, int]) -> None:
        """Have closed sockets added to the receipts; nobody waits for it, or for the database."""
        task = asyncio.create_task(_add_to_receipts(dismissed))
        self._counting.add(task)
        task.add_done_callback(self._counting.discard)


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()


def current() -> Hub:
    """The hub of the running event loop."""
    return _hubs.setdefault(asyncio.get_running_loop(), Hub())


async def _add_to_receipts(dismissed: Mapping[UUID, int]) -> None:
    try:
        await in_database(receipts.sockets_closed)(dismissed)
    except Exception as error:  # noqa: BLE001 - the sockets are closed, which is what counts
        log.warning("closed_sockets_not_counted", reason=reason(error))


def _announcement(cursor: int) -> dict[str, Any]:
    """A push of nothing but the news that there is something."""
    return {"cursor": cursor, "changes": []}


def _has_expired(socket: Socket) -> bool:
    return socket.expires_at is not None and socket.expires_at <= timezone.now()


def _now() -> float:
    return asyncio.get_running_loop().time()


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
