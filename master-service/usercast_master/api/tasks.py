"""The API's Celery task: forget kept answers."""

import structlog
from django.db import close_old_connections

from usercast_master.api import idempotency
from usercast_master.celery import app

log = structlog.get_logger(__name__)


@app.task(ignore_result=True)
def trim_answers() -> None:
    """Forget the answers kept for ``Idempotency-Key`` once their time is over."""
    close_old_connections()
    log.info("answers_trimmed", count=idempotency.trim())
