"""Clients: where a client reports how it stands."""

from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import NotFound, PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from usercast.serializers import ReportSerializer
from usercast_master.api.models import Scope
from usercast_master.api.permissions import MayCall
from usercast_master.api.views import Throttled
from usercast_master.clients import reports
from usercast_master.clients.models import Client


class ClientStatusViewSet(Throttled, ViewSet):
    """A client's report, and its receipts for dismissals."""

    permission_classes = (MayCall,)
    required_scope = Scope.REPORT
    serializer_class = ReportSerializer
    tag = "clients"
    http_method_names = ["put"]

    @extend_schema(request=ReportSerializer)
    def report(self, request: Request, name: str) -> Response:
        """Say how a client stands.

        Every few seconds, by the client itself: the token must be of its own account. May be
        repeated: a receipt that has come before is entered once.
        """
        client = Client.objects.filter(name=name).exclude(registered_at=None).first()
        if client is None:
            raise NotFound("No client of this name is registered.")
        if not reports.may_report(request.user, client):
            raise PermissionDenied("This token is not the client's own.")
        report = ReportSerializer(data=request.data)
        report.is_valid(raise_exception=True)
        reports.take(client, report.validated_data)
        return Response(status=204)
