"""History: who changed what about users, in Django's own log: at the desk, by REST, by import.

The log costs a plain ``save()`` nothing: it is written by those who act for somebody. Each of its
lines says which fields went from what to what; passwords and sign-in times are no part of it.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from django.contrib.admin.models import ADDITION, CHANGE, DELETION
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.contrib.contenttypes.models import ContentType
from django.contrib.postgres.aggregates import ArrayAgg
from django.db import connection, transaction
from django.db.models import Q, QuerySet
from django.db.models.expressions import RawSQL

from usercast_master.accounts.models import User

#: What is recorded, and how the log calls it.
FIELDS = {
    "username": "username",
    "email": "email",
    "first_name": "first name",
    "last_name": "last name",
    "is_active": "active",
    "date_joined": "joined",
    "member_of": "groups",
    "is_staff": "staff",
    "is_superuser": "superuser",
}
_NAMES_LENGTH = 200

_INSERT = """
INSERT INTO django_admin_log
    (action_time, user_id, content_type_id, object_id, object_repr, action_flag, change_message)
SELECT now(), %s::uuid, %s, line.*
FROM unnest(%s::text[], %s::text[], %s::smallint[], %s::text[]) AS line
"""

Known = dict[UUID, dict[str, Any]]
#: A request's user; whoever is anonymous records nothing.
Actor = AbstractBaseUser | AnonymousUser


@contextmanager
def recorded(
    user_ids: Collection[UUID | str], *, by: Actor | None, via: str
) -> Iterator[set[UUID | str]]:
    """Log what the block does to these users, in one transaction with it.

    Yields the ids as a set; those of users the block creates are added to it. A fixed number of
    statements, however many users.

    Args:
        by: who acts; None (a program) records nothing, since the log's lines belong to somebody.
        via: by which way, for the reader: ``API``, ``import of staff.csv``.
    """
    watched = set(user_ids)
    if by is None or by.is_anonymous:
        yield watched
        return
    with transaction.atomic():
        # Locked, or what somebody else changes in between would be put down to this actor.
        list(_rows(watched).select_for_update(no_key=True).order_by("pk").values_list("pk"))
        before = _look(watched)
        yield watched
        _write(before, _look(watched), by=by, via=via)


def is_id(text: str) -> bool:
    """Whether it is a user's id as addresses have it."""
    try:
        return bool(UUID(text))
    except ValueError:
        return False


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """What changed, for a reader: ``email: a@x.org → b@x.org; active: yes → no``; or nothing."""
    return "; ".join(
        f"{label}: {_shown(before[field])} → {_shown(after[field])}"
        for field, label in FIELDS.items()
        if before[field] != after[field]
    )


def _look(user_ids: Collection[UUID | str]) -> Known:
    """The users as they are, as far as they exist."""
    rows = (
        _rows(user_ids)
        .annotate(
            member_of=ArrayAgg(
                "groups__name", filter=Q(groups__isnull=False), order_by="groups__name", default=[]
            )
        )
        .values("pk", *FIELDS)
    )
    return {row["pk"]: row for row in rows}


def _rows(user_ids: Collection[UUID | str]) -> QuerySet[User]:
    # One parameter, however many they are.
    ids = RawSQL("SELECT unnest(%s::uuid[])", [[str(user_id) for user_id in user_ids]])
    return User._base_manager.filter(pk__in=ids)


def _write(before: Known, after: Known, *, by: Actor, via: str) -> None:
    kind = ContentType.objects.get_for_model(User)
    lines = []
    for pk in before.keys() | after.keys():
        old, new = before.get(pk), after.get(pk)
        if old != new:
            flag, text = _described(old, new)
            name = (new or old or {})["username"][:_NAMES_LENGTH]
            lines.append((str(pk), name, flag, f"{text} (by {via})"))
    if lines:
        # As arrays: a LogEntry for each would take ten times as long.
        with connection.cursor() as cursor:
            cursor.execute(_INSERT, [str(by.pk), kind.pk, *map(list, zip(*lines, strict=True))])


def _described(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> tuple[int, str]:
    if old is None:
        return ADDITION, "Created."
    if new is None:
        return DELETION, "Deleted."
    return CHANGE, difference(old, new)


def _shown(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(value) or "none"
        case None | "":
            return "empty"
        case _:
            return str(value)
