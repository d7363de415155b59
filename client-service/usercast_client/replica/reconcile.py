"""Reconcile: proves that the replica is the master's, or finds in what it is not, and mends that.

What seems to differ is compared again before it counts, since changes go on meanwhile. A repair
takes the user as the master has them and applies it like any change; so browsers are told, names
that clash are seen to, and what arrives at the same moment is decided by its version.
"""

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import NamedTuple
from uuid import UUID

import structlog
from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, transaction
from django.utils import timezone
from msgspec import Struct, structs

from usercast.contract import UserChange, UserGone
from usercast.errors import UsercastError
from usercast.invariants import Wrong
from usercast_client.live import broadcast, feed
from usercast_client.replica import bootstrap, compare, master
from usercast_client.replica.alone import alone
from usercast_client.replica.apply import Applied, apply
from usercast_client.replica.compare import Difference
from usercast_client.replica.models import Check

log = structlog.get_logger(__name__)

#: Any fixed number: one comparison at a time.
_LOCK = 7_264_003
#: Before what seems to differ is looked at again.
AGAIN_SECONDS = 1.0
#: With so many changes to be published, comparing would find nothing but those.
OWED_AT_MOST = 5_000
#: Differences that are looked at; a client that has more of them lacks a first load.
DIFFERENCES_AT_MOST = 10_000
#: Users that are repaired in one transaction, and that the master is asked for at once.
TOGETHER = 1_000
ASKED_AT_ONCE = 100
#: So many users a repair may delete in any case.
FEW = 20
#: The clock's comparisons take at most one part in so many of the time.
SHARE = 10


class NotComparable(UsercastError):
    """A comparison would say nothing now: much is still to be published, or to be loaded."""


class Found(Struct, frozen=True):
    """What a comparison found."""

    #: By the master's clock: changes after it were left out.
    at: datetime
    users: int
    deleted: int
    #: Who differs for good.
    drift: Sequence[Difference]
    #: How many users' newest changes are on their way.
    behind: int
    #: There are more differences than were looked at.
    is_cut: bool = False


class TooManyDeletions(UsercastError):
    """The master knows so few of the users here that it may be another one."""


class Repaired(NamedTuple):
    """How many users were repaired, and how many were left alone."""

    repaired: int
    left: int


