"""The first load, from a master that answers over real HTTP, beside changes that arrive."""

import gzip
import itertools
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from usercast.contract import UserChange, UserGone, UserState
from usercast.lifecycle import Stop
from usercast_client.live.models import Change
from usercast_client.replica import bootstrap, load, master
from usercast_client.replica.alone import AlreadyRunning
from usercast_client.replica.apply import apply
from usercast_client.replica.models import Bootstrap, Tombstone, User

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 25, 12, 0, 0, 123456, tzinfo=UTC)


def key(number: int) -> UUID:
    return UUID(int=(0x0198C8A0 << 96) + number)


def living(number: int, version: int = 1, **fields: Any) -> UserChange:
    state = UserState(
        **{
            "id": key(number),
            "version": version,
            "username": f"user{number}",
            "email": f"u{number}@x.org",
            "first_name": 'Änn "q" \\ ,;\n\t',
            "last_name": "",
            "is_active": True,
            "date_joined": NOW - timedelta(days=number),
            "groups": ('a "b"', "c\\d", "e,{f}"),
            **fields,
        }
    )
    return UserChange(changed_at=NOW, data=state)


def gone(number: int, version: int = 1) -> UserChange:
    return UserChange(changed_at=NOW, data=UserGone(id=key(number), version=version))


def line_of(change: UserChange) -> bytes:
    data = change.data
    fields = {name: getattr(data, name) for name in data.__struct_fields__}
    kind = "deleted" if change.is_deletion else "user"
    line = {"type": kind, "changed_at": change.changed_at, "data": fields}
    return json.dumps(
        line, default=lambda v: v.isoformat() if isinstance(v, datetime) else str(v)
    ).encode()


class Master:
    """Answers as the master does. ``breaks`` is after how many lines each answer breaks off."""

    def __init__(self) -> None:
        self.lines: list[tuple[UUID, bytes]] = []
        self.breaks: Iterator[int | None] = itertools.repeat(None)
        self.asked: list[str | None] = []
        self.tokens: list[str | None] = []
        self.status = 200
        self.before_line: Callable[[int], None] = lambda number: None
        self.url = ""

    def holds(self, changes: Sequence[UserChange]) -> None:
        self.lines = [(change.user_id, line_of(change)) for change in changes]

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        after = parse_qs(urlsplit(request.path).query).get("after", [None])[0]
        self.asked.append(after)
        self.tokens.append(request.headers["Authorization"])
        if self.status != 200:
            body = json.dumps({"detail": "No, because."}).encode()
            request.send_response(self.status)
            request.send_header("Content-Length", str(len(body)))
            request.end_headers()
            request.wfile.write(body)
            return
        rest = [line for user_id, line in self.lines if after is None or user_id > UUID(after)]
        request.send_response(200)
        request.send_header("Content-Encoding", "gzip")
        request.end_headers()
        breaks = next(self.breaks)
        with gzip.GzipFile(fileobj=request.wfile, mode="wb") as packed:
            packed.write(b'{"type":"begin","total":%d}\n' % len(rest))
            for number, line in enumerate(rest):
                if number == breaks:
                    packed.flush()
                    return
                self.before_line(number)
                packed.write(line + b"\n")
            packed.write(b'{"type":"end","count":%d}\n' % len(rest))


@pytest.fixture
def the_master(settings: Any) -> Iterator[Master]:
    told = Master()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.answer(self)

        def log_message(self, *_args: Any) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings.USERCAST_MASTER_URL = told.url = f"http://127.0.0.1:{server.server_port}"
        settings.USERCAST_MASTER_TOKEN = "secret"
        yield told
        server.shutdown()


@pytest.fixture(autouse=True)
def small_and_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "CHUNK", 7)
    monkeypatch.setattr(bootstrap, "WAIT_SECONDS", (0.01, 0.01))


class Seen:
    """What a run told."""

    def __init__(self) -> None:
        self.rejected: list[bootstrap.Rejected] = []
        self.waited: list[str] = []
        self.at: list[tuple[int, int]] = []
        self.then: Callable[[Bootstrap], None] = lambda found: None

    @property
    def watch(self) -> bootstrap.Watch:
        return bootstrap.Watch(self.progress, self.rejected.append, self.waited.append)

    def progress(self, found: Bootstrap, total: int) -> None:
        self.at.append((found.lines, total))
        self.then(found)


def run(stop: Stop | None = None, seen: Seen | None = None, **options: Any) -> Bootstrap:
    return bootstrap.run(stop or Stop(), (seen or Seen()).watch, **options)


def held() -> dict[UUID, tuple[Any, ...]]:
    """The replica, tombstones too, field by field."""
    users = {
        user.pk: (
            user.version,
            user.username,
            user.email,
            user.first_name,
            user.last_name,
            user.is_active,
            user.date_joined,
            tuple(user.master_groups),
            user.changed_at,
        )
        for user in User.objects.replicated()
    }
    return users | {t.user_id: (t.version, t.deleted_at) for t in Tombstone.objects.all()}


