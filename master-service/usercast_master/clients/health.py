"""Health: how each client is, out of what it reports, what AWS counts, and how old both are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from django.utils import timezone

from usercast.contract import Lane
from usercast_master.clients import canary
from usercast_master.clients.models import Canary, Client

#: A client that has not reported for so long is silent.
SILENT_AFTER = timedelta(seconds=60)
#: A lane whose newest probe is older is dead, or far behind. Probes come every five seconds and are
#: reported within five more.
LANE_DEAD_AFTER = timedelta(seconds=20)
#: A comparison that is older says nothing of now; a client compares anew after ten times as long as
#: it took.
CHECK_OLD_AFTER = timedelta(minutes=2)
CHECK_OLD_AFTER_TIMES = 15


class State(Enum):
    """What an admin should know of a client first: in words, and how bad it is."""

    REMOVING = "being removed", "late"
    DEPLOYING = "being set up", "late"
    FAILED = "set-up failed", "bad"
    UNREGISTERED = "not registered", "late"
    NEW = "has not reported yet", "late"
    SILENT = "silent", "bad"
    POLLER_SILENT = "poller is silent", "bad"
    DRIFT = "drift", "bad"
    BEHIND = "behind", "late"
    NOT_COMPARED = "not compared", "late"
    IN_STEP = "in step", "good"

    @property
    def words(self) -> str:
        """As it is shown."""
        return self.value[0]

    @property
    def level(self) -> str:
        """``good``, ``late`` or ``bad``."""
        return self.value[1]


@dataclass(frozen=True, kw_only=True)
class LaneHealth:
    """What is known of one lane: how long its newest probe took, and how old that is."""

    name: str
    took_ms: int | None
    age_seconds: float | None
    is_silent: bool


@dataclass(frozen=True, kw_only=True)
class ClientHealth:
    """One client, as a row of the page; None is what is not known."""

    client: Client
    state: State
    drift: int | None
    behind: int | None
    compared_at: datetime | None
    compared_in_ms: int | None
    users: int | None
    lag_ms: int | None
    #: Ten seconds each, oldest first: when it began, and the worst lag; None without a change.
    lag_history: Sequence[tuple[int, int | None]]
    lanes: Sequence[LaneHealth]
    dead: int | None
    contract: str
    service: str

    @property
    def worst_lag_ms(self) -> int | None:
        """The worst of the last ten minutes."""
        return max((worst for _, worst in self.lag_history if worst is not None), default=None)


@dataclass(frozen=True, kw_only=True)
class Overview:
    """All clients, and when the canary was sent that tells their lanes' health."""

    at: datetime
    clients: Sequence[ClientHealth]
    canary_at: datetime | None
    is_canary_late: bool


def look() -> Overview:
    """Read them all: a row for each client."""
    now = timezone.now()
    last = Canary.objects.first()
    is_late = last is None or now - last.sent_at > canary.LATE_AFTER
    since = last.since if last and not is_late else None
    return Overview(
        at=now,
        clients=[_of(client, now, probed_since=since) for client in Client.objects.all()],
        canary_at=last.sent_at if last else None,
        is_canary_late=is_late,
    )


def report_age_seconds(one: ClientHealth, now: datetime) -> float | None:
    """Since it last reported, or else since it was registered."""
    last = one.client.reported_at or one.client.registered_at
    return (now - last).total_seconds() if last else None


def lane_age_seconds(one: ClientHealth) -> float | None:
    """Of the lane whose newest probe is older; None if none has come down one of them."""
    ages = [lane.age_seconds for lane in one.lanes]
    known = [age for age in ages if age is not None]
    return max(known) if len(known) == len(ages) else None


def _of(client: Client, now: datetime, *, probed_since: datetime | None) -> ClientHealth:
    report: Mapping[str, Any] = client.report or {}
    check: Mapping[str, Any] = report.get("check") or {}
    # Before a canary can have come, its absence says nothing.
    since = probed_since and client.registered_at and max(probed_since, client.registered_at)
    may_judge = since is not None and now - since > LANE_DEAD_AFTER
    lanes = [_lane(lane, report.get(lane.value), now, may_judge=may_judge) for lane in Lane]
    dead = report.get("dead_letters")
    return ClientHealth(
        client=client,
        state=_state(client, report.get("check"), lanes, now),
        drift=check.get("drift"),
        behind=check.get("behind"),
        compared_at=_time(check.get("at")),
        compared_in_ms=check.get("took_ms"),
        users=report.get("users"),
        lag_ms=report.get("lag_ms"),
        lag_history=[(one["start"], one["worst_ms"]) for one in report.get("lag_history", ())],
        lanes=lanes,
        dead=client.dead if dead is None else dead,
        contract=report.get("contract", ""),
        service=report.get("service", ""),
    )


def _lane(
    lane: Lane, probe: Mapping[str, Any] | None, now: datetime, *, may_judge: bool
) -> LaneHealth:
    sent_at = _time(probe["sent_at"]) if probe else None
    age = now - sent_at if sent_at else None
    return LaneHealth(
        name=lane.value,
        took_ms=probe["took_ms"] if probe else None,
        age_seconds=age.total_seconds() if age is not None else None,
        is_silent=may_judge and (age is None or age > LANE_DEAD_AFTER),
    )


def _state(
    client: Client, check: Mapping[str, Any] | None, lanes: Sequence[LaneHealth], now: datetime
) -> State:
    if client.setup_problem:
        return State.FAILED
    if client.setup:
        return State[client.setup.upper()]
    if client.registered_at is None:
        return State.UNREGISTERED
    if client.reported_at is None:
        is_new = now - client.registered_at < SILENT_AFTER
        return State.NEW if is_new else State.SILENT
    if now - client.reported_at > SILENT_AFTER:
        return State.SILENT
    if any(lane.is_silent for lane in lanes):
        return State.POLLER_SILENT
    return _compared(check, now)


def _compared(check: Mapping[str, Any] | None, now: datetime) -> State:
    if check is None:
        return State.NOT_COMPARED
    if check["drift"]:
        return State.DRIFT
    took = timedelta(milliseconds=check["took_ms"])
    if now - datetime.fromisoformat(check["at"]) > CHECK_OLD_AFTER + took * CHECK_OLD_AFTER_TIMES:
        return State.NOT_COMPARED
    return State.BEHIND if check["behind"] else State.IN_STEP


def _time(rfc3339: str | None) -> datetime | None:
    return datetime.fromisoformat(rfc3339) if rfc3339 else None
