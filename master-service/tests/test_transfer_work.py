"""Work on imports: stopped, killed, cancelled or taken over, no row is written twice."""

from collections.abc import Iterator
from datetime import timedelta
from threading import Event, Thread
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group
from django.db import OperationalError, connections
from django.utils import timezone
from transferring import counts, csv_file, errors_of, imported, received, work

from usercast_master.accounts.models import User
from usercast_master.outbox.models import OutboxEntry
from usercast_master.transfer import batches, importing, leases, tasks
from usercast_master.transfer.models import Import, Part, RowError, State

FIVE = csv_file("username,email", *(f"u{n},u{n}@x.org" for n in range(5))).getvalue().decode()


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "BATCH_ROWS", 2)


def five() -> Import:
    return received(csv_file(*FIVE.splitlines()))


def confirmed() -> Import:
    found = work(five())
    assert leases.confirm(found.pk)
    found.refresh_from_db()
    return found


@pytest.mark.django_db
def test_nothing_is_written_before_the_yes() -> None:
    found = work(five())
    assert (found.state, found.next_row, counts(found)) == (State.CHECKED, 5, (5, 0, 0, 0))
    assert not User.objects.exists()
    assert not OutboxEntry.objects.exists()
    assert leases.claim() is None, "it waits for somebody, not for a worker"


@pytest.mark.django_db
def test_stopped_check_and_import_go_on_where_they_were() -> None:
    lines = ["username,email", "a,a@x.org", "b,broken", "a,again@x.org", "c,c@x.org", "b,b@x.org"]
    found = received(csv_file(*lines))
    assert (work(found, batches=1).state, found.next_row) == (State.CHECKING, 2)
    found = work(found)
    assert [line for line, _, _ in errors_of(found)] == [3, 4, 6], "earlier lines are remembered"
    assert leases.confirm(found.pk)
    found.refresh_from_db()
    assert (work(found, batches=1).next_row, User.objects.count()) == (2, 1)
    assert (work(found).state, counts(found)) == (State.DONE, (2, 0, 0, 3))
    assert set(OutboxEntry.objects.values_list("version", flat=True)) == {1}
    assert not Part.objects.exists(), "the file is dropped"


@pytest.mark.django_db(transaction=True)
def test_killed_in_the_midst_of_a_batch_it_goes_on_without_double_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = confirmed()
    real, calls = batches.write, []

    def dying(*args: Any, **kwargs: Any) -> None:
        real(*args, **kwargs)
        calls.append(None)
        if len(calls) == 2:
            raise SystemExit  # After the second batch is written, before it is committed.

    monkeypatch.setattr(batches, "write", dying)
    with pytest.raises(SystemExit):
        work(found)
    found.refresh_from_db()
    assert (found.next_row, User.objects.count()) == (2, 2), "the rest is rolled back"
    assert leases.claim() is None, "the lease of the killed one has not ended"
    Import.objects.update(leased_until=timezone.now())
    monkeypatch.setattr(batches, "write", real)
    tasks.work_on_imports()
    found.refresh_from_db()
    assert (found.state, counts(found), User.objects.count()) == (State.DONE, (5, 0, 0, 0), 5)
    assert set(OutboxEntry.objects.values_list("version", flat=True)) == {1}


@pytest.fixture
def elsewhere() -> Iterator[Any]:
    """Runs a function in a thread, with a connection of its own."""
    threads = []

    def start(function: Any) -> Thread:
        def run() -> None:
            try:
                function()
            finally:
                connections.close_all()

        thread = Thread(target=run)
        thread.start()
        threads.append(thread)
        return thread

    yield start
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


@pytest.mark.django_db(transaction=True)
def test_worker_that_was_thought_dead_lets_go(
    monkeypatch: pytest.MonkeyPatch, elsewhere: Any
) -> None:
    found = confirmed()
    paused, go_on, real = Event(), Event(), leases.hold

    def slow(held: Import) -> None:
        if not paused.is_set():
            paused.set()
            assert go_on.wait(20)
        real(held)

    monkeypatch.setattr(leases, "hold", slow)
    slow_one = elsewhere(tasks.work_on_imports)
    assert paused.wait(20)
    Import.objects.update(leased_until=timezone.now())
    tasks.work_on_imports()
    go_on.set()
    slow_one.join(20)
    found.refresh_from_db()
    assert (found.state, counts(found), User.objects.count()) == (State.DONE, (5, 0, 0, 0), 5)


