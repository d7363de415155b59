"""Queries: which users a list or a snapshot has, in which order, from where on."""

from datetime import UTC, datetime
from typing import Any

from django.core.validators import MinValueValidator
from django.db.models import Q, QuerySet
from rest_framework import serializers

from usercast.digest import BUCKETS
from usercast_master.accounts.models import User
from usercast_master.api import paging
from usercast_master.api.problems import InvalidParameters
from usercast_master.api.serializers import QueryFlag, Strict
from usercast_master.outbox.models import OutboxEntry

SEARCHED = ("username", "email", "first_name", "last_name")


class UserQuery(Strict):
    """What the list of users can be asked for. Unknown names are refused, not passed over."""

    is_active = QueryFlag(required=False)
    group = serializers.CharField(required=False, max_length=150, help_text="Name of a group.")
    username = serializers.CharField(required=False, max_length=150, help_text="Exactly.")
    email = serializers.CharField(required=False, max_length=254, help_text="Exactly.")
    changed_since = serializers.DateTimeField(
        required=False, help_text="Users with a version of that moment or later."
    )
    search = serializers.CharField(
        required=False,
        max_length=150,
        help_text="Words, each of which is part of the username, the address or a name.",
    )
    ordering = serializers.ChoiceField(paging.ORDERINGS, default="username")
    cursor = serializers.CharField(
        required=False, max_length=2000, help_text="Taken from `next` of the page before."
    )
    page_size = serializers.IntegerField(default=100, min_value=1, max_value=1000)


class Several(serializers.CharField):
    """Values between commas, each as another field reads it."""

    def __init__(
        self, child: serializers.Field[Any, Any, Any, Any], *, at_most: int, **options: Any
    ) -> None:
        super().__init__(**options)
        self._child = child
        self._at_most = at_most

    def to_internal_value(self, data: Any) -> Any:
        texts = super().to_internal_value(data).split(",")
        if len(texts) > self._at_most:
            raise serializers.ValidationError(f"At most {self._at_most} are taken at once.")
        return [self._child.run_validation(text) for text in texts]


class SnapshotQuery(Strict):
    """Whom a snapshot is asked for."""

    after = serializers.UUIDField(
        required=False, help_text="The last id that has come: go on after it."
    )
    ids = Several(
        serializers.UUIDField(),
        required=False,
        at_most=100,
        help_text="Only these, at most 100, with commas between.",
    )


class DigestsQuery(Strict):
    """How far the asking client has got."""

    before = serializers.DateTimeField(
        required=False,
        validators=[MinValueValidator(datetime(2000, 1, 1, tzinfo=UTC))],
        help_text="The client lacks what was published after this, since its queues are behind.",
    )


class BucketsQuery(Strict):
    """Which buckets are looked into."""

    buckets = Several(
        serializers.IntegerField(min_value=0, max_value=BUCKETS - 1),
        at_most=512,
        help_text=f"Up to 512 numbers, 0 to {BUCKETS - 1}, with commas between.",
    )


def asked(parameters: dict[str, Any], by: type[Strict] = UserQuery) -> dict[str, Any]:
    """The query's values.

    Raises:
        InvalidParameters: a name is unknown or a value does not fit.
    """
    query = by(data=parameters)
    if not query.is_valid():
        raise InvalidParameters(query.errors)
    return dict(query.validated_data)


def chosen(users: QuerySet[User], asked_for: dict[str, Any]) -> QuerySet[User]:
    """Those of the users whom the query's filters choose."""
    names = {"is_active": "is_active", "group": "groups__name"}
    names |= {"username": "username", "email": "email"}
    condition = Q(**{names[name]: asked_for[name] for name in names.keys() & asked_for.keys()})
    if "changed_since" in asked_for:
        entries = OutboxEntry.objects.filter(changed_at__gte=asked_for["changed_since"])
        condition &= Q(pk__in=entries.values("user_id"))
    for word in asked_for.get("search", "").split():
        condition &= Q(*((f"{name}__icontains", word) for name in SEARCHED), _connector=Q.OR)
    return users.filter(condition)
