"""The Celery task that publishes the outbox: enqueued by the relay, and by beat as a sweep."""

import structlog

from usercast.errors import PublishFailed
from usercast_master.celery import app
from usercast_master.outbox import publisher

log = structlog.get_logger(__name__)


@app.task(ignore_result=True)
def publish_outbox() -> None:
    """Publish whatever is due. A failure costs nothing: the entries stay due for the next run."""
    try:
        publisher.publish_pending()
    except PublishFailed as error:
        log.warning("publish_failed", reason=str(error))