def as_applied(changes: Sequence[UserChange]) -> dict[UUID, tuple[Any, ...]]:
    """What the replica holds by ``apply`` alone, then none of it."""
    apply(changes)
    found = held()
    Change.objects.all().delete()
    User.objects.all().delete()
    Tombstone.objects.all().delete()
    return found


def test_everybody_arrives_as_by_apply_and_is_told_once(the_master: Master) -> None:
    changes = [gone(n, 4) if n % 5 == 0 else living(n, n + 1) for n in range(30)]
    expected = as_applied(changes)
    the_master.holds(changes)
    found = run()
    assert held() == expected
    assert (found.created, found.changed, found.rejected, found.lines) == (24, 0, 0, 30)
    assert the_master.tokens == ["Token secret"]
    (entry,) = Change.objects.all()
    assert (entry.kind, json.loads(entry.before)) == ("bootstrap", {"users": 24})


def test_again_finds_nothing_to_do(the_master: Master) -> None:
    the_master.holds([living(n) for n in range(20)])
    run()
    found = run()
    assert (found.created, found.changed, found.lines) == (0, 0, 20)
    assert Change.objects.count() == 1


def test_goes_on_where_it_was_stopped(the_master: Master) -> None:
    the_master.holds([living(n) for n in range(30)])
    stop, seen = Stop(), Seen()
    seen.then = lambda found: stop.request() if found.lines >= 14 else None
    assert run(stop, seen).finished_at is None
    assert User.objects.count() == 14
    found = run()
    assert (found.created, found.lines, User.objects.count()) == (30, 30, 30)
    assert the_master.asked == [None, str(key(13))]
    assert json.loads(Change.objects.get().before) == {"users": 30}
    assert Bootstrap.objects.count() == 1


def test_outlives_a_master_that_breaks_off_ten_times(the_master: Master) -> None:
    changes = [living(n) for n in range(100)]
    the_master.holds(changes)
    the_master.breaks = itertools.chain(range(3, 13), itertools.repeat(None))
    seen = Seen()
    found = run(seen=seen)
    assert (User.objects.count(), found.rejected) == (100, 0)
    assert len(seen.waited) == 10
    assert seen.at[-1] == (100, 100)


def test_gives_up_on_a_master_that_stays_away(the_master: Master) -> None:
    the_master.holds([living(n) for n in range(5)])
    the_master.breaks = itertools.repeat(0)
    with pytest.raises(master.MasterUnreachable, match="broke off"):
        run()
    assert len(the_master.asked) == 3


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, master.MasterRefused), (403, master.MasterRefused), (503, master.MasterUnreachable)],
)
def test_refusal_says_why(the_master: Master, status: int, error: type[Exception]) -> None:
    the_master.status = status
    with pytest.raises(error, match="No, because"):
        run()


def test_bad_rows_are_told_and_do_not_stop_the_rest(the_master: Master) -> None:
    the_master.holds([living(n) for n in range(20)])
    nul = line_of(living(3, username="nul\0"))
    the_master.lines[3] = (key(3), nul)
    the_master.lines[8] = (key(8), b'{"type":"user"')
    the_master.lines[19] = (key(19), nul.replace(str(key(3)).encode(), str(key(19)).encode()))
    seen = Seen()
    found = run(seen=seen)
    assert [(bad.line, bad.user_id) for bad in seen.rejected] == [
        (4, key(3)),
        (9, None),
        (20, key(19)),
    ]
    assert (found.created, found.rejected, User.objects.count()) == (17, 3, 17)


def test_dry_run_changes_nothing(the_master: Master) -> None:
    apply([living(1), living(2, 5), gone(4, 9)])
    before, cursor = held(), Change.objects.count()
    the_master.holds([living(1), living(2, 6), living(3), living(4), gone(5)])
    found = run(dry_run=True)
    assert (found.created, found.changed) == (1, 1)
    assert (held(), Change.objects.count()) == (before, cursor)
    assert not Bootstrap.objects.exists()


def test_changes_that_arrive_meanwhile_win(the_master: Master) -> None:
    """Whatever comes between two chunks: newer states, deletions, and names passed on."""
    changes = [living(n, 3) for n in range(40)]
    live = [
        living(2, 4, first_name="newer"),
        gone(3, 9),
        living(35, 2, first_name="older"),
        living(36, 3),
        gone(37, 9),
        living(38, 4, username="user39"),
        living(39, 4, username="user38"),
        living(50, 1),
        gone(35, 1),
    ]
    expected = as_applied([*changes, *live])
    the_master.holds(changes)
    arriving = iter(live)
    seen = Seen()
    seen.then = lambda found: apply(list(itertools.islice(arriving, 2)))
    run(seen=seen)
    apply(list(arriving))
    assert held() == expected


