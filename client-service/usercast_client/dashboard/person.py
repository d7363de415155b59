"""A person: one user as this client knows them, from their row or, once deleted, from the feed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from usercast_client.dashboard.entries import Entry, entry, full_name
from usercast_client.live import feed
from usercast_client.live.models import Change
from usercast_client.replica.models import Kept, Tombstone, User

HISTORY_AT_MOST = 50


@dataclass(frozen=True, kw_only=True)
class Person:
    """One user's data; of a deleted one, the last that was known, which may be nothing."""

    user_id: UUID
    username: str
    name: str
    email: str
    is_active: bool
    groups: Sequence[str]
    date_joined: datetime | None
    version: int
    changed_at: datetime | None
    #: Set when they are gone on the master.
    deleted_at: datetime | None
    #: What of this client still needs their row, if that is why they are here yet.
    kept_for: str


@dataclass(frozen=True, kw_only=True)
class History:
    """The changes of one user that this client still has, newest first."""

    entries: Sequence[Entry]
    #: There are older ones than the page shows.
    is_cut: bool
    #: It begins with the user's creation.
    is_whole: bool
    #: When the oldest change that the feed still has of anybody was applied.
    reaches_back_to: datetime | None


def find(user_id: UUID) -> Person | None:
    """The person, also a deleted one as long as anything here remembers them."""
    user = User.objects.replicated().filter(pk=user_id).first()
    return _of_row(user) if user else _of_the_gone(user_id)


def history(user_id: UUID) -> History:
    """What happened to a user, as far as the feed reaches back."""
    changes = feed.of_user(user_id, HISTORY_AT_MOST + 1)
    shown = changes[:HISTORY_AT_MOST]
    oldest = Change.objects.order_by("cursor").values_list("applied_at", flat=True).first()
    return History(
        entries=[entry(change) for change in shown],
        is_cut=len(changes) > len(shown),
        is_whole=bool(shown) and shown[-1]["kind"] == "created",
        reaches_back_to=oldest,
    )


def _of_row(user: User) -> Person:
    kept = Kept.objects.filter(pk=user.pk).first()
    return Person(
        user_id=user.pk,
        username=kept.username if kept else user.username,
        name=user.get_full_name(),
        email=user.email,
        is_active=user.is_active,
        groups=user.master_groups,
        date_joined=user.date_joined,
        version=user.version or 0,
        changed_at=user.changed_at,
        deleted_at=kept.deleted_at if kept else None,
        kept_for=kept.protected_by if kept else "",
    )


def _of_the_gone(user_id: UUID) -> Person | None:
    newest = next(iter(feed.of_user(user_id, 1)), None)
    if newest is not None:
        return _last_known(user_id, newest)
    tombstone = Tombstone.objects.filter(pk=user_id).first()
    if tombstone is None:
        return None
    return _gone(user_id, {}, version=tombstone.version, deleted_at=tombstone.deleted_at)


def _last_known(user_id: UUID, change: dict[str, Any]) -> Person:
    return _gone(
        user_id,
        change["before"] if change["user"] is None else change["user"],
        version=change["version"],
        deleted_at=datetime.fromisoformat(change["changed_at"]),
    )


def _gone(user_id: UUID, known: dict[str, Any], *, version: int, deleted_at: datetime) -> Person:
    joined = known.get("date_joined")
    return Person(
        user_id=user_id,
        username=known.get("username", ""),
        name=full_name(known),
        email=known.get("email", ""),
        is_active=False,
        groups=known.get("groups", ()),
        date_joined=datetime.fromisoformat(joined) if joined else None,
        version=version,
        changed_at=deleted_at,
        deleted_at=deleted_at,
        kept_for="",
    )
