"""The Celery tasks: publish the outbox, for the relay and as beat's sweep; audit it, nightly."""

import time

import redis
import structlog
from django.db import Error, close_old_connections
from kombu.exceptions import OperationalError

from usercast.errors import PublishFailed, reason
from usercast_master.celery import app
from usercast_master.outbox import audit, lease, minutes, publisher

log = structlog.get_logger(__name__)

#: A task is a hint; one that waited so long has been overtaken by another.
EXPIRES_SECONDS = 10


#: A worker that is asked to stop finishes its task first, so a long backlog is many tasks.
TASK_SECONDS = 5.0


@app.task(ignore_result=True)
def publish_outbox() -> None:
    """Publish what is due, with the help of other workers if there is a backlog.

    A failure costs nothing: the entries stay due for the next run.
    """
    close_old_connections()
    ends_at = time.monotonic() + TASK_SECONDS
    try:
        publisher.publish_pending(on_backlog=enqueue, enough=lambda: time.monotonic() > ends_at)
        if time.monotonic() > ends_at and lease.is_due():
            enqueue()
    except PublishFailed as error:
        log.warning("publish_failed", reason=reason(error))
    except Error as error:
        log.warning("outbox_unreachable", reason=reason(error))


def enqueue() -> bool:
    """Have a worker publish; False when the broker did not take the task."""
    try:
        publish_outbox.apply_async(retry=False, expires=EXPIRES_SECONDS)
    except (OperationalError, redis.RedisError, OSError) as error:
        log.warning("broker_unreachable", reason=reason(error))
        return False
    return True


@app.task(ignore_result=True)
def audit_outbox() -> None:
    """Mark the users who were changed past Django, so that the clients hear of them; tidy up."""
    close_old_connections()
    log.info("outbox_audited", marked=audit.mark())
    minutes.trim()
