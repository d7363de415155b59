"""Dismissals at the desk: who lost access, where it has ended, where that is outstanding.

A user's page is there past their deletion, and proves it. It knows them by their id then: no name
is kept with a dismissal.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.html import format_html
from unfold.admin import ModelAdmin

from usercast_master.accounts.models import User
from usercast_master.clients import receipts, standing
from usercast_master.clients.models import Receipt
from usercast_master.desk.templatetags.desk import duration
from usercast_master.outbox.models import Dismissal

#: Of one user, on their page.
SHOWN_AT_MOST = 50
#: What lies between two clocks, or below what is worth telling.
_AT_ONCE_SECONDS = 0.1
_COLOURS = {standing.State.ENDED: "good", standing.State.OVERDUE: "bad"}


@dataclass(frozen=True)
class Line:
    """One client's part in a dismissal, as the page shows it."""

    client: str
    text: str
    sockets: int | None = None
    #: What became of the row; only of a deletion.
    row: str = ""
    is_late: bool = False


# A user's page


def page(request: HttpRequest, user_id: UUID) -> HttpResponse:
    """All there is to say of one user's access: living or deleted."""
    if not request.user.has_perm("accounts.view_user"):
        raise PermissionDenied
    user = User._base_manager.filter(pk=user_id).first()
    found = list(_all_of(user_id))
    if user is None and not found:
        raise Http404
    who = f"deleted: {user_id}" if user is None else user.username
    context = {
        **admin.site.each_context(request),
        "title": "Access on clients",
        "subtitle": who,
        "who": who,
        "person": user,
        "user_id": user_id,
        "dismissals": _shown(found),
        "shown_at_most": SHOWN_AT_MOST,
        "objective_seconds": settings.USERCAST_DISMISSAL_SECONDS,
        "opts": Dismissal._meta,
    }
    return TemplateResponse(request, "clients/dismissal.html", context)


def _all_of(user_id: UUID) -> QuerySet[Any]:
    found = standing.told(Dismissal.objects.filter(user_id=user_id))
    return found.prefetch_related("receipts").order_by("-version")[:SHOWN_AT_MOST]


def _shown(dismissals: list[Any]) -> list[dict[str, Any]]:
    return [
        {
            "dismissal": dismissal,
            "what": standing.what(dismissal),
            "state": standing.state_of(dismissal),
            "said": standing.said(dismissal),
            "lines": sorted(_lines(dismissal, dismissals), key=lambda line: line.client),
        }
        for dismissal in dismissals
    ]


def _lines(dismissal: Any, dismissals: list[Any]) -> Iterator[Line]:
    for receipt in dismissal.receipts.all():
        after = (receipt.applied_at - dismissal.at).total_seconds()
        row = _row(receipt, dismissals) if dismissal.is_deletion else ""
        text = f"access ended, {_after(after)} after"
        yield Line(receipt.client_id, text, receipt.sockets_closed, row)
    state = standing.state_of(dismissal)
    for name in dismissal.owing:
        if state is standing.State.SUPERSEDED:
            yield Line(name, "superseded before it was heard of")
        else:
            waiting = duration(standing.seconds_since(dismissal.at))
            yield Line(name, f"outstanding for {waiting}", is_late=state is standing.State.OVERDUE)


def _row(receipt: Receipt, dismissals: list[Any]) -> str:
    """What became of the user's row, given all dismissals of the user, the newest first."""
    if receipt.erased:
        return "erased"
    latest = next((one for one in dismissals if one.version <= receipt.version), None)
    if latest is not None and not latest.is_deletion:
        return "there again: the user came back before the client heard of it"
    return "kept: another table needs the row"


def _after(seconds: float) -> str:
    return "< 0.1 s" if seconds < _AT_ONCE_SECONDS else duration(seconds)


# The list


class StandingFilter(admin.SimpleListFilter):
    """Dismissals by whether a client owes a receipt."""

    title = "receipts"
    parameter_name = "receipts"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("open", "outstanding"), ("overdue", "outstanding past the objective")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() == "open":
            return queryset.filter(receipts.open_ones())
        if self.value() == "overdue":
            return queryset.filter(receipts.overdue_ones())
        return queryset


@admin.register(Dismissal)
class DismissalAdmin(ModelAdmin):  # type: ignore[misc]  # the theme has no types
    """Who lost access, the latest first. Nothing can be edited; each user has a page."""

    list_display = ("user", "what", "shown_at", "access")
    list_display_links = None
    list_filter = (StandingFilter,)
    list_filter_submit = True
    search_fields = ("user_id",)
    search_help_text = "User id, or username of a user who is still there"
    ordering = ("-id",)
    list_per_page = 50
    nothing = "Nobody has been deactivated or deleted yet."
    actions = None
    list_before_template = "clients/dismissals_overdue.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return standing.told(super().get_queryset(request))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        try:
            return queryset.filter(user_id=UUID(term)), False
        except ValueError:
            users = User._base_manager.filter(username__icontains=term)
            return queryset.filter(user_id__in=users.values("pk")), False

    @admin.display(ordering="user_id")
    def user(self, dismissal: Any) -> str:
        who = dismissal.username or f"deleted: {dismissal.user_id}"
        return format_html(
            '<a class="desk-proof-user" href="{}">{}</a>', standing.address(dismissal.user_id), who
        )

    def what(self, dismissal: Any) -> str:
        return standing.what(dismissal)

    @admin.display(description="when", ordering="id")
    def shown_at(self, dismissal: Dismissal) -> str:
        return f"{timezone.localtime(dismissal.at):%Y-%m-%d %H:%M:%S}"

    @admin.display
    def access(self, dismissal: Any) -> str:
        # No label of Unfold's: it would not wrap on a phone, and write a client's name in capitals.
        return format_html(
            '<span class="desk-proof-standing" data-state="{}">{}</span>',
            _COLOURS.get(standing.state_of(dismissal), ""),
            standing.said(dismissal),
        )

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        context = {
            "overdue": receipts.overdue(),
            "objective_seconds": settings.USERCAST_DISMISSAL_SECONDS,
            "now": timezone.now(),
        }
        shown: HttpResponse = super().changelist_view(request, {**context, **(extra_context or {})})
        return shown

    def change_view(self, request: HttpRequest, object_id: str, *args: Any) -> HttpResponse:
        """A dismissal is shown on its user's page."""
        if not self.has_view_permission(request) or not object_id.isdecimal():
            raise Http404
        return redirect(standing.address(get_object_or_404(Dismissal, pk=int(object_id)).user_id))

    def get_urls(self) -> list[URLPattern]:
        one = path(
            "<uuid:user_id>/", self.admin_site.admin_view(page), name="outbox_dismissal_user"
        )
        return [one, *super().get_urls()]

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("accounts.view_user")

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
