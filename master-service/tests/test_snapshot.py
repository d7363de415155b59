"""The snapshot: each line as the clients read it, as of one moment, from any id on, and held by
nobody in full.
"""

import tracemalloc
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.models import Group, Permission
from django.db import OperationalError, connection
from rest_framework.test import APIClient

from usercast.contract import STATE_FIELDS, UserChange, UserState
from usercast.snapshot import Begin, End, read
from usercast_master.accounts.models import User
from usercast_master.api import snapshot
from usercast_master.api.lines import compressed
from usercast_master.api.models import ApiToken, Scope
from usercast_master.outbox.content import content_sql
from usercast_master.outbox.models import OutboxEntry

# A snapshot chooses its transaction's isolation, so it has to be the outermost.
pytestmark = pytest.mark.django_db(transaction=True)

ADDRESS = "/api/v1/snapshot/"
MANY = 20_000
_MANY_USERS = f"""
INSERT INTO accounts_user (id, username, first_name, last_name, email, password, is_active,
    is_staff, is_superuser, date_joined)
SELECT gen_random_uuid(), 'user-' || n, 'First', 'Last', 'user-' || n || '@example.org', '!',
    true, false, false, now()
FROM generate_series(1, {MANY}) AS n
"""
_THEIR_ENTRIES = """
INSERT INTO outbox_entry (user_id, version, changed_at, priority, published_version, attempts)
SELECT id, 1, now(), 2, 0, 0 FROM ({content}) AS content
"""


@pytest.fixture
def many() -> None:
    with connection.cursor() as cursor:
        cursor.execute(_MANY_USERS)
        cursor.execute(_THEIR_ENTRIES.format(content=content_sql()))
        cursor.execute("ANALYZE accounts_user, outbox_entry")


@pytest.fixture
def operator() -> User:
    return User.objects.create_superuser("operator", password="correct horse battery")


def caller(user: User, *scopes: Scope) -> APIClient:
    _, token = ApiToken.objects.create(user, name="test", scopes=list(scopes))
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Token {token}")
    return client


def lines(pieces: Iterable[bytes]) -> Iterator[Begin | UserChange | End]:
    """What a reader has read by the time each piece has come."""
    unzip, rest = zlib.decompressobj(wbits=31), b""
    for piece in pieces:
        *whole, rest = (rest + unzip.decompress(piece)).split(b"\n")
        yield from map(read, whole)
    assert (rest, unzip.eof) == (b"", True)


def changes(after: UUID | None = None) -> list[UserChange]:
    """A snapshot's users and tombstones, after the first and the last line were checked."""
    begin, *between, end = lines(compressed(snapshot.lines(after)))
    assert (begin, end) == (Begin(len(between)), End(len(between)))
    return between  # type: ignore[return-value]


def elsewhere(work: Callable[[], Any]) -> None:
    """Do it in another connection, committed before this returns."""

    def and_close() -> None:
        try:
            work()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(and_close).result()


