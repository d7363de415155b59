"""Receives changes as the live feed tells them; hands the index page what to print for each.

``static/dashboard/words.js`` says the same in the browser: change both together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

NOTHING = "(none)"


@dataclass(frozen=True, kw_only=True)
class Part:
    """One thing that changed: a quiet label, and the values where there are any."""

    label: str
    value: str = ""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One change, in words."""

    cursor: int
    kind: str
    who: str
    parts: Sequence[Part]
    changed_at: datetime
    lag: str


def entry(change: Mapping[str, Any]) -> Entry:
    """Put one change into words, whatever its kind and however little of it is known."""
    changed_at = datetime.fromisoformat(change["changed_at"])
    applied_at = datetime.fromisoformat(change["applied_at"])
    known = change["user"] or change["before"]
    return Entry(
        cursor=change["cursor"],
        kind=change["kind"],
        who=known.get("username") or change["user_id"],
        parts=parts(change),
        changed_at=changed_at,
        lag=lag_words(applied_at - changed_at),
    )


def parts(change: Mapping[str, Any]) -> list[Part]:
    """Say what changed, most telling first; never empty."""
    after, before = change["user"], change["before"]
    if change["kind"] != "updated" or after is None:
        return [Part(label=change["kind"])]
    said = []
    if "is_active" in before:
        said.append(Part(label="activated" if after["is_active"] else "deactivated"))
    if "username" in before:
        said.append(_moved("username", before["username"], after["username"]))
    if "first_name" in before or "last_name" in before:
        said.append(_moved("name", _full_name({**after, **before}), _full_name(after)))
    if "email" in before:
        said.append(_moved("e-mail", before["email"], after["email"]))
    if "groups" in before:
        said.append(Part(label="groups", value=_groups(before["groups"], after["groups"])))
    if "date_joined" in before:
        said.append(Part(label="joining date"))
    return said or [Part(label="updated")]


def lag_words(lag: timedelta) -> str:
    """Print a lag with its unit, in at most six characters; clocks that disagree make it 0 ms."""
    ms = max(0, round(lag.total_seconds() * 1000))
    if ms < 1000:
        return f"{ms} ms"
    if ms < 60_000:
        return f"{ms // 100 / 10:.1f} s"
    if ms < 3_600_000:
        return f"{ms // 60_000} min"
    return f"{ms // 3_600_000} h"


def _moved(label: str, old: str, new: str) -> Part:
    return Part(label=label, value=f"{old or NOTHING} → {new or NOTHING}")


def _full_name(user: Mapping[str, Any]) -> str:
    return f"{user['first_name']} {user['last_name']}".strip()


def _groups(old: Sequence[str], new: Sequence[str]) -> str:
    joined = [f"+ {name}" for name in new if name not in old]
    left = [f"− {name}" for name in old if name not in new]  # noqa: RUF001 (a minus is meant)
    return " ".join(joined + left)
