import json
from typing import Any
from uuid import UUID

import pytest

from usercast import snapshot
from usercast.contract import UserChange
from usercast.errors import ContractError

KEY = "0198c8a0-0000-7000-8000-000000000001"
STATE = {
    "id": KEY,
    "version": 3,
    "username": "ann",
    "email": "a@x.org",
    "first_name": "Ann",
    "last_name": "",
    "is_active": True,
    "date_joined": "2026-01-01T00:00:00.000001+00:00",
    "groups": ["editors"],
}
LIVING = {"type": "user", "changed_at": "2026-01-02T00:00:00+00:00", "data": STATE}
GONE = {**LIVING, "type": "deleted", "data": {"id": KEY, "version": 4}}


def line(content: Any) -> bytes:
    return json.dumps(content).encode()


def test_users_and_tombstones_are_changes() -> None:
    living, gone = snapshot.read(line(LIVING)), snapshot.read(line(GONE))
    assert isinstance(living, UserChange)
    assert isinstance(gone, UserChange)
    assert (living.user_id, living.version, living.is_deletion) == (UUID(KEY), 3, False)
    assert (gone.user_id, gone.version, gone.is_deletion) == (UUID(KEY), 4, True)


def test_begin_and_end() -> None:
    assert snapshot.read(b'{"type":"begin","total":7}') == snapshot.Begin(7)
    assert snapshot.read(b'{"type":"end","count":8}') == snapshot.End(8)


@pytest.mark.parametrize(
    ("bad", "knows_whom"),
    [
        (b"", False),
        (b"{", False),
        (b'{"type":"other"}', False),
        (b"\xff", False),
        (b"[" * 100_000, False),
        (line({**LIVING, "data": {**STATE, "username": ""}}), True),
        (line({**LIVING, "data": {**STATE, "username": "nul\0"}}), True),
        (line({**LIVING, "data": {**STATE, "version": 0}}), False),
        (line({**LIVING, "data": {**STATE, "id": "7"}}), False),
        (line({**LIVING, "data": {**STATE, "date_joined": "0001-01-01T00:00:00Z"}}), True),
        (line({**LIVING, "changed_at": "2026-01-02T00:00:00"}), True),
    ],
)
def test_line_that_cannot_be_read(bad: bytes, *, knows_whom: bool) -> None:
    with pytest.raises(ContractError):
        snapshot.read(bad)
    assert snapshot.id_of(bad) == (UUID(KEY) if knows_whom else None)


def test_a_text_may_look_like_an_escaped_nul() -> None:
    found = snapshot.read(line({**LIVING, "data": {**STATE, "first_name": "\\u0000"}}))
    assert isinstance(found, UserChange)
