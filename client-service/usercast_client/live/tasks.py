"""What Celery beat asks of a client: keep the change feed short."""

import structlog
from django.conf import settings

from usercast_client.celery import app
from usercast_client.live import feed

log = structlog.get_logger(__name__)


@app.task(ignore_result=True)
def trim_feed() -> None:
    """Drop what the feed no longer has to keep."""
    trimmed = feed.trim(keep=settings.USERCAST_FEED_KEEP)
    if trimmed:
        log.info("feed_trimmed", changes=trimmed)
