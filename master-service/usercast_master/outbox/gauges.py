"""What the outbox owes, as ``usercast.metrics`` tells it."""

from collections.abc import Iterator

from prometheus_client import Metric

from usercast.metrics import gauge
from usercast_master.outbox import status


def gauges() -> Iterator[Metric]:
    """What the outbox owes now."""
    found = status.status()
    by_priority = ("priority",)
    yield gauge(
        "usercast_outbox_entries",
        "Users whose newest change SNS does not have yet",
        by_priority,
        (((name,), float(count)) for name, count in found.undelivered.items()),
    )
    yield gauge(
        "usercast_outbox_oldest_seconds",
        "How long the oldest of them has waited; 0 when there is none",
        by_priority,
        (((name,), age or 0.0) for name, age in found.oldest.items()),
    )
    yield gauge(
        "usercast_outbox_parked",
        "Users whose newest change is set aside",
        (),
        iter([((), float(found.parked))]),
    )
