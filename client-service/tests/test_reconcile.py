"""Comparing with the master and repairing, whatever somebody did to the tables by hand."""

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone
from msgspec import structs
from shop.models import Invoice

from usercast.contract import UserChange, UserGone, UserState
from usercast.digest import (
    BUCKET,
    BUCKETS,
    CONTENT_HASH,
    LATE_AFTER,
    SETTLED_AFTER,
    Digests,
    MasterDigests,
    Published,
    digests_sql,
    from_rows,
)
from usercast.invariants import Wrong
from usercast_client.inbox.models import LaneProbe
from usercast_client.live.models import Change
from usercast_client.replica import bootstrap, compare, master, reconcile
from usercast_client.replica.alone import AlreadyRunning, alone
from usercast_client.replica.apply import apply
from usercast_client.replica.models import Bootstrap, Check, Clash, Kept, Tombstone, User
from usercast_client.report import tasks

pytestmark = pytest.mark.django_db

LONG_AGO = datetime(2026, 11, 1, 12, 0, 0, 123456, tzinfo=UTC)


def key(number: int) -> UUID:
    return UUID(int=(0x0198C8A0 << 96) + number)


def living(number: int, version: int = 1, at: datetime = LONG_AGO, **fields: Any) -> UserChange:
    state = {
        "id": key(number),
        "version": version,
        "username": f"user{number}",
        "email": f"u{number}@example.org",
        "first_name": 'Änn "q" \\ ,;\n',
        "last_name": "",
        "is_active": True,
        "date_joined": LONG_AGO - timedelta(days=number),
        "groups": ('a "b"', "c\\d", "e,{f}"),
    }
    return UserChange(changed_at=at, data=UserState(**{**state, **fields}))


def gone(number: int, version: int = 2, at: datetime = LONG_AGO) -> UserChange:
    return UserChange(changed_at=at, data=UserGone(id=key(number), version=version))


class Master:
    """What the master has published, in the place of its REST API."""

    def __init__(self) -> None:
        self.changes: dict[UUID, UserChange] = {}
        self.owed: set[UUID] = set()
        #: When it was published, of whom that was not when they changed.
        self.published_at: dict[UUID, datetime] = {}
        self.asked: list[Sequence[int]] = []
        self.fetched: list[Sequence[UUID]] = []
        self.owed_count = 0
        self.meanwhile: Callable[[], None] = lambda: None

    def has(self, *changes: UserChange) -> None:
        self.changes |= {change.user_id: change for change in changes}

    def digests(self, before: datetime | None) -> MasterDigests:
        at = timezone.now()
        reached = before or at
        watermark = reached - SETTLED_AFTER
        copy = """SELECT * FROM json_to_recordset(%(rows)s) AS published (
            user_id uuid, version bigint, content_hash uuid, changed_at timestamptz)"""
        changed = {str(change.user_id): change.changed_at for change in self.changes.values()}
        rows = msgspec.json.encode(
            [
                {**structs.asdict(one), "changed_at": changed[one.user_id]}
                for one in self._published()
            ]
        ).decode()
        with connection.cursor() as cursor:
            cursor.execute(digests_sql(copy), {"rows": rows, "watermark": watermark, "at": at})
            digests = from_rows(cursor.fetchall())
        return MasterDigests(
            **structs.asdict(digests),
            at=at,
            watermark=watermark,
            late=reached - LATE_AFTER,
            owed=self.owed_count,
        )

    def published(self, buckets: Sequence[int]) -> list[Published]:
        self.asked.append(buckets)
        found = self._published()
        self.meanwhile()
        return [one for one in found if bucket_of(one.user_id) in buckets]

    def users(self, user_ids: Sequence[UUID]) -> dict[UUID, UserChange | None]:
        self.fetched.append(user_ids)
        return {user_id: self.changes[user_id] for user_id in user_ids if user_id in self.changes}

    def _published(self) -> list[Published]:
        return [
            Published(
                str(change.user_id),
                change.version,
                None if change.is_deletion else content_hash(change),
                self.published_at.get(change.user_id, change.changed_at),
                change.user_id in self.owed,
            )
            for change in self.changes.values()
        ]


