"""Reconcile: proves that the replica is the master's, or finds in what it is not, and mends that.

What seems to differ is compared again before it counts, since changes go on meanwhile. A repair
takes the user as the master has them and applies it like any change; so browsers are told, names
that clash are seen to, and what arrives at the same moment is decided by its version.
"""

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import structlog
from django.db import connection, transaction
from django.utils import timezone
from msgspec import Struct

from usercast.contract import UserChange, UserGone
from usercast.errors import UsercastError
from usercast.invariants import Wrong
from usercast_client.live import broadcast, feed
from usercast_client.replica import compare, master
from usercast_client.replica.apply import apply
from usercast_client.replica.compare import Difference
from usercast_client.replica.models import Check

log = structlog.get_logger(__name__)

#: Before what seems to differ is looked at again.
AGAIN_SECONDS = 1.0
#: With so many changes to be published, comparing would find nothing but those.
OWED_AT_MOST = 5_000
#: Users that are repaired in one transaction, and that the master is asked for at once.
TOGETHER = 1_000
ASKED_AT_ONCE = 100
#: Of the differences that are shown at the master's desk and kept.
EXAMPLES = 20


class NotComparable(UsercastError):
    """The master has yet to publish so much that a comparison would say nothing."""


class Found(Struct, frozen=True):
    """What a comparison found."""

    users: int
    deleted: int
    #: Who differs for good.
    drift: Sequence[Difference]
    #: How many users' newest changes are on their way.
    behind: int
    #: To look at again after a repair.
    buckets: Sequence[int]
    late: datetime


class Repaired(NamedTuple):
    """How many users were repaired, and how many had changed meanwhile and were left alone."""

    repaired: int
    left: int


def check(before: datetime | None) -> Found:
    """Compare, and keep the result for the next report (``Check``).

    Args:
        before: what was published later has not come yet (``inbox.probes.all_sent_before``).

    Raises:
        NotComparable: see there.
        ConfigurationError, MasterRefused, MasterUnreachable: see ``replica.master``.
    """
    began = time.monotonic()
    found = _find(before)
    Check.objects.update_or_create(
        id=1,
        defaults={
            "checked_at": timezone.now(),
            "took_ms": round((time.monotonic() - began) * 1000),
            "users": found.users,
            "drift": len(found.drift),
            "behind": found.behind,
            "examples": [
                {"user_id": str(one.user_id), "wrong": one.wrong.value}
                for one in found.drift[:EXAMPLES]
            ],
        },
    )
    log.info("compared", users=found.users, drift=len(found.drift), behind=found.behind)
    return found


def _find(before: datetime | None) -> Found:
    of_master = master.digests(before)
    if of_master.owed > OWED_AT_MOST:
        raise NotComparable(
            f"The master has yet to publish {of_master.owed:,} changes; compare when it has"
        )
    mine = compare.digests(of_master)
    buckets = of_master.differing(mine)
    first = list(compare.differences(buckets, late=of_master.late))
    drift, behind = _look_again(first, buckets, of_master.late)
    return Found(mine.users, mine.deleted, drift, behind, buckets, of_master.late)


def _look_again(
    first: Sequence[Difference], buckets: Sequence[int], late: datetime
) -> tuple[list[Difference], int]:
    """Who still differs in the same way, and how many others are on their way."""
    if not first:
        return [], 0
    time.sleep(AGAIN_SECONDS)
    seen = {one.user_id: one for one in first}
    again = [one for one in compare.differences(buckets, late=late) if one.user_id in seen]
    drift = [one for one in again if one.is_late and seen[one.user_id].is_late]
    return drift, len(again) - len(drift)


def repair(found: Found, progress: Callable[[int], None] = lambda _done: None) -> Repaired:
    """Bring those who differ to what the master has now.

    Who has changed here since the comparison is left alone: the next one will tell.

    Args:
        progress: told how many are done.

    Raises:
        MasterRefused, MasterUnreachable: what was repaired until then stays repaired.
        django.db.DatabaseError: the same.
    """
    repaired = 0
    for start in range(0, len(found.drift), TOGETHER):
        some = found.drift[start : start + TOGETHER]
        repaired += _repair(some, _fetched([one.user_id for one in some]))
        progress(start + len(some))
    return Repaired(repaired, len(found.drift) - repaired)


def _fetched(user_ids: Sequence[UUID]) -> dict[UUID, UserChange]:
    chunks = [user_ids[i : i + ASKED_AT_ONCE] for i in range(0, len(user_ids), ASKED_AT_ONCE)]
    return {change.user_id: change for chunk in chunks for change in master.users(chunk)}


def _repair(differences: Sequence[Difference], fetched: dict[UUID, UserChange]) -> int:
    with transaction.atomic():
        feed.lock()
        now = compare.here_of([one.user_id for one in differences])
        same = [one for one in differences if now[one.user_id] == one.here]
        ids = [one.user_id for one in same]
        _set_back(ids)
        changes = [fetched.get(user_id) or _unknown(user_id) for user_id in ids]
        applied = apply(changes, told_as_of=timezone.now()) if changes else None
        # Of whom the master never knew there is nothing to remember.
        _forget([user_id for user_id in ids if user_id not in fetched])
    if applied:
        broadcast.shared().push(applied.told)
    for one in same:
        log.warning("repaired", user_id=str(one.user_id), wrong=one.wrong.value)
    return len(same)


def _unknown(user_id: UUID) -> UserChange:
    return UserChange(changed_at=timezone.now(), data=UserGone(id=user_id, version=1))


def _set_back(user_ids: Sequence[UUID]) -> None:
    """Make any version newer than what is here, and any name's holder newer than these."""
    ids = [str(user_id) for user_id in user_ids]
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE replica_user SET version = 0, changed_at = NULL WHERE id = ANY(%s::uuid[])",
            [ids],
        )
        cursor.execute("DELETE FROM replica_tombstone WHERE user_id = ANY(%s::uuid[])", [ids])


def _forget(user_ids: Sequence[UUID]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM replica_tombstone WHERE user_id = ANY(%s::uuid[])",
            [[str(user_id) for user_id in user_ids]],
        )


#: How a difference reads in a report.
WORDS = {
    Wrong.MISSING: "missing here",
    Wrong.DIFFERENT: "not as the master has them",
    Wrong.EXTRA: "unknown to the master",
    Wrong.RESURRECTED: "deleted on the master",
    Wrong.TOMBSTONE: "deleted on the master, which is not remembered here",
}
