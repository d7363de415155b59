"""REST over the users: list, search, retrieve, create, partial update, delete."""

from typing import Any

from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models import OuterRef, Prefetch, QuerySet, Subquery
from django.db.models.functions import Collate
from rest_framework import viewsets
from rest_framework.mixins import (
    CreateModelMixin,
    DestroyModelMixin,
    ListModelMixin,
    RetrieveModelMixin,
)
from rest_framework.pagination import PageNumberPagination
from rest_framework.permissions import DjangoModelPermissions, IsAdminUser
from rest_framework.request import Request
from rest_framework.response import Response

from usercast_master.accounts.models import User
from usercast_master.api.serializers import MasterUserSerializer
from usercast_master.outbox.models import OutboxEntry
from usercast_master.outbox.scope import replicated


class UserPagination(PageNumberPagination):
    page_size = 100
    page_size_query_param = "page_size"
    max_page_size = 1000


class UserViewSet(
    ListModelMixin,
    RetrieveModelMixin,
    CreateModelMixin,
    DestroyModelMixin,
    viewsets.GenericViewSet[User],
):
    """The replicated users. Staff accounts are not here: they are managed in the admin.

    A write returns once it is committed; the clients follow within a moment.
    """

    serializer_class = MasterUserSerializer
    permission_classes = (IsAdminUser, DjangoModelPermissions)
    pagination_class = UserPagination
    filterset_fields = ("is_active", "groups__name")
    search_fields = ("username", "email", "first_name", "last_name")

    def get_queryset(self) -> QuerySet[User]:
        version = OutboxEntry.objects.filter(user_id=OuterRef("pk")).values("version")
        users: QuerySet[User] = (
            User.objects.filter(replicated())
            .annotate(version=Subquery(version))
            .prefetch_related(Prefetch("groups", Group.objects.order_by(Collate("name", "C"))))
            .order_by("username")
        )
        if self.action == "partial_update":
            # Two editors take turns, or the second would write back what it had read.
            users = users.select_for_update(of=("self",))
        return users

    @transaction.atomic
    def partial_update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Change the given fields of a user."""
        serializer = self.get_serializer(self.get_object(), data=request.data, partial=True)
        serializer.is_valid(raise_exception=True)
        return Response(self._read_back(serializer.save()))

    @transaction.atomic
    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Create a user, without a usable password."""
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        return Response(self._read_back(serializer.save()), status=201)

    @transaction.atomic
    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Delete a user, here and on every client."""
        return super().destroy(request, *args, **kwargs)

    def _read_back(self, user: User) -> Any:
        """The user with the version that the write has just given them."""
        return self.get_serializer(self.get_queryset().get(pk=user.pk)).data