def content_hash(change: UserChange) -> str:
    state = msgspec.json.encode(change.data).decode()
    with connection.cursor() as cursor:
        cursor.execute(
            f"""SELECT {CONTENT_HASH}::text FROM json_to_record(%s) AS told (
                username text, email text, first_name text, last_name text, is_active boolean,
                date_joined timestamptz, groups text[])""",
            [state],
        )
        return str(cursor.fetchone()[0])


def bucket_of(user_id: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {BUCKET} FROM (SELECT %s::uuid AS user_id) AS one", [user_id])
        return int(cursor.fetchone()[0])


def sql(statement: str, *parameters: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)


@pytest.fixture
def the_master(monkeypatch: pytest.MonkeyPatch) -> Iterator[Master]:
    fake = Master()
    for name in ("digests", "published", "users"):
        monkeypatch.setattr(master, name, getattr(fake, name))
    monkeypatch.setattr(reconcile, "AGAIN_SECONDS", 0.0)
    return fake


@pytest.fixture
def in_step(the_master: Master) -> Master:
    """Ten users, two of them deleted, here and on the master."""
    changes = [*(living(number) for number in range(8)), gone(8), gone(9, version=7)]
    the_master.has(*changes)
    apply(changes)
    return the_master


def found() -> list[tuple[UUID, Wrong]]:
    return sorted((one.user_id, one.wrong) for one in reconcile.check(None).drift)


def test_nothing_differs_and_nothing_but_digests_is_asked_for(in_step: Master) -> None:
    result = reconcile.check(None)
    assert (result.users, result.deleted, result.drift, result.behind) == (8, 2, [], 0)
    assert in_step.asked == []
    kept = Check.objects.get()
    assert (kept.users, kept.drift, kept.behind) == (8, 0, 0)
    assert timedelta(seconds=4) < timezone.now() - kept.at < timedelta(seconds=20)


def test_local_accounts_are_none_of_the_masters_business(in_step: Master) -> None:
    User.objects.create_user("local")
    assert found() == []


BY_HAND = {
    "username": ("UPDATE replica_user SET username = 'x' WHERE id = %s", Wrong.DIFFERENT),
    "email": ("UPDATE replica_user SET email = 'x@y.z' WHERE id = %s", Wrong.DIFFERENT),
    "first name": ("UPDATE replica_user SET first_name = '' WHERE id = %s", Wrong.DIFFERENT),
    "last name": ("UPDATE replica_user SET last_name = 'x' WHERE id = %s", Wrong.DIFFERENT),
    "active": ("UPDATE replica_user SET is_active = false WHERE id = %s", Wrong.DIFFERENT),
    "joined": (
        (
            "UPDATE replica_user SET date_joined = date_joined + interval '1 microsecond'"
            " WHERE id = %s"
        ),
        Wrong.DIFFERENT,
    ),
    "groups": (
        "UPDATE replica_user SET master_groups = master_groups || '{g}' WHERE id = %s",
        Wrong.DIFFERENT,
    ),
    "version up": ("UPDATE replica_user SET version = 99 WHERE id = %s", Wrong.DIFFERENT),
    "version down": ("UPDATE replica_user SET version = 0 WHERE id = %s", Wrong.DIFFERENT),
    "deleted": ("DELETE FROM replica_user WHERE id = %s", Wrong.MISSING),
    "deleted for good": (
        (
            "WITH gone AS (DELETE FROM replica_user WHERE id = %s RETURNING id)"
            " INSERT INTO replica_tombstone SELECT id, 50, now() FROM gone"
        ),
        Wrong.MISSING,
    ),
    "tombstone beside": (
        "INSERT INTO replica_tombstone VALUES (%s, 50, now() - interval '1 day')",
        Wrong.DIFFERENT,
    ),
}


@pytest.mark.parametrize(("statement", "wrong"), BY_HAND.values(), ids=BY_HAND.keys())
def test_a_user_changed_by_hand_is_found_and_repaired(
    in_step: Master, statement: str, wrong: Wrong
) -> None:
    sql(statement, str(key(3)))
    assert found() == [(key(3), wrong)]
    assert reconcile.repair(reconcile.check(None)) == (1, 0)
    assert found() == []
    assert User.objects.get(pk=key(3)).username == "user3"
    assert in_step.fetched == [[key(3)]]


def test_who_was_put_back_by_hand_is_deleted_again(in_step: Master) -> None:
    apply([living(30)])
    sql("UPDATE replica_user SET id = %s WHERE id = %s", str(key(8)), str(key(30)))
    assert found() == [(key(8), Wrong.RESURRECTED)]
    reconcile.repair(reconcile.check(None))
    assert found() == []
    assert not User.objects.filter(pk=key(8)).exists()
    assert Tombstone.objects.get(pk=key(8)).version == 2


def test_who_is_unknown_to_the_master_goes_without_a_trace(in_step: Master) -> None:
    apply([living(40)])
    assert found() == [(key(40), Wrong.EXTRA)]
    reconcile.repair(reconcile.check(None))
    assert found() == []
    assert not User.objects.filter(pk=key(40)).exists()
    assert not Tombstone.objects.filter(pk=key(40)).exists()


@pytest.mark.parametrize("moment", ["now()", "now() + interval '3 days'", "NULL"])
def test_who_was_inserted_by_hand_is_found_whatever_time_it_bears(
    in_step: Master, moment: str
) -> None:
    """Whose time is now is left out for the moment, as all are who have just changed."""
    apply([living(40)])
    sql(f"UPDATE replica_user SET changed_at = {moment} WHERE id = %s", str(key(40)))
    if moment == "now()":
        assert found() == []
        sql(
            "UPDATE replica_user SET changed_at = now() - interval '6 s' WHERE id = %s", key(40).hex
        )
    assert found() == [(key(40), Wrong.EXTRA)]


def test_a_lost_tombstone_is_found_and_written_again(in_step: Master) -> None:
    Tombstone.objects.filter(pk=key(9)).delete()
    assert found() == [(key(9), Wrong.TOMBSTONE)]
    reconcile.repair(reconcile.check(None))
    assert (found(), Tombstone.objects.get(pk=key(9)).version) == ([], 7)


def test_two_who_swapped_their_names_by_hand(in_step: Master) -> None:
    sql("UPDATE replica_user SET username = 'tmp' WHERE id = %s", str(key(1)))
    sql("UPDATE replica_user SET username = 'user1' WHERE id = %s", str(key(2)))
    sql("UPDATE replica_user SET username = 'user2' WHERE id = %s", str(key(1)))
    assert found() == [(key(1), Wrong.DIFFERENT), (key(2), Wrong.DIFFERENT)]
    reconcile.repair(reconcile.check(None))
    assert found() == []


def test_a_repair_is_told_to_the_browsers_like_any_change(in_step: Master) -> None:
    sql("UPDATE replica_user SET email = 'x@y.z' WHERE id = %s", str(key(3)))
    before = Change.objects.count()
    reconcile.repair(reconcile.check(None))
    assert Change.objects.count() == before + 1
    told = Change.objects.latest("cursor")
    assert (told.kind, told.user_id, told.version) == ("updated", key(3), 1)
    assert '"email":"x@y.z"' in told.before
    assert told.applied_at - told.changed_at < timedelta(seconds=60), "no change that came late"
    assert User.objects.get(pk=key(3)).changed_at == LONG_AGO


def test_what_is_on_its_way_is_no_drift(in_step: Master) -> None:
    now = timezone.now() - timedelta(seconds=10)
    in_step.has(living(1, version=2, at=now, email="new@example.org"), gone(2, at=now))
    in_step.has(living(50, at=now))
    result = reconcile.check(None)
    assert (result.drift, result.behind) == ([], 3)


def test_what_should_have_come_long_ago_is_lost(in_step: Master) -> None:
    then = timezone.now() - timedelta(seconds=40)
    in_step.has(living(1, version=2, at=then, email="new@example.org"), gone(2, at=then))
    in_step.has(living(50, at=then))
    assert found() == [
        (key(1), Wrong.DIFFERENT),
        (key(2), Wrong.RESURRECTED),
        (key(50), Wrong.MISSING),
    ]
    reconcile.repair(reconcile.check(None))
    assert found() == []


def test_a_client_that_knows_itself_behind_waits_longer(in_step: Master) -> None:
    """Its queues are two minutes behind: what was sent since then is on its way."""
    then = timezone.now() - timedelta(seconds=100)
    in_step.has(living(1, version=2, at=then), living(50, at=then))
    result = reconcile.check(timezone.now() - timedelta(seconds=120))
    assert (result.drift, result.behind) == ([], 1)
    assert {one for one, _ in found()} == {key(1), key(50)}


def test_what_was_published_late_is_on_its_way(in_step: Master) -> None:
    """Changed in a bulk write minutes ago, and sent only now."""
    then = timezone.now() - timedelta(minutes=3)
    in_step.has(living(1, version=2, at=then), gone(2, at=then), living(50, at=then))
    just = timezone.now() - timedelta(seconds=3)
    in_step.published_at = {key(1): just, key(2): just, key(50): just}
    result = reconcile.check(None)
    assert (result.drift, result.behind) == ([], 3)


def test_a_clock_from_the_future_hides_no_loss(in_step: Master) -> None:
    ahead = timezone.now() + timedelta(days=700)
    in_step.has(living(1, version=2, at=ahead, email="new@example.org"))
    in_step.published_at = {key(1): LONG_AGO}
    assert found() == [(key(1), Wrong.DIFFERENT)]


def test_what_the_master_owes_is_no_drift(in_step: Master) -> None:
    in_step.owed = {key(1)}
    sql("UPDATE replica_user SET email = 'x@y.z' WHERE id = %s", str(key(1)))
    result = reconcile.check(None)
    assert (result.drift, result.behind) == ([], 1)


def test_with_a_backlog_on_the_master_nothing_is_compared(in_step: Master) -> None:
    in_step.owed_count = reconcile.OWED_AT_MOST + 1
    with pytest.raises(reconcile.NotComparable, match="5,001"):
        reconcile.check(None)
    assert not Check.objects.exists()


def test_while_a_first_load_is_at_work_nothing_is_compared(in_step: Master) -> None:
    Bootstrap.objects.create()
    assert found() == [], "one that was stopped hides nothing"
    with (
        alone(bootstrap._LOCK, "bootstrap"),
        pytest.raises(reconcile.NotComparable, match="first load is at work"),
    ):
        reconcile.check(None)


@pytest.mark.django_db(transaction=True)
def test_the_command_waits_for_a_comparison_that_is_at_work(
    in_step: Master, capsys: pytest.CaptureFixture[str]
) -> None:
    ends = threading.Event()

    def at_work() -> None:
        try:
            with alone(reconcile._LOCK, "comparison"):
                begun.set()
                ends.wait(20)
        finally:
            connection.close()

    begun = threading.Event()
    with ThreadPoolExecutor(1) as other:
        first = other.submit(at_work)
        assert begun.wait(20)
        threading.Timer(0.5, ends.set).start()
        call_command("reconcile", "--check")
        assert ends.is_set()
        first.result()
    assert "in step" in capsys.readouterr().out


def test_a_master_that_knows_hardly_anybody_is_not_obeyed_at_once(
    the_master: Master, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may be a wrong address."""
    apply([living(number) for number in range(30)])
    with pytest.raises(CommandError, match="does not have 30 of the 30 users here") as ended:
        call_command("reconcile")
    assert ended.value.returncode == 1
    assert User.objects.count() == 30
    call_command("reconcile", "--delete-many")
    assert "30 repaired" in capsys.readouterr().out
    assert not User.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_one_comparison_at_a_time(in_step: Master) -> None:
    def second() -> None:
        try:
            with pytest.raises(AlreadyRunning):
                reconcile.check(None)
        finally:
            connection.close()

    with (
        alone(reconcile._LOCK, "comparison"),
        ThreadPoolExecutor(1) as other,
    ):
        other.submit(second).result()


def test_more_differences_than_are_looked_at(
    the_master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "DIFFERENCES_AT_MOST", 5)
    the_master.has(*(living(number) for number in range(8)))
    result = reconcile.check(None)
    assert (len(result.drift), result.is_cut) == (5, True)
    reconcile.repair(result)
    reconcile.repair(reconcile.check(None))
    assert found() == []


def test_a_local_account_with_a_users_id_is_never_overwritten(in_step: Master) -> None:
    boss = User.objects.create_superuser("boss", id=key(70))
    in_step.has(living(70))
    result = reconcile.check(None)
    assert [(one.user_id, one.is_local) for one in result.drift] == [(key(70), True)]
    assert "local account" in reconcile.words(result.drift[0])
    assert reconcile.repair(result) == (0, 1)
    # As if the account had been made since the comparison.
    (seen,) = result.drift
    unaware = structs.replace(result, drift=[structs.replace(seen, is_local=False)])
    reconcile.repair(unaware)
    boss.refresh_from_db()
    assert (boss.username, boss.version, boss.is_superuser) == ("boss", None, True)


def test_who_is_refused_does_not_hold_up_the_others(in_step: Master) -> None:
    for number in (3, 4, 5):
        sql("UPDATE replica_user SET email = 'x@y.z' WHERE id = %s", str(key(number)))
    sql("ALTER TABLE replica_user ADD CONSTRAINT no_u4 CHECK (email <> 'u4@example.org')")
    assert reconcile.repair(reconcile.check(None)) == (2, 1)
    assert found() == [(key(4), Wrong.DIFFERENT)]


def test_whom_the_master_tells_against_the_contract_is_left_alone(
    in_step: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (3, 4):
        sql("UPDATE replica_user SET email = 'x@y.z' WHERE id = %s", str(key(number)))
    told = {key(3): living(3), key(4): None}
    monkeypatch.setattr(master, "users", lambda ids: told)
    assert reconcile.repair(reconcile.check(None)) == (1, 1)
    assert User.objects.get(pk=key(4)).email == "x@y.z", "neither repaired nor deleted"


def test_a_kept_user_who_comes_back_by_a_repair_is_kept_no_more(in_step: Master) -> None:
    Invoice.objects.create(user_id=key(5))
    apply([gone(5)])
    in_step.has(living(5, version=3))
    assert found() == [(key(5), Wrong.DIFFERENT)] or found() == [(key(5), Wrong.MISSING)]
    reconcile.repair(reconcile.check(None))
    assert (found(), Kept.objects.count()) == ([], 0)
    later = living(5, version=4, is_active=False)
    in_step.has(later)
    apply([later])
    assert found() == []


def test_what_arrives_between_two_looks_does_not_count(in_step: Master) -> None:
    change = living(1, version=2, at=timezone.now() - timedelta(minutes=1), email="n@x.org")
    in_step.has(change)

    def arrives() -> None:
        in_step.meanwhile = lambda: None
        apply([change])

    in_step.meanwhile = arrives
    result = reconcile.check(None)
    assert (result.drift, result.behind, len(in_step.asked)) == ([], 0, 2)


def test_who_has_changed_since_the_comparison_is_left_alone(in_step: Master) -> None:
    sql(
        "UPDATE replica_user SET email = 'x@y.z' WHERE id = ANY(%s::uuid[])",
        f"{{{key(3)},{key(4)}}}",
    )
    result = reconcile.check(None)
    newer = living(3, version=2, email="newer@example.org")
    apply([newer])
    assert reconcile.repair(result) == (1, 1)
    assert User.objects.get(pk=key(3)).email == "newer@example.org"
    assert User.objects.get(pk=key(4)).email == "u4@example.org"


def test_a_name_that_a_local_account_has_is_a_clash_and_no_drift(in_step: Master) -> None:
    User.objects.create_user("taken")
    change = living(60, username="taken")
    in_step.has(change)
    apply([change])
    assert Clash.objects.get().username == "taken"
    assert found() == []
    sql("UPDATE replica_user SET email = 'x@y.z' WHERE id = %s", str(key(60)))
    assert found() == [(key(60), Wrong.DIFFERENT)]
    reconcile.repair(reconcile.check(None))
    assert found() == []


def test_a_name_that_nobody_has_any_more_is_given_back(in_step: Master) -> None:
    local = User.objects.create_user("taken")
    change = living(60, username="taken")
    in_step.has(change)
    apply([change])
    local.delete()
    assert found() == [(key(60), Wrong.DIFFERENT)]
    reconcile.repair(reconcile.check(None))
    assert (found(), User.objects.get(pk=key(60)).username) == ([], "taken")
    assert not Clash.objects.exists()


def test_a_deleted_user_whose_row_is_needed_stays_inactive(in_step: Master) -> None:
    Invoice.objects.create(user_id=key(5))
    in_step.has(gone(5))
    apply([gone(5)])
    assert User.objects.get(pk=key(5)).is_active is False
    assert found() == []
    sql("UPDATE replica_user SET is_active = true WHERE id = %s", str(key(5)))
    assert found() == [(key(5), Wrong.RESURRECTED)]
    reconcile.repair(reconcile.check(None))
    assert (found(), User.objects.get(pk=key(5)).is_active) == ([], False)


def test_only_the_buckets_that_differ_are_asked_for(the_master: Master) -> None:
    changes = [living(number) for number in range(300)]
    the_master.has(*changes)
    apply(changes)
    sql("DELETE FROM replica_user WHERE id = %s", str(key(7)))
    assert found() == [(key(7), Wrong.MISSING)]
    assert the_master.asked == [[bucket_of(str(key(7)))]] * 2


def test_digests_do_not_depend_on_order_and_differ_by_bucket() -> None:
    rows = [(5, 1, 0, 77), (9, 2, 1, -1)]
    digests = from_rows(rows)
    assert digests == from_rows(rows[::-1])
    assert (digests.users, digests.deleted, len(digests.buckets)) == (3, 1, 16 * BUCKETS)
    assert digests.differing(from_rows([(5, 1, 0, 78), (9, 2, 1, -1)])) == [5]
    assert digests.differing(Digests(users=3, deleted=1, buckets=digests.buckets)) == []


# The command and the beat


def test_the_command_checks_repairs_and_says_so(
    in_step: Master, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("reconcile", "--check")
    assert re.search(
        r"8 users and 2 deleted ones compared, as of 20.* UTC: in step", capsys.readouterr().out
    )
    sql("DELETE FROM replica_user WHERE id = %s", str(key(7)))
    with pytest.raises(SystemExit) as ended:
        call_command("reconcile", "--check")
    assert ended.value.code == 1
    assert f"{key(7)}  missing here" in capsys.readouterr().out
    assert not User.objects.filter(pk=key(7)).exists()
    call_command("reconcile")
    out = capsys.readouterr().out
    assert "1 repaired" in out
    assert out.splitlines()[-1].endswith("in step with the master")
    assert User.objects.filter(pk=key(7)).exists()


def test_what_the_master_cannot_mend_ends_with_an_error(
    in_step: Master, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changed on the master in SQL: what it sends is not what it has published."""
    told = {key(7): living(7, email="sql@example.org")}
    monkeypatch.setattr(master, "users", lambda ids: told)
    sql("DELETE FROM replica_user WHERE id = %s", str(key(7)))
    with pytest.raises(SystemExit) as ended:
        call_command("reconcile")
    assert ended.value.code == 1
    assert "manage.py outbox audit" in capsys.readouterr().out


def test_a_master_that_is_away_is_said(the_master: Master, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(before: datetime | None) -> MasterDigests:
        raise master.MasterUnreachable("http://127.0.0.1:9: no answer")

    monkeypatch.setattr(master, "digests", away)
    with pytest.raises(CommandError, match="no answer") as ended:
        call_command("reconcile")
    assert ended.value.returncode == 2
    tasks.compare()
    assert not Check.objects.exists()


def test_the_command_does_not_go_by_an_old_probe(
    in_step: Master, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would leave out everybody who has changed since, and prove nothing."""
    then = timezone.now() - timedelta(minutes=30)
    in_step.has(living(1, version=2, at=then, email="new@example.org"))
    for lane in ("live", "bulk"):
        hour = timezone.now() - timedelta(hours=1)
        LaneProbe.objects.create(lane=lane, sent_at=hour, received_at=hour)
    with pytest.raises(SystemExit):
        call_command("reconcile", "--check")
    said = capsys.readouterr()
    assert "No probe" in said.err
    assert "1 differ" in said.out


def test_the_beat_compares_and_gives_itself_time(in_step: Master) -> None:
    tasks.compare()
    first = Check.objects.get()
    Check.objects.update(next_at=timezone.now() + timedelta(minutes=1))
    tasks.compare()
    assert Check.objects.get().at == first.at
    Check.objects.update(next_at=timezone.now())
    tasks.compare()
    assert Check.objects.get().at > first.at
    assert compare.here_of([key(99)]) == {key(99): compare.Here()}
