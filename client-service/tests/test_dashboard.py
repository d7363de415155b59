"""The pages as the service renders them: who sees what, and what they say."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.messages import get_messages
from django.db import connection
from django.http import HttpResponse
from django.template.loader import render_to_string
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from shop.models import Invoice
from uuid_utils.compat import uuid7

from usercast.testing import deletion, upsert
from usercast_client.dashboard import views
from usercast_client.dashboard.entries import age_words, bulk_words, entry, lag_words, number
from usercast_client.dashboard.selection import Selection
from usercast_client.live import clock, feed
from usercast_client.live.models import Change
from usercast_client.replica.apply import apply
from usercast_client.replica.models import User
from usercast_client.replica.passwords import link_path

pytestmark = pytest.mark.django_db(transaction=True)

PASSWORD = "correct horse battery"
UNKNOWN = "\N{EN DASH}"


@pytest.fixture(autouse=True)
def tick(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set the clock's last tick; None until then."""

    def last_was(**fields: Any) -> None:
        tick = {
            "time": timezone.now().isoformat(),
            "users": 1234,
            "active": 1200,
            "lag_ms": 45,
            "changes_per_minute": 7,
            "dead_letters": 0,
            "history": [[1_700_000_000, 3, 5200], [1_700_000_010, 0, None]],
        }
        monkeypatch.setattr(clock, "last", lambda: {**tick, **fields})

    monkeypatch.setattr(clock, "last", lambda: None)
    return last_was


def signed_in(user: User) -> Client:
    browser = Client()
    browser.force_login(user)
    return browser


def make_staff() -> User:
    return User.objects.create_superuser("staff", password=PASSWORD)


def make_replica(username: str = "ann", **fields: Any) -> User:
    apply([upsert(username=username, **fields)])
    return User.objects.get(username=username)


@pytest.fixture
def staff() -> Client:
    return signed_in(make_staff())


def html(answer: HttpResponse) -> str:
    """The page's text with its white space levelled."""
    return " ".join(answer.content.decode().split())


def rows(answer: HttpResponse) -> list[str]:
    """The usernames in the table, in its order; the template of a row has none."""
    return re.findall(r'data-field="username"> <a [^>]*title="([^"]+)"', html(answer))


def figure(answer: HttpResponse, name: str) -> str:
    found = re.search(rf'data-total="{name}">([^<]*)<', html(answer))
    assert found
    return found[1]


# Who may see what

PAGES = {"/": "dashboard", "/refresh/": "dashboard", "user": "dashboard"} | {
    "/me/": "own",
    "/me/password/": "own",
}


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize(
    ("who", "sees"),
    [
        ("local", set()),
        ("staff", {"dashboard"}),
        ("replicated", {"own"}),
        ("replicated staff", {"dashboard", "own"}),
    ],
)
def test_page_is_shown_to_those_who_may_see_it_only(page: str, who: str, sees: set[str]) -> None:
    replica = make_replica()
    path = f"/users/{replica.pk}/" if page == "user" else page
    user = replica if "replicated" in who else User.objects.create_user("local")
    user.is_staff = "staff" in who
    user.save()
    assert signed_in(user).get(path).status_code == (200 if PAGES[page] in sees else 403)
    assert Client().get(path)["Location"] == f"/login/?next={path}"


def test_access_ends_at_once_with_the_account() -> None:
    user = make_replica()
    browser = signed_in(user)
    assert browser.get("/me/").status_code == 200
    apply([upsert(user.pk, 2, username="ann", is_active=False)])
    assert browser.get("/me/")["Location"] == "/login/?next=/me/"


@pytest.mark.parametrize("asked", ["", "/"])
def test_signing_in_leads_to_ones_own_page(asked: str) -> None:
    make_staff()
    ann = make_replica()
    ann.set_password(PASSWORD)
    ann.save()
    for username, page in (("staff", "/"), ("ann", "/me/")):
        login = {"username": username, "password": PASSWORD, "next": asked}
        browser = Client()
        assert browser.post("/login/", login)["Location"] == page
        assert browser.get("/login/")["Location"] == page


@pytest.mark.parametrize("asked", ["/login/", "/login/?next=/login/", "http://testserver/login/"])
def test_sign_in_page_is_not_where_signing_in_leads(asked: str) -> None:
    user = make_staff()
    login = {"username": "staff", "password": PASSWORD, "next": asked}
    assert Client().post("/login/", login)["Location"] == "/"
    assert signed_in(user).get("/login/", {"next": asked})["Location"] == "/"


