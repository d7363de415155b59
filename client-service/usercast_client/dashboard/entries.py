"""Receives changes as the live feed tells them; hands the pages what to print for each.

``static/dashboard/words.js`` says the same in the browser: change both together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

NOTHING = "(none)"
UNKNOWN = "\N{EN DASH}"


@dataclass(frozen=True, kw_only=True)
class Part:
    """One thing that changed: a quiet label, and the values where there are any."""

    label: str
    value: str = ""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One change, or one bulk write, in words."""

    cursor: int
    #: created, updated, deleted, bootstrap, or bulk.
    kind: str
    who: str
    #: None of a bulk write and of a bootstrap.
    user_id: str | None = None
    version: int | None = None
    parts: Sequence[Part]
    at: datetime
    lag: str
    #: Of a bulk write, what it takes to let it grow.
    bulk: Mapping[str, Any] = field(default_factory=dict)


def entry(told: Mapping[str, Any]) -> Entry:
    """Put one change or bulk write into words, however little of it is known."""
    return _bulk(told) if told.get("bulk") else _change(told)


def _change(change: Mapping[str, Any]) -> Entry:
    changed_at = datetime.fromisoformat(change["changed_at"])
    applied_at = datetime.fromisoformat(change["applied_at"])
    return Entry(
        cursor=change["cursor"],
        kind=change["kind"],
        who=who(change),
        user_id=None if change["kind"] == "bootstrap" else change["user_id"],
        version=change["version"],
        parts=parts(change),
        at=changed_at,
        lag=lag_words(lag_ms(changed_at, applied_at)),
    )


def _bulk(told: Mapping[str, Any]) -> Entry:
    who, said = bulk_words(told["counts"])
    return Entry(
        cursor=told["cursor"],
        kind="bulk",
        who=who,
        parts=said,
        at=datetime.fromisoformat(told["applied_at"]),
        lag=f"up to {lag_words(told['lag_ms'])}",
        bulk=told,
    )


def who(change: Mapping[str, Any]) -> str:
    """Whom a change is about."""
    if change["kind"] == "bootstrap":
        return f"bootstrap: {number(change['before']['users'])} users"
    known = change["user"] or change["before"]
    return str(known.get("username") or change["user_id"])


def parts(change: Mapping[str, Any]) -> list[Part]:
    """Say what changed, most telling first; never empty."""
    after, before = change["user"], change["before"]
    if change["kind"] == "bootstrap":
        return [Part(label="created")]
    if change["kind"] != "updated" or after is None:
        return [Part(label=change["kind"])]
    said = []
    if "is_active" in before:
        said.append(Part(label="activated" if after["is_active"] else "deactivated"))
    if "username" in before:
        said.append(_moved("username", before["username"], after["username"]))
    if "first_name" in before or "last_name" in before:
        said.append(_moved("name", full_name({**after, **before}), full_name(after)))
    if "email" in before:
        said.append(_moved("e-mail", before["email"], after["email"]))
    if "groups" in before:
        said.append(Part(label="groups", value=_groups(before["groups"], after["groups"])))
    if "date_joined" in before:
        said.append(_moved("joining date", _day(before["date_joined"]), _day(after["date_joined"])))
    return said or [Part(label="updated")]


def bulk_words(counts: Mapping[str, int]) -> tuple[str, list[Part]]:
    """Say how many users a bulk write was about, and what became of them if not one thing."""
    kinds = [kind for kind in ("created", "updated", "deleted") if counts[kind]]
    total = number(sum(counts[kind] for kind in kinds))
    if len(kinds) == 1:
        return f"{total} users {kinds[0]}", []
    return f"{total} users changed", [
        Part(label=kind, value=number(counts[kind])) for kind in kinds
    ]


def full_name(user: Mapping[str, Any]) -> str:
    """First and last name, as far as there are any."""
    return f"{user.get('first_name', '')} {user.get('last_name', '')}".strip()


def lag_ms(changed_at: datetime, applied_at: datetime) -> int:
    """The time from the save on the master to this service's copy; 0 when the clocks disagree."""
    microseconds = (applied_at - changed_at) // timedelta(microseconds=1)
    return max(0, (microseconds + 500) // 1000)


def lag_words(ms: int | None) -> str:
    """Print a lag with its unit, in at most six characters; a dash when there is none."""
    if ms is None:
        return UNKNOWN
    if ms < 1000:
        return f"{ms} ms"
    if ms < 60_000:
        return f"{ms // 100 / 10:.1f} s"
    if ms < 3_600_000:
        return f"{ms // 60_000} min"
    return f"{ms // 3_600_000} h"


def age_words(ms: int | None) -> str:
    """Print how long ago something was; a dash when it never was."""
    if ms is None:
        return UNKNOWN
    if ms < 2000:
        return "now"
    if ms < 60_000:
        return f"{ms // 1000} s ago"
    if ms < 3_600_000:
        return f"{ms // 60_000} min ago"
    return f"{ms // 3_600_000} h ago"


def number(count: int | None) -> str:
    """Print a number with its thousands separated; a dash when it is not known."""
    return UNKNOWN if count is None else f"{count:,}"


def _moved(label: str, old: str, new: str) -> Part:
    return Part(label=label, value=f"{old or NOTHING} → {new or NOTHING}")


def _day(rfc3339: str) -> str:
    """The same for all who look, wherever they are: in UTC."""
    return datetime.fromisoformat(rfc3339).astimezone(UTC).date().isoformat()


def _groups(old: Sequence[str], new: Sequence[str]) -> str:
    joined = [f"+ {name}" for name in new if name not in old]
    left = [f"\N{MINUS SIGN} {name}" for name in old if name not in new]
    return " ".join(joined + left)
