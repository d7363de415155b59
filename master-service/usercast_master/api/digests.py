"""Digests: what a client needs to find out whether its copy is the master's."""

from collections.abc import Generator
from typing import Any

import msgspec
from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_serializer
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from usercast.digest import BUCKETS, Published
from usercast.snapshot import End
from usercast_master.api import lines
from usercast_master.api.models import Scope
from usercast_master.api.permissions import MayCall, MayTakeSnapshot
from usercast_master.api.query import BucketsQuery, DigestsQuery, asked
from usercast_master.api.views import Throttled
from usercast_master.outbox import digests

_encoder = msgspec.json.Encoder()


@extend_schema_serializer(many=False)
class DigestsSerializer(serializers.Serializer[Any]):
    """``usercast.digest.MasterDigests``."""

    at = serializers.DateTimeField(help_text="The master's clock.")
    watermark = serializers.DateTimeField(help_text="Who has changed since then is left out.")
    late = serializers.DateTimeField(
        help_text="A change that a client lacks is lost if it is older, or else on its way."
    )
    owed = serializers.IntegerField(
        help_text="Changes older than the watermark that are not published yet."
    )
    users = serializers.IntegerField()
    deleted = serializers.IntegerField()
    buckets = serializers.CharField(
        help_text=f"The digests of {BUCKETS} buckets, 16 hexadecimal digits each."
    )


class DigestsViewSet(Throttled, ViewSet):
    """What has been published, as digests and bucket by bucket."""

    permission_classes = (MayCall, MayTakeSnapshot)
    required_scope = Scope.SNAPSHOT
    serializer_class = DigestsSerializer
    tag = "digests"
    http_method_names = ["get"]

    @extend_schema(parameters=[DigestsQuery])
    def list(self, request: Request) -> Response:
        """Digests of all that has been published, to compare a client's copy with.

        `usercast.digest` says how they are made; `manage.py reconcile` of a client uses them.
        """
        before = asked(request.query_params.dict(), DigestsQuery).get("before")
        return Response(msgspec.to_builtins(digests.look(before)))

    @extend_schema(parameters=[BucketsQuery])
    @action(
        detail=False,
        renderer_classes=[lines.LinesRenderer],
        serializer_class=OpenApiTypes.BINARY,
    )
    def users(self, request: Request) -> StreamingHttpResponse:
        """Who is in some buckets, each with version and content hash.

        Lines of JSON, always as gzip; the last, `{"type": "end", "count": …}`, says how many they
        were. `content_hash` is null of a deleted user; `owed` says that a newer state waits to be
        published.
        """
        buckets = asked(request.query_params.dict(), BucketsQuery)["buckets"]
        return lines.answer(_users(buckets))


def _users(buckets: list[int]) -> Generator[bytes, None, None]:
    count = 0
    for rows in digests.users(buckets):
        count += len(rows)
        yield _encoder.encode_lines([Published(*row) for row in rows])
    yield _encoder.encode(End(count)) + b"\n"