@pytest.mark.django_db(transaction=True)
def test_cancelled_import_ends_after_the_batch_in_hand_and_keeps_what_is_written() -> None:
    found = confirmed()
    claimed = leases.claim(found.pk)
    assert claimed
    importing.run(
        claimed, stopped=lambda: False, watch=lambda held: leases.cancel(held.pk) and None
    )
    found.refresh_from_db()
    assert (found.state, found.new, User.objects.count()) == (State.CANCELLED, 2, 2)
    assert not leases.cancel(found.pk)
    assert not leases.confirm(found.pk)


def _cancel(found: Import) -> None:
    leases.cancel(found.pk)


@pytest.mark.django_db(transaction=True)
def test_imports_take_turns_oldest_first() -> None:
    first, second = five(), received(csv_file("username,email", "u0,other@x.org"))
    claimed = leases.claim()
    assert claimed
    assert claimed.pk == first.pk
    assert leases.claim() is None
    assert leases.is_behind_another(second)
    leases.release(claimed)
    tasks.work_on_imports()
    for found in (first, second):
        assert leases.confirm(found.pk)
    tasks.work_on_imports()
    first.refresh_from_db()
    second.refresh_from_db()
    assert (counts(first), counts(second)) == ((5, 0, 0, 0), (0, 1, 0, 0)), "counted anew"
    assert User.objects.get(username="u0").email == "other@x.org"


@pytest.mark.django_db(transaction=True)
def test_name_taken_between_look_and_write_is_looked_at_again(
    monkeypatch: pytest.MonkeyPatch, elsewhere: Any
) -> None:
    found = confirmed()
    real, calls = batches.write, []

    def late(*args: Any, **kwargs: Any) -> None:
        if not calls:
            calls.append(None)
            elsewhere(lambda: User.objects.create(username="u0", email="first@x.org")).join(20)
        real(*args, **kwargs)

    monkeypatch.setattr(batches, "write", late)
    found = work(found)
    assert (found.state, counts(found)) == (State.DONE, (4, 1, 0, 0))


@pytest.mark.django_db
def test_what_has_changed_since_the_check_is_refused_by_its_line() -> None:
    Group.objects.create(name="sales")
    found = work(received(csv_file("username,groups", "ann,sales", "bob,")))
    Group.objects.all().delete()
    assert leases.confirm(found.pk)
    found = work(found)
    assert (found.state, counts(found)) == (State.DONE, (1, 0, 0, 1))
    assert errors_of(found) == [(2, "groups", "These groups do not exist: “sales”.")]


@pytest.mark.django_db
def test_fault_of_the_program_ends_the_import_and_says_where(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = confirmed()
    fault = ZeroDivisionError("what a row says")
    monkeypatch.setattr(batches, "write", lambda *_args, **_kwargs: _raise(fault))
    found = work(found)
    assert found.state == State.FAILED
    assert found.failure == "It stopped after row 0: a fault of the program; see the log."


@pytest.mark.django_db(transaction=True)
def test_database_that_is_away_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = confirmed()
    with monkeypatch.context() as broken:
        broken.setattr(batches, "write", lambda *_args, **_kwargs: _raise(OperationalError("gone")))
        tasks.work_on_imports()
    found.refresh_from_db()
    assert found.state == State.IMPORTING
    Import.objects.update(leased_until=timezone.now())
    assert work(found).state == State.DONE


def _raise(error: Exception) -> None:
    raise error


@pytest.mark.django_db
def test_history_names_who_imported_what_from_which_file() -> None:
    root = User.objects.create_superuser("root")
    ann = User.objects.create(username="ann", email="old@x.org")
    imported(csv_file("username,email", "ann,new@x.org", "bob,b@x.org"), "staff.csv", root)
    lines = LogEntry.objects.order_by("object_repr").values_list("user__username", "change_message")
    assert list(lines) == [
        ("root", "email: old@x.org → new@x.org (by import of staff.csv)"),
        ("root", "Created. (by import of staff.csv)"),
    ]
    assert ann.pk


@pytest.mark.django_db
def test_imports_are_forgotten_after_thirty_days() -> None:
    found = work(received(csv_file("username,email", "ann,broken")))
    kept = five()
    Import.objects.filter(pk=found.pk).update(created_at=timezone.now() - timedelta(days=31))
    assert leases.trim() == 1
    assert list(Import.objects.all()) == [kept]
    assert not RowError.objects.exists()


@pytest.mark.django_db
def test_import_that_nobody_works_on_is_told_so() -> None:
    found = five()
    assert not leases.is_stuck(found)
    found.waiting_since -= timedelta(seconds=20)
    assert leases.is_stuck(found)
    found.leased_until = timezone.now() + timedelta(seconds=5)
    assert not leases.is_stuck(found)
