"""What the tests of all three packages share."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

from uuid_utils.compat import uuid7

from usercast.contract import UserChange, UserGone, UserState

T = TypeVar("T")


def eventually(condition: Callable[[], T], *, within: float, what: str = "the condition") -> T:
    """The first truthy result of ``condition``, asked every 10 ms.

    Raises:
        AssertionError: it stayed falsy for ``within`` seconds; the text has its last value.
    """
    deadline = time.monotonic() + within
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not hold within {within} s; last: {value!r}")
        time.sleep(0.01)


def upsert(
    user_id: UUID | None = None,
    version: int = 1,
    *,
    changed_at: datetime | None = None,
    **fields: Any,
) -> UserChange:
    """A plausible upsert; any field of the state can be given."""
    user_id = user_id or uuid7()
    state: dict[str, Any] = {
        "username": f"user-{str(user_id)[-12:]}",
        "email": "someone@example.org",
        "first_name": "Some",
        "last_name": "One",
        "is_active": True,
        "date_joined": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "groups": (),
    }
    return UserChange(
        changed_at=changed_at or datetime.now(UTC),
        data=UserState(id=user_id, version=version, **{**state, **fields}),
    )


def deletion(user_id: UUID, version: int, *, changed_at: datetime | None = None) -> UserChange:
    """The deletion of a user."""
    return UserChange(
        changed_at=changed_at or datetime.now(UTC), data=UserGone(id=user_id, version=version)
    )
