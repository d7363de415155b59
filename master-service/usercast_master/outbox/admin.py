"""A read-only look at what has yet to reach the clients."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from usercast_master.outbox.models import OutboxEntry


@admin.register(OutboxEntry)
class OutboxEntryAdmin(ModelAdmin):
    list_display = (
        "user_id",
        "version",
        "published_version",
        "changed_at",
        "deleted_at",
        "attempts",
        "parked_reason",
    )
    search_fields = ("user_id",)
    ordering = ("-changed_at",)
    list_per_page = 50

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
