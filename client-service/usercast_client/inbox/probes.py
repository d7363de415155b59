"""Probes: takes the master's canary from ``inbox.poller``, tells ``report`` that the lanes live."""

from collections.abc import Iterable
from datetime import datetime

from django.db import connection, transaction
from django.utils import timezone

from usercast.contract import Lane, Probe
from usercast_client.inbox.models import LaneProbe

# Standard queues keep no order: an older one may come later. One from the future was sent by a
# clock that has been set right since.
_NOTE = """
INSERT INTO inbox_lane_probe AS known (lane, sent_at, received_at) VALUES (%s, %s, %s)
ON CONFLICT (lane) DO UPDATE SET sent_at = excluded.sent_at, received_at = excluded.received_at
WHERE known.sent_at < excluded.sent_at
   OR known.sent_at > excluded.received_at + interval '1 minute'
"""


def note(probes: Iterable[Probe]) -> None:
    """These have just come; of each lane the newest counts.

    Raises:
        DatabaseError: the database is away.
    """
    newest = {probe.subject: probe.time for probe in sorted(probes, key=lambda one: one.time)}
    if newest:
        with transaction.atomic(), connection.cursor() as cursor:
            # In one order, so that two pollers do not wait for each other.
            for lane in sorted(newest):
                cursor.execute(_NOTE, [lane.value, newest[lane], timezone.now()])


def newest_of_both() -> LaneProbe | None:
    """The lane's that is further behind; None if a probe is yet to come down one of them.

    What the master had sent before it was sent has come, about: standard queues keep no order, and
    what a killed poller had in hand comes later.
    """
    known = {probe.lane: probe for probe in LaneProbe.objects.all()}
    if known.keys() != set(Lane):
        return None
    return min(known.values(), key=lambda probe: probe.sent_at)


def all_sent_before() -> datetime | None:
    """The time of ``newest_of_both``, by the master's clock."""
    probe = newest_of_both()
    return probe.sent_at if probe else None
