"""What the master knows of its clients, as ``usercast.metrics`` tells it."""

from collections.abc import Iterator

from prometheus_client import Metric

from usercast.metrics import Samples, gauge
from usercast_master.clients import health, receipts
from usercast_master.clients.health import ClientHealth

LABELS = ("client",)


def gauges() -> Iterator[Metric]:
    """Each registered client by what it reports; what is not known of one is left out."""
    found = health.look()
    clients = [one for one in found.clients if one.client.registered_at and not one.client.setup]

    def each(values: Iterator[tuple[ClientHealth, float | None]]) -> Samples:
        return (((one.client.name,), value) for one, value in values if value is not None)

    yield gauge(
        "usercast_client_report_age_seconds",
        "Since the client last reported; of one that never has, since it was registered",
        LABELS,
        each((one, health.report_age_seconds(one, found.at)) for one in clients),
    )
    yield gauge(
        "usercast_client_lane_age_seconds",
        "Age of the newest probe that the client says has come down its slower lane",
        LABELS,
        each((one, health.lane_age_seconds(one)) for one in clients),
    )
    yield gauge(
        "usercast_client_drift_users",
        "Users who differ for good from the master's, by the client's last comparison",
        LABELS,
        each((one, one.drift) for one in clients),
    )
    yield gauge(
        "usercast_client_dead_letters",
        "Messages that the client could not take, or SNS could not hand on",
        LABELS,
        each((one, one.dead) for one in clients),
    )
    yield gauge(
        "usercast_dismissals_overdue",
        "Dismissals that some client has not confirmed within the objective",
        (),
        iter([((), float(receipts.overdue().dismissals))]),
    )
