"""Receipts: takes from a client's report where access has ended, says what is outstanding.

``outbox.capture`` records the dismissals; each client that was registered then owes a receipt for
it, until the user may come in again. ``clients.dismissals`` shows them, in the words of
``clients.standing``.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Count, Exists, Min, OuterRef, Q, QuerySet
from django.utils import timezone

from usercast_master.accounts.models import User
from usercast_master.clients.models import Client, Receipt
from usercast_master.outbox.models import Dismissal
from usercast_master.outbox.scope import replicated


class Overdue(NamedTuple):
    """How many dismissals are outstanding past the objective, and since when the oldest is."""

    dismissals: int
    oldest: datetime | None


# A later version stands for the earlier ones: the client never hears of what became one message.
# But what is closed was superseded: the client's next dismissal of the user is not one of it.
_TAKE = """
WITH report AS (
    SELECT * FROM unnest(%(user_ids)s::uuid[], %(versions)s::bigint[],
                         %(applied_at)s::timestamptz[], %(sockets)s::int[], %(erased)s::boolean[])
         AS report (user_id, version, applied_at, sockets_closed, erased)
),
reached AS (
    SELECT DISTINCT ON (dismissal.id) dismissal.id, report.version, applied_at, sockets_closed,
           bool_or(erased) OVER (PARTITION BY dismissal.id) AND is_deletion AS erased
    FROM report JOIN outbox_dismissal AS dismissal
         ON dismissal.user_id = report.user_id AND dismissal.version <= report.version
    WHERE dismissal.is_open OR dismissal.version = report.version OR EXISTS (
        SELECT FROM clients_receipt
        WHERE dismissal_id = dismissal.id AND client_id = %(client)s
    )
    ORDER BY dismissal.id, applied_at, report.version
)
INSERT INTO clients_receipt AS known
    (client_id, dismissal_id, version, applied_at, sockets_closed, erased, received_at)
SELECT %(client)s, id, version, applied_at, sockets_closed, erased, %(now)s FROM reached
ORDER BY id
ON CONFLICT (client_id, dismissal_id) DO UPDATE SET
    version = CASE WHEN excluded.applied_at < known.applied_at
                   THEN excluded.version ELSE known.version END,
    applied_at = least(known.applied_at, excluded.applied_at),
    sockets_closed = greatest(known.sockets_closed, excluded.sockets_closed),
    erased = known.erased OR excluded.erased
-- Of a later version's report only that nothing is left by then concerns an earlier dismissal.
WHERE excluded.applied_at < known.applied_at
   OR (excluded.version = known.version AND excluded.sockets_closed > known.sockets_closed)
   OR (excluded.erased AND NOT known.erased)
RETURNING dismissal_id
"""


_TRIM = (
    """
    DELETE FROM clients_receipt USING outbox_dismissal AS dismissal
    WHERE dismissal.id = dismissal_id AND NOT is_open AND at < %s
    """,
    "DELETE FROM outbox_dismissal WHERE NOT is_open AND at < %s",
)


def take(client: Client, receipts: Sequence[Mapping[str, Any]]) -> None:
    """Record what a client reports, in its transaction; in any order and however often.

    What fits no dismissal is passed over: it was before receipts were kept, or is long past.

    Args:
        receipts: as ``usercast.serializers.ReceiptSerializer`` has them.
    """
    if not receipts:
        return
    names = ("version", "applied_at", "sockets_closed", "erased")
    versions, applied_at, sockets, erased = ([one[name] for one in receipts] for name in names)
    columns = {
        "user_ids": [str(receipt["user_id"]) for receipt in receipts],
        "versions": versions,
        "applied_at": applied_at,
        "sockets": sockets,
        "erased": erased,
    }
    with connection.cursor() as cursor:
        cursor.execute(_TAKE, {"client": client.pk, "now": timezone.now(), **columns})
        reached = [dismissal_id for (dismissal_id,) in cursor.fetchall()]
    # Two clients that report the last two receipts at once leave this to ``close``.
    _close(Dismissal.objects.filter(pk__in=reached).exclude(owed()))


def owing() -> QuerySet[Client]:
    """Of a dismissal in an outer query, the clients that owe a receipt, superseded or not."""
    given = Receipt.objects.filter(client=OuterRef("pk"), dismissal=OuterRef(OuterRef("pk")))
    return Client.objects.filter(~Exists(given), registered_at__lte=OuterRef("at"))


def owed() -> Q:
    """A condition on dismissals: some client owes a receipt."""
    return Q(Exists(owing()))


def allowed_in() -> QuerySet[User]:
    """Of a dismissal in an outer query, its user if they may come in again: it is superseded.

    Who came back inactive after a deletion is not among them: a client owes it that they cannot
    come in, and says so when it hears of either.
    """
    return User._base_manager.filter(replicated(), pk=OuterRef("user_id"), is_active=True)


def open_ones() -> Q:
    """A condition on dismissals: outstanding."""
    return Q(is_open=True) & owed() & ~Q(Exists(allowed_in()))


def overdue_ones() -> Q:
    """A condition on dismissals: outstanding past the objective."""
    due = timezone.now() - timedelta(seconds=settings.USERCAST_DISMISSAL_SECONDS)
    return open_ones() & Q(at__lt=due)


def overdue() -> Overdue:
    """What is outstanding past the objective; it costs as much as there are open ones."""
    late = Dismissal.objects.filter(overdue_ones())
    return Overdue(**late.aggregate(dismissals=Count("pk"), oldest=Min("at")))


def close() -> int:
    """Close dismissals that nobody owes a receipt for any more; returns how many.

    The user may come in again, a client was removed, or nothing was registered then.
    """
    return _close(Dismissal.objects.filter(~owed() | Q(Exists(allowed_in()))))


def _close(dismissals: QuerySet[Dismissal]) -> int:
    with transaction.atomic():
        # Those that a report is about to close are left to it, or the two could deadlock.
        free = dismissals.filter(is_open=True).select_for_update(skip_locked=True, no_key=True)
        ids = list(free.values_list("pk", flat=True))
        return Dismissal.objects.filter(pk__in=ids).update(is_open=False)


def trim() -> int:
    """Drop closed dismissals, with their receipts, after so many days; returns how many went."""
    oldest = timezone.now() - timedelta(days=settings.USERCAST_RECEIPT_DAYS)
    with transaction.atomic(), connection.cursor() as cursor:
        # In SQL: Django would read them all, since one hangs on the other.
        for statement in _TRIM:
            cursor.execute(statement, [oldest])
        return int(cursor.rowcount)
