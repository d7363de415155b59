"""The sockets, over a real channel layer: who is let in, what they are told, when it ends."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from channels.db import database_sync_to_async
from channels.testing import WebsocketCommunicator
from django.conf import settings as django_settings
from django.contrib.sessions.models import Session
from django.db import OperationalError, close_old_connections
from django.test import Client
from django.utils import timezone

from usercast.contract import UserChange
from usercast.testing import deletion, upsert
from usercast_client.live import broadcast, consumers, hub
from usercast_client.replica.apply import apply
from usercast_client.replica.models import User
from usercast_client.routing import application

pytestmark = pytest.mark.django_db(transaction=True)
ORIGIN = (b"origin", b"http://testserver")
PATHS = {"dashboard": "/ws/live/", "own": "/ws/me/"}


class Browser:
    """A browser where a user is signed in, and its socket."""

    def __init__(self, user: User | None) -> None:
        self.http = Client()
        if user is not None:
            self.http.force_login(user)
        morsel = self.http.cookies.get(django_settings.SESSION_COOKIE_NAME)
        self.session_key = morsel.value if morsel else ""

    async def open(self, path: str, *, origin: tuple[bytes, bytes] = ORIGIN) -> bool:
        cookie = f"{django_settings.SESSION_COOKIE_NAME}={self.session_key}".encode()
        self.socket = WebsocketCommunicator(
            application, path, headers=[origin, (b"cookie", cookie)]
        )
        connected, _ = await self.socket.connect(timeout=5)
        return connected

    async def next(self) -> dict[str, Any]:
        return json.loads(await self.socket.receive_from(timeout=8))

    async def end(self) -> tuple[str | None, int]:
        """The reason told, if one is, and the code of the close that follows."""
        reason = None
        while True:
            output = await self.socket.receive_output(timeout=8)
            if output["type"] == "websocket.close":
                return reason, output["code"]
            frame = json.loads(output["text"])
            reason = frame.get("reason") if frame["type"] == "ended" else reason


def make_staff(username: str = "staff") -> User:
    return User.objects.create_superuser(username, password="correct horse battery")


def make_replica(username: str = "ann") -> User:
    apply([upsert(username=username)])
    return User.objects.get(username=username)


def make_member() -> User:
    """A replicated user who is one of this client's staff too."""
    user = make_replica()
    user.is_staff = True
    user.save()
    return user


make = {
    "nobody": lambda: None,
    "staff": make_staff,
    "replicated user": make_replica,
    "replicated staff": make_member,
    "local account": lambda: User.objects.create_user("local"),
}
in_thread = database_sync_to_async


@pytest.fixture(autouse=True)
def close_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Channels' communicators keep database connections open, which is for tests in one thread."""
    monkeypatch.setattr("channels.testing.application.no_op", close_old_connections)


@pytest.fixture
async def applied() -> AsyncIterator[Callable[..., Awaitable[int]]]:
    """Apply changes as the poller does, and push them, or lose the push."""
    broadcaster = broadcast.Broadcaster()

    async def do(*changes: UserChange, lose: bool = False) -> int:
        told = (await in_thread(apply)(changes)).told
        if not lose:
            broadcaster.push(told)
        return told.cursor

    yield do
    await asyncio.to_thread(broadcaster.close)


@pytest.fixture
async def browser() -> AsyncIterator[Callable[..., Awaitable[Browser]]]:
    """Open sockets; they are closed after the test."""
    opened: list[Browser] = []

    async def do(user: User, view: str) -> Browser:
        browser = await in_thread(Browser)(user)
        assert await browser.open(PATHS[view])
        assert (await browser.next())["type"] == "hello"
        opened.append(browser)
        return browser

    yield do
    for each in opened:
        await each.socket.disconnect()


@pytest.mark.parametrize(
    ("who", "view", "admitted"),
    [
        ("nobody", "dashboard", False),
        ("nobody", "own", False),
        ("local account", "dashboard", False),
        ("local account", "own", False),
        ("replicated user", "dashboard", False),
        ("replicated user", "own", True),
        ("staff", "dashboard", True),
        ("staff", "own", False),
        ("replicated staff", "dashboard", True),
        ("replicated staff", "own", True),
    ],
)
async def test_who_is_admitted_where(who: str, view: str, admitted: bool) -> None:
    browser = await in_thread(Browser)(await in_thread(make[who])())
    assert await browser.open(PATHS[view]) is admitted
    await browser.socket.disconnect()


@pytest.mark.parametrize("origin", [(b"origin", b"https://evil.example"), (b"x-none", b"")])
async def test_foreign_origin_is_refused(origin: tuple[bytes, bytes]) -> None:
    browser = await in_thread(Browser)(await in_thread(make_staff)())
    assert not await browser.open(PATHS["dashboard"], origin=origin)
    await browser.socket.disconnect()


