"""Pages by cursor: where the last page ended, by the ordering's value and the user's id.

Unlike an offset it does not slow down far back, and unlike a value alone it loses nobody among
users who share it.
"""

import base64
import json
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet
from django.utils.dateparse import parse_datetime

from usercast_master.accounts.models import User

FIELDS = ("username", "email", "first_name", "last_name", "date_joined", "id")
ORDERINGS = (*FIELDS, *(f"-{name}" for name in FIELDS))


class BadCursor(ValueError):
    """The cursor is none of this ordering's."""


def page(
    users: QuerySet[User], *, ordering: str, cursor: str | None, size: int
) -> tuple[list[User], str | None]:
    """The users after the cursor and, if there are more, the cursor of the next page.

    Raises:
        BadCursor: it was not made by this function, or for another ordering.
    """
    field, sign = ordering.removeprefix("-"), "-" if ordering.startswith("-") else ""
    if cursor is not None:
        users = users.filter(_after(ordering, *_read(cursor, ordering)))
    found = list(users.order_by(f"{sign}{field}", f"{sign}id")[: size + 1])
    if len(found) <= size:
        return found, None
    last = found[size - 1]
    return found[:size], _write(ordering, getattr(last, field), last.pk)


def _after(ordering: str, value: Any, user_id: UUID) -> Q:
    field, beyond = ordering.removeprefix("-"), "lt" if ordering.startswith("-") else "gt"
    # The first condition says nothing new, but an index on the field alone can serve it.
    return Q(**{f"{field}__{beyond}e": value}) & (
        Q(**{f"{field}__{beyond}": value}) | Q(**{field: value, f"id__{beyond}": user_id})
    )


def _write(ordering: str, value: Any, user_id: UUID) -> str:
    text = value.isoformat() if ordering.endswith("date_joined") else str(value)
    place = json.dumps([ordering, text, str(user_id)])
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def _read(cursor: str, ordering: str) -> tuple[Any, UUID]:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        made_for, value, user_id = json.loads(text)
        return _value(made_for, ordering, value), UUID(user_id)
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise BadCursor("This is no cursor of this list and ordering.") from None


def _value(made_for: str, ordering: str, value: str) -> Any:
    value.encode()
    if made_for != ordering or "\0" in value:
        raise ValueError(ordering)
    match ordering.removeprefix("-"):
        case "id":
            return UUID(value)
        case "date_joined":
            moment = parse_datetime(value)
            if moment is None or moment.tzinfo is None:
                raise ValueError(value)
            return moment
        case _:
            return value
