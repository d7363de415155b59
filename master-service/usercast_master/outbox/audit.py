"""Audit: compares every user with what was last published of them, and marks who differs.

Signals cannot see raw SQL, nor a write through another model's queryset (``Group.objects.update``).
The content hash of what SNS accepted is in each entry, so one statement over two tables finds what
slipped by. What is owed anyway is left alone. Run by hand (``manage.py outbox audit``) and nightly.
"""

from typing import NamedTuple

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
FROM ({content}) AS content
FULL JOIN outbox_entry AS entry ON entry.user_id = content.id
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


def mark() -> int:
    """Mark the users who differ, so that they are published; returns how many."""
    with transaction.atomic():
        return capture.mark(_drift_sql())


def _drift_sql() -> str:
    return _DRIFT.format(
        content=content_sql(), bulk=Priority.BULK.value, urgent=Priority.URGENT.value
    )