async def test_staff_get_the_newest_cursor_and_then_each_change(applied: Any) -> None:
    staff = await in_thread(make_staff)()
    await applied(upsert(username="before"), lose=True)
    browser = await in_thread(Browser)(staff)
    await browser.open(PATHS["dashboard"])
    hello = await browser.next()
    assert (hello["type"], hello["cursor"]) == ("hello", 1)
    await applied(upsert(username="after"))
    frame = await browser.next()
    assert (frame["type"], frame["cursor"]) == ("changes", 2)
    assert [change["user"]["username"] for change in frame["changes"]] == ["after"]
    await browser.socket.disconnect()


async def test_every_socket_gets_a_push(applied: Any, browser: Any) -> None:
    staff = await in_thread(make_staff)()
    browsers = [await browser(staff, "dashboard") for _ in range(5)]
    cursor = await applied(upsert())
    assert [(await each.next())["cursor"] for each in browsers] == [cursor] * 5


@pytest.mark.parametrize("others", [0, 100], ids=["alone", "in a bulk write"])
@pytest.mark.parametrize("lose", [False, True], ids=["pushed", "push lost"])
async def test_own_page_is_told_of_own_changes_alone(
    applied: Any, browser: Any, others: int, lose: bool
) -> None:
    user = await in_thread(make_replica)()
    own = await browser(user, "own")
    await applied(upsert(), upsert())
    assert await own.socket.receive_nothing(timeout=0.3)
    mine = upsert(user.pk, 2, username="ann", email="new@example.org")
    cursor = await applied(mine, *(upsert() for _ in range(others)), lose=lose)
    assert await own.next() == {"type": "changes", "cursor": cursor, "changes": []}


@pytest.mark.parametrize("view", ["dashboard", "own"])
@pytest.mark.parametrize("lose", [False, True], ids=["pushed", "push lost"])
@pytest.mark.parametrize("how", ["deactivated", "deleted"])
async def test_who_is_dismissed_on_the_master_is_put_out(
    applied: Any, browser: Any, how: str, lose: bool, view: str
) -> None:
    user = await in_thread(make_member)()
    watching = await browser(user, view)
    change = (
        deletion(user.pk, 2)
        if how == "deleted"
        else upsert(user.pk, 2, username="ann", is_active=False)
    )
    await applied(change, lose=lose)
    assert await watching.end() == (how, consumers.ACCESS_ENDED)


def change_password(browser: Browser) -> None:
    user = User.objects.get(username="staff")
    user.set_password("another horse battery")
    user.save()


def sign_out(browser: Browser) -> None:
    assert browser.http.post("/logout/").status_code == 302


def expire(browser: Browser) -> None:
    soon = timezone.now() + timedelta(seconds=0.1)
    Session.objects.filter(pk=browser.session_key).update(expire_date=soon)


def remove_staff_rights(browser: Browser) -> None:
    user = User.objects.get(username="staff")
    user.is_staff = False
    user.save()


def delete_account(browser: Browser) -> None:
    User.objects.get(username="staff").delete()


@pytest.mark.parametrize(
    ("reason", "do"),
    [
        ("password_changed", change_password),
        ("signed_out", sign_out),
        ("expired", expire),
        ("not_allowed", remove_staff_rights),
        ("deleted", delete_account),
    ],
)
async def test_what_ends_a_session_here_ends_its_socket(
    browser: Any, monkeypatch: pytest.MonkeyPatch, reason: str, do: Callable[[Browser], None]
) -> None:
    if reason == "expired":
        monkeypatch.setattr(hub, "RECHECK_SECONDS", 0.5)
    watching = await browser(await in_thread(make_staff)(), "dashboard")
    await in_thread(do)(watching)
    assert await watching.end() == (reason, consumers.ACCESS_ENDED)


async def test_session_that_runs_out_ends_its_socket_without_a_recheck(
    browser: Any, settings: Any
) -> None:
    settings.SESSION_COOKIE_AGE = 2
    watching = await browser(await in_thread(make_staff)(), "dashboard")
    assert await watching.end() == ("expired", consumers.ACCESS_ENDED)


