"""The health strip as it is at first paint: receives the clock's last tick, hands on what to print.

``static/dashboard/strip.js`` and ``clock.js`` go on from there, tick by tick.
"""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from usercast_client.dashboard.entries import age_words, lag_words, number
from usercast_client.live import clock, health

#: Five ticks were missed. The browser is told.
STALE_AFTER_MS = 2500


@dataclass(frozen=True, kw_only=True)
class Clock:
    """What time it was at the last tick; None if there is none to be had."""

    time: datetime | None
    age_ms: int | None

    @property
    def is_stale(self) -> bool:
        """Whether it has stopped."""
        return self.age_ms is None or self.age_ms > STALE_AFTER_MS


@dataclass(frozen=True, kw_only=True)
class Strip:
    """The numbers, in words."""

    clock: Clock
    lag: str
    worst: str
    #: When the newest change came; the lag is that one's.
    newest: datetime | None
    users: str
    active: str
    rate: str
    dead: str
    is_dead_bad: bool
    heartbeat: str
    #: JSON: the clock's buckets of the last ten minutes.
    history: str


def read_clock() -> Clock:
    """The clock as it is now."""
    return _clock(clock.last())


def read_strip() -> Strip:
    """The whole strip; without a tick, the users are counted and the rest is unknown."""
    tick = clock.last()
    known: dict[str, Any] = tick or {**health.count_users(), "history": []}
    now = _clock(tick)
    return Strip(
        clock=now,
        lag=lag_words(known.get("lag_ms")),
        worst=lag_words(_worst(known["history"])),
        newest=_time(known.get("applied_at")),
        users=number(known["users"]),
        active=number(known["active"]),
        rate=number(known.get("changes_per_minute")),
        dead=number(known.get("dead_letters")),
        is_dead_bad=bool(known.get("dead_letters")),
        heartbeat=age_words(now.age_ms),
        history=json.dumps(known["history"]),
    )


def _clock(tick: dict[str, Any] | None) -> Clock:
    if tick is None:
        return Clock(time=None, age_ms=None)
    time = datetime.fromisoformat(tick["time"])
    return Clock(time=time, age_ms=max(0, (timezone.now() - time) // timedelta(milliseconds=1)))


def _time(rfc3339: str | None) -> datetime | None:
    return datetime.fromisoformat(rfc3339) if rfc3339 else None


def _worst(history: list[list[Any]]) -> int | None:
    return max((lag for _, _, lag in history if lag is not None), default=None)
