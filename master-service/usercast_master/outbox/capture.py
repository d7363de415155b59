"""Mark: takes ids of users that have changed, raises their versions in the outbox, wakes the relay.

Called by ``outbox.signals``, by the bulk writes of ``accounts.models`` and by ``outbox.audit``;
``outbox.relay`` hears. Nothing here speaks to Redis or AWS: a save works with both of them away.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import IntEnum
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from usercast import tracing
from usercast.errors import MarkedOutsideTransaction
from usercast_master.outbox import counters
from usercast_master.outbox.scope import replicated_sql

#: The NOTIFY channel that wakes the relay.
CHANNEL = "usercast_outbox"


class Priority(IntEnum):
    """How urgent an undelivered entry is; the publisher takes the lowest first."""

    URGENT = 0  # a deactivation or deletion
    SINGLE = 1  # one user saved
    BULK = 2  # one of many in a bulk write


_RAISE = """
INSERT INTO outbox_entry AS entry
    (user_id, version, published_version, changed_at, owed_since, deleted_at, priority, attempts,
     parked_reason, traceparent)
{rows}
ON CONFLICT (user_id) DO UPDATE SET
    version = entry.version + 1,
    -- Never back: this statement may have waited for a later change to commit.
    changed_at = greatest(entry.changed_at, excluded.changed_at),
    deleted_at = excluded.deleted_at,
    -- Of several changes that go as one state, the latest is the one to follow.
    traceparent = excluded.traceparent,
    -- A new change waits neither for the sending of an earlier one, which its publisher may not
    -- live to settle, nor for what that was refused for.
    claimed_until = NULL,
    attempts = 0,
    refusals = 0,
    parked_reason = '',
    owed_since = CASE
        WHEN entry.version > entry.published_version THEN entry.owed_since
        ELSE excluded.owed_since
    END,
    priority = CASE
        WHEN entry.version > entry.published_version THEN least(entry.priority, excluded.priority)
        ELSE excluded.priority
    END
"""

_ONE_ROW = """
VALUES (%s, 1, 0, clock_timestamp(), clock_timestamp(), CASE WHEN %s THEN clock_timestamp() END,
        %s, 0, '', %s)
"""

#: ``{changes}`` selects user_id, deleted and priority, each user once.
_MANY_ROWS = """
SELECT user_id, 1, 0, clock_timestamp(), clock_timestamp(),
       CASE WHEN deleted THEN clock_timestamp() END, priority, 0, '', %(traceparent)s
