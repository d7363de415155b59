"""The change feed, to read."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from usercast_client.live.models import Change


@admin.register(Change)
class ChangeAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("cursor", "kind", "user_id", "version", "changed_at", "applied_at")
    list_filter = ("kind",)
    ordering = ("-cursor",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
