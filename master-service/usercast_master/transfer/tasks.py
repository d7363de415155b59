"""The Celery tasks: work on imports that wait, for the page and as beat's look; forget old ones."""

from threading import Event
from typing import Any

import redis
import structlog
from celery.signals import worker_shutting_down
from django.db import Error, close_old_connections
from kombu.exceptions import OperationalError

from usercast.errors import reason
from usercast_master.celery import app
from usercast_master.transfer import importing, leases

log = structlog.get_logger(__name__)

#: A task is a hint; one that waited so long has been overtaken by beat's.
EXPIRES_SECONDS = 10

_stopping = Event()


@worker_shutting_down.connect
def stop_after_the_batch(**_kwargs: Any) -> None:
    """A worker that is asked to stop ends with the batch in hand; another one goes on."""
    _stopping.set()


@app.task(ignore_result=True)
def work_on_imports() -> None:
    """Check and import whatever waits, one import after the other.

    A failure costs nothing: the import goes on when its lease has ended.
    """
    close_old_connections()
    try:
        while not _stopping.is_set() and (found := leases.claim()):
            importing.run(found, stopped=_stopping.is_set)
    except Error as error:
        log.warning("imports_unreachable", reason=reason(error))


def enqueue() -> bool:
    """Have a worker look for imports now; False when the broker did not take the task."""
    try:
        work_on_imports.apply_async(retry=False, expires=EXPIRES_SECONDS)
    except (OperationalError, redis.RedisError, OSError) as error:
        log.warning("broker_unreachable", reason=reason(error))
        return False
    return True


@app.task(ignore_result=True)
def trim_imports() -> None:
    """Forget the imports of more than 30 days ago."""
    close_old_connections()
    log.info("imports_trimmed", count=leases.trim())
