"""Receipts: whoever loses access here is recorded once, with the change that takes it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from channels.db import database_sync_to_async
from channels.testing import WebsocketCommunicator
from django.conf import settings as django_settings
from django.db import OperationalError, close_old_connections, transaction
from django.test import Client
from django.utils import timezone
from shop.models import Invoice, Note
from uuid_utils.compat import uuid7

from usercast.contract import UserChange
from usercast.testing import deletion, eventually, upsert
from usercast_client.live import hub, receipts, tasks
from usercast_client.live.models import Receipt
from usercast_client.replica.apply import apply
from usercast_client.replica.load import Line, load
from usercast_client.replica.models import Bootstrap, User
from usercast_client.routing import application

pytestmark = pytest.mark.django_db

ANN, BOB = uuid7(), uuid7()


def noted() -> set[tuple[UUID, int, bool]]:
    return set(Receipt.objects.values_list("user_id", "version", "erased"))


def dismissed(user_id: UUID, version: int, **fields: Any) -> UserChange:
    return upsert(user_id, version, is_active=False, **fields)


# Applied


def test_deactivation_and_deletion_give_a_receipt() -> None:
    apply([upsert(ANN), upsert(BOB)])
    assert not noted()
    before = timezone.now()
    apply([dismissed(ANN, 2), deletion(BOB, 5)])
    assert noted() == {(ANN, 2, False), (BOB, 5, True)}
    assert all(before <= receipt.applied_at <= timezone.now() for receipt in receipts.unsent(9))


def test_user_never_seen_here_gives_a_receipt_too() -> None:
    apply([dismissed(ANN, 4), deletion(BOB, 7)])
    assert noted() == {(ANN, 4, False), (BOB, 7, True)}


def test_deactivation_after_one_that_was_taken_back_unheard_gives_a_receipt() -> None:
    apply([dismissed(ANN, 2)])
    apply([dismissed(ANN, 4)])
    assert noted() == {(ANN, 2, False), (ANN, 4, False)}


def test_row_that_another_table_needs_is_kept_not_erased() -> None:
    apply([upsert(ANN), upsert(BOB)])
    Invoice.objects.create(user_id=ANN)
    Note.objects.create(user_id=BOB)
    apply([deletion(ANN, 2), deletion(BOB, 2)])
    assert noted() == {(ANN, 2, False), (BOB, 2, True)}


@pytest.mark.parametrize("change", [dismissed(ANN, 2), deletion(ANN, 2)], ids=["upsert", "delete"])
def test_what_is_older_gives_none(change: UserChange) -> None:
    apply([upsert(ANN, 3)])
    apply([change])
    assert not noted()


@pytest.mark.parametrize("change", [dismissed(ANN, 2), deletion(ANN, 2)], ids=["upsert", "delete"])
def test_what_comes_twice_gives_one_and_leaves_it(change: UserChange) -> None:
    apply([upsert(ANN)])
    apply([change])
    first = Receipt.objects.get()
    apply([change])
    assert Receipt.objects.get().applied_at == first.applied_at


def test_of_a_batch_the_newest_counts() -> None:
    apply([deletion(ANN, 2), upsert(ANN, 3), dismissed(BOB, 1), deletion(BOB, 2)])
    assert noted() == {(BOB, 2, True)}


def test_rolled_back_means_not_recorded() -> None:
    with transaction.atomic():
        apply([deletion(ANN, 2)])
        transaction.set_rollback(True)
    assert not noted()


def test_one_statement_and_none_without_a_dismissal(django_assert_num_queries: Any) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    def inserts(*changes: UserChange) -> int:
        with CaptureQueriesContext(
            connection,
        ) as queries:
            apply(changes)
        return sum("live_receipt" in query["sql"] for query in queries)

    assert inserts(*(upsert() for _ in range(3))) == 0
    assert inserts(*(dismissed(uuid7(), 1) for _ in range(30))) == 1


# Loaded


def ages_ago() -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC)


def test_first_load_gives_no_receipts_for_what_was_so_before_it() -> None:
    Bootstrap.objects.create()
    old = {"changed_at": ages_ago()}
    load(
        [
            Line.of(dismissed(uuid7(), 1, **old)),
            Line.of(deletion(uuid7(), 2, **old)),
            Line.of(upsert()),
        ]
    )
    assert User.objects.count() == 2
    assert not noted()


def test_load_that_catches_up_gives_them() -> None:
    Bootstrap.objects.create()
    cem, dan = uuid7(), uuid7()
    apply([upsert(ANN), upsert(BOB)])
    load(
        [
            Line.of(dismissed(ANN, 2)),
            Line.of(deletion(BOB, 2)),
            Line.of(dismissed(cem, 3)),
            Line.of(deletion(dan, 4)),
            Line.of(upsert()),
        ]
    )
    assert noted() == {(ANN, 2, False), (BOB, 2, True), (cem, 3, False), (dan, 4, True)}


def test_message_of_what_a_first_load_has_brought_already_gives_the_receipt() -> None:
    """Registered, then dismissed, then loaded: the master waits for this client."""
    changes = [
        dismissed(ANN, 2, changed_at=timezone.now() - timedelta(days=2)),
        deletion(BOB, 3, changed_at=timezone.now() - timedelta(days=2)),
    ]
    Bootstrap.objects.create()
    load([Line.of(change) for change in changes])
    assert not noted()
    assert apply(changes).stale == 2
    assert noted() == {(ANN, 2, False), (BOB, 3, True)}


def test_old_state_that_is_sent_again_gives_none() -> None:
    changes = [dismissed(ANN, 2, changed_at=ages_ago()), deletion(BOB, 3, changed_at=ages_ago())]
    Bootstrap.objects.create()
    load([Line.of(change) for change in changes])
    apply(changes)
    assert not noted()


# Sent


def test_sent_is_not_told_again_and_goes_after_a_day() -> None:
    apply([deletion(ANN, 2), deletion(BOB, 2)])
    first = receipts.unsent(1)
    receipts.sent(first)
    assert [receipt.user_id for receipt in receipts.unsent(9)] != [first[0].user_id]
    assert receipts.trim() == 0
    Receipt.objects.filter(pk=first[0].pk).update(sent_at=timezone.now() - timedelta(hours=25))
    tasks.trim_feed()
    assert Receipt.objects.get() == receipts.unsent(9)[0]


def test_closed_sockets_are_added_to_the_newest_and_told() -> None:
    apply([dismissed(ANN, 2)])
    apply([dismissed(ANN, 4), deletion(BOB, 2)])
    receipts.sent(receipts.unsent(9))
    receipts.sockets_closed({ANN: 2, uuid7(): 1})
    receipts.sockets_closed({ANN: 1})
    assert [(r.user_id, r.version, r.sockets_closed) for r in receipts.unsent(9)] == [(ANN, 4, 3)]


def test_sockets_closed_while_it_is_sent_are_not_lost() -> None:
    apply([dismissed(ANN, 2)])
    being_sent = receipts.unsent(9)
    receipts.sockets_closed({ANN: 1})
    receipts.sent(being_sent)
    assert [receipt.sockets_closed for receipt in receipts.unsent(9)] == [1]


def test_sockets_closed_much_later_belong_to_no_receipt() -> None:
    apply([dismissed(ANN, 2)])
    Receipt.objects.update(applied_at=timezone.now() - timedelta(minutes=2))
    receipts.sockets_closed({ANN: 1})
    assert Receipt.objects.get().sockets_closed == 0


# The hub

in_thread = database_sync_to_async
Open = Callable[[User], Any]


@pytest.fixture
async def opened(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Open]:
    """Open users' own sockets; they are closed after the test."""
    monkeypatch.setattr("channels.testing.application.no_op", close_old_connections)
    sockets = []

    def sign_in(user: User) -> str:
        browser = Client()
        browser.force_login(user)
        return browser.cookies[django_settings.SESSION_COOKIE_NAME].value

    async def do(user: User) -> WebsocketCommunicator:
        cookie = f"{django_settings.SESSION_COOKIE_NAME}={await in_thread(sign_in)(user)}"
        headers = [(b"origin", b"http://testserver"), (b"cookie", cookie.encode())]
        socket = WebsocketCommunicator(application, "/ws/me/", headers=headers)
        assert (await socket.connect(timeout=5))[0]
        sockets.append(socket)
        return socket

    yield do
    for socket in sockets:
        await socket.disconnect()


