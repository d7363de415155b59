"""REST of a client, read-only: the replicated users, and the live feed's state and changes."""

from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import QuerySet
from django.http import Http404
from django.utils import timezone
from rest_framework import serializers, viewsets
from rest_framework.filters import SearchFilter
from rest_framework.pagination import PageNumberPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from usercast_client import metrics
from usercast_client.api.permissions import MaySeeOwn
from usercast_client.api.serializers import ReplicaUserSerializer
from usercast_client.live import clock, feed, health
from usercast_client.live.latest import latest
from usercast_client.replica import waiting
from usercast_client.replica.models import User

LATEST_CHANGES = 30


class UserPagination(PageNumberPagination):
    page_size = 100
    page_size_query_param = "page_size"
    max_page_size = 1000


class WaitSerializer(serializers.Serializer[Any]):
    """What a reader may ask for who has just written on the master."""

    min_version = serializers.IntegerField(min_value=1, max_value=2**63 - 1, required=False)
    wait_seconds = serializers.FloatField(min_value=0, max_value=10, default=0)


class UserViewSet(viewsets.ReadOnlyModelViewSet[User]):
    """The replicated users; local accounts are not among them."""

    serializer_class = ReplicaUserSerializer
    pagination_class = UserPagination
    filter_backends = (SearchFilter,)
    search_fields = ("username", "email", "first_name", "last_name")

    def get_queryset(self) -> QuerySet[User]:
        users: QuerySet[User] = User.objects.replicated()
        return users.order_by("username")

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """One user; with ``min_version``, not before that version is applied.

        Waits up to ``wait_seconds`` (at most 10), then answers 504 with the ``version`` it has. A
        user whose deletion is at least that version is not found.
        """
        query = WaitSerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        wanted = query.validated_data.get("min_version")
        if wanted is not None:
            newest = self._wait_for(wanted, seconds=query.validated_data["wait_seconds"])
            if newest < wanted:
                detail = f"Version {wanted} has not been applied here yet; ask again."
                return Response({"detail": detail, "version": newest}, status=504)
        return super().retrieve(request, *args, **kwargs)

    def _wait_for(self, version: int, *, seconds: float) -> int:
        try:
            user_id = UUID(self.kwargs["pk"])
        except ValueError as error:
            raise Http404 from error
        return waiting.wait_for(user_id, version, seconds=seconds)


class LiveStateView(APIView):
    """What a page that opens now needs: last tick, newest cursor, counts, latest changes."""

    def get(self, request: Request) -> Response:
        # Read before the counts: a change in between is then told again rather than missed.
        cursor = feed.newest_cursor()
        return Response(
            {
                "client": settings.USERCAST_CLIENT,
                "cursor": cursor,
                "time": timezone.now(),
                "clock": clock.last(),
                **health.count_users(),
                "changes": latest(LATEST_CHANGES),
            }
        )


class OwnView(APIView):
    """For a replicated user: what this client has of them, and their latest changes."""

    permission_classes = (MaySeeOwn,)

    def get(self, request: Request) -> Response:
        cursor = feed.newest_cursor(request.user.pk)
        user = User.objects.get(pk=request.user.pk)
        tick = clock.last()
        return Response(
            {
                "cursor": cursor,
                "time": timezone.now(),
                "clock": {"time": tick["time"]} if tick else None,
                "user": ReplicaUserSerializer(user).data,
                "changes": feed.of_user(user.pk, LATEST_CHANGES),
            }
        )


class SinceSerializer(serializers.Serializer[Any]):
    since = serializers.IntegerField(min_value=0, max_value=2**63 - 1)
    limit = serializers.IntegerField(min_value=1, max_value=1000, default=200)


class LiveChangesView(APIView):
    """The changes after ``since``, oldest first; ``complete`` is false if the feed is too short."""

    def get(self, request: Request) -> Response:
        query = SinceSerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        asked = query.validated_data
        found = feed.since(asked["since"], limit=asked["limit"])
        if found.changes:
            metrics.GAPS.inc()
        return Response({**found._asdict(), "more": found.complete and found.cursor < found.newest})