def check(before: datetime | None, *, wait_seconds: float = 0.0) -> Found:
    """Compare, and keep the result for the next report (``Check``).

    Args:
        before: what was published later has not come yet (``inbox.probes.all_sent_before``).
        wait_seconds: how long to wait for the end of another comparison.

    Raises:
        NotComparable: see there.
        AlreadyRunning: another comparison is at work.
        ConfigurationError, MasterRefused, MasterUnreachable: see ``replica.master``.
    """
    began = time.monotonic()
    with alone(_LOCK, "comparison", wait_seconds=wait_seconds):
        if bootstrap.is_running():
            raise NotComparable("A first load is at work; compare when it has ended")
        try:
            found = _find(before)
        finally:
            took = timedelta(seconds=time.monotonic() - began)
            Check.objects.filter(id=1).update(next_at=timezone.now() + took * SHARE)
        Check.objects.update_or_create(
            id=1,
            defaults={
                "at": found.at,
                "took_ms": took // timedelta(milliseconds=1),
                "next_at": timezone.now() + took * SHARE,
                "users": found.users,
                "drift": len(found.drift),
                "behind": found.behind,
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
    differences = compare.differences(buckets, late=of_master.late)
    first = list(islice(differences, DIFFERENCES_AT_MOST))
    drift, behind = _look_again(first, of_master.late)
    is_cut = len(first) == DIFFERENCES_AT_MOST
    return Found(of_master.watermark, mine.users, mine.deleted, drift, behind, is_cut)


def _look_again(first: Sequence[Difference], late: datetime) -> tuple[list[Difference], int]:
    """Who still differs in the same way, and how many others are on their way."""
    if not first:
        return [], 0
    time.sleep(AGAIN_SECONDS)
    seen = {one.user_id: one for one in first}
    buckets = compare.buckets_of(list(seen))
    again = [one for one in compare.differences(buckets, late=late) if one.user_id in seen]
    drift = [one for one in again if one.is_late and seen[one.user_id].is_late]
    missing = [one.user_id for one in drift if one.wrong is Wrong.MISSING]
    local = compare.local_ids(missing) if missing else set()
    marked = [structs.replace(one, is_local=one.user_id in local) for one in drift]
    return marked, len(again) - len(drift)


def repair(
    found: Found,
    progress: Callable[[int], None] = lambda _done: None,
    *,
    may_delete_many: bool = False,
) -> Repaired:
    """Bring those who differ to what the master has now.

    Left alone is who has changed here since the comparison, whose id a local account has, and whom
    the database or the contract refuses; the log says so.

    Args:
        progress: told how many are done.

    Raises:
        TooManyDeletions: a tenth of the users here would go, and that was not allowed.
        MasterRefused, MasterUnreachable: what was repaired until then stays repaired.
        django.db.OperationalError: the same.
    """
    doomed = sum(one.wrong in (Wrong.EXTRA, Wrong.RESURRECTED) for one in found.drift)
    if doomed > max(FEW, found.users // 10) and not may_delete_many:
        raise TooManyDeletions(
            f"The master at {settings.USERCAST_MASTER_URL} does not have {doomed:,} of the "
            f"{found.users:,} users here, who would be deleted; nothing was repaired"
        )
    repaired = 0
    for start in range(0, len(found.drift), TOGETHER):
        some = [one for one in found.drift[start : start + TOGETHER] if not one.is_local]
        fetched = _fetched([one.user_id for one in some])
        readable = [one for one in some if fetched.get(one.user_id, ...) is not None]
        repaired += _repair(readable, {k: change for k, change in fetched.items() if change})
        progress(min(start + TOGETHER, len(found.drift)))
    return Repaired(repaired, len(found.drift) - repaired)


def _fetched(user_ids: Sequence[UUID]) -> dict[UUID, UserChange | None]:
    found: dict[UUID, UserChange | None] = {}
    for start in range(0, len(user_ids), ASKED_AT_ONCE):
        found |= master.users(user_ids[start : start + ASKED_AT_ONCE])
    return found


def _repair(differences: Sequence[Difference], fetched: dict[UUID, UserChange]) -> int:
    """Repair in one transaction, or in halves if it is refused; returns how many were."""
    if not differences:
        return 0
    try:
        repaired = _repaired(differences, fetched)
    except (OperationalError, InterfaceError):
        raise
    except Exception as error:  # noqa: BLE001 - also what a receiver of Django's signals raises
        if len(differences) == 1:
            reason = str(error).partition("\n")[0]
            log.error("repair_refused", user_id=str(differences[0].user_id), reason=reason)
            return 0
        middle = len(differences) // 2
        halves = differences[:middle], differences[middle:]
        return sum(_repair(half, fetched) for half in halves)
    done = {one.user_id for one in repaired}
    for one in differences:
        event = "repaired" if one.user_id in done else "repair_left_as_changed_meanwhile"
        log.warning(event, user_id=str(one.user_id), wrong=one.wrong.value)
    return len(repaired)


def _repaired(
    differences: Sequence[Difference], fetched: dict[UUID, UserChange]
) -> list[Difference]:
    applied: Applied | None = None
    with transaction.atomic():
        feed.lock()
        now = compare.here_of([one.user_id for one in differences])
        same = [one for one in differences if now[one.user_id] == one.here]
        ids = [one.user_id for one in same]
        _set_back(ids)
        changes = [fetched.get(user_id) or _unknown(user_id) for user_id in ids]
        if changes:
            applied = apply(changes, told_as_of=timezone.now())
        # Of whom the master never knew there is nothing to remember.
        _execute(_FORGET, [user_id for user_id in ids if user_id not in fetched])
    if applied:
        broadcast.shared().push(applied.told)
    return same


def _unknown(user_id: UUID) -> UserChange:
    return UserChange(changed_at=timezone.now(), data=UserGone(id=user_id, version=1))


_FORGET = "DELETE FROM replica_tombstone WHERE user_id = ANY(%s::uuid[])"
_SET_BACK = (
    """
    UPDATE replica_user SET version = 0, changed_at = NULL
    WHERE id = ANY(%s::uuid[]) AND version IS NOT NULL
    """,
    _FORGET,
    # Who is still kept is recorded anew.
    "DELETE FROM replica_kept WHERE user_id = ANY(%s::uuid[])",
)


def _set_back(user_ids: Sequence[UUID]) -> None:
    """Make any version newer than what is here, and any other claim to their names better."""
    for statement in _SET_BACK:
        _execute(statement, user_ids)


def _execute(statement: str, user_ids: Sequence[UUID]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, [[str(user_id) for user_id in user_ids]])


#: How a difference reads in a report.
WORDS = {
    Wrong.MISSING: "missing here",
    Wrong.DIFFERENT: "not as the master has them",
    Wrong.EXTRA: "unknown to the master",
    Wrong.RESURRECTED: "deleted on the master",
    Wrong.TOMBSTONE: "deleted on the master, which is not remembered here",
}


def words(difference: Difference) -> str:
    """What is wrong with a user, in words."""
    if difference.is_local:
        return "missing here: a local account has their id, and is never overwritten"
    return WORDS[difference.wrong]
