"""The selection: which users the table shows, in which order; from a request, to rows and links.

``static/dashboard/selection.js`` decides the same for a single user who has just changed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import Any, Self
from urllib.parse import urlencode

from django.db import connection
from django.db.models import Q, QuerySet
from django.utils import timezone

from usercast_client.replica.models import User

MAX_CHARS = 150  # a username's longest, and a group's

ACTIVE = {"yes": True, "no": False}
CHANGED_WITHIN = {
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(days=7),
}
#: The username is unique, so it settles what is equal otherwise.
ORDERS = {
    "username": ("username",),
    "name": ("first_name", "last_name", "username"),
    "email": ("email", "username"),
    "changed": ("changed_at", "username"),
}


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What was asked for; each field is empty when it was not."""

    q: str = ""
    active: str = ""
    group: str = ""
    changed: str = ""
    sort: str = "username"

    @classmethod
    def of(cls, asked: Mapping[str, str]) -> Self:
        """Read a request's query; what makes no sense in it counts as not asked for."""
        sort = asked.get("sort", "")
        return cls(
            q=_text(asked.get("q", "")),
            active=_one_of(ACTIVE, asked.get("active", "")),
            group=_text(asked.get("group", "")),
            changed=_one_of(CHANGED_WITHIN, asked.get("changed", "")),
            sort=sort if sort.removeprefix("-") in ORDERS else cls.sort,
        )

    @property
    def is_narrowed(self) -> bool:
        """Whether it leaves anybody out."""
        return bool(self.q or self.active or self.group or self.changed)

    def has_latest_first(self, page: str) -> bool:
        """Whether whoever changes now belongs on top of this page of it."""
        return self.sort == "-changed" and page in ("", "1")

    def users(self) -> QuerySet[User]:
        """The replicated users it selects, in its order.

        Each word of ``q`` occurs in the username, the e-mail address or a name.
        """
        users: QuerySet[User] = User.objects.replicated()
        for word in self.q.split():
            users = users.filter(
                Q(username__icontains=word)
                | Q(email__icontains=word)
                | Q(first_name__icontains=word)
                | Q(last_name__icontains=word)
            )
        if self.active:
            users = users.filter(is_active=ACTIVE[self.active])
        if self.group:
            users = users.filter(master_groups__contains=[self.group])
        if self.changed:
            users = users.filter(changed_at__gte=timezone.now() - CHANGED_WITHIN[self.changed])
        return users.order_by(*self._order())

    def query(self, **other: Any) -> str:
        """Its query string with whatever else is given, without what is empty or the default."""
        asked = {
            name: value
            for name, value in {**asdict(self), **other}.items()
            if value and (name, value) != ("sort", type(self).sort)
        }
        return f"?{urlencode(asked)}" if asked else "?"

    def _order(self) -> list[str]:
        first, *rest = ORDERS[self.sort.removeprefix("-")]
        return [f"-{first}" if self.sort.startswith("-") else first, *rest]


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column's head: sorts by it, or the other way round if the table is sorted by it already."""

    label: str
    order: str
    sorted: str
    query: str


def columns(selection: Selection) -> Iterator[Column]:
    """The heads of the columns that the table can be sorted by."""
    labels = {"username": "Username", "name": "Name", "email": "E-mail", "changed": "Changed"}
    for order, label in labels.items():
        descending = selection.sort == f"-{order}"
        ascending = selection.sort == order
        # Of times, the newest are looked for first; of names, the beginning of the alphabet.
        turned = ascending or (order == "changed" and not descending)
        yield Column(
            label=label,
            order=order,
            sorted="ascending" if ascending else "descending" if descending else "",
            query=replace(selection, sort=f"-{order}" if turned else order).query(),
        )


# By the whole array first: people share few combinations of groups, and arrays are not unpacked.
_GROUPS = """
SELECT DISTINCT name FROM
    (SELECT DISTINCT master_groups FROM replica_user WHERE version IS NOT NULL) AS combination,
    unnest(master_groups) AS name
ORDER BY name
"""


def groups() -> list[str]:
    """All groups that any replicated user is in, sorted."""
    with connection.cursor() as cursor:
        cursor.execute(_GROUPS)
        return [name for (name,) in cursor.fetchall()]


def _text(text: str) -> str:
    return text.replace("\0", "").strip()[:MAX_CHARS]


def _one_of(known: Mapping[str, object], value: str) -> str:
    return value if value in known else ""