def test_whom_the_replica_has_goes_by_apply(the_master: Master) -> None:
    """A dismissal is told to the feed as ever, for whoever watches; so are names passed on."""
    apply([living(1), living(2), living(3, username="held")])
    before = Change.objects.count()
    the_master.holds(
        [living(1, 2, is_active=False), gone(2, 2), living(3, 2), living(4, username="held")]
    )
    found = run()
    assert (found.created, found.changed) == (0, 4)
    kinds = list(Change.objects.order_by("cursor").values_list("kind", flat=True))[before:]
    assert sorted(kinds) == ["created", "deleted", "updated", "updated"]
    assert User.objects.get(username="held").pk == key(4)


def test_local_account_keeps_its_name(the_master: Master) -> None:
    User.objects.create_user("user1", password="correct horse battery")
    the_master.holds([living(n) for n in range(3)])
    run()
    assert not User.objects.get(username="user1").is_replicated
    assert User.objects.get(pk=key(1)).username == f"~{key(1)}"


def test_who_is_back_is_no_tombstone_any_more(the_master: Master) -> None:
    apply([gone(1, 3)])
    the_master.holds([living(1, 4)])
    run()
    assert User.objects.get(pk=key(1)).version == 4
    assert not Tombstone.objects.exists()


def test_name_taken_at_the_same_moment_is_sorted_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a local account were created between the look and the insert."""
    sort = load._sort

    def and_then(cursor: Any, lines: Sequence[load.Line]) -> list[UserChange]:
        others = sort(cursor, lines)
        if not User.objects.filter(username="user1").exists():
            monkeypatch.setattr(load, "_sort", sort)
            User.objects.create_user("user1", password="correct horse battery")
        return others

    monkeypatch.setattr(load, "_sort", and_then)
    # The account's creation is undone with the attempt; here it comes again, as others' would stay.
    lines = [load.Line.of(living(n)) for n in range(3)]
    assert load.load(lines).created == 3


@pytest.mark.django_db(transaction=True)
def test_one_at_a_time(the_master: Master) -> None:
    the_master.holds([living(n) for n in range(3)])
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [bootstrap._LOCK])
        with pytest.raises(AlreadyRunning):
            run()
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [bootstrap._LOCK])
    finally:
        other.close()
    assert run().created == 3


# The command


def test_command_reports(the_master: Master, capsys: pytest.CaptureFixture[str]) -> None:
    the_master.holds([living(n) for n in range(20)])
    call_command("bootstrap")
    assert "new 20, changed 0, known or deleted 0, rejected 0" in capsys.readouterr().out
    call_command("bootstrap", "--dry-run")
    assert "would be new 0" in capsys.readouterr().out


def test_command_says_what_is_rejected(
    the_master: Master, capsys: pytest.CaptureFixture[str]
) -> None:
    the_master.holds([living(1), living(2)])
    the_master.lines[1] = (key(2), line_of(living(2, username="nul\0")))
    with pytest.raises(SystemExit) as ended:
        call_command("bootstrap")
    assert ended.value.code == 1
    assert f"line 2, user {key(2)}: a text holds a NUL" in capsys.readouterr().out


def test_command_needs_the_masters_address(settings: Any) -> None:
    settings.USERCAST_MASTER_URL = None
    with pytest.raises(CommandError, match="USERCAST_MASTER_URL is not set"):
        call_command("bootstrap")


@pytest.mark.parametrize(
    "text",
    [
        "\\N",
        "\\.",
        "\r\n",
        "\t",
        "\\",
        "\\\\t",
        '"',
        "{}",
        "{a,b}",
        "NULL",
        "",
        "'",
        "\u2028",
        "🙂",
        " ",
    ],
)
def test_any_text_is_loaded_as_it_is(text: str) -> None:
    """COPY and arrays have characters of their own."""
    change = living(1, username=f"u{text}", email=text, last_name=text, groups=(text, "b"))
    assert load.load([load.Line.of(change), load.Line.of(living(2, groups=()))]).created == 2
    user = User.objects.get(pk=key(1))
    assert (user.username, user.email, user.last_name) == (f"u{text}", text, text)
    assert user.master_groups == [text, "b"]
    assert user.date_joined == change.data.date_joined
    assert User.objects.get(pk=key(2)).master_groups == []


@pytest.mark.parametrize("year", [2, 99, 1000, 9998])
def test_any_time_is_loaded_as_it_is(year: int) -> None:
    moment = datetime(year, 6, 7, 8, 9, 10, 11, tzinfo=timezone(timedelta(hours=-9, minutes=-30)))
    load.load([load.Line.of(living(1, date_joined=moment))])
    assert User.objects.get(pk=key(1)).date_joined == moment