def test_signing_in_leads_back_to_where_one_came_from() -> None:
    make_staff()
    login = {"username": "staff", "password": PASSWORD, "next": "/?q=ann"}
    assert Client().post("/login/", login)["Location"] == "/?q=ann"


def test_replicated_user_is_shown_the_way_to_their_own_page() -> None:
    answer = signed_in(make_replica()).get("/")
    assert 'href="/me/"' in html(answer)


def test_staff_who_are_replicated_get_a_link_to_their_own_page(staff: Client) -> None:
    assert 'href="/me/"' not in html(staff.get("/"))
    ann = make_replica()
    ann.is_staff = True
    ann.save()
    assert 'href="/me/"' in html(signed_in(ann).get("/"))


# First paint


def test_dashboard_is_complete_without_javascript(staff: Client) -> None:
    apply([upsert(username="ann", first_name="Ann", groups=("editors", "people"))])
    text = html(staff.get("/"))
    for said in ("ann", "Ann One", "someone@example.org", "editors", "people", "Active", "created"):
        assert said in text, said
    assert f'data-cursor="{feed.newest_cursor()}"' in text


def test_pages_keep_to_the_strict_content_security_policy(staff: Client) -> None:
    user = make_replica(first_name='<script>alert("x")</script>')
    apply([upsert(user.pk, 2, username="ann", first_name="<img onerror=alert(1)>")])
    own = signed_in(user)
    pages = [staff.get("/"), staff.get(f"/users/{user.pk}/"), own.get("/me/"), own.get("/")]
    for page in [*pages, Client().get("/login/"), own.get("/me/password/")]:
        policy = page["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        text = re.sub('"[^"]*"', '""', page.content.decode())
        assert not re.search(r"<[^>]*\s(style|on\w+)=", text)
        assert "<style" not in text
        assert re.findall(r"<script(?![^>]* src=)[^>]*>", text) == []


def test_strip_shows_the_last_tick(staff: Client, tick: Callable[..., None]) -> None:
    tick()
    page = staff.get("/")
    shown = {name: figure(page, name) for name in ("users", "active", "lag", "worst", "rate")}
    assert shown == {
        "users": "1,234", "active": "1,200", "lag": "45 ms", "worst": "5.2 s", "rate": "7",
    }  # fmt: skip
    assert (figure(page, "dead"), figure(page, "heartbeat")) == ("0", "now")
    assert 'data-state="connecting"' in html(page)
    assert 'data-history="[[1700000000, 3, 5200], [1700000010, 0, null]]"' in html(page)


def test_strip_says_when_the_newest_change_came(staff: Client, tick: Callable[..., None]) -> None:
    newest = re.compile(r'data-total="newest">(.*?)</span>')
    for unknown in ({}, {"applied_at": None}):
        tick(**unknown)
        assert newest.search(html(staff.get("/")))[1] == UNKNOWN
    tick(applied_at="2026-01-02T14:02:11.500000Z")
    said = newest.search(html(staff.get("/")))[1]
    assert 'datetime="2026-01-02T14:02:11.500000+00:00"' in said
    assert 'title="2 Jan 2026, 14:02:11 UTC"' in said


def test_browser_is_told_what_the_service_goes_by(staff: Client) -> None:
    user = make_replica()
    for page in (staff.get("/"), staff.get(f"/users/{user.pk}/"), signed_in(user).get("/me/")):
        assert 'data-bulk="25" data-stale-after-ms="2500"' in html(page)


def test_old_tick_reads_as_stale_at_once(staff: Client, tick: Callable[..., None]) -> None:
    at = timezone.now() - timedelta(seconds=7)
    tick(time=at.isoformat())
    page = staff.get("/")
    assert 'data-state="stale"' in html(page)
    assert f"stale since {at:%H:%M:%S}" in html(page)
    assert figure(page, "heartbeat") == "7 s ago"


def test_without_a_tick_users_are_counted_and_the_rest_is_unknown(staff: Client) -> None:
    apply([upsert(), upsert(is_active=False)])
    page = staff.get("/")
    assert [figure(page, name) for name in ("users", "active")] == ["2", "1"]
    assert {figure(page, name) for name in ("lag", "worst", "rate", "dead", "heartbeat")} == {
        UNKNOWN
    }
    assert 'data-state="stale"' in html(page)


@pytest.mark.parametrize(("count", "shown", "warns"), [(0, "0", False), (3, "3", True)])
def test_dead_letters_are_quiet_until_there_are_any(
    staff: Client, tick: Callable[..., None], count: int, shown: str, warns: bool
) -> None:
    tick(dead_letters=count)
    page = staff.get("/")
    assert figure(page, "dead") == shown
    assert ('class="tile bad"' in html(page)) is warns


def test_empty_table_says_why(staff: Client) -> None:
    assert "No users here." in html(staff.get("/"))
    apply([upsert()])
    found = re.sub("<[^>]*>", "", html(staff.get("/?q=nobody&active=no")))
    assert "No user matches “nobody” with these filters." in found


# The users' table


def make_people() -> None:
    now = timezone.now()
    people: list[tuple[str, dict[str, Any]]] = [
        ("ann", {"first_name": "Zoe", "email": "c@x.org", "groups": ("editors",)}),
        ("bob", {"first_name": "Yan", "email": "a@x.org", "is_active": False}),
        ("cat", {"first_name": "Xia", "email": "b@x.org", "groups": ("editors", "people")}),
    ]
    for number_, (username, fields) in enumerate(people):
        at = now - timedelta(hours=number_ * 20)
        apply([upsert(username=username, changed_at=at, **fields)])


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["ann", "bob", "cat"]),
        ("q=Z+one", ["ann"]),
        ("q=a%40x", ["bob"]),
        ("active=yes", ["ann", "cat"]),
        ("active=no", ["bob"]),
        ("group=editors", ["ann", "cat"]),
        ("group=edit", []),
        ("changed=hour", ["ann"]),
        ("changed=day", ["ann", "bob"]),
        ("changed=week", ["ann", "bob", "cat"]),
        ("q=one&active=yes&group=people&changed=week", ["cat"]),
        ("active=maybe&changed=never&sort=password&page=x&q=%00", ["ann", "bob", "cat"]),
        ("page=99", ["ann", "bob", "cat"]),
        ("sort=-username", ["cat", "bob", "ann"]),
        ("sort=name", ["cat", "bob", "ann"]),
        ("sort=email", ["bob", "cat", "ann"]),
        ("sort=-email", ["ann", "cat", "bob"]),
        ("sort=changed", ["cat", "bob", "ann"]),
        ("sort=-changed&active=yes", ["ann", "cat"]),
    ],
)
def test_table_is_searched_filtered_and_sorted(
    staff: Client, query: str, expected: list[str]
) -> None:
    make_people()
    assert rows(staff.get(f"/?{query}")) == expected


