"""Lockout: counts failed sign-ins for django-axes, and tells whoever is locked out until when.

Five failures lock one user name at one address, so that a stranger elsewhere locks nobody out;
fifty at one address, whatever the names, lock that address.
"""

import math
from datetime import datetime
from typing import Any

import structlog
from axes.handlers.database import AxesDatabaseHandler
from axes.helpers import get_client_username
from axes.models import AccessAttempt
from django.conf import settings
from django.contrib import admin
from django.db.models import Max, Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from usercast_master.accounts.models import User

log = structlog.get_logger(__name__)

#: An address is locked at so many times the failures that lock a name at it.
ADDRESS_FACTOR = 10


class LockoutHandler(AxesDatabaseHandler):  # type: ignore[misc]
    """Axes' own, which also counts all failures of an address together."""

    def get_failures(self, request: Any, credentials: dict[str, Any] | None = None) -> int:
        of_name: int = super().get_failures(request, credentials)
        since = request.axes_attempt_time - settings.AXES_COOLOFF_TIME
        of_address = AccessAttempt.objects.filter(
            ip_address=request.axes_ip_address, attempt_time__gte=since
        ).aggregate(total=Sum("failures_since_start"))["total"]
        return max(of_name, (of_address or 0) // ADDRESS_FACTOR)


def locked_out(
    request: HttpRequest, _response: HttpResponse | None, credentials: dict[str, Any] | None
) -> HttpResponse:
    """The page, with status 429, that says when to try again."""
    ends_at = _ends_at(request, credentials)
    seconds = max(1, math.ceil((ends_at - timezone.now()).total_seconds()))
    context = {
        **admin.site.each_context(request),
        "title": "Too many attempts",
        "ends_at": ends_at,
        "minutes": math.ceil(seconds / 60),
    }
    response = render(request, "signin/locked.html", context, status=429)
    response["Retry-After"] = str(seconds)
    return response


def log_lockout(username: str | None = None, **_kwargs: Any) -> None:
    """Log whose account it is, by id: what was typed may be anything, even a password."""
    known = User.objects.filter(username=username).values_list("pk", flat=True).first()
    log.warning("signin_locked", user_id=str(known) if known else None)


def _ends_at(request: Any, credentials: dict[str, Any] | None) -> datetime:
    attempts = AccessAttempt.objects.filter(ip_address=request.axes_ip_address)
    username = get_client_username(request, credentials)
    of_name = attempts.filter(username=username)
    total = of_name.aggregate(total=Sum("failures_since_start"))["total"] or 0
    chosen = of_name if total >= settings.AXES_FAILURE_LIMIT else attempts
    latest: datetime | None = chosen.aggregate(latest=Max("attempt_time"))["latest"]
    return (latest or timezone.now()) + settings.AXES_COOLOFF_TIME
