"""Any order, any repetition: the replica ends where the master is."""

import random
import threading
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, connections
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shop.models import Invoice, Note, Parcel
from uuid_utils.compat import uuid7

from usercast.contract import UserChange, UserState
from usercast.testing import deletion, upsert
from usercast_client.live import feed
from usercast_client.live.latest import latest
from usercast_client.live.models import Change
from usercast_client.replica.apply import Applied, apply
from usercast_client.replica.models import Clash, Kept, Tombstone, User
from usercast_client.replica.names import placeholder

pytestmark = pytest.mark.django_db

ANN, BOB, CEM = (uuid7() for _ in range(3))
T0 = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: int) -> datetime:
    return T0 + timedelta(seconds=seconds)


def usernames() -> dict[UUID, str]:
    return dict(User.objects.replicated().values_list("pk", "username"))


def stale(applied: Applied) -> int:
    """How many changes were dropped, none of them having been told."""
    assert not applied.told.entries
    return applied.stale


def test_new_user_is_there_in_full() -> None:
    change = upsert(ANN, 3, username="ann", groups=("editors", "finance"), is_active=False)
    assert isinstance(change.data, UserState)
    apply([change])
    ann = User.objects.get(pk=ANN)
    held = {name: getattr(ann, name) for name in ("version", "username", "email", "is_active")}
    assert held == {
        "version": 3,
        "username": "ann",
        "email": "someone@example.org",
        "is_active": False,
    }
    assert ann.master_groups == ["editors", "finance"]
    assert ann.date_joined == change.data.date_joined
    assert ann.changed_at == change.changed_at
    assert not ann.has_usable_password()
    assert not ann.is_staff


def test_update_replaces_what_the_master_owns_and_nothing_else() -> None:
    apply([upsert(ANN, 1, username="ann")])
    ann = User.objects.get(pk=ANN)
    ann.set_password("correct horse battery")
    ann.is_staff = True
    ann.save()
    apply([upsert(ANN, 2, username="anna")])
    ann.refresh_from_db()
    assert (ann.username, ann.version, ann.is_staff) == ("anna", 2, True)
    assert ann.check_password("correct horse battery")


@pytest.mark.parametrize("late", [1, 2], ids=["older", "the same again"])
def test_late_or_doubled_upsert_changes_nothing(late: int) -> None:
    apply([upsert(ANN, 2, username="new")])
    cursor = feed.newest_cursor()
    assert stale(apply([upsert(ANN, late, username="old")])) == 1
    assert usernames() == {ANN: "new"}
    assert feed.newest_cursor() == cursor


def test_late_upsert_does_not_resurrect() -> None:
    apply([deletion(ANN, 5)])
    apply([upsert(ANN, 4)])
    assert not User.objects.exists()
    assert Tombstone.objects.get().version == 5


def test_late_deletion_does_not_delete_who_came_back() -> None:
    apply([deletion(ANN, 5)])
    apply([upsert(ANN, 6, username="back")])
    apply([deletion(ANN, 5)])
    assert usernames() == {ANN: "back"}


def test_deletion_takes_the_local_rows_that_point_at_the_user() -> None:
    from django.contrib.auth.models import Group

    apply([upsert(ANN, 1)])
    User.objects.get(pk=ANN).groups.add(Group.objects.create(name="local"))
    apply([deletion(ANN, 2)])
    assert not User.objects.exists()


def test_users_whom_the_clients_own_tables_need_are_deactivated_kept_and_recorded() -> None:
    keys = [uuid7() for _ in range(20)]
    apply([upsert(key, 1) for key in keys])
    apply([upsert(ANN, 1, username="ann"), upsert(BOB, 1, username="bob")])
    Invoice.objects.create(user_id=ANN)
    Invoice.objects.create(user_id=ANN)
    Parcel.objects.create(user_id=BOB)
    Note.objects.create(user_id=keys[0])
    apply([deletion(key, 2) for key in [*keys, ANN, BOB]])
    assert {user.pk: user.is_active for user in User.objects.all()} == {ANN: False, BOB: False}
    assert {kept.username for kept in Kept.objects.all()} == {"ann", "bob"}
    assert dict(Kept.objects.values_list("user_id", "protected_by")) == {
        ANN: "2 shop.Invoice",
        BOB: "table shop_parcel",
    }
    kinds = {change["user_id"]: change["kind"] for change in latest(22)}
    assert kinds == {
        **{str(key): "deleted" for key in keys},
        str(ANN): "updated",
        str(BOB): "updated",
    }


