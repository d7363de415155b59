"""The client's admin: local accounts are managed here; of a replicated user only what is local."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html

from usercast_client.replica.models import OWNED_BY_MASTER, Clash, Kept, User
from usercast_client.replica.passwords import link_path

#: One by one they are handed over, so a page of them is enough.
LINKS_AT_MOST = 20


@admin.register(User)
class UserAdmin(DjangoUserAdmin):  # type: ignore[type-arg]
    list_display = ("username", "email", "first_name", "last_name", "is_active", "version")
    list_filter = ("is_active", "is_staff")
    list_per_page = 50
    actions = ("make_password_links",)
    readonly_fields = ("id", "version", "changed_at", "master_groups", "last_login", "date_joined")
    fieldsets = (
        *(DjangoUserAdmin.fieldsets or ()),
        ("Replication", {"fields": ("id", "version", "changed_at", "master_groups")}),
    )

    @admin.action(description="Make one-time links to set a password", permissions=["change"])
    def make_password_links(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """Show a link for each of the chosen users, to be handed to them."""
        for user in queryset[:LINKS_AT_MOST]:
            if not user.is_active:
                self.message_user(request, f"{user}: not active, no link made.", messages.WARNING)
                continue
            link = request.build_absolute_uri(link_path(user))
            self.log_change(request, user, "Made a one-time link to set a password.")
            self.message_user(request, format_html("{}: <code>{}</code>", user, link))
        if queryset.count() > LINKS_AT_MOST:
            self.message_user(
                request, f"Only the first {LINKS_AT_MOST} links were made.", messages.WARNING
            )

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        fields = super().get_readonly_fields(request, obj)
        if obj is not None and obj.is_replicated:
            return sorted({*fields, *OWNED_BY_MASTER})
        return fields

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A replicated user is deleted on the master, or would come back with the next change."""
        allowed = super().has_delete_permission(request, obj)
        return allowed and not (obj is not None and obj.is_replicated)

    def get_actions(self, request: HttpRequest) -> Any:
        actions = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions


class RecordAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """What replication has recorded: to be read."""

    list_per_page = 50

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Clash)
class ClashAdmin(RecordAdmin):
    """Replicated users who cannot have their username: rename the local account that has it."""

    list_display = ("username", "user_id", "seen_at")


@admin.register(Kept)
class KeptAdmin(RecordAdmin):
    """Users deleted on the master and only deactivated here, with what needs their row."""

    list_display = ("username", "user_id", "deleted_at", "protected_by")
