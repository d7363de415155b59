"""Endings: says for ``replica.apply`` which changes end access, for ``live.receipts`` to record.

What a user had before does not matter: a deactivation may follow a reactivation that this client
never hears of, since the master tells both as one.
"""

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from django.utils import timezone

from usercast.contract import UserChange, UserState
from usercast_client.live.receipts import Ended

#: SQS keeps no message for longer.
_LONGEST_ON_ITS_WAY = timedelta(days=14)


class Row(Protocol):
    """A user as the replica holds them."""

    @property
    def version(self) -> int | None:
        """None of a local account."""


def applied(changes: Iterable[UserChange], kept: AbstractSet[UUID]) -> Iterator[Ended]:
    """Of changes that were just applied, those which end access.

    Args:
        kept: the deleted users whose rows another table protects.
    """
    for change in changes:
        if _ends_access(change):
            erased = change.is_deletion and change.user_id not in kept
            yield Ended(change.user_id, change.version, erased)


def loaded_before(
    changes: Iterable[UserChange], rows: Mapping[UUID, Row], tombstones: Mapping[UUID, int]
) -> Iterator[Ended]:
    """Those which had taken effect when their message came: a load was faster.

    A load gives no receipt for what changed before the first load began. By two clocks, or if the
    client was registered long before that, the master may wait for just this one.
    """
    oldest = timezone.now() - _LONGEST_ON_ITS_WAY
    for change in changes:
        if not _ends_access(change) or change.changed_at < oldest:
            continue  # Sent again by hand: nobody waits for a receipt.
        row = rows.get(change.user_id)
        if change.is_deletion:
            if tombstones.get(change.user_id) == change.version:
                yield Ended(change.user_id, change.version, erased=row is None)
        elif row is not None and row.version == change.version:
            yield Ended(change.user_id, change.version, erased=False)


def _ends_access(change: UserChange) -> bool:
    return not (isinstance(change.data, UserState) and change.data.is_active)