FROM ({changes}) AS change
ORDER BY user_id  -- two bulk writes lock their entries in one order
"""

_MARK_ONE = f"{_RAISE.format(rows=_ONE_ROW)} RETURNING pg_notify('{CHANNEL}', '')"

_MARK_MANY = f"""
WITH marked AS ({_RAISE.format(rows=_MANY_ROWS)} RETURNING user_id),
woken AS (SELECT pg_notify('{CHANNEL}', '') FROM (SELECT FROM marked LIMIT 1) AS any_marked)
SELECT count(*) FROM marked, (SELECT count(*) FROM woken) AS told
"""

# Urgent is who loses access: that the clients will have to confirm (``clients.receipts``).

_DISMISS = """
INSERT INTO outbox_dismissal (user_id, version, at, is_deletion)
SELECT user_id, version, changed_at, deleted_at IS NOT NULL FROM {marked}
ON CONFLICT (user_id, version) DO NOTHING
"""

_MARKED = "RETURNING user_id, version, changed_at, deleted_at"

_DISMISS_ONE = f"""
WITH marked AS ({_RAISE.format(rows=_ONE_ROW)} {_MARKED}),
dismissed AS ({_DISMISS.format(marked="marked")})
SELECT pg_notify('{CHANNEL}', '') FROM marked
"""

# Whether it is urgent is asked of the change: an undelivered entry may be so by an earlier one.
_DISMISS_MANY = f"""
WITH given AS MATERIALIZED ({{changes}}),
marked AS ({_RAISE.format(rows=_MANY_ROWS.format(changes="TABLE given"))} {_MARKED}),
urgent AS (SELECT user_id FROM given WHERE priority = {Priority.URGENT.value}),
dismissed AS ({_DISMISS.format(marked="marked JOIN urgent USING (user_id)")}),
woken AS (SELECT pg_notify('{CHANNEL}', '') FROM (SELECT FROM marked LIMIT 1) AS any_marked)
SELECT count(*) FROM marked, (SELECT count(*) FROM woken) AS told
"""

# Locked before it is asked whether they are in scope: who enters it at this moment counts. (OFFSET
# keeps PostgreSQL from asking first.)
_CHANGED = """
SELECT id AS user_id, false AS deleted, %(priority)s AS priority
FROM (
    SELECT id, is_staff, is_superuser FROM accounts_user WHERE id = ANY(%(ids)s::uuid[])
    ORDER BY id OFFSET 0 FOR NO KEY UPDATE
) AS locked
WHERE {replicated}
"""

_DELETED = """
SELECT user_id, true AS deleted, %(priority)s AS priority
FROM unnest(%(ids)s::uuid[]) AS user_id
"""


def mark_one(user_id: UUID, priority: Priority, *, deleted: bool = False) -> None:
    """Count one change of a user who is within the scope, or whom the clients must forget.

    An urgent one is recorded as a ``Dismissal`` too, as by the other functions here. Any other is
    the statement that every save costs: kept simple, since PostgreSQL plans it anew each time.

    Raises:
        MarkedOutsideTransaction: no transaction is open, so the mark could not belong to it.
    """
    require_transaction()
    statement = _DISMISS_ONE if priority is Priority.URGENT else _MARK_ONE
    with tracing.span("mark"), connection.cursor() as cursor:
        cursor.execute(statement, [str(user_id), deleted, priority.value, tracing.current()])
    _count(priority, 1)


def mark_changed(user_ids: Collection[UUID], priority: Priority) -> None:
    """Count one change of each of these users, for the clients to hear of.

    Users outside the scope are passed over. One statement, however many users; the relay wakes
    when the transaction commits.

    Raises:
        MarkedOutsideTransaction: as for ``mark_one``.
    """
    require_transaction()
    if user_ids:
        changes = _CHANGED.format(replicated=replicated_sql())
        statement = _DISMISS_MANY if priority is Priority.URGENT else _MARK_MANY
        _mark(statement, changes, priority, ids=_texts(user_ids), priority=priority.value)


def mark_deleted(user_ids: Collection[UUID]) -> None:
    """Count the deletion of users whom the clients know, or their leaving the scope.

    Raises:
        MarkedOutsideTransaction: as for ``mark_one``.
    """
    require_transaction()
    if user_ids:
        urgent = Priority.URGENT
        _mark(_DISMISS_MANY, _DELETED, urgent, ids=_texts(user_ids), priority=urgent.value)


def mark(changes: str, **parameters: Any) -> int:
    """Count the changes that a SELECT of user_id, deleted and priority finds; returns how many.

    Raises:
        MarkedOutsideTransaction: as for ``mark_one``.
    """
    require_transaction()
    return _mark(_DISMISS_MANY, changes, Priority.BULK, **parameters)


def _mark(statement: str, changes: str, counted_as: Priority, **parameters: Any) -> int:
    with tracing.span("mark"), connection.cursor() as cursor:
        parameters["traceparent"] = tracing.current()
        cursor.execute(statement.format(changes=changes), parameters)
        marked = int(cursor.fetchone()[0])
    _count(counted_as, marked)
    return marked


def _count(priority: Priority, changes: int) -> None:
    """Only what is committed counts."""
    transaction.on_commit(lambda: counters.CAPTURED.labels(priority.name.lower()).inc(changes))


def require_transaction() -> None:
    """Return within a transaction.

    Raises:
        MarkedOutsideTransaction: none is open.
    """
    if not connection.in_atomic_block:
        raise MarkedOutsideTransaction


_deletion_marked: ContextVar[frozenset[UUID]] = ContextVar("deletion_marked", default=frozenset())


@contextmanager
def deletion_marked_together(user_ids: Collection[UUID]) -> Iterator[None]:
    """While these users are deleted, the signals of each add nothing: all are marked already."""
    token = _deletion_marked.set(frozenset(user_ids))
    try:
        yield
    finally:
        _deletion_marked.reset(token)


def is_deletion_marked(user_id: UUID) -> bool:
    """Whether a bulk deletion has taken care of this user."""
    return user_id in _deletion_marked.get()


def _texts(user_ids: Collection[UUID]) -> list[str]:
    return [str(user_id) for user_id in user_ids]