def test_kept_user_who_comes_back_is_active_and_no_longer_recorded() -> None:
    apply([upsert(ANN, 1)])
    Invoice.objects.create(user_id=ANN)
    apply([deletion(ANN, 2)])
    assert stale(apply([upsert(ANN, 1)])) == 1
    apply([upsert(ANN, 3)])
    assert User.objects.get().is_active
    assert not Kept.objects.exists()
    assert not Tombstone.objects.exists()


def test_local_save_of_a_stale_instance_puts_nothing_back() -> None:
    apply([upsert(ANN, 1, email="old@x.org")])
    stale = User.objects.get(pk=ANN)
    apply([upsert(ANN, 2, email="new@x.org")])
    stale.is_staff = True
    stale.save()
    ann = User.objects.get(pk=ANN)
    assert (ann.email, ann.version, ann.is_staff) == ("new@x.org", 2, True)


def test_name_of_a_user_who_is_kept_is_not_free() -> None:
    apply([upsert(ANN, 1, username="x", changed_at=at(0))])
    Invoice.objects.create(user_id=ANN)
    apply([deletion(ANN, 2, changed_at=at(1)), upsert(BOB, 1, username="x", changed_at=at(2))])
    assert usernames() == {ANN: placeholder(ANN), BOB: "x"}


def test_parked_user_sent_again_in_vain_is_no_news() -> None:
    User.objects.create_user("clash")
    apply([upsert(ANN, 1, username="clash")])
    cursor = feed.newest_cursor()
    assert stale(apply([upsert(ANN, 1, username="clash")])) == 1
    assert feed.newest_cursor() == cursor


def test_swap_in_one_batch() -> None:
    apply([upsert(ANN, 1, username="a"), upsert(BOB, 1, username="b")])
    apply([upsert(ANN, 2, username="b"), upsert(BOB, 2, username="a")])
    assert usernames() == {ANN: "b", BOB: "a"}
    assert not Clash.objects.exists()


@pytest.mark.parametrize("seed", range(6))
def test_cycle_of_three_in_any_order_one_by_one(seed: int) -> None:
    first = {ANN: "a", BOB: "b", CEM: "c"}
    last = {ANN: "b", BOB: "c", CEM: "a"}
    apply([upsert(key, 1, username=name, changed_at=at(0)) for key, name in first.items()])
    changes = [upsert(key, 2, username=name, changed_at=at(1)) for key, name in last.items()]
    random.Random(seed).shuffle(changes)
    for change in changes:
        apply([change])
    assert usernames() == last


def test_late_message_does_not_take_a_name_back() -> None:
    """Ann was x, then z; Bob became x. Ann's first message comes after Bob's."""
    apply([upsert(BOB, 2, username="x", changed_at=at(3))])
    apply([upsert(ANN, 1, username="x", changed_at=at(1))])
    assert usernames() == {BOB: "x", ANN: placeholder(ANN)}
    assert [(clash.user_id, clash.username) for clash in Clash.objects.all()] == [(ANN, "x")]
    apply([upsert(ANN, 2, username="z", changed_at=at(2))])
    assert usernames() == {BOB: "x", ANN: "z"}
    assert not Clash.objects.exists()


def test_freed_name_is_taken_in_the_batch_that_deletes_its_holder() -> None:
    apply([upsert(ANN, 1, username="x")])
    apply([upsert(BOB, 1, username="x"), deletion(ANN, 2)])
    assert usernames() == {BOB: "x"}


def test_local_account_is_never_touched_and_the_others_go_on() -> None:
    local = User.objects.create_user("clash", email="local@x.org", password="correct horse battery")
    apply([upsert(ANN, 1, username="clash"), upsert(BOB, 1, username="bob")])
    local.refresh_from_db()
    assert (local.username, local.email, local.version) == ("clash", "local@x.org", None)
    assert usernames() == {ANN: placeholder(ANN), BOB: "bob"}
    assert [(clash.user_id, clash.username) for clash in Clash.objects.all()] == [(ANN, "clash")]


def test_clash_ends_when_the_local_account_moves_and_the_user_is_sent_again() -> None:
    local = User.objects.create_user("clash")
    apply([upsert(ANN, 1, username="clash")])
    local.username = "local-clash"
    local.save()
    apply([upsert(ANN, 1, username="clash")])
    assert usernames() == {ANN: "clash"}
    assert not Clash.objects.exists()


def test_statements_do_not_grow_with_the_changes(django_assert_max_num_queries: Any) -> None:
    few, many = ([upsert(username=f"{n}-{i}") for i in range(n)] for n in (3, 600))
    with connection.execute_wrapper(counter := _Counter()):
        apply(few)
    with django_assert_max_num_queries(counter.count):
        apply(many)


class _Counter:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self, execute: Any, *args: Any) -> Any:
        self.count += 1
        return execute(*args)


