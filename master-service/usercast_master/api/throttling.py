"""Throttling: so many requests per caller and window of time, counted in Redis.

With Redis away nobody is held up: a save must work without it. It is then asked again only every
few seconds, so that no request waits for it.
"""

import math
import re
import time
from typing import Any

import redis
import structlog
from django.conf import settings
from django.core.cache import caches
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from usercast.errors import reason
from usercast_master.api.models import caller_of

log = structlog.get_logger(__name__)

RATE = re.compile(r"^([1-9]\d*)/(s|sec|min|hour|day)$")
_SECONDS = {"s": 1, "sec": 1, "min": 60, "hour": 3600, "day": 86400}
ASK_AGAIN_SECONDS = 5.0


class Counter:
    """Counts in the cache ``throttle``, or says that it cannot."""

    def __init__(self) -> None:
        self._away_until = 0.0

    def count(self, key: str, *, seconds: int) -> int | None:
        """How many times this key was counted, this one included; None with Redis away."""
        if time.monotonic() < self._away_until:
            return None
        cache = caches["throttle"]
        try:
            if cache.add(key, 1, timeout=seconds):
                return 1
            return cache.incr(key)
        except ValueError:  # It expired between the two.
            return 1
        except (redis.RedisError, OSError) as error:
            self._away_until = time.monotonic() + ASK_AGAIN_SECONDS
            log.warning("throttle_unreachable", reason=reason(error))
            return None


counter = Counter()


class CallerThrottle(BaseThrottle):
    """Reading and writing are counted apart, by the rates of the settings (``6000/min``)."""

    def __init__(self) -> None:
        self._wait = 0.0

    def allow_request(self, request: Request, view: Any) -> bool:
        kind = "read" if request.method in SAFE_METHODS else "write"
        limit, seconds = parse(settings.API_RATES[kind])
        window, passed = divmod(time.time(), seconds)
        self._wait = seconds - passed
        key = f"{kind}:{self._caller(request)}:{int(window)}"
        count = counter.count(key, seconds=seconds)
        return count is None or count <= limit

    def wait(self) -> float:
        """Seconds until the next window."""
        return math.ceil(self._wait)

    def _caller(self, request: Request) -> str:
        if request.user is None or request.user.is_anonymous:
            return f"address:{self.get_ident(request)}"
        return caller_of(request)


def parse(rate: str) -> tuple[int, int]:
    """Requests and seconds of a rate that ``RATE`` fits."""
    found = RATE.fullmatch(rate)
    if found is None:
        raise ValueError(f"{rate!r} is no rate like 6000/min")
    return int(found[1]), _SECONDS[found[2]]
