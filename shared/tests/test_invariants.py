"""Each kind of violation is seen, and a replica that went through a lot without any is clean."""

import dataclasses
from datetime import UTC, datetime
from uuid import UUID

import msgspec
import pytest
from uuid_utils.compat import uuid7

from usercast.contract import UserGone, UserState
from usercast.invariants import (
    LOSSES,
    Replica,
    Seen,
    Told,
    Truth,
    Violation,
    Wrong,
    check,
)

ANN, BOB, CEM = (uuid7() for _ in range(3))


def state(user_id: UUID, version: int, username: str = "") -> UserState:
    return UserState(
        id=user_id,
        version=version,
        username=username or f"user-{user_id}",
        email="someone@example.org",
        first_name="Some",
        last_name="One",
        is_active=True,
        date_joined=datetime(2026, 1, 2, tzinfo=UTC),
        groups=("editors",),
    )


def gone(user_id: UUID, version: int) -> UserGone:
    return UserGone(id=user_id, version=version)


#: Ann lives at version 3, Bob was deleted at 2, was there again at 3, and went for good at 4.
TRUTH = Truth(users={ANN: state(ANN, 3)}, gone={BOB: 4})
CLEAN = Replica(
    users={ANN: state(ANN, 3)},
    tombstones={BOB: 4},
    feed=[
        Told(7, ANN, 1, is_deletion=False),
        Told(8, BOB, 1, is_deletion=False),
        Told(9, BOB, 2, is_deletion=True),
        Told(10, BOB, 3, is_deletion=False),
        Told(11, ANN, 3, is_deletion=False),
        Told(12, BOB, 4, is_deletion=True),
    ],
    witness=[
        Seen(None, state(ANN, 1)),
        Seen(None, state(BOB, 1)),
        Seen(None, gone(BOB, 2)),
        Seen(state(BOB, 1), None),
        Seen(None, state(BOB, 3)),
        Seen(gone(BOB, 2), None),
        Seen(state(ANN, 1), state(ANN, 3)),
        Seen(None, gone(BOB, 4)),
        Seen(state(BOB, 3), None),
    ],
)


def with_(**evidence: object) -> Replica:
    return dataclasses.replace(CLEAN, **evidence)  # type: ignore[arg-type]


def also(*seen: Seen) -> Replica:
    return with_(witness=[*CLEAN.witness, *seen])


def found(replica: Replica, truth: Truth = TRUTH) -> list[tuple[Wrong, UUID | None]]:
    return [(violation.wrong, violation.user_id) for violation in check(truth, replica)]


def test_right_replica_has_no_violation() -> None:
    assert check(TRUTH, CLEAN) == []


def test_missing_user() -> None:
    replica = with_(users={})
    assert (Wrong.MISSING, ANN) in found(replica)


@pytest.mark.parametrize("field", ["version", *UserState.__struct_fields__[2:]])
def test_any_field_that_differs(field: str) -> None:
    other = {
        "version": 4,
        "is_active": False,
        "date_joined": datetime(2026, 1, 3, tzinfo=UTC),
        "groups": (),
    }.get(field, "other")
    wrong = msgspec.structs.replace(state(ANN, 3), **{field: other})
    violations = check(TRUTH, with_(users={ANN: wrong}))
    assert violations[0].wrong is Wrong.DIFFERENT
    assert violations[0].detail.startswith(f"{field} {other!r} instead of ")


def test_extra_user() -> None:
    assert (Wrong.EXTRA, CEM) in found(with_(users={**CLEAN.users, CEM: state(CEM, 1)}))


def test_user_who_is_there_after_their_deletion() -> None:
    assert (Wrong.RESURRECTED, BOB) in found(with_(users={**CLEAN.users, BOB: state(BOB, 3)}))


@pytest.mark.parametrize("version", [1, 4])
def test_user_put_back_by_an_older_version_and_removed_again(version: int) -> None:
    replica = also(Seen(None, state(BOB, version)), Seen(state(BOB, version), None))
    assert found(replica) == [(Wrong.RESURRECTED, BOB)]


