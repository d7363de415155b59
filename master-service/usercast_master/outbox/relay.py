"""The relay: hears NOTIFY when a change commits, and has ``outbox.tasks`` publish it at once.

The notification is only a wake-up; the table is the truth. So the relay also looks by itself every
few seconds; and when the broker cannot take the task, or no worker does it, it publishes itself.
"""

import time

import structlog
from django.db import Error, close_old_connections

from usercast import heartbeat
from usercast.errors import PublishFailed, reason
from usercast.lifecycle import Stop
from usercast.postgres import listen
from usercast_master.outbox import lease, minutes, publisher
from usercast_master.outbox.capture import CHANNEL
from usercast_master.outbox.tasks import enqueue

log = structlog.get_logger(__name__)

IDLE_SECONDS = 3.0
#: Under load, notifications of this long share one task; a lone one is passed on at once.
COALESCE_SECONDS = 0.02
#: A change that waits so long while nobody publishes: the workers are away.
NEGLECTED_SECONDS = 5.0
#: How often the age of the oldest debt is noted.
SAMPLE_SECONDS = 10.0


def run(stop: Stop) -> None:
    """Relay until asked to stop; outlives PostgreSQL, Redis, SNS and the workers going away."""
    log.info("relay_started")
    looked_at = sampled_at = time.monotonic()
    for payloads in listen(CHANNEL, stop=stop, idle_seconds=IDLE_SECONDS):
        lacks = None
        close_old_connections()
        try:
            if (payloads or lease.is_due()) and not enqueue():
                lacks = _publish_here(stop)
            elif time.monotonic() - looked_at > NEGLECTED_SECONDS:
                looked_at = time.monotonic()
                if lease.is_neglected(for_seconds=NEGLECTED_SECONDS):
                    log.warning("outbox_neglected", for_seconds=NEGLECTED_SECONDS)
                    lacks = _publish_here(stop)
            if time.monotonic() - sampled_at > SAMPLE_SECONDS:
                sampled_at = time.monotonic()
                minutes.sample()
        except Error as error:
            lacks = "database unreachable"
            log.warning("outbox_unreachable", reason=reason(error))
        heartbeat.beat(lacks=lacks)
        stop.wait(COALESCE_SECONDS)
    log.info("relay_stopped")


def _publish_here(stop: Stop) -> str | None:
    """Publish; what it takes and is not there, if so."""

    def enough() -> bool:
        heartbeat.beat()
        return stop.requested

    try:
        publisher.publish_pending(enough=enough)
    except PublishFailed as error:
        log.warning("publish_failed", reason=reason(error))
        return "SNS unreachable"
    return None
