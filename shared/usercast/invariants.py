"""Invariants: takes the master's truth and the evidence of one replica, finds what must not be.

Pure: it reads no database and keeps no state. The evidence is what the replica holds in the end,
what its feed told a reader on the way, and what a witness of every write to its tables saw, so
that "never went back" rests on no code of ours. ``make chaos`` and the sabotage tests judge by it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from uuid import UUID

import msgspec

from usercast.contract import STATE_FIELDS, UserGone, UserState


class Wrong(StrEnum):
    """What can be wrong with a replica; the value is how a report calls it."""

    #: The master has the user, the replica does not.
    MISSING = "missing"
    #: A field or the version is not the master's.
    DIFFERENT = "different"
    #: Nobody the master ever replicated.
    EXTRA = "extra"
    #: Deleted, or out of scope, and there all the same; or put back by an older version.
    RESURRECTED = "resurrected"
    #: Still under the placeholder that stands in for a username.
    PARKED = "parked"
    #: The deletion left no tombstone, or that of an earlier deletion.
    TOMBSTONE = "tombstone"
    #: An older version came after a newer one, in the tables or in the feed.
    WENT_BACK = "went back"
    #: One version, two states.
    REWRITTEN = "rewritten"
    #: A reader of the feed was never shown this cursor.
    CURSOR_SKIPPED = "cursor skipped"
    #: A reader of the feed was shown this cursor again, or an older one late.
    CURSOR_REPEATED = "cursor repeated"
    #: The feed's last word on the user is not what the replica holds.
    UNTOLD = "untold"
    #: A message that the client gave up on.
    DEAD_LETTER = "dead letter"


#: Those by which a change of the master's has not reached the replica.
LOSSES = frozenset(
    {Wrong.MISSING, Wrong.DIFFERENT, Wrong.PARKED, Wrong.TOMBSTONE, Wrong.DEAD_LETTER}
)


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that must not be: what, about whom (None: nobody in particular), and the facts."""

    wrong: Wrong
    user_id: UUID | None
    detail: str

    @property
    def is_loss(self) -> bool:
        """Whether a change was lost, rather than done wrong on the way."""
        return self.wrong in LOSSES


@dataclass(frozen=True, slots=True)
class Truth:
    """What the master says: the users in scope, and the versions at which others ceased to be."""

    users: Mapping[UUID, UserState]
    gone: Mapping[UUID, int]


@dataclass(frozen=True, slots=True)
class Told:
    """One change as the feed told it."""

    cursor: int
    user_id: UUID
    version: int
    is_deletion: bool


@dataclass(frozen=True, slots=True)
class Seen:
    """One write to a row as a trigger saw it: a user's (UserState) or a tombstone (UserGone).

    ``before`` is None for an insert, ``after`` for a delete.
    """

    before: UserState | UserGone | None
    after: UserState | UserGone | None

    @property
    def user_id(self) -> UUID:
        """Whose row it is."""
        row = self.after or self.before
        assert row is not None
        return row.id


@dataclass(frozen=True, slots=True)
class Replica:
    """The evidence of one client.

    Args:
        users: the replicated ones, local accounts left out.
        tombstones: the version of each.
        feed: every change, in the order in which a reader of the running feed saw them.
        witness: every write to the two tables, in the order in which they happened.
        dead_letters: messages in the dead and the undelivered queue.
    """

    users: Mapping[UUID, UserState]
    tombstones: Mapping[UUID, int]
    feed: Sequence[Told]
    witness: Sequence[Seen]
    dead_letters: int = 0


def check(truth: Truth, replica: Replica) -> list[Violation]:
    """Everything that is wrong with a replica which has had time to settle; empty is right.

    Not for a client that keeps deleted users because its own tables protect them: they would count
    as resurrected.
    """
    return [
        *_living(truth, replica),
        *_gone(truth, replica),
        *_history(replica.witness),
        *_cursors(replica.feed),
        *_telling(replica),
        *_dead_letters(replica),
    ]


def is_parked(user: UserState) -> bool:
    """Whether the user is under the placeholder that stands in for a username."""
    return user.username == f"~{user.id}"


def _living(truth: Truth, replica: Replica) -> Iterator[Violation]:
    for user_id, user in truth.users.items():
        held = replica.users.get(user_id)
        if held is None:
            yield Violation(Wrong.MISSING, user_id, f"version {user.version} of the master's")
        elif is_parked(held):
            yield Violation(Wrong.PARKED, user_id, f"instead of {user.username!r}")
        elif held != user:
            yield Violation(Wrong.DIFFERENT, user_id, _difference(held, user))
    for user_id in replica.users.keys() - truth.users.keys() - truth.gone.keys():
        yield Violation(Wrong.EXTRA, user_id, "the master's outbox does not know them")


