"""What a caller may do: their Django permissions, and if they come with a token, its scopes."""

from typing import Any

from django.contrib import admin
from rest_framework.exceptions import PermissionDenied
from rest_framework.permissions import (
    SAFE_METHODS,
    BasePermission,
    DjangoModelPermissions,
)
from rest_framework.request import Request

from usercast_master.api.models import ApiToken, Scope


class ScopeMissing(PermissionDenied):
    """The token lacks a scope."""

    default_code = "scope_missing"

    def __init__(self, scope: Scope) -> None:
        super().__init__(f"This token lacks the scope {scope.value!r}.")


class MayCall(BasePermission):
    """Staff only. A session counts as far as the admin accepts it, second factor included; a token
    as far as its scopes go. A view may want one of its own as ``required_scope``.
    """

    def has_permission(self, request: Request, view: Any) -> bool:
        if not isinstance(request.auth, ApiToken):
            return admin.site.has_permission(request._request)
        scope = getattr(view, "required_scope", None) or _scope_of(request)
        if request.user.is_staff and scope not in request.auth.scopes:
            raise ScopeMissing(scope)
        return request.user.is_staff


class ModelPermissions(DjangoModelPermissions):
    """Django's, and unlike REST framework's also for reading."""

    perms_map = {
        **DjangoModelPermissions.perms_map,
        **{method: ["%(app_label)s.view_%(model_name)s"] for method in SAFE_METHODS},
    }


class MaySeeOutbox(BasePermission):
    """Who may look at the outbox in the admin may do so here."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return request.user.has_perm("outbox.view_outboxentry")


class MayTakeSnapshot(BasePermission):
    """Who may look at users, by a token made for it; without one, superusers only."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if isinstance(request.auth, ApiToken):
            return request.user.has_perm("accounts.view_user")
        return request.user.is_superuser


def _scope_of(request: Request) -> Scope:
    return Scope.READ if request.method in SAFE_METHODS else Scope.WRITE
