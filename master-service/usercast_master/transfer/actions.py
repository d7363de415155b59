"""The desk's actions on selected users, for the user list's ``actions``."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseBase

from usercast_master.accounts.models import User
from usercast_master.transfer.views import exported


@admin.action(description="Export as CSV", permissions=["view"])
def export_csv(
    model_admin: Any, request: HttpRequest, queryset: QuerySet[User]
) -> HttpResponseBase:
    """Send the selected users as CSV."""
    return exported(queryset, "csv")


@admin.action(description="Export as XLSX", permissions=["view"])
def export_xlsx(
    model_admin: Any, request: HttpRequest, queryset: QuerySet[User]
) -> HttpResponseBase:
    """Send the selected users as XLSX."""
    return exported(queryset, "xlsx")
