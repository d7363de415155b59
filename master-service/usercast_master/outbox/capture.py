"""Mark: takes ids of users that have changed, raises their versions in the outbox, wakes the relay.

Called by ``outbox.signals`` and by the bulk writes of ``accounts.models``; ``outbox.relay`` hears.
Nothing here speaks to Redis or AWS: a save works with both of them away.
"""

from collections.abc import Collection
from enum import IntEnum
from uuid import UUID

from django.db import connection

from usercast.errors import MarkedOutsideTransaction

#: The NOTIFY channel that wakes the relay.
CHANNEL = "usercast_outbox"


class Priority(IntEnum):
    """How urgent an undelivered entry is; the publisher takes the lowest first."""

    URGENT = 0  # a deactivation or deletion
    SINGLE = 1  # one user saved
    BULK = 2  # one of many in a bulk write


_MARK = """
WITH marked AS (
    INSERT INTO outbox_entry AS entry
        (user_id, version, published_version, changed_at, deleted_at, priority, attempts)
    SELECT id, 1, 0, clock_timestamp(),
           CASE WHEN %(deleted)s THEN clock_timestamp() END, %(priority)s, 0
    FROM unnest(%(ids)s::uuid[]) AS id
    ORDER BY id  -- two bulk writes lock their entries in one order
    ON CONFLICT (user_id) DO UPDATE SET
        version = entry.version + 1,
        changed_at = clock_timestamp(),
        deleted_at = excluded.deleted_at,
        -- A new change does not wait out what an earlier one was refused for.
        claimed_until = CASE WHEN entry.attempts = 0 THEN entry.claimed_until END,
        attempts = 0,
        priority = CASE
            WHEN entry.version > entry.published_version
            THEN least(entry.priority, excluded.priority)
            ELSE excluded.priority
        END
    RETURNING user_id
)
SELECT pg_notify(%(channel)s, '') FROM (SELECT FROM marked LIMIT 1) AS any_marked
"""


def mark_changed(user_ids: Collection[UUID], priority: Priority) -> None:
    """Count one change of each of these users, for the clients to hear of.

    Users outside the scope are passed over. Two statements, however many users; the relay wakes
    when the transaction commits.

    Raises:
        MarkedOutsideTransaction: no transaction is open, so the mark could not belong to it.
    """
    _require_transaction()
    if not user_ids:
        return
    from usercast_master.accounts.models import User
    from usercast_master.outbox.scope import replicated

    in_scope = User._base_manager.filter(replicated(), pk__in=user_ids).values_list("pk", flat=True)
    _mark(list(in_scope), priority, deleted=False)


def mark_deleted(user_ids: Collection[UUID]) -> None:
    """Count the deletion of users whom the clients know, or their leaving the scope.

    Raises:
        MarkedOutsideTransaction: as for ``mark_changed``.
    """
    _require_transaction()
    if user_ids:
        _mark(list(user_ids), Priority.URGENT, deleted=True)


def _mark(user_ids: list[UUID], priority: Priority, *, deleted: bool) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            _MARK,
            {
                "ids": [str(user_id) for user_id in user_ids],
                "priority": priority.value,
                "deleted": deleted,
                "channel": CHANNEL,
            },
        )


def _require_transaction() -> None:
    if not connection.in_atomic_block:
        raise MarkedOutsideTransaction
