"""Delivery: how far a user's latest change has got, for the desk's lists."""

from typing import Any

from django.db.models import (
    Exists,
    F,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    TextChoices,
)

from usercast_master.outbox.models import OutboxEntry


class Delivery(TextChoices):
    """Where a user's latest version is."""

    DELIVERED = "delivered", "delivered"
    ON_ITS_WAY = "on-its-way", "on its way"
    #: SNS has refused it before; it is tried again.
    WAITING = "waiting", "waiting to be tried again"
    PARKED = "parked", "parked"
    #: Staff, as a rule.
    LOCAL = "local", "stays here"


_OWED = Q(version__gt=F("published_version"))
_ENTRIES = {
    Delivery.DELIVERED: ~_OWED & Q(deleted_at=None),
    Delivery.ON_ITS_WAY: _OWED & Q(attempts=0, parked_reason="", deleted_at=None),
    Delivery.WAITING: _OWED & Q(attempts__gt=0, parked_reason="", deleted_at=None),
    Delivery.PARKED: _OWED & ~Q(parked_reason="") & Q(deleted_at=None),
}


def told(users: QuerySet[Any]) -> QuerySet[Any]:
    """The users, each with what ``state_of`` looks at; all None of those who stay here."""
    entry = OutboxEntry.objects.filter(user_id=OuterRef("pk"), deleted_at=None)
    names = ("version", "published_version", "attempts", "parked_reason")
    annotated: QuerySet[Any] = users.annotate(**{n: Subquery(entry.values(n)) for n in names})
    return annotated


def state_of(user: Any) -> Delivery:
    """Where the latest version of a user from ``told`` is."""
    if user.version is None:
        return Delivery.LOCAL
    if user.version == user.published_version:
        return Delivery.DELIVERED
    if user.parked_reason:
        return Delivery.PARKED
    return Delivery.WAITING if user.attempts else Delivery.ON_ITS_WAY


def versions(of: Any) -> str:
    """The version of an entry, or a user from ``told``; and what was sent, if that is another."""
    if of.version == of.published_version:
        return f"{of.version:,}"
    return f"{of.version:,} ({of.published_version:,} sent)".replace(" ", "\N{NO-BREAK SPACE}")


def users_in(state: Delivery) -> Q:
    """A condition on users: their latest version is there."""
    entries = OutboxEntry.objects.filter(user_id=OuterRef("pk"))
    if state is Delivery.LOCAL:
        return ~Q(Exists(entries.filter(deleted_at=None)))
    return Q(Exists(entries.filter(_ENTRIES[state])))