def test_search_knows_all_letters_cases() -> None:
    apply([upsert(username="René", first_name="ÅSA")])
    for words in ("rené", "RENÉ", "åsa", "ren ås"):
        assert [user.username for user in Selection(q=words).users()] == ["René"], words


def test_filters_keep_each_other(staff: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "PAGE_SIZE", 1)
    make_people()
    text = html(staff.get("/?q=one&active=yes&group=editors&sort=-changed&page=2"))
    kept = "q=one&amp;active=yes&amp;group=editors"
    assert f'id="sort-email" href="?{kept}&amp;sort=email"' in text
    assert f'id="previous" rel="prev" href="?{kept}&amp;sort=-changed&amp;page=1"' in text
    assert 'id="reset" href="?sort=-changed"' in text
    assert 'name="sort" value="-changed"' in text
    assert '<option value="editors" selected>' in text
    assert '2\N{EN DASH}2 of <span id="count">2</span>' in text
    assert "Page 2 of 2" in text


def test_sorted_column_says_so_and_turns_round(staff: Client) -> None:
    make_people()
    first, turned = html(staff.get("/")), html(staff.get("/?sort=-changed"))
    assert '<th scope="col" aria-sort="ascending"> <a class="sort" id="sort-username"' in first
    assert 'id="sort-username" href="?sort=-username"' in first
    assert 'id="sort-changed" href="?sort=-changed"' in first
    assert (
        'aria-sort="descending"> <a class="sort" id="sort-changed" href="?sort=changed"' in turned
    )


