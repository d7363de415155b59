"""Where the pages of import and export are, and who may see them."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase
from django.urls import URLPattern, path
from unfold.admin import ModelAdmin
from unfold.decorators import display

from usercast_master.transfer import views
from usercast_master.transfer.models import Import, State

View = Callable[..., HttpResponseBase]

TO_IMPORT = ("accounts.add_user", "accounts.change_user")
TO_EXPORT = ("accounts.view_user",)


@admin.register(Import)
class ImportAdmin(ModelAdmin):
    """The imports of the last 30 days; each has a page of its own."""

    list_display = (
        "file_name",
        "shown_state",
        "created_by",
        "created_at",
        "new",
        "changed",
        "unchanged",
        "refused",
    )
    list_select_related = ("created_by",)
    list_per_page = 50
    nothing = "Nobody has imported a file in the last 30 days."
    actions = None

    @display(
        description="state",
        ordering="state",
        label={
            State.CHECKED.label: "info",
            State.DONE.label: "success",
            State.FAILED.label: "danger",
            State.CANCELLED.label: "warning",
        },
    )
    def shown_state(self, found: Import) -> str:
        return State(found.state).label

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perms(TO_IMPORT)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perms(TO_IMPORT)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_module_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perms(TO_IMPORT)

    def get_urls(self) -> list[URLPattern]:
        one = "<int:import_id>"
        return [
            self._path("add/", "add", views.upload),
            self._path("export/<str:kind>/", "export", views.export, needs=TO_EXPORT),
            self._path(f"{one}/change/", "change", views.page),
            self._path(f"{one}/status/", "status", views.status),
            self._path(f"{one}/confirm/", "confirm", views.confirm),
            self._path(f"{one}/cancel/", "cancel", views.cancel),
            self._path(f"{one}/errors.csv", "errors", views.errors),
            *super().get_urls(),
        ]

    def _path(
        self, route: str, name: str, view: View, needs: tuple[str, ...] = TO_IMPORT
    ) -> URLPattern:
        guarded: View = self.admin_site.admin_view(_permitted(view, needs))
        return path(route, guarded, name=f"transfer_import_{name}")


def _permitted(view: View, needs: tuple[str, ...]) -> View:
    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.user.has_perms(needs):
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return guarded