async def put_out(socket: WebsocketCommunicator) -> None:
    while (await socket.receive_output(timeout=8))["type"] != "websocket.close":
        pass


def make(user_id: UUID, username: str) -> User:
    apply([upsert(user_id, username=username)])
    return User.objects.get(pk=user_id)


def counted(expected: dict[UUID, int]) -> None:
    eventually(
        lambda: dict(Receipt.objects.values_list("user_id", "sockets_closed")) == expected,
        within=5,
    )


@pytest.mark.django_db(transaction=True)
async def test_closed_sockets_are_counted_in_the_receipt(opened: Any) -> None:
    ann, bob = await in_thread(make)(ANN, "ann"), await in_thread(make)(BOB, "bob")
    leaving = [await opened(user) for user in (ann, ann, bob)]
    await opened(await in_thread(make)(uuid7(), "cem"))
    await in_thread(apply)([deletion(ANN, 2), dismissed(BOB, 2)])
    for socket in leaving:
        await put_out(socket)
    await asyncio.to_thread(in_a_thread(counted), {ANN: 2, BOB: 1})
    # Looked at again, as every 30 s, those which have not quite gone count no second time.
    await hub.current()._recheck(hub.current()._sockets)
    await asyncio.to_thread(in_a_thread(counted), {ANN: 2, BOB: 1})


@pytest.mark.django_db(transaction=True)
async def test_sockets_close_with_the_database_failing_to_count_them(
    opened: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(_counts: Any) -> None:
        raise OperationalError("away")

    monkeypatch.setattr(receipts, "sockets_closed", away)
    leaving = await opened(await in_thread(make)(ANN, "ann"))
    await in_thread(apply)([dismissed(ANN, 2)])
    await put_out(leaving)

    def is_logged() -> bool:
        return any(r.msg["event"] == "closed_sockets_not_counted" for r in caplog.records)

    await asyncio.to_thread(eventually, is_logged, within=5)
    assert not hub.current()._counting


def in_a_thread(do: Callable[..., None]) -> Callable[..., None]:
    """Which leaves no connection behind."""
    from django.db import connections

    def done(*args: Any) -> None:
        try:
            do(*args)
        finally:
            connections.close_all()

    return done