def test_group_that_nobody_is_in_any_more_can_be_seen_to_be_chosen(staff: Client) -> None:
    make_people()
    assert '<option value="gone" selected>' in html(staff.get("/?group=gone"))


def test_dashboard_asks_the_database_the_same_however_many_users(staff: Client) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            staff.get("/")
        return len(captured)

    apply([upsert() for _ in range(30)])
    few = queries()
    apply([upsert() for _ in range(100)])
    assert queries() == few


# Rows that are on a page already


def test_refresh_has_the_rows_that_are_shown_as_they_are_now(staff: Client) -> None:
    make_people()
    ids = {user.username: str(user.pk) for user in User.objects.replicated()}
    apply([deletion(User.objects.get(username="ann").pk, 2)])
    asked = ",".join([ids["cat"], ids["bob"], ids["ann"], "nonsense"])
    answer = staff.get(f"/refresh/?active=yes&rows={asked}")
    assert rows(answer) == ["cat", "bob"]
    text = html(answer)
    assert text.count('data-gone="unmatched"') == 1
    assert re.search(rf'data-id="{ids["bob"]}"[^>]*data-gone="unmatched"', text)
    assert 'data-count="1"' in text
    assert f'data-cursor="{feed.newest_cursor()}"' in text
    assert "deleted" in text


def data_of(answer: HttpResponse, name: str) -> str:
    return re.findall(rf'data-{name}="([^"]*)"', html(answer))[-1]


def arrived(staff: Client, query: str, *, since: int, shown: tuple[str, ...] = ()) -> str:
    """How many users the service says have come since."""
    asked = ",".join(str(User.objects.get(username=name).pk) for name in shown)
    return data_of(staff.get(f"/refresh/?{query}&since={since}&rows={asked}"), "arrived")


def test_refresh_counts_who_has_come_since_the_table_was_rendered(staff: Client) -> None:
    make_people()
    since = feed.newest_cursor()
    new = [upsert(username="dan"), upsert(username="eve"), upsert(username="fay", is_active=False)]
    apply(new)
    ann = User.objects.get(username="ann")
    apply([upsert(ann.pk, 2, username="ann", email="new@example.org")])
    apply([deletion(new[1].user_id, 2)])
    assert arrived(staff, "", since=since) == "2"
    assert arrived(staff, "active=yes", since=since) == "1"
    assert arrived(staff, "", since=since, shown=("ann", "bob", "dan")) == "1"
    assert arrived(staff, "", since=feed.newest_cursor()) == "0"
    # Where the latest come first, who has changed belongs on top as well.
    assert arrived(staff, "sort=-changed", since=since) == "3"
    assert arrived(staff, "sort=-changed&page=2", since=since) == "2"


def test_refresh_does_not_guess_what_the_feed_has_forgotten(staff: Client) -> None:
    make_people()
    feed.trim(keep=1)
    oldest = feed.newest_cursor() - 1
    assert arrived(staff, "", since=oldest) == "1"
    assert arrived(staff, "", since=oldest - 1) == ""
    assert arrived(staff, "", since=oldest + 2) == ""
    assert arrived(staff, "", since=0) == ""


def test_table_that_is_read_anew_marks_who_has_come_since(staff: Client) -> None:
    make_people()
    since = feed.newest_cursor()
    apply([upsert(username="dan")])
    ann = User.objects.get(username="ann")
    apply([upsert(ann.pk, 2, username="ann", email="new@example.org")])

    def marked(query: str) -> list[str]:
        row = r'<tr data-id="([^"]+)" data-version="\d+" data-new'
        ids = re.findall(row, html(staff.get(f"/?{query}")))
        return sorted(User.objects.get(pk=pk).username for pk in ids)

    assert marked("") == []
    assert marked(f"since={since}") == ["dan"]
    assert marked(f"since={since}&sort=-changed") == ["ann", "dan"]
    assert marked(f"since={feed.newest_cursor()}") == []
    assert marked("since=-1") == marked(f"since={'9' * 30}") == marked("since=\N{SUPERSCRIPT TWO}")


# What the feed says


