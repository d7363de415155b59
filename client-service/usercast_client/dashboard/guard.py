"""The guard: asks ``live.access`` whether a page may be shown, before its view is called."""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import reverse

from usercast_client.live.access import View, may

P = ParamSpec("P")
Page = Callable[Concatenate[HttpRequest, P], HttpResponseBase]

_REFUSALS = {
    View.DASHBOARD: "This page is for this service's staff, and your account is not a staff one.",
    View.OWN: "A page of their own is for users who come from the master; your account is local.",
}


def visible_to(view: View) -> Callable[[Page[P]], Page[P]]:
    """Show the page to those who may see it only.

    Who is not signed in is sent to the sign-in page, and comes back from there.

    Raises:
        PermissionDenied: signed in, but may not; the message says why.
    """

    def decorate(page: Page[P]) -> Page[P]:
        @wraps(page)
        def guarded(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
            if not request.user.is_authenticated:
                return redirect_to_login(request.get_full_path(), reverse("login"))
            if not may(request.user, view):
                raise PermissionDenied(_REFUSALS[view])
            return page(request, *args, **kwargs)

        return guarded

    return decorate
