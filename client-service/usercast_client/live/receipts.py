"""Receipts: takes from ``replica.apply`` who lost access here, keeps it until the master has it.

``live.hub`` adds how many sockets that closed. The client's reporter asks what is ``unsent`` and
says what it has ``sent``.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from django.db import connection
from django.db.models import Q
from django.utils import timezone

from usercast_client.live.models import Receipt

#: How long a receipt is kept once the master has it: for a change that comes once more.
KEPT = timedelta(days=1)
#: How long one is kept for a master that does not take it: this client is not registered.
KEPT_UNSENT = timedelta(days=90)
#: Sockets closed later than this were not closed by the dismissal that the receipt is for.
_SOCKETS_WITHIN = timedelta(minutes=1)


class Ended(NamedTuple):
    """A change that leaves a user without access; ``erased``: and without a row."""

    user_id: UUID
    version: int
    erased: bool


_NOTE = """
INSERT INTO live_receipt (user_id, version, erased, applied_at)
SELECT ended.*, %s FROM unnest(%s::uuid[], %s::bigint[], %s::boolean[]) AS ended
ON CONFLICT (user_id, version) DO NOTHING
"""

# In the order of ids, for the process beside this one may count sockets of the same users.
_SOCKETS = """
WITH newest AS (
    SELECT DISTINCT ON (user_id) id, sockets
    FROM live_receipt JOIN unnest(%s::uuid[], %s::int[]) AS closed (user_id, sockets)
         USING (user_id)
    WHERE applied_at > %s
    ORDER BY user_id, version DESC
),
locked AS (
    SELECT id, sockets FROM live_receipt JOIN newest USING (id) ORDER BY id
    FOR UPDATE OF live_receipt
)
UPDATE live_receipt SET sockets_closed = sockets_closed + sockets, sent_at = NULL
FROM locked WHERE live_receipt.id = locked.id
"""

_SENT = """
UPDATE live_receipt SET sent_at = %s
FROM unnest(%s::bigint[], %s::int[]) AS sent (id, sockets)
WHERE live_receipt.id = sent.id AND sockets_closed = sent.sockets
"""


def note(ended: Iterable[Ended], *, applied_at: datetime) -> None:
    """Record these, in the transaction that applies them; each user and version once."""
    rows = [(str(user_id), version, erased) for user_id, version, erased in ended]
    if rows:
        columns = [list(column) for column in zip(*rows, strict=True)]
        with connection.cursor() as cursor:
            cursor.execute(_NOTE, [applied_at, *columns])


def sockets_closed(counts: Mapping[UUID, int]) -> None:
    """Add closed sockets to these users' newest receipts, which so have to be sent once more.

    Raises:
        django.db.OperationalError: the database is away; nothing was added.
    """
    ids = [str(user_id) for user_id in counts]
    since = timezone.now() - _SOCKETS_WITHIN
    with connection.cursor() as cursor:
        cursor.execute(_SOCKETS, [ids, list(counts.values()), since])


def unsent(limit: int) -> list[Receipt]:
    """What the master does not have yet, oldest first."""
    return list(Receipt.objects.filter(sent_at=None).order_by("id")[:limit])


def sent(receipts: Sequence[Receipt]) -> None:
    """The master has these; one whose sockets have grown since stays unsent."""
    ids = [receipt.pk for receipt in receipts]
    sockets = [receipt.sockets_closed for receipt in receipts]
    with connection.cursor() as cursor:
        cursor.execute(_SENT, [timezone.now(), ids, sockets])


def trim() -> int:
    """Drop what the master has had for long enough, or never asked for; returns how many went."""
    now = timezone.now()
    old = Q(sent_at__lt=now - KEPT) | Q(applied_at__lt=now - KEPT_UNSENT)
    return Receipt.objects.filter(old).delete()[0]
