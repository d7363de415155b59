"""What Celery beat asks of ``live``: to tick, and to keep feed and receipts short."""

import redis
import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError

from usercast.errors import reason
from usercast_client.celery import app
from usercast_client.live import clock, feed, receipts
from usercast_client.replica import removal

log = structlog.get_logger(__name__)


@app.task(ignore_result=True)
def tick() -> None:
    """Tell every open page the time and how things stand; nobody, if Redis or database is away."""
    try:
        clock.tick()
    except (redis.RedisError, DatabaseError, InterfaceError) as error:
        log.warning("tick_failed", reason=reason(error))


@app.task(ignore_result=True)
def trim_feed() -> None:
    """Drop what the feed, the receipts and the record of kept users no longer have to keep."""
    receipts.trim()
    removal.forget_removed()
    trimmed = feed.trim(keep=settings.USERCAST_FEED_KEEP)
    if trimmed:
        log.info("feed_trimmed", changes=trimmed)
