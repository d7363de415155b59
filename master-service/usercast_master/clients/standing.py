"""Standing: how a dismissal stands with the clients, in a word and in a sentence, for the desk."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import Count, Exists, OuterRef, QuerySet, Subquery
from django.urls import reverse
from django.utils import timezone

from usercast_master.accounts.models import User
from usercast_master.clients import receipts
from usercast_master.clients.models import Receipt
from usercast_master.desk.templatetags.desk import duration
from usercast_master.outbox.models import Dismissal


class State(StrEnum):
    """How a dismissal stands."""

    ENDED = "ended"
    OUTSTANDING = "outstanding"
    OVERDUE = "overdue"
    SUPERSEDED = "superseded"
    #: No client was registered then.
    NOBODY = "nobody"


def told(dismissals: QuerySet[Any]) -> QuerySet[Any]:
    """The dismissals, each with what ``state_of`` and ``said`` look at."""
    user = User._base_manager.filter(pk=OuterRef("user_id"))
    given = Receipt.objects.filter(dismissal=OuterRef("pk")).order_by().values("dismissal")
    annotated: QuerySet[Any] = dismissals.annotate(
        username=Subquery(user.values("username")),
        owing=ArraySubquery(receipts.owing().order_by("name").values("name")),
        ended=Subquery(given.annotate(count=Count("pk")).values("count")),
        is_superseded=Exists(receipts.allowed_in()),
    )
    return annotated


def newest(user_id: UUID) -> Any:
    """The latest dismissal of a user, from ``told``; None if they never lost access."""
    return told(Dismissal.objects.filter(user_id=user_id)).order_by("-version").first()


def state_of(dismissal: Any) -> State:
    """How a dismissal from ``told`` stands."""
    if not dismissal.owing:
        return State.ENDED if dismissal.ended else State.NOBODY
    if dismissal.is_superseded or not dismissal.is_open:
        return State.SUPERSEDED
    is_late = seconds_since(dismissal.at) > settings.USERCAST_DISMISSAL_SECONDS
    return State.OVERDUE if is_late else State.OUTSTANDING


def said(dismissal: Any) -> str:
    """The same in words: ``ended on 2 of 2 clients``."""
    ended = dismissal.ended or 0
    match state_of(dismissal):
        case State.NOBODY:
            return "no client was registered"
        case State.SUPERSEDED:
            return "superseded: access was given back"
        case State.OVERDUE:
            names = _listed(dismissal.owing)
            verb = "has" if len(dismissal.owing) == 1 else "have"
            return f"{names} {verb} not ended it, {duration(seconds_since(dismissal.at))}"
        case _:
            return f"ended on {ended} of {ended + len(dismissal.owing)} clients"


def what(dismissal: Any) -> str:
    """What happened to the user."""
    if not dismissal.is_deletion:
        return "deactivated"
    return "deleted" if dismissal.username is None else "no longer replicated"


def address(user_id: UUID) -> str:
    """Where the user's page is."""
    return reverse("admin:outbox_dismissal_user", args=[user_id])


def seconds_since(moment: datetime) -> float:
    return (timezone.now() - moment).total_seconds()


def _listed(names: list[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