def open_transactions() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT count(*) FROM pg_stat_activity
               WHERE datname = current_database() AND pid <> pg_backend_pid()
                 AND state LIKE 'idle in transaction%'"""
        )
        return int(cursor.fetchone()[0])


# What it says


def test_every_user_is_as_they_are() -> None:
    groups = [Group.objects.create(name=name) for name in ("z", 'Ä, "quoted"', "a\\b", "{}")]
    moment = datetime(2020, 2, 29, 23, 59, 59, 123456, tzinfo=UTC)
    odd = User.objects.create(
        username="ann",
        first_name='"\\\n\t\u2028</script>',
        last_name="Łukasiewicz 😀",
        email="ann@example.org",
        date_joined=moment,
    )
    odd.groups.set(groups)
    plain = User.objects.create(username="bob", is_active=False)
    found = {change.user_id: change for change in changes()}
    assert found.keys() == {odd.pk, plain.pk}
    entries = {entry.user_id: entry for entry in OutboxEntry.objects.all()}
    for user in (odd, plain):
        state, entry = found[user.pk].data, entries[user.pk]
        assert isinstance(state, UserState)
        assert (state.version, found[user.pk].changed_at) == (entry.version, entry.changed_at)
        for field in set(STATE_FIELDS) - {"groups"}:
            assert getattr(state, field) == getattr(user, field)
        names = user.groups.values_list("name", flat=True)
        assert state.groups == tuple(sorted(names))


def test_the_deleted_are_tombstones() -> None:
    user = User.objects.create(username="ann")
    key = user.pk
    user.delete()
    (gone,) = changes()
    assert (gone.user_id, gone.version, gone.is_deletion) == (key, 2, True)


def test_staff_are_not_there_and_who_becomes_staff_is_gone(operator: User) -> None:
    user = User.objects.create(username="ann")
    assert [change.is_deletion for change in changes()] == [False]
    user.is_staff = True
    user.save()
    assert [(change.user_id, change.is_deletion) for change in changes()] == [(user.pk, True)]


def test_who_left_past_django_is_left_to_the_audit() -> None:
    User.objects.create(username="ann")
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM accounts_user")
    assert list(lines(compressed(snapshot.lines(None)))) == [Begin(1), End(0)]


@pytest.mark.parametrize("taken", [0, 1, 4, 8, 9])
def test_the_rest_goes_on_after_any_id(monkeypatch: pytest.MonkeyPatch, taken: int) -> None:
    monkeypatch.setattr(snapshot, "CHUNK_LINES", 4)
    User.objects.bulk_create(User(username=f"u{i}") for i in range(9))
    User.objects.filter(username__in=("u3", "u8")).delete()
    whole = changes()
    assert [change.user_id for change in whole] == sorted(change.user_id for change in whole)
    assert len(whole) == 9
    last = whole[taken - 1].user_id if taken else None
    assert changes(last) == whole[taken:]


# One moment, in little memory


def test_all_of_it_is_of_one_moment(many: None) -> None:
    before = changes()

    def change_everything() -> None:
        User.objects.update(last_name="since")
        User.objects.filter(username__endswith="7").delete()
        User.objects.create(username="newcomer")

    reading = lines(compressed(snapshot.lines(None)))
    half = [next(reading) for _ in range(MANY // 2)]
    elsewhere(change_everything)
    assert [*half, *reading][1:-1] == before
    assert changes() != before


def test_it_is_never_held_in_full(many: None) -> None:
    """PostgreSQL keeps the rest: neither memory nor a piece grows with the number of users."""
    tracemalloc.start()
    try:
        sizes = [len(piece) for piece in compressed(snapshot.lines(None))]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The first line, the chunks, the last line, and what ends the gzip.
    assert len(sizes) == 3 + MANY // snapshot.CHUNK_LINES
    # A chunk as rows, as text, and as bytes, and what of the next has come.
    chunk_bytes = snapshot.CHUNK_LINES * 400
    assert peak < 5 * chunk_bytes
    assert max(sizes) < chunk_bytes


def test_a_reader_who_leaves_leaves_no_transaction(operator: User, many: None) -> None:
    answer = caller(operator, Scope.SNAPSHOT).get(ADDRESS)
    pieces = iter(answer.streaming_content)
    for _ in range(2):
        next(pieces)
    assert connection.in_atomic_block
    elsewhere(lambda: _expect_open_transactions(1))
    answer.close()
    assert not connection.in_atomic_block
    elsewhere(lambda: _expect_open_transactions(0))


def _expect_open_transactions(count: int) -> None:
    assert open_transactions() == count


def test_what_breaks_off_does_not_end(many: None) -> None:
    """The server then breaks the connection: nobody takes a part for the whole."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (backend,) = cursor.fetchone()

    def terminate() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [backend])

    reading = lines(compressed(snapshot.lines(None)))
    assert next(reading) == Begin(MANY)
    elsewhere(terminate)
    with pytest.raises(OperationalError):
        list(reading)
    connection.close()


# Over HTTP


def test_answer_is_lines_in_gzip(operator: User) -> None:
    User.objects.create(username="ann")
    api = caller(operator, Scope.SNAPSHOT)
    answer = api.get(ADDRESS)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    assert answer.headers["Content-Encoding"] == "gzip"
    assert answer.headers["Cache-Control"] == "no-store"
    first, change, last = lines(answer.streaming_content)
    assert (first, last) == (Begin(1), End(1))
    assert isinstance(change, UserChange)
    rest = api.get(ADDRESS, {"after": str(change.user_id)})
    assert list(lines(rest.streaming_content)) == [Begin(0), End(0)]


@pytest.mark.parametrize("query", ["after=", "after=7", "after=%00", "before=x"])
def test_bad_query_is_told_by_parameter(operator: User, query: str) -> None:
    answer = caller(operator, Scope.SNAPSHOT).get(f"{ADDRESS}?{query}")
    assert answer.status_code == 400
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert [error["parameter"] for error in answer.json()["errors"]] == [query.partition("=")[0]]


@pytest.mark.parametrize(
    ("scopes", "status"),
    [([Scope.SNAPSHOT], 200), ([Scope.READ, Scope.WRITE], 403)],
)
def test_it_wants_a_scope_of_its_own(operator: User, scopes: list[Scope], status: int) -> None:
    answer = caller(operator, *scopes).get(ADDRESS)
    assert answer.status_code == status
    answer.close()


@pytest.mark.parametrize(
    ("has_permission", "has_token", "status"),
    [(True, True, 200), (False, True, 403), (True, False, 403)],
)
def test_staff_may_by_a_token_if_they_may_look_at_users(
    *, has_permission: bool, has_token: bool, status: int
) -> None:
    clerk = User.objects.create_user("clerk", password="correct horse battery", is_staff=True)
    if has_permission:
        clerk.user_permissions.add(Permission.objects.get(codename="view_user"))
    api = caller(clerk, Scope.SNAPSHOT) if has_token else APIClient()
    if not has_token:
        api.force_login(clerk)
    answer = api.get(ADDRESS)
    assert answer.status_code == status
    answer.close()


def test_superuser_may_by_their_session(operator: User) -> None:
    browser = APIClient()
    browser.force_login(operator)
    assert list(lines(browser.get(ADDRESS).streaming_content)) == [Begin(0), End(0)]


@pytest.mark.parametrize("method", ["head", "post", "put", "patch", "delete", "options"])
def test_it_can_only_be_got(operator: User, method: str) -> None:
    answer = getattr(caller(operator, Scope.SNAPSHOT), method)(ADDRESS)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET")