def change(kind: str = "updated", **before: Any) -> dict[str, Any]:
    user = {
        "username": "ann", "email": "a@x.org", "first_name": "Ann", "last_name": "Lee",
        "is_active": True, "groups": ["b", "c"], "date_joined": "2021-06-01T23:30:00-01:00",
    }  # fmt: skip
    return {
        "cursor": 7, "kind": kind, "user_id": str(uuid7()), "version": 2, "before": before,
        "changed_at": "2026-01-01T12:00:00.000999Z", "applied_at": "2026-01-01T12:00:00.123456Z",
        "user": None if kind == "deleted" else user, "batch": 7, "batch_size": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (change("created"), ["created"]),
        (change("deleted", username="ann"), ["deleted"]),
        (change(), ["updated"]),
        (change(is_active=False), ["activated"]),
        (change(username="al"), ["username al → ann"]),
        (change(last_name=""), ["name Ann → Ann Lee"]),
        (change(email="", username="al"), ["username al → ann", "e-mail (none) → a@x.org"]),
        (change(groups=["a", "b"]), ["groups + c \N{MINUS SIGN} a"]),
        (change(date_joined="2020-01-01T00:00:00Z"), ["joining date 2020-01-01 → 2021-06-02"]),
        (change(changed_at="2020-01-01T00:00:00Z"), ["updated"]),
    ],
)
def test_change_is_put_into_words(told: dict[str, Any], said: list[str]) -> None:
    shown = entry(told)
    assert [f"{part.label} {part.value}".strip() for part in shown.parts] == said
    assert (shown.who, shown.lag) == ("ann", "122 ms")


def test_deleted_user_of_whom_nothing_is_known_has_their_id_for_a_name() -> None:
    told = change("deleted")
    assert entry(told).who == told["user_id"]


@pytest.mark.parametrize(
    ("counts", "who", "said"),
    [
        ((0, 12431, 0), "12,431 users updated", []),
        ((1000, 200, 1), "1,201 users changed", ["created 1,000", "updated 200", "deleted 1"]),
    ],
)
def test_bulk_write_is_one_entry_with_its_numbers(
    counts: tuple[int, int, int], who: str, said: list[str]
) -> None:
    title, parts = bulk_words(dict(zip(("created", "updated", "deleted"), counts, strict=True)))
    assert title == who
    assert [f"{part.label} {part.value}" for part in parts] == said


def test_feed_groups_a_bulk_write_and_links_to_the_others(staff: Client) -> None:
    apply([upsert() for _ in range(feed.BULK + 1)])
    user = make_replica()
    text = html(staff.get("/"))
    assert "26 users created" in text
    assert f'<a class="who" href="/users/{user.pk}/" title="ann">ann</a>' in text


@pytest.mark.parametrize(
    ("ms", "words"),
    [
        (None, UNKNOWN), (0, "0 ms"), (999, "999 ms"), (1000, "1.0 s"), (59_999, "59.9 s"),
        (60_000, "1 min"), (3_600_000, "1 h"),
    ],
)  # fmt: skip
def test_lag_is_told_with_its_unit(ms: int | None, words: str) -> None:
    assert lag_words(ms) == words


@pytest.mark.parametrize(
    ("ms", "words"),
    [
        (None, UNKNOWN),
        (1999, "now"),
        (2000, "2 s ago"),
        (60_000, "1 min ago"),
        (7_200_000, "2 h ago"),
    ],
)
def test_age_is_told_with_its_unit(ms: int | None, words: str) -> None:
    assert age_words(ms) == words


def test_number_has_its_thousands_separated() -> None:
    assert [number(count) for count in (None, 0, 1234567)] == [UNKNOWN, "0", "1,234,567"]


# One user


def test_users_page_has_their_data_and_history(staff: Client) -> None:
    user = make_replica(groups=("editors",))
    apply([upsert(user.pk, 2, username="ann", first_name="Anna", groups=("editors",))])
    text = html(staff.get(f"/users/{user.pk}/"))
    for said in ("Anna One", "editors", "Some One → Anna One", "version 2", "created"):
        assert said in text, said
    assert "from the beginning on" in text


def test_users_page_says_how_far_the_history_reaches_back(staff: Client) -> None:
    user = make_replica()
    apply([upsert() for _ in range(3)])
    feed.trim(keep=2)
    text = html(staff.get(f"/users/{user.pk}/"))
    assert "No changes here." in text
    assert "no longer kept" in text