def _difference(held: UserState, user: UserState) -> str:
    fields = [
        name for name in ("version", *STATE_FIELDS) if getattr(held, name) != getattr(user, name)
    ]
    return ", ".join(
        f"{name} {getattr(held, name)!r} instead of {getattr(user, name)!r}" for name in fields
    )


def _gone(truth: Truth, replica: Replica) -> Iterator[Violation]:
    for user_id, version in truth.gone.items():
        held = replica.users.get(user_id)
        if held is not None:
            yield Violation(
                Wrong.RESURRECTED, user_id, f"at version {held.version}, gone since {version}"
            )
        tombstone = replica.tombstones.get(user_id)
        if tombstone != version:
            yield Violation(Wrong.TOMBSTONE, user_id, f"{tombstone} instead of {version}")


class _Past:
    """What the witness has seen of one user so far."""

    def __init__(self) -> None:
        self.newest = 0
        self.gone_at = 0

    def add(self, seen: Seen) -> None:
        for row in (seen.before, seen.after):
            self.newest = max(self.newest, row.version if row else 0)
        if isinstance(seen.after, UserGone):
            self.gone_at = max(self.gone_at, seen.after.version)
        if seen.after is None and isinstance(seen.before, UserState):
            self.gone_at = max(self.gone_at, seen.before.version)


def _history(witness: Sequence[Seen]) -> Iterator[Violation]:
    pasts: dict[UUID, _Past] = {}
    for seen in witness:
        past = pasts.setdefault(seen.user_id, _Past())
        if seen.after is not None:
            yield from _write(seen, past)
        past.add(seen)


def _write(seen: Seen, past: _Past) -> Iterator[Violation]:
    before, after = seen.before, seen.after
    assert after is not None
    is_user = isinstance(after, UserState)
    newest = max(past.newest, before.version if before else 0)
    if is_user and before is None and after.version <= past.gone_at:
        detail = f"inserted at version {after.version}, gone since {past.gone_at}"
        yield Violation(Wrong.RESURRECTED, after.id, detail)
    elif after.version < newest:
        what = "user" if is_user else "tombstone"
        detail = f"the {what} to version {after.version} from {newest}"
        yield Violation(Wrong.WENT_BACK, after.id, detail)
    elif _is_rewritten(before, after):
        assert isinstance(before, UserState)
        assert isinstance(after, UserState)
        detail = f"version {after.version}: {_difference(after, before)}"
        yield Violation(Wrong.REWRITTEN, after.id, detail)


def _is_rewritten(before: UserState | UserGone | None, after: UserState | UserGone) -> bool:
    """One version with two states, unless the username gives way to a placeholder or comes back."""
    if not isinstance(before, UserState) or not isinstance(after, UserState):
        return False
    if is_parked(before) or is_parked(after):
        before = msgspec.structs.replace(before, username=after.username)
    return before.version == after.version and before != after


def _cursors(feed: Sequence[Told]) -> Iterator[Violation]:
    for one, other in pairwise(feed):
        if other.cursor <= one.cursor:
            detail = f"{other.cursor} after {one.cursor}"
            yield Violation(Wrong.CURSOR_REPEATED, other.user_id, detail)
        elif other.cursor > one.cursor + 1:
            yield Violation(
                Wrong.CURSOR_SKIPPED, None, f"from {one.cursor} to {other.cursor} at once"
            )


def _telling(replica: Replica) -> Iterator[Violation]:
    last: dict[UUID, Told] = {}
    for told in replica.feed:
        # The same version may come twice: parked by another's change, and freed by its own again.
        if told.user_id in last and told.version < last[told.user_id].version:
            detail = f"the feed told {told.version} after {last[told.user_id].version}"
            yield Violation(Wrong.WENT_BACK, told.user_id, detail)
        last[told.user_id] = told
    for user_id in replica.users.keys() | last.keys():
        held, word = replica.users.get(user_id), last.get(user_id)
        version = held.version if held else None
        told_version = word.version if word and not word.is_deletion else None
        if version != told_version:
            detail = f"the replica has {version}, the feed ended with {told_version}"
            yield Violation(Wrong.UNTOLD, user_id, detail)


def _dead_letters(replica: Replica) -> Iterator[Violation]:
    if replica.dead_letters:
        yield Violation(Wrong.DEAD_LETTER, None, f"{replica.dead_letters} messages")
