"""Removal: deletes users for ``replica.apply``, or keeps whom the client's own tables need."""

from collections import Counter
from collections.abc import Mapping, Sequence
from uuid import UUID

from django.db import IntegrityError, connection, transaction
from django.db.models import Exists, OuterRef, ProtectedError, RestrictedError

from usercast.contract import UserChange
from usercast_client.replica.models import Kept, User

_DEACTIVATE = """
UPDATE replica_user SET is_active = false, version = gone.version, changed_at = gone.changed_at
FROM unnest(%s::uuid[], %s::bigint[], %s::timestamptz[]) AS gone(user_id, version, changed_at)
WHERE replica_user.id = gone.user_id
"""


def remove(gone: Sequence[UserChange], usernames: Mapping[UUID, str]) -> set[UUID]:
    """Delete these users with what hangs on them; returns whom another table protects.

    Those are deactivated and kept under the deletion's version, and recorded (``Kept``).
    """
    kept = _delete([change.user_id for change in gone])
    if kept:
        _keep([change for change in gone if change.user_id in kept], kept, usernames)
    return set(kept)


def forget_removed() -> None:
    """Drop the record, and with it the name, of kept users whose rows somebody has removed."""
    rows = User.objects.filter(pk=OuterRef("user_id"))
    Kept.objects.exclude(Exists(rows)).delete()


def _delete(user_ids: Sequence[UUID]) -> dict[UUID, str]:
    """Delete users; returns whom a table protects, each with which. In halves, to find them."""
    if not user_ids:
        return {}
    try:
        with transaction.atomic():
            User.objects.filter(pk__in=user_ids).delete()
            # Django's foreign keys are looked at when the transaction ends: too late for the rest.
            connection.check_constraints()
    except (ProtectedError, RestrictedError, IntegrityError) as error:
        if len(user_ids) == 1:
            return {user_ids[0]: _protector(error)}
        middle = len(user_ids) // 2
        return _delete(user_ids[:middle]) | _delete(user_ids[middle:])
    return {}


def _keep(
    changes: Sequence[UserChange], protectors: dict[UUID, str], usernames: Mapping[UUID, str]
) -> None:
    columns = [(str(c.user_id), c.version, c.changed_at) for c in changes]
    with connection.cursor() as cursor:
        cursor.execute(_DEACTIVATE, [list(column) for column in zip(*columns, strict=True)])
    Kept.objects.bulk_create(
        [
            Kept(
                user_id=change.user_id,
                username=usernames[change.user_id],
                deleted_at=change.changed_at,
                protected_by=protectors[change.user_id],
            )
            for change in changes
        ],
        update_conflicts=True,
        unique_fields=["user_id"],
        update_fields=["username", "deleted_at", "protected_by"],
    )


def _protector(error: Exception) -> str:
    """What points at the user: models with their number, or a table Django knows nothing of."""
    if isinstance(error, ProtectedError):
        pointing = error.protected_objects
    elif isinstance(error, RestrictedError):
        pointing = error.restricted_objects
    else:
        diagnostics = getattr(error.__cause__, "diag", None)
        return f"table {getattr(diagnostics, 'table_name', None) or 'unknown'}"
    counts = Counter(thing._meta.label for thing in pointing)
    return ", ".join(f"{count} {label}" for label, count in sorted(counts.items()))