def test_users_page_shows_the_latest_of_a_long_history(staff: Client) -> None:
    user = make_replica()
    for version in range(2, 53):
        apply([upsert(user.pk, version, username="ann", first_name=str(version))])
    text = html(staff.get(f"/users/{user.pk}/"))
    assert "The latest 50 changes" in text
    assert text.count('class="change updated"') == 50


def test_deleted_users_page_says_so_and_keeps_the_history(staff: Client) -> None:
    user = make_replica(groups=("editors",))
    apply([deletion(user.pk, 2)])
    page = staff.get(f"/users/{user.pk}/")
    assert "Deleted on the master" in html(page)
    assert "ann" in html(page)
    assert "editors" in html(page)
    assert html(page).count('<li class="change ') == 2


def test_deleted_user_whom_the_feed_has_forgotten_is_known_by_the_tombstone(staff: Client) -> None:
    user = make_replica()
    apply([deletion(user.pk, 2)])
    Change.objects.all().delete()
    assert "Deleted on the master" in html(staff.get(f"/users/{user.pk}/"))


def test_user_kept_in_spite_of_deletion_is_shown_with_the_reason(staff: Client) -> None:
    user = make_replica()
    Invoice.objects.create(user=user)
    apply([deletion(user.pk, 2)])
    text = html(staff.get(f"/users/{user.pk}/"))
    assert "because of 1 shop.Invoice" in text
    assert "<h1" in text
    assert ">ann</h1>" in text


def test_unknown_user_and_local_account_have_no_page(staff: Client) -> None:
    local = User.objects.create_user("local")
    for user_id in (uuid7(), local.pk):
        answer = staff.get(f"/users/{user_id}/")
        assert answer.status_code == 404
        assert "no such user" in html(answer)


# Oneself


def test_own_page_has_ones_own_data_and_nobody_elses() -> None:
    ann = make_replica(groups=("editors",))
    apply([upsert(username="bob"), upsert(ann.pk, 2, username="ann", first_name="Anna")])
    page = signed_in(ann).get("/me/")
    assert "Some One → Anna One" in html(page)
    assert "bob" not in html(page)
    assert f'data-cursor="{feed.newest_cursor(ann.pk)}"' in html(page)
    assert 'href="/me/password/"' in html(page)


def messages_of(answer: HttpResponse) -> list[str]:
    return [str(message) for message in get_messages(answer.wsgi_request)]


def test_changing_the_password_keeps_one_signed_in_and_says_so() -> None:
    ann = make_replica()
    ann.set_password(PASSWORD)
    ann.save()
    browser, other = signed_in(ann), signed_in(ann)
    new = {"new_password1": "another horse 7", "new_password2": "another horse 7"}
    wrong = browser.post("/me/password/", {"old_password": "x", **new})
    assert "entered incorrectly" in html(wrong)
    right = browser.post("/me/password/", {"old_password": PASSWORD, **new})
    assert right["Location"] == "/me/"
    assert "Your password is changed." in html(browser.get("/me/"))
    assert other.get("/me/").status_code == 302


@pytest.fixture
def link() -> str:
    return link_path(make_replica())


def test_one_time_link_sets_a_password_and_leads_to_signing_in(link: str) -> None:
    browser = Client()
    form = browser.get(link, follow=True)
    assert "Choose a password" in html(form)
    new = {"new_password1": "another horse 7", "new_password2": "another horse 7"}
    done = browser.post(form.wsgi_request.path, new)
    assert done["Location"] == "/login/"
    assert "Your password is set." in html(browser.get("/login/"))
    login = {"username": "ann", "password": "another horse 7"}
    assert browser.post("/login/", login)["Location"] == "/me/"
    assert "does not work any more" in html(Client().get(link, follow=True))


def test_invalid_link_says_so() -> None:
    answer = Client().get("/password/xxx/yyy-zzz/")
    assert "does not work any more" in html(answer)


# What goes wrong


def test_address_of_nothing_is_said_to_be_so(staff: Client) -> None:
    answer = staff.get("/nothing/")
    assert answer.status_code == 404
    assert "nothing at this address" in html(answer)


def test_form_without_its_token_is_refused_with_a_way_on() -> None:
    answer = Client(enforce_csrf_checks=True).post("/login/", {})
    assert answer.status_code == 403
    assert "This form has expired" in html(answer)


def test_failure_has_a_page_that_needs_nothing() -> None:
    assert "Something broke" in render_to_string("500.html")
