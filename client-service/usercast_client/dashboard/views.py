"""Receives a staff user's request; hands on the index page, whole without JavaScript.

The page carries a cursor: every change up to it is in the HTML, and the browser takes over there
(``static/dashboard/main.js``).
"""

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from usercast_client.dashboard.entries import entry
from usercast_client.live import feed
from usercast_client.replica.models import User

PAGE_SIZE = 50
FEED_SIZE = 30
MAX_QUERY_CHARS = 150  # a username's longest


@require_safe
@never_cache
def index(request: HttpRequest) -> HttpResponse:
    """Show a staff user the replicated users and the latest changes.

    Raises:
        PermissionDenied: signed in, but not staff.
    """
    if not request.user.is_authenticated:
        return redirect_to_login(request.get_full_path(), reverse("login"))
    if not (request.user.is_active and request.user.is_staff):
        raise PermissionDenied("This dashboard is for staff, and your account is not a staff one.")

    # First the cursor, then the rows: a change in between is shown now and offered again, which
    # does no harm. The other way round it would be missed.
    cursor = feed.newest_cursor()
    query = request.GET.get("q", "").replace("\0", "").strip()[:MAX_QUERY_CHARS]
    page = Paginator(search(query), PAGE_SIZE).get_page(request.GET.get("page"))
    entries = [entry(change) for change in feed.latest(FEED_SIZE)]
    return render(
        request,
        "dashboard/index.html",
        {
            "client": settings.USERCAST_CLIENT,
            "cursor": cursor,
            "query": query,
            "page": page,
            "totals": User.objects.replicated().aggregate(
                users=Count("pk"), active=Count("pk", filter=Q(is_active=True))
            ),
            "entries": entries,
            "latest": entries[0] if entries else None,
        },
    )


def search(query: str) -> QuerySet[User]:
    """Find the replicated users in whom each word of ``query`` occurs, by username.

    The order is by code point and no language's, so that the browser can tell where a new row
    belongs.
    """
    users: QuerySet[User] = User.objects.replicated()
    for word in query.split():
        users = users.filter(
            Q(username__icontains=word)
            | Q(email__icontains=word)
            | Q(first_name__icontains=word)
            | Q(last_name__icontains=word)
        )
    return users.order_by("username")
