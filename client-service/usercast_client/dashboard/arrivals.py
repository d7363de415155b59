"""Arrivals: whom a selection has now and had not when an open page's table was rendered.

``static/dashboard/arrivals.js`` counts the same from pushes.
"""

from collections.abc import Collection
from uuid import UUID

from django.db.models import Max, Min, QuerySet

from usercast_client.live.models import Change
from usercast_client.replica.models import User


def among(user_ids: Collection[UUID], *, since: int, changed_too: bool) -> set[UUID]:
    """Which of these users were created after a cursor, as far back as the feed reaches.

    Args:
        changed_too: whoever has changed counts as well, as where the latest come first.
    """
    found = _changes(since, changed_too=changed_too).filter(user_id__in=user_ids)
    return set(found.values_list("user_id", flat=True))


def count(
    selected: QuerySet[User], *, since: int, shown: Collection[UUID], changed_too: bool
) -> int | None:
    """How many of the selected users that are not shown were created after a cursor.

    None: the feed does not reach back to there, is another one by now, or does not name them all.
    """
    bounds = Change.objects.aggregate(oldest=Min("cursor"), newest=Max("cursor"))
    oldest, newest = bounds["oldest"] or 1, bounds["newest"] or 0
    if not oldest - 1 <= since <= newest:
        return None
    if Change.objects.filter(cursor__gt=since, kind=Change.Kind.BOOTSTRAP).exists():
        return None
    arrived = _changes(since, changed_too=changed_too).values("user_id")
    return selected.filter(pk__in=arrived).exclude(pk__in=shown).count()


def _changes(since: int, *, changed_too: bool) -> QuerySet[Change]:
    changes = Change.objects.filter(cursor__gt=since)
    return changes if changed_too else changes.filter(kind=Change.Kind.CREATED)