async def test_without_a_hint_and_without_ticks_an_ended_session_is_found(
    browser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis is away: nobody tells of the sign-out."""
    monkeypatch.setattr(broadcast.Broadcaster, "send", lambda self, message: None)
    watching = await browser(await in_thread(make_staff)(), "dashboard")
    await in_thread(sign_out)(watching)
    assert await watching.end() == ("signed_out", consumers.ACCESS_ENDED)


async def test_pages_are_told_anew_over_how_long_to_spread(
    browser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "_FETCH_MS", 1000)
    staff = await in_thread(make_staff)()
    first = await browser(staff, "dashboard")
    for _ in range(5):
        await browser(staff, "dashboard")
    while (frame := await first.next()) != {"type": "spread", "spread_ms": 6000}:
        assert frame["type"] == "spread"


async def test_own_page_is_told_the_time_and_no_more(browser: Any) -> None:
    own = await browser(await in_thread(make_replica)(), "own")
    sender = broadcast.Broadcaster()
    tick = {"type": "tick", "cursor": 1, "text": "all", "own_text": '{"type":"tick","cursor":1}'}
    sender.send(tick)
    assert await own.next() == {"type": "tick", "cursor": 1}
    await asyncio.to_thread(sender.close)


async def test_others_stay(applied: Any, browser: Any) -> None:
    user = await in_thread(make_member)()
    staying = await browser(await in_thread(make_staff)(), "dashboard")
    leaving = await browser(user, "dashboard")
    await applied(deletion(user.pk, 2))
    assert (await leaving.end())[1] == consumers.ACCESS_ENDED
    assert (await staying.next())["type"] == "changes"
    await applied(upsert())
    assert (await staying.next())["type"] == "changes"


async def test_access_lost_between_check_and_joining_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The user is deactivated once the handshake has found them active."""
    user = await in_thread(make_member)()
    browser = await in_thread(Browser)(user)
    admit = consumers.access.admit

    def admitted(*args: Any) -> Any:
        grant = admit(*args)
        User.objects.filter(pk=user.pk).update(is_active=False)
        return grant

    monkeypatch.setattr(consumers.access, "admit", admitted)
    assert not await browser.open(PATHS["dashboard"])
    await browser.socket.disconnect()


async def test_socket_is_refused_while_the_database_is_away(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: Any) -> None:
        raise OperationalError("away")

    browser = await in_thread(Browser)(await in_thread(make_staff)())
    with monkeypatch.context() as patch:
        patch.setattr(consumers.access, "admit", away)
        assert not await browser.open(PATHS["dashboard"])
    assert any(record.msg["event"] == "database_unreachable" for record in caplog.records)
    await browser.socket.disconnect()
    assert await browser.open(PATHS["dashboard"])
    await browser.socket.disconnect()


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"text": "x" * 257}, consumers.TOO_LARGE),
        ({"text": '{"type":"subscribe"}'}, consumers.UNKNOWN_MESSAGE),
        ({"text": "[]"}, consumers.UNKNOWN_MESSAGE),
        ({"text": "{"}, consumers.UNKNOWN_MESSAGE),
        ({"text": "[" * 250}, consumers.UNKNOWN_MESSAGE),
        ({"bytes": b"\x00"}, consumers.UNKNOWN_MESSAGE),
        ({"bytes": b"x" * 300}, consumers.TOO_LARGE),
    ],
)
async def test_strange_message_closes_the_socket(
    browser: Any, message: dict[str, Any], code: int
) -> None:
    watching = await browser(await in_thread(make_staff)(), "dashboard")
    await watching.socket.send_input({"type": "websocket.receive", **message})
    assert await watching.end() == (None, code)


async def test_ping_is_answered(browser: Any) -> None:
    watching = await browser(await in_thread(make_staff)(), "dashboard")
    await watching.socket.send_to('{"type":"ping"}')
    assert await watching.next() == {"type": "pong"}


async def test_longest_life_asks_the_page_to_come_back(
    browser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "LONGEST_LIFE_SECONDS", 0.1)
    watching = await browser(await in_thread(make_staff)(), "dashboard")
    assert await watching.end() == (None, consumers.RENEW)


async def test_browser_that_cannot_keep_up_is_closed_not_waited_for(
    applied: Any, browser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "FRAMES_WAITING_AT_MOST", 0)
    watching = await browser(await in_thread(make_staff)(), "dashboard")
    await applied(upsert())
    assert await watching.end() == (None, consumers.TOO_SLOW)


async def test_without_redis_pages_are_told_and_the_dismissed_put_out(
    applied: Any, browser: Any, settings: Any
) -> None:
    settings.CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": ["redis://127.0.0.1:1/0"]},
        }
    }
    user = await in_thread(make_member)()
    staying = await browser(await in_thread(make_staff)(), "dashboard")
    leaving = await browser(user, "dashboard")
    cursor = await applied(upsert(user.pk, 2, username="ann", is_active=False))
    assert await staying.next() == {"type": "changes", "cursor": cursor, "changes": []}
    assert await leaving.end() == ("deactivated", consumers.ACCESS_ENDED)


async def test_hub_outlives_a_database_that_is_away(
    applied: Any, browser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The push finds the database away; once it is back, the dismissed user is put out."""
    user = await in_thread(make_member)()
    leaving = await browser(user, "dashboard")
    standing, failed = hub.access.standing, []

    def away(grants: Any) -> Any:
        if len(failed) < 2:
            failed.append(1)
            raise OperationalError("away")
        return standing(grants)

    monkeypatch.setattr(hub.access, "standing", away)
    await applied(deletion(user.pk, 2))
    assert await leaving.end() == ("deleted", consumers.ACCESS_ENDED)
    assert len(failed) == 2
