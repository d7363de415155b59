"""What a client's tables tell of how it stands, as ``usercast.metrics`` tells it."""

import time
from collections.abc import Iterator

from django.utils import timezone
from prometheus_client import Metric

from usercast.metrics import gauge
from usercast_client import metrics
from usercast_client.inbox.models import LaneProbe
from usercast_client.replica.models import Check


def gauges() -> Iterator[Metric]:
    """How old is what waits in the queues, and what the last comparison found."""
    now = timezone.now()
    ages = {probe.lane: (now - probe.sent_at).total_seconds() for probe in LaneProbe.objects.all()}
    dead = {queue: time.monotonic() - since for queue, since in metrics.DEAD_SINCE.items()}
    yield gauge(
        "usercast_queue_oldest_seconds",
        "Of a lane, how long ago the newest probe was sent that has come down it; of dead letters,"
        " how long this process has seen some",
        ("queue",),
        (((queue,), age) for queue, age in {**ages, **dead}.items()),
    )
    check = Check.objects.first()
    if check is None:
        return
    yield gauge(
        "usercast_drift_users",
        "Users who differ for good from the master's, by the last comparison",
        (),
        iter([((), float(check.drift))]),
    )
    yield gauge(
        "usercast_compared_age_seconds",
        "How long ago the master stood as it was compared with",
        (),
        iter([((), (now - check.at).total_seconds())]),
    )
