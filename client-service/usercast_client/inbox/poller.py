"""The poller: takes messages from the client's two lanes, hands their changes to ``replica.apply``
and what came of them to ``live.broadcast``.

A message is deleted only after its changes are committed, so a crash at any line means it comes
again, and what comes again is dropped by its version. A lane has a thread of its own: a
deactivation in the live lane waits for no more than the one bulk apply that is under way.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

import structlog
from botocore.exceptions import BotoCoreError, ClientError
from django.db import (
    DatabaseError,
    DataError,
    IntegrityError,
    InterfaceError,
    close_old_connections,
    connection,
)

from usercast import heartbeat, tracing
from usercast.contract import Lane, UserChange
from usercast.errors import reason
from usercast.lifecycle import Stop
from usercast.topology import lane_queue_url
from usercast_client import metrics
from usercast_client.inbox import probes
from usercast_client.inbox.hold import Hold, give_back
from usercast_client.inbox.messages import Received, attribute, decode, delete, receive
from usercast_client.live.broadcast import Broadcaster
from usercast_client.replica.apply import apply

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageTypeDef

log = structlog.get_logger(__name__)

RETRY_SECONDS = 1.0
#: Classes of SQLSTATE by which PostgreSQL refuses what a statement brings: cardinality, data,
#: integrity, triggered changes, routines, WITH CHECK, a limit (an index row too long), RAISE.
REFUSALS = {"21", "22", "23", "27", "38", "39", "44", "54", "P0"}
#: How soon it is noticed that a lane's thread broke.
WATCH_SECONDS = 1.0
#: How long a lane may take to end: a receive, and an apply.
GRACE_SECONDS = 8.0
#: How soon a message that holds a bad change comes again, on its way to the dead-letter queue.
REJECTED_AGAIN_SECONDS = 2


class Lanes:
    """What the threads of a poller share: when to stop, the hold, and the way to the browsers."""

    def __init__(self, stop: Stop, *, hold: Hold, broadcaster: Broadcaster) -> None:
        self.stop = stop
        self.hold = hold
        self.broadcaster = broadcaster


def run(stop: Stop, *, client: str) -> None:
    """Poll both lanes until asked to stop; outlives SQS, PostgreSQL and Redis going away.

    Stops within 10 s: a receive under way ends, and what is in hand is applied. A lane that cannot
    end, because its database or SQS hangs, is given up: its messages are given back, and the
    process ends at once; what it had not committed comes again.

    Raises:
        ConfigurationError: a lane does not exist, or SQS cannot be reached, at the start.
    """
    urls = {lane: lane_queue_url(client, lane) for lane in Lane}
    shared = Lanes(stop, hold=Hold(), broadcaster=Broadcaster())
    log.info("poller_started", client=client)
    threads = ThreadPoolExecutor(len(urls), thread_name_prefix="lane")
    polling = [threads.submit(_poll, shared, lane, url) for lane, url in urls.items()]
    while not stop.wait(WATCH_SECONDS) and not any(lane_poll.done() for lane_poll in polling):
        pass
    # Asked to stop, or a lane broke: the other then stops too, and the process ends.
    stop.request()
    if wait(polling, timeout=GRACE_SECONDS).not_done:
        log.error("poller_gives_up")
        shared.hold.release()
        os._exit(os.EX_TEMPFAIL)  # A thread that hangs in the database would be waited for.
    shared.hold.close()
    shared.broadcaster.close()
    for lane_poll in polling:
        lane_poll.result()
    log.info("poller_stopped", client=client)


def _poll(shared: Lanes, lane: Lane, queue_url: str) -> None:
    heartbeat.enter(lane.value)
    while not shared.stop.requested:
        close_old_connections()
        try:
            # First the database: receiving what cannot be applied would count towards dead letters.
            connection.close_if_health_check_failed()
            connection.ensure_connection()
            messages = receive(queue_url)
            heartbeat.beat()
            _count_loop(lane, "messages" if messages else "empty")
            if messages:
                handle(messages, lane=lane, queue_url=queue_url, shared=shared)
        except (BotoCoreError, ClientError) as error:
            _count_loop(lane, "failed")
            heartbeat.beat(lacks="queue unreachable")
            log.warning("queue_unreachable", lane=lane.value, reason=reason(error))
            shared.stop.wait(RETRY_SECONDS)
        except (DatabaseError, InterfaceError) as error:
            _count_loop(lane, "failed")
            heartbeat.beat(lacks="database unreachable")
            log.warning("database_unreachable", lane=lane.value, reason=reason(error))
            shared.stop.wait(RETRY_SECONDS)
    close_old_connections()


def _count_loop(lane: Lane, outcome: str) -> None:
    metrics.POLL_LOOPS.labels(lane.value, outcome).inc()


def handle(
    messages: "Sequence[MessageTypeDef]", *, lane: Lane, queue_url: str, shared: Lanes
) -> None:
    """Decode, apply, push, then delete what was good and give back what was not.

    While the database cannot take them, the messages stay in hand, so that they are not received
    again and again until they count as dead. When asked to stop meanwhile, they are given back.
    """
    of = [attribute(message, "traceparent") for message in messages]
    with tracing.span("receive", kind=tracing.SpanKind.CONSUMER, of=of, messages=len(messages)):
        received = [decode(message) for message in messages]
        with shared.hold.holding(queue_url, _handles(received)):
            refused = _apply_when_possible(received, lane, shared)
    if refused is None:
        give_back(queue_url, _handles(received), in_seconds=0)
        return
    bad = [item for item in received if item.has_rejected or not refused.isdisjoint(item.changes)]
    good = [item for item in received if item not in bad]
    for item in good:
        if item.changes:  # the canary has none
            log.info(
                "applied",
                message_id=item.message_id,
                lane=lane.value,
                changes=len(item.changes),
                trace=tracing.trace_ids(change.traceparent for change in item.changes),
            )
    delete(queue_url, _handles(good))
    give_back(queue_url, _handles(bad), in_seconds=REJECTED_AGAIN_SECONDS)


def _apply_when_possible(
    received: Sequence[Received], lane: Lane, shared: Lanes
) -> set[UserChange] | None:
    """Apply, however long the database is away; None when asked to stop before it was possible."""
    changes = [change for item in received for change in item.changes]
    while True:
        try:
            refused = set(_apply(changes, lane, shared.broadcaster))
            probes.note(probe for item in received for probe in item.probes)
            return refused
        except (DatabaseError, InterfaceError) as error:
            heartbeat.beat(lacks="database unusable")
            log.warning("database_unusable", reason=reason(error))
        if shared.stop.wait(RETRY_SECONDS):
            return None
        close_old_connections()


def _apply(changes: Sequence[UserChange], lane: Lane, broadcaster: Broadcaster) -> list[UserChange]:
    """Apply all in one transaction, or in halves if it is refused; returns what is refused alone.

    Raises:
        DatabaseError: the fault is the database's (away, read-only, not migrated), not a change's.
    """
    if not changes:
        return []
    try:
        with tracing.span("apply", changes=len(changes)):
            applied = apply(changes)
    except Exception as error:
        if _is_outage(error):
            raise
        if len(changes) == 1:
            metrics.APPLIED.labels("rejected").inc()
            _log_refused(changes[0], error)
            return list(changes)
        middle = len(changes) // 2
        halves = (changes[:middle], changes[middle:])
        return [bad for half in halves for bad in _apply(half, lane, broadcaster)]
    # Committed, so browsers may know; the deletion of the messages need not hold them up.
    broadcaster.push(applied.told, of=[change.traceparent for change in changes])
    for outcome, count in applied.outcomes.items():
        metrics.APPLIED.labels(outcome.value).inc(count)
    if applied.stale:
        log.info("dropped", stale=applied.stale)
    lag = metrics.APPLIED_LAG.labels(lane.value)
    for entry in applied.told.entries:
        lag.observe(max(0.0, (applied.told.applied_at - entry.changed_at).total_seconds()))
    return []


def _is_outage(error: Exception) -> bool:
    """Whether the database cannot work, rather than that something refuses what it was given.

    What refuses may be a constraint or a trigger, or the code of a receiver of Django's signals.
    """
    if isinstance(error, (DataError, IntegrityError)):
        return False
    if not isinstance(error, (DatabaseError, InterfaceError)):
        return False
    return (getattr(error.__cause__, "pgcode", None) or "")[:2] not in REFUSALS


def _log_refused(change: UserChange, error: Exception) -> None:
    log.error(
        "change_refused",
        user_id=str(change.user_id),
        version=change.version,
        reason=reason(error),
        trace=tracing.trace_ids([change.traceparent]),
    )


def _handles(received: Sequence[Received]) -> list[str]:
    return [item.receipt_handle for item in received]
