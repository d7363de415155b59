"""Report: tells the master how this client stands, and what it has done with dismissals.

Gathers what ``inbox``, ``live`` and ``replica`` know; sent every few seconds by ``report.tasks``.
"""

from datetime import datetime, timedelta
from importlib.metadata import version
from typing import Any

from django.conf import settings
from django.utils import timezone

from usercast.contract import CONTRACT_VERSION, Lane
from usercast.serializers import ReportSerializer
from usercast_client.inbox.models import LaneProbe
from usercast_client.live import clock, receipts
from usercast_client.live.models import Receipt
from usercast_client.replica import master
from usercast_client.replica.models import Check

#: It ticks twice a second.
TICK_OLD_AFTER = timedelta(seconds=10)


def send() -> int:
    """Report; again and again while there are receipts to be told. Returns how many reports.

    Raises:
        ConfigurationError, MasterRefused, MasterUnreachable: see ``replica.master``; what was not
            taken is told the next time.
    """
    sent = 0
    while True:
        told = receipts.unsent(ReportSerializer.MAX_RECEIPTS)
        master.report(settings.USERCAST_CLIENT, _report(told))
        receipts.sent(told)
        sent += 1
        if len(told) < ReportSerializer.MAX_RECEIPTS:
            return sent


def _report(told: list[Receipt]) -> dict[str, Any]:
    tick = _tick()
    check = Check.objects.first()
    probes = {probe.lane: probe for probe in LaneProbe.objects.all()}
    report = {
        "contract": CONTRACT_VERSION,
        "service": version("usercast-client"),
        "users": tick.get("users"),
        "lag_ms": tick.get("lag_ms"),
        "lag_history": [
            {"start": start, "worst_ms": worst} for start, _, worst in tick.get("history", ())
        ],
        "dead_letters": tick.get("dead_letters"),
        **{lane.value: _lane(probes.get(lane)) for lane in Lane},
        "check": _check(check),
        "receipts": told,
    }
    return dict(ReportSerializer(report).data)


def _tick() -> dict[str, Any]:
    """What the clock told last; nothing if it has stopped, or Redis is away."""
    tick = clock.last()
    if tick is None or timezone.now() - datetime.fromisoformat(tick["time"]) > TICK_OLD_AFTER:
        return {}
    return tick


def _lane(probe: LaneProbe | None) -> dict[str, Any] | None:
    if probe is None:
        return None
    took = (probe.received_at - probe.sent_at) // timedelta(milliseconds=1)
    # Clocks of two machines are a little apart.
    return {"sent_at": probe.sent_at, "took_ms": max(took, 0)}


def _check(check: Check | None) -> dict[str, Any] | None:
    if check is None:
        return None
    return {
        "at": check.at,
        "took_ms": check.took_ms,
        "drift": check.drift,
        "behind": check.behind,
    }
