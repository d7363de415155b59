"""Who may ask a client's REST API; decided by ``live.access``, as for pages and sockets."""

from typing import TYPE_CHECKING

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from usercast_client.live.access import View, may

if TYPE_CHECKING:
    from rest_framework.views import APIView  # which reads the settings that name this module


class MaySeeDashboard(BasePermission):
    """This client's staff."""

    def has_permission(self, request: Request, view: "APIView") -> bool:
        return may(request.user, View.DASHBOARD)


class MaySeeOwn(BasePermission):
    """A replicated user, of whom only their own is shown."""

    def has_permission(self, request: Request, view: "APIView") -> bool:
        return may(request.user, View.OWN)