# The feed: one row for each applied change, saying what was replaced.


def test_feed_tells_what_changed() -> None:
    apply([upsert(ANN, 1, username="ann", groups=("a",))])
    apply([upsert(ANN, 2, username="ann", groups=("a", "b"), is_active=False)])
    apply([deletion(ANN, 3)])
    created, updated, deleted = reversed(latest(10))
    assert (created["kind"], created["before"], created["user"]["username"]) == (
        "created",
        {},
        "ann",
    )
    assert updated["before"].pop("changed_at") == created["changed_at"]
    assert updated["before"] == {"groups": ["a"], "is_active": True}
    assert updated["user"]["groups"] == ["a", "b"]
    assert (deleted["kind"], deleted["user"]) == ("deleted", None)
    assert deleted["before"]["username"] == "ann"
    assert [change["cursor"] for change in (created, updated, deleted)] == [1, 2, 3]


def test_returned_changes_are_what_the_feed_has() -> None:
    applied = apply([upsert(ANN, 1), upsert(BOB, 1)])
    assert applied.told.as_json() == list(reversed(latest(10)))


@pytest.mark.django_db(transaction=True)
def test_cursors_grow_in_commit_order_without_gaps() -> None:
    """Several appliers at once, one of which rolls back."""
    start = threading.Barrier(4)

    def applier(number: int) -> None:
        start.wait()
        for i in range(10):
            apply([upsert(username=f"{number}-{i}")])
        connections.close_all()

    threads = [threading.Thread(target=applier, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    start.wait()
    seen: list[int] = []
    while any(thread.is_alive() for thread in threads) or len(seen) < 30:
        found = feed.since(seen[-1] if seen else 0, limit=100)
        seen += [change["cursor"] for change in found.changes]
    for thread in threads:
        thread.join()
    assert seen == list(range(1, 31)), "a reader missed a change that was committed late"


@pytest.mark.django_db(transaction=True)
def test_upsert_and_deletion_of_an_unknown_user_cannot_miss_each_other() -> None:
    """Without a row to lock, the two transactions still take turns (a forced race)."""
    for _ in range(10):
        key, start = uuid7(), threading.Barrier(2)

        def run(change: UserChange, start: threading.Barrier = start) -> None:
            start.wait()
            apply([change])
            connections.close_all()

        threads = [
            threading.Thread(target=run, args=(change,))
            for change in (upsert(key, 1), deletion(key, 2))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not User.objects.filter(pk=key).exists()


def test_trimmed_feed_says_so() -> None:
    apply([upsert() for _ in range(10)])
    assert feed.trim(keep=4) == 6
    assert feed.since(5, limit=10).complete is False
    assert [change["cursor"] for change in feed.since(6, limit=10).changes] == [7, 8, 9, 10]
    assert feed.since(11, limit=10).complete is False, "a cursor of another feed"
    feed.trim(keep=0)
    assert feed.newest_cursor() == 10, "the newest stays, for the next cursor to follow"


# Property: a history of the master, delivered in any order, doubled, in batches of any size.

NAMES = ("a", "b", "c", "d")


def history(steps: list[tuple[int, int]]) -> tuple[list[UserChange], dict[UUID, str]]:
    """Renames and deletions of four users with unique names, and what the master ends with."""
    users = [uuid7() for _ in range(4)]
    names: dict[UUID, str] = {}
    versions = dict.fromkeys(users, 0)
    changes: list[UserChange] = []
    for second, (who, name) in enumerate(steps):
        user = users[who % 4]
        versions[user] += 1
        if name >= len(NAMES):
            names.pop(user, None)
            changes.append(deletion(user, versions[user], changed_at=at(second)))
            continue
        if NAMES[name] in {held for other, held in names.items() if other != user}:
            versions[user] -= 1
            continue
        names[user] = NAMES[name]
        changes.append(upsert(user, versions[user], username=NAMES[name], changed_at=at(second)))
    return changes, names


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), max_size=14), st.randoms())
def test_any_order_and_repetition_ends_where_the_master_is(
    steps: list[tuple[int, int]], chance: random.Random
) -> None:
    for table in ("replica_user", "replica_tombstone", "live_change"):
        with connection.cursor() as cursor:
            cursor.execute(f"DELETE FROM {table}")
    changes, expected = history(steps)
    deliveries = changes + chance.sample(changes, k=len(changes) // 2)
    chance.shuffle(deliveries)
    while deliveries:
        size = chance.randint(1, 4)
        apply(deliveries[:size])
        del deliveries[:size]
    assert usernames() == expected
    cursors = list(Change.objects.order_by("cursor").values_list("cursor", flat=True))
    assert cursors == list(range(1, len(cursors) + 1))
