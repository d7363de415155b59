"""Receives a request; hands on a page, whole without JavaScript.

Each page carries a cursor: every change up to it is in the HTML, and the browser takes over there
(``static/dashboard/``).
"""

from collections.abc import Iterable, Sequence
from typing import Any, cast
from uuid import UUID

from django.conf import settings
from django.core.paginator import Page, Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from usercast_client.dashboard import arrivals, person
from usercast_client.dashboard.entries import Entry, entry, number
from usercast_client.dashboard.guard import visible_to
from usercast_client.dashboard.selection import Selection, columns, groups
from usercast_client.dashboard.strip import STALE_AFTER_MS, read_clock, read_strip
from usercast_client.live import feed
from usercast_client.live.access import View
from usercast_client.live.feed import BULK
from usercast_client.live.latest import latest
from usercast_client.replica.models import User

PAGE_SIZE = 50
FEED_SIZE = 30
CURSOR_DIGITS = 18  # PostgreSQL's bigint has more


@require_safe
@never_cache
@visible_to(View.DASHBOARD)
def index(request: HttpRequest) -> HttpResponse:
    """The dashboard: how things stand, the users, and the latest changes.

    An open page that reads itself anew says ``since`` which cursor it had, and whoever has come
    since is marked.
    """
    # First the cursor, then the rows: a change in between is shown now and offered again, which
    # does no harm. The other way round it would be missed.
    cursor = feed.newest_cursor()
    selection = Selection.of(request.GET)
    page = Paginator(selection.users(), PAGE_SIZE).get_page(request.GET.get("page"))
    return _page(
        request,
        "dashboard/index.html",
        cursor=cursor,
        strip=read_strip(),
        selection=selection,
        columns={column.order: column for column in columns(selection)},
        groups=_with(selection.group, groups()),
        page=page,
        arrived=_arrived(request, selection, page),
        range=_range(page),
        count=number(page.paginator.count),
        page_number=number(page.number),
        pages=number(page.paginator.num_pages),
        links=_links(selection, page),
        entries=_latest(),
    )


@require_safe
@never_cache
@visible_to(View.DASHBOARD)
def refresh(request: HttpRequest) -> HttpResponse:
    """For an open dashboard that is too far behind: the rows it shows, as they are, and the feed.

    No row is missing but of deleted users, none is added, and they are in the order asked for.
    """
    cursor = feed.newest_cursor()
    selection = Selection.of(request.GET)
    users = selection.users()
    asked = _user_ids(request.GET.get("rows", ""))[:PAGE_SIZE]
    found = User.objects.replicated().in_bulk(asked)
    selected = set(users.filter(pk__in=found).values_list("pk", flat=True))
    return render(
        request,
        "dashboard/refresh.html",
        {
            "cursor": cursor,
            "count": users.count(),
            "arrived": arrivals.count(
                users,
                since=_cursor(request.GET.get("since", "")) or 0,
                shown=asked,
                changed_too=selection.has_latest_first(request.GET.get("page", "")),
            ),
            "rows": [(found[pk], pk in selected) for pk in asked if pk in found],
            "entries": _latest(),
        },
    )


@require_safe
@never_cache
@visible_to(View.DASHBOARD)
def user(request: HttpRequest, user_id: UUID) -> HttpResponse:
    """One user, and what happened to them as this client saw it.

    Raises:
        Http404: nothing here remembers them.
    """
    cursor = feed.newest_cursor()
    found = person.find(user_id)
    if found is None:
        raise Http404("There is no such user here. One who was deleted long ago is forgotten.")
    return _page(
        request,
        "dashboard/user.html",
        cursor=cursor,
        clock=read_clock(),
        person=found,
        history=person.history(user_id),
    )


@require_safe
@never_cache
@visible_to(View.OWN)
def me(request: HttpRequest) -> HttpResponse:
    """A replicated user's own page."""
    user_id = cast("UUID", request.user.pk)
    cursor = feed.newest_cursor(user_id)
    found = person.find(user_id)
    if found is None:
        raise Http404("You have just been deleted.")
    return _page(
        request,
        "dashboard/me.html",
        cursor=cursor,
        clock=read_clock(),
        person=found,
        history=person.history(user_id),
    )


def _page(request: HttpRequest, template: str, **context: Any) -> HttpResponse:
    said_once = {
        "client": settings.USERCAST_CLIENT,
        "bulk": BULK,
        "stale_after_ms": STALE_AFTER_MS,
    }
    return render(request, template, {**said_once, **context})


def _range(page: Page[User]) -> str:
    """Which of the users the page shows."""
    return f"{number(page.start_index())}\N{EN DASH}{number(page.end_index())}"


def _arrived(request: HttpRequest, selection: Selection, page: Page[User]) -> set[UUID]:
    """Who of the page has come since the cursor that an open page had; nobody at first paint."""
    since = _cursor(request.GET.get("since", ""))
    if since is None:
        return set()
    return arrivals.among(
        [user.pk for user in page],
        since=since,
        changed_too=selection.has_latest_first(request.GET.get("page", "")),
    )


def _links(selection: Selection, page: Page[User]) -> dict[str, str]:
    """Where the pager and the reset lead; what else was asked for stays."""
    return {
        "first": selection.query(),
        "previous": selection.query(page=page.number - 1),
        "next": selection.query(page=page.number + 1),
        "last": selection.query(page=page.paginator.num_pages),
        "reset": Selection(sort=selection.sort).query(),
    }


def _latest() -> list[Entry]:
    return [entry(told) for told in latest(FEED_SIZE)]


def _with(chosen: str, known: Sequence[str]) -> Iterable[str]:
    """The known groups, and the chosen one though nobody may be in it any more."""
    return sorted({*known, chosen}) if chosen else known


def _cursor(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= CURSOR_DIGITS else None


def _user_ids(listed: str) -> list[UUID]:
    found = []
    for text in listed.split(","):
        try:
            found.append(UUID(text))
        except ValueError:
            continue
    return found