def test_user_put_back_though_the_deletion_left_no_tombstone() -> None:
    replica = with_(
        witness=[
            Seen(None, state(CEM, 1)),
            Seen(state(CEM, 1), None),
            Seen(None, state(CEM, 1)),
            Seen(state(CEM, 1), None),
        ]
    )
    assert found(replica) == [(Wrong.RESURRECTED, CEM)]


def test_parked_user() -> None:
    assert found(with_(users={ANN: state(ANN, 3, username=f"~{ANN}")})) == [(Wrong.PARKED, ANN)]


@pytest.mark.parametrize("tombstones", [{}, {BOB: 2}], ids=["none", "an earlier deletion's"])
def test_deletion_without_its_tombstone(tombstones: dict[UUID, int]) -> None:
    assert found(with_(tombstones=tombstones)) == [(Wrong.TOMBSTONE, BOB)]


@pytest.mark.parametrize(
    "seen",
    [
        Seen(state(ANN, 3), state(ANN, 2)),
        Seen(gone(ANN, 4), gone(ANN, 3)),
        Seen(None, gone(ANN, 2)),
    ],
    ids=["user", "tombstone", "tombstone older than the user"],
)
def test_version_that_goes_back_in_a_table(seen: Seen) -> None:
    assert found(also(seen)) == [(Wrong.WENT_BACK, ANN)]


def test_one_version_with_two_states() -> None:
    assert found(also(Seen(state(ANN, 3, "ann"), state(ANN, 3, "anna")))) == [
        (Wrong.REWRITTEN, ANN)
    ]


def test_parking_and_its_end_are_no_second_state() -> None:
    parked = state(ANN, 3, username=f"~{ANN}")
    assert found(also(Seen(state(ANN, 3), parked), Seen(parked, state(ANN, 3)))) == []
    other = msgspec.structs.replace(state(ANN, 3), email="other@example.org")
    assert found(also(Seen(parked, other))) == [(Wrong.REWRITTEN, ANN)]


def test_local_write_is_no_second_state() -> None:
    assert found(also(Seen(state(ANN, 3), state(ANN, 3)))) == []


def test_cursor_that_a_reader_missed() -> None:
    feed = [told for told in CLEAN.feed if told.cursor != 10]
    assert found(with_(feed=feed)) == [(Wrong.CURSOR_SKIPPED, None)]


def test_cursor_that_a_reader_saw_late_or_twice() -> None:
    feed = [CLEAN.feed[1], CLEAN.feed[0], *CLEAN.feed[2:]]
    assert (Wrong.CURSOR_REPEATED, ANN) in found(with_(feed=feed))
    assert (Wrong.CURSOR_REPEATED, BOB) in found(with_(feed=[*CLEAN.feed, CLEAN.feed[-1]]))


def test_feed_that_goes_back() -> None:
    feed = [*CLEAN.feed, Told(13, ANN, 2, is_deletion=False), Told(14, ANN, 3, is_deletion=False)]
    assert found(with_(feed=feed)) == [(Wrong.WENT_BACK, ANN)]


def test_feed_that_repeats_a_version_after_a_parking_is_right() -> None:
    assert found(with_(feed=[*CLEAN.feed, Told(13, ANN, 3, is_deletion=False)])) == []


@pytest.mark.parametrize(
    ("feed", "user_id"),
    [
        ([*CLEAN.feed[:4], Told(11, BOB, 4, is_deletion=True)], ANN),
        (CLEAN.feed[:5], BOB),
        ([*CLEAN.feed, Told(13, CEM, 1, is_deletion=False)], CEM),
    ],
    ids=["update", "deletion", "user who is not there"],
)
def test_change_that_the_feed_did_not_tell(feed: list[Told], user_id: UUID) -> None:
    assert found(with_(feed=feed)) == [(Wrong.UNTOLD, user_id)]


def test_dead_letters() -> None:
    assert check(TRUTH, with_(dead_letters=2)) == [Violation(Wrong.DEAD_LETTER, None, "2 messages")]


def test_losses_are_told_from_mistakes() -> None:
    assert Violation(Wrong.MISSING, ANN, "").is_loss
    assert not Violation(Wrong.REWRITTEN, ANN, "").is_loss
    assert set(Wrong) > LOSSES
