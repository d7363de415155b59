"""Minutes: how publishing went, one row a minute, for the desk's start page.

What was sent is added by the statement that settles it (``outbox.lease``), failures by who
publishes; and the relay looks now and then how old the oldest debt is, so that an outage
shows while it lasts.
"""

from datetime import datetime, timedelta

from django.db import connection
from django.db.models import Sum
from django.db.models.functions import Now
from django.utils import timezone

from usercast_master.outbox.models import Minute

KEEP_DAYS = 7
_REASON_LENGTH = 500


def added(
    *,
    changes: str = "0",
    slowest_seconds: str = "0",
    refused: str = "0",
    failures: str = "0",
    failure_reason: str = "''",
    source: str = "(SELECT) AS once",
) -> str:
    """SQL that adds to the current minute; each argument an expression over ``source``."""
    return f"""
INSERT INTO outbox_minute AS minute
    (minute, changes, slowest_seconds, refused, failures, failure_reason)
SELECT date_trunc('minute', clock_timestamp()),
       {changes}, {slowest_seconds}, {refused}, {failures}, {failure_reason}
FROM {source}
ON CONFLICT (minute) DO UPDATE
SET changes = minute.changes + excluded.changes,
    slowest_seconds = greatest(minute.slowest_seconds, excluded.slowest_seconds),
    refused = minute.refused + excluded.refused,
    failures = minute.failures + excluded.failures,
    failure_reason = coalesce(nullif(excluded.failure_reason, ''), minute.failure_reason)"""


_REFUSED = added(refused="%s")
_FAILED = added(failures="1", failure_reason="%s")
# Nothing is owed: nothing is written.
_SAMPLE = added(
    slowest_seconds="extract(epoch FROM clock_timestamp() - min(owed_since))",
    source="""outbox_entry
WHERE version > published_version AND parked_reason = ''
HAVING count(*) > 0""",
)


def refused(count: int) -> None:
    """SNS has refused so many entries."""
    _add(_REFUSED, [count])


def failed(reason: str) -> None:
    """SNS could not be reached."""
    _add(_FAILED, [" ".join(reason.split())[:_REASON_LENGTH]])


def sample() -> None:
    """Note how long the oldest debt has waited, if there is one."""
    _add(_SAMPLE, [])


def since(start: datetime) -> list[Minute]:
    """The minutes from then on in which anything happened, oldest first."""
    return list(Minute.objects.filter(minute__gte=start).order_by("minute"))


def changes_today() -> int:
    """Changes that SNS has accepted since midnight, by the service's time zone."""
    midnight = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    total = Minute.objects.filter(minute__gte=midnight).aggregate(total=Sum("changes"))["total"]
    return total or 0


def trim() -> None:
    """Forget what is older than ``KEEP_DAYS``."""
    Minute.objects.filter(minute__lt=Now() - timedelta(days=KEEP_DAYS)).delete()


def _add(statement: str, parameters: list[int | str]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
