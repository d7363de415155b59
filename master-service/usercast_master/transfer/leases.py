"""Leases: one worker works on one import at a time, and a killed one's comes free by itself.

Also the only place where an import's state changes.
"""

from datetime import timedelta

from django.db import connection, transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from usercast import tracing
from usercast_master.transfer.errors import TakenOver
from usercast_master.transfer.models import AT_WORK, OPEN, Import, Part, State

#: Longer than the slowest batch, and than opening the largest workbook.
LEASE = timedelta(seconds=60)
#: A finished import's errors hold rows of users; so does one that nobody ends.
KEPT = timedelta(days=30)

_CLAIMING = 7_346_201  # Of PostgreSQL's advisory locks; who claims takes turns.
_ENDS = (State.DONE, State.FAILED, State.CANCELLED)


def claim(import_id: int | None = None) -> Import | None:
    """Lease the import, or the oldest that waits for a worker; None while any is worked on."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_CLAIMING])
        if Import.objects.filter(leased_until__gt=Now()).exists():
            return None
        mine = Q(by_command=False) if import_id is None else Q(pk=import_id)
        found = Import.objects.filter(mine, state__in=AT_WORK).order_by("pk").first()
        if found:
            _lease(found)
        return found


def hold(found: Import) -> None:
    """Make sure, within a batch's transaction, that the import is still ours; lease it further.

    Nobody else changes it until the transaction ends.

    Raises:
        TakenOver: it was cancelled, or somebody else has gone on with it.
    """
    now = Import.objects.select_for_update().filter(pk=found.pk).first()
    mine = (found.state, found.next_row)
    if now is None or now.state not in AT_WORK or (now.state, now.next_row) != mine:
        raise TakenOver
    _lease(found)


def renew(found: Import) -> None:
    """Lease the import further, between batches.

    Raises:
        TakenOver: as for ``hold``.
    """
    with transaction.atomic():
        hold(found)


def release(found: Import) -> None:
    """Let somebody else go on, at once."""
    Import.objects.filter(pk=found.pk, state=found.state, next_row=found.next_row).update(
        leased_until=None, waiting_since=Now()
    )


def move(found: Import, state: State) -> None:
    """Go on to the next state.

    Raises:
        TakenOver: as for ``hold``.
    """
    with transaction.atomic():
        hold(found)
        _move(found, state)


def confirm(import_id: int) -> bool:
    """Say yes to what the check found; False if nobody is asked (any more)."""
    with transaction.atomic():
        found = Import.objects.select_for_update().filter(pk=import_id, state=State.CHECKED).first()
        if found is None:
            return False
        # What the check refused is counted on; the rest is counted anew.
        found.next_row = found.new = found.changed = found.unchanged = 0
        found.waiting_since = timezone.now()
        found.traceparent = tracing.current()
        _move(found, State.IMPORTING)
        return True


def cancel(import_id: int) -> bool:
    """End an import where it stands: rows that are written stay. False if it has ended."""
    with transaction.atomic():
        found = Import.objects.select_for_update().filter(pk=import_id, state__in=OPEN).first()
        if found:
            _move(found, State.CANCELLED)
        return found is not None


def fail(found: Import, why: str) -> None:
    """End an import that cannot go on."""
    with transaction.atomic():
        now = Import.objects.select_for_update().filter(pk=found.pk, state__in=OPEN).first()
        if now:
            now.failure = why
            _move(now, State.FAILED)
    found.refresh_from_db()


def trim() -> int:
    """Forget imports of more than 30 days ago; returns how many."""
    old = Import.objects.filter(created_at__lt=timezone.now() - KEPT)
    return old.exclude(leased_until__gt=Now()).delete()[1].get("transfer.Import", 0)


def is_stuck(found: Import) -> bool:
    """Whether no worker has come for a while, and not because of another import."""
    if found.state not in AT_WORK or is_behind_another(found):
        return False
    since = max(found.waiting_since, found.leased_until or found.waiting_since)
    return timezone.now() - since > timedelta(seconds=15)


def is_behind_another(found: Import) -> bool:
    """Whether it waits since another import is worked on."""
    others = Import.objects.filter(leased_until__gt=Now()).exclude(pk=found.pk)
    return found.state in AT_WORK and others.exists()


def _lease(found: Import) -> None:
    found.leased_until = timezone.now() + LEASE
    found.save(update_fields=["leased_until"])


def _move(found: Import, state: State) -> None:
    found.state = state
    found.leased_until = None
    if state in _ENDS:
        found.finished_at = timezone.now()
        found.preview = []
        Part.objects.filter(of=found).delete()
    found.save()
