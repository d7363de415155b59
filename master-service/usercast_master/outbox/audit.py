"""Audit: compares every user with what was last published of them, and marks who differs.

Signals cannot see raw SQL, nor a write through another model's queryset (``Group.objects.update``).
The content hash of what SNS accepted is in each entry, so one statement over two tables finds what
slipped by. What is owed anyway is left alone. Run by hand (``manage.py outbox audit``) and nightly.
"""

from collections.abc import Collection
from typing import NamedTuple
from uuid import UUID

from django.db import connection, transaction

from usercast_master.outbox import capture
from usercast_master.outbox.capture import Priority
from usercast_master.outbox.content import content_sql


class Drift(NamedTuple):
    """How many users the clients do not have as they are: in number, by what is wrong."""

    changed: int
    missing: int
    gone: int

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self)


# Who is inactive goes first: it may be a dismissal that somebody made in SQL.
_DRIFT = """
SELECT coalesce(content.id, entry.user_id) AS user_id,
       content.id IS NULL AS deleted,
       CASE WHEN content.is_active THEN {bulk} ELSE {urgent} END AS priority,
       entry.published_hash IS NULL AS missing
FROM (SELECT * FROM ({content}) AS users WHERE {users}) AS content
FULL JOIN (SELECT * FROM outbox_entry WHERE {entries}) AS entry ON entry.user_id = content.id
WHERE entry.user_id IS NULL
   OR (entry.version = entry.published_version
       AND entry.published_hash IS DISTINCT FROM content.content_hash)
"""


def find() -> Drift:
    """Count the users who differ from what was last published of them."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""SELECT count(*) FILTER (WHERE NOT missing AND NOT deleted),
                       count(*) FILTER (WHERE missing),
                       count(*) FILTER (WHERE deleted)
                FROM ({_drift_sql()}) AS drift"""
        )
        return Drift(*cursor.fetchone())


def mark(user_ids: Collection[UUID] | None = None) -> int:
    """Mark the users who differ, so that they are published; returns how many.

    Args:
        user_ids: look at these only, which costs as much as they are many; None: at all.
    """
    with transaction.atomic():
        if user_ids is None:
            return capture.mark(_drift_sql())
        ids = [str(user_id) for user_id in user_ids]
        return capture.mark(_drift_sql("{} = ANY(%(ids)s::uuid[])"), ids=ids)


def _drift_sql(condition: str = "true") -> str:
    """Drift among those whose id, put into the condition, fits it."""
    return _DRIFT.format(
        content=content_sql(),
        bulk=Priority.BULK.value,
        urgent=Priority.URGENT.value,
        users=condition.format("id"),
        entries=condition.format("user_id"),
    )
