"""The page of the clients: a row for each, that says whether it is in step, and renews itself."""

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from unfold.admin import ModelAdmin

from usercast_master.clients import dismissals, health, receipts
from usercast_master.clients.models import Client
from usercast_master.clients.registering import Registering

__all__ = ["ClientAdmin", "dismissals"]


@admin.register(Client)
class ClientAdmin(Registering, ModelAdmin):
    """The clients. Their rows are written by their reports and by AWS, and not edited."""

    def get_urls(self) -> list[URLPattern]:
        rows = self.admin_site.admin_view(self.rows_view)
        return [path("rows/", rows, name="clients_client_rows"), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """The page."""
        context = {
            **self.admin_site.each_context(request),
            "title": "Clients",
            "opts": self.opts,
            **self._overview(request),
        }
        return TemplateResponse(request, "clients/clients.html", context)

    def rows_view(self, request: HttpRequest) -> HttpResponse:
        """What of the page changes, for it to renew itself."""
        return TemplateResponse(request, "clients/rows.html", self._overview(request))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def _overview(self, request: HttpRequest) -> dict[str, Any]:
        if not self.has_view_permission(request):
            raise PermissionDenied
        return {"overview": health.look(), "overdue": receipts.overdue()}
