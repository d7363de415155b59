"""The clock: twice a second Celery beat has it tell every open page the time and how things stand.

Receives the beat from ``live.tasks``; measures (``live.health``), keeps the result in Redis for
whoever opens a page, and sends it through ``live.broadcast``. A page that hears no tick knows that
it is stale.
"""

from datetime import datetime
from typing import Any

import msgspec
import redis
import structlog
from django.conf import settings
from django.utils import timezone
from msgspec import Struct
from redis.backoff import NoBackoff
from redis.retry import Retry

from usercast.errors import reason
from usercast_client.live import broadcast, feed, health
from usercast_client.live.health import Bucket

log = structlog.get_logger(__name__)

#: What is asked of Redis is answered within this, or not waited for.
_ANSWER_SECONDS = 0.2
#: However many workers and beats there are: no two ticks follow each other sooner.
_APART_MS = 400
#: A number of dead letters that is older than this is not told.
_DEAD_LETTERS_SECONDS = 300
_KEPT_SECONDS = 86_400


class Tick(Struct, kw_only=True, tag="tick", tag_field="type"):
    """What every open page is told twice a second."""

    time: datetime
    #: The newest change's; a page that has not got so far has missed something.
    cursor: int
    users: int
    active: int
    #: From the save on the master to here, of the newest change; None before the first.
    lag_ms: int | None
    #: When that one was applied.
    applied_at: datetime | None
    changes_per_minute: int
    #: About how many messages wait in the queues of dead letters; None if not known.
    dead_letters: int | None
    bucket: Bucket


class OwnTick(Struct, kw_only=True, tag="tick", tag_field="type"):
    """What a user's own page is told: how things stand on this client is not for everybody."""

    time: datetime
    cursor: int


class Kept(Tick, kw_only=True, tag="tick", tag_field="type"):
    """A tick as Redis has it: with what the next one and a page's first paint go on from."""

    history: list[Bucket]
    counts: health.Counts


_connection = redis.Redis.from_url(
    settings.REDIS_URL,
    socket_timeout=_ANSWER_SECONDS,
    socket_connect_timeout=_ANSWER_SECONDS,
    retry=Retry(NoBackoff(), 1),  # a connection that Redis's restart has broken
)


def _key(name: str) -> str:
    return f"usercast.{settings.USERCAST_CLIENT}.{name}"


def tick() -> bool:
    """Measure, keep and send; False if another worker has just done so.

    Raises:
        redis.RedisError: Redis is away; nobody was told.
        django.db.DatabaseError: the database is away; nobody was told.
    """
    if not _connection.set(_key("tick"), 1, nx=True, px=_APART_MS):
        return False
    kept, dead_letters = _read()
    now, cursor = timezone.now(), feed.newest_cursor()
    if kept is not None and (kept.cursor > cursor or kept.time > now):
        kept = None  # The database is another one than it was, or the clock was set back.
    counts = health.count(kept.counts if kept else None, cursor=cursor, now=now)
    known, after = (kept.history, kept.cursor) if kept else ([], 0)
    history = health.history(known, after=after, upto=cursor, now=now)
    newest = health.newest(cursor)
    told: dict[str, Any] = {
        "time": now,
        "cursor": cursor,
        "users": counts.users,
        "active": counts.active,
        "lag_ms": newest.lag_ms if newest else None,
        "applied_at": newest.applied_at if newest else None,
        "changes_per_minute": health.changes_per_minute(history, now),
        "dead_letters": dead_letters,
        "bucket": history[-1],
    }
    keep = Kept(**told, history=history, counts=counts)
    _connection.set(_key("clock"), msgspec.json.encode(keep), ex=_KEPT_SECONDS)
    message = {
        "type": "tick",
        "cursor": cursor,
        "text": msgspec.json.encode(Tick(**told)).decode(),
        "own_text": msgspec.json.encode(OwnTick(time=now, cursor=cursor)).decode(),
    }
    broadcast.shared().send(message)
    return True


def last() -> dict[str, Any] | None:
    """The last tick, with ``history``, the buckets of the last ten minutes; None if there is none.

    It may be old: its ``time`` tells. Never raises, and does not wait for a Redis that is away.
    """
    try:
        kept, _ = _read()
    except redis.RedisError as error:
        log.warning("clock_unreadable", reason=reason(error))
        return None
    if kept is None:
        return None
    told: dict[str, Any] = msgspec.to_builtins(kept)
    del told["counts"]
    return told


def note_dead_letters(count: int) -> None:
    """Have the next ticks tell this number.

    Raises:
        redis.RedisError: Redis is away.
    """
    _connection.set(_key("dead_letters"), count, ex=_DEAD_LETTERS_SECONDS)


def _read() -> tuple[Kept | None, int | None]:
    clock, dead_letters = _connection.mget(_key("clock"), _key("dead_letters"))
    try:
        kept = msgspec.json.decode(clock, type=Kept) if clock else None
    except msgspec.DecodeError:  # of another version of this service
        kept = None
    return kept, int(dead_letters) if dead_letters else None
