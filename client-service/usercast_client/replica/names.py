"""Names: decides for ``replica.apply`` who gets which username when changes come in any order.

Usernames are unique here as on the master. Of two users who claim one, the user whose change is
later by the master's clock has it; the other is parked under a placeholder. On the master they
never held it together, so the other one has lost it there, by a change that is on its way.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from usercast.contract import UserChange, UserState


class Holder(NamedTuple):
    """Who has a username now; a local account has neither version nor time."""

    id: UUID
    version: int | None
    changed_at: datetime | None


class Names(NamedTuple):
    """Who gets which username, and who has to step aside first."""

    given: dict[UUID, str]
    #: Holders to be parked before anything is written.
    parked: list[UUID]


def placeholder(user_id: UUID) -> str:
    """The username of a parked user; no validated username holds a tilde."""
    return f"~{user_id}"


def assign(states: Sequence[UserChange], holders: dict[str, Holder]) -> Names:
    """Give each of these users the username of their state, or a placeholder.

    Args:
        states: upserts, one a user.
        holders: who has the usernames in question and will not be deleted with this batch.
    """
    writing = {change.user_id for change in states}
    wanted: dict[str, list[UserChange]] = defaultdict(list)
    for change in states:
        assert isinstance(change.data, UserState)
        wanted[change.data.username].append(change)
    names = Names({}, [])
    for username, contenders in wanted.items():
        latest = max(contenders, key=lambda change: change.changed_at)
        holder = holders.get(username)
        granted = True
        if holder is not None and holder.id != latest.user_id:
            granted = _gives_way(holder, latest) or holder.id in writing
            if granted:
                names.parked.append(holder.id)
        for change in contenders:
            got_it = granted and change is latest
            names.given[change.user_id] = username if got_it else placeholder(change.user_id)
    return names


def _gives_way(holder: Holder, change: UserChange) -> bool:
    """Whether a username passes on, in the order of the master's clock; never a local account's."""
    if holder.version is None:
        return False
    return holder.changed_at is None or change.changed_at >= holder.changed_at
