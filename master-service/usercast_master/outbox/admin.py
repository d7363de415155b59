"""The outbox at the desk: what has yet to reach the clients and what is set aside, to look at."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import F, OuterRef, Q, QuerySet, Subquery
from django.http import HttpRequest
from django.utils import timezone
from django.utils.timesince import timesince
from unfold.admin import ModelAdmin
from unfold.decorators import display

from usercast_master.accounts.models import User
from usercast_master.outbox import delivery, status
from usercast_master.outbox.capture import Priority
from usercast_master.outbox.models import OutboxEntry

WHY = {
    Priority.URGENT: "dismissal",
    Priority.SINGLE: "change",
    Priority.BULK: "bulk write",
}
STATES = {
    "parked": ~Q(parked_reason=""),
    "waiting": Q(attempts__gt=0, parked_reason=""),
    "on-its-way": Q(attempts=0, parked_reason=""),
}


class StateFilter(admin.SimpleListFilter):
    """Entries by what holds them up."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("parked", "parked"),
            ("waiting", "refused, waiting to be tried again"),
            ("on-its-way", "on its way"),
        ]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[OutboxEntry]
    ) -> QuerySet[OutboxEntry]:
        return queryset.filter(STATES.get(self.value() or "", Q()))


@admin.register(OutboxEntry)
class OutboxEntryAdmin(ModelAdmin):
    """What is owed, the oldest first. Nothing can be edited; what is held up can be tried again."""

    list_display = ("user", "why", "versions", "waits", "state", "attempts", "parked_reason")
    list_filter = (StateFilter,)
    list_filter_submit = True
    search_fields = ("user_id", "username")
    search_help_text = "Username, or user id"
    ordering = ("owed_since",)
    list_per_page = 50
    nothing = "The clients have been told of every change."
    actions = ("try_again",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[OutboxEntry]:
        names = User._base_manager.filter(pk=OuterRef("user_id")).values("username")
        owed = super().get_queryset(request).filter(version__gt=F("published_version"))
        entries: QuerySet[OutboxEntry] = owed.annotate(username=Subquery(names))
        return entries

    @admin.display(ordering="username")
    def user(self, entry: Any) -> str:
        return entry.username or f"deleted: {entry.user_id}"

    @admin.display(description="what", ordering="priority")
    def why(self, entry: OutboxEntry) -> str:
        return "deletion" if entry.deleted_at else WHY[Priority(entry.priority)]

    @admin.display(description="version")
    def versions(self, entry: OutboxEntry) -> str:
        return delivery.versions(entry)

    @admin.display(description="since", ordering="owed_since")
    def waits(self, entry: OutboxEntry) -> str:
        return timesince(entry.owed_since, timezone.now())

    @display(label={"parked": "danger", "waiting": "warning", "on-its-way": "info"})
    def state(self, entry: OutboxEntry) -> tuple[str, str]:
        if entry.parked_reason:
            return "parked", "parked"
        return ("waiting", "waiting") if entry.attempts else ("on-its-way", "on its way")

    @admin.action(description="Try again now", permissions=["retry"])
    def try_again(self, request: HttpRequest, entries: QuerySet[OutboxEntry]) -> None:
        keys = list(entries.order_by().values_list("user_id", flat=True))
        count = status.republish(user_ids=keys)
        messages.success(request, f"{count:,} of {len(keys):,} will be tried again now.")

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("outbox.change_outboxentry")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
