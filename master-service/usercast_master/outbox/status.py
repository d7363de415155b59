"""Status: what the outbox owes, and owing it again; for ``manage.py outbox`` and the admin."""

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from django.db import connection, transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Least, Now

from usercast import postgres
from usercast_master.outbox import audit
from usercast_master.outbox.capture import CHANNEL, Priority
from usercast_master.outbox.models import OutboxEntry


class Status(NamedTuple):
    """What is owed: entries by priority, the age of the oldest, and what is set aside."""

    undelivered: dict[str, int]
    #: By priority, the age of the oldest in seconds; None of what there is nothing of.
    oldest: dict[str, float | None]
    #: Seconds since the first change not yet told; None when nothing is owed.
    oldest_seconds: float | None
    #: Refused by SNS before, waiting for their next try; among the undelivered.
    waiting: int
    parked: int


_STATUS = """
SELECT priority, count(*) FILTER (WHERE parked_reason = ''),
       extract(epoch FROM clock_timestamp() - min(owed_since) FILTER (WHERE parked_reason = '')),
       count(*) FILTER (WHERE attempts > 0 AND parked_reason = ''),
       count(*) FILTER (WHERE parked_reason <> '')
FROM outbox_entry
WHERE version > published_version
GROUP BY priority
"""


def status() -> Status:
    """Count what is owed now; costs as much as there is owed."""
    with connection.cursor() as cursor:
        cursor.execute(_STATUS)
        rows = {row[0]: row[1:] for row in cursor.fetchall()}
    undelivered = {p.name.lower(): rows[p][0] if p in rows else 0 for p in Priority}
    oldest = {p.name.lower(): rows[p][1] if p in rows else None for p in Priority}
    ages = {name: None if age is None else float(age) for name, age in oldest.items()}
    return Status(
        undelivered=undelivered,
        oldest=ages,
        oldest_seconds=max((age for age in ages.values() if age is not None), default=None),
        waiting=sum(waiting for _, _, waiting, _ in rows.values()),
        parked=sum(parked for _, _, _, parked in rows.values()),
    )


def republish(*, user_ids: Collection[UUID] | None = None, since: datetime | None = None) -> int:
    """Owe the latest versions again, in the bulk lane; returns how many entries are owed by it.

    For clients whose queues were lost, and for what was parked. Who has a version already drops it
    as a duplicate; therefore what was changed past Django (``outbox.audit``) is marked before, or
    its new state would go out under the old version.

    Args:
        user_ids: only these; None: every user, the deleted ones included.
        since: only who has changed since then.
    """
    entries: QuerySet[OutboxEntry] = OutboxEntry.objects.filter(
        Q(published_version=F("version")) | Q(attempts__gt=0) | ~Q(parked_reason="")
    )
    if user_ids is not None:
        entries = entries.filter(user_id__in=user_ids)
    if since is not None:
        entries = entries.filter(changed_at__gte=since)
    with transaction.atomic():
        audit.mark(user_ids)
        count = entries.update(
            published_version=Least(F("published_version"), F("version") - 1),
            owed_since=Now(),
            priority=Priority.BULK,
            attempts=0,
            refusals=0,
            claimed_until=None,
            parked_reason="",
        )
        postgres.notify(CHANNEL)
    return count
