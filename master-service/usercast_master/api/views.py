"""REST: users with versions as ETags, groups, the outbox's state, and a problem for the rest."""

from functools import partial
from typing import Any, NoReturn

from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.auth.models import Group
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.db.models import Count, OuterRef, Prefetch, Q, QuerySet, Subquery
from django.db.models.functions import Collate
from django.utils.http import urlencode
from drf_spectacular.utils import extend_schema
from rest_framework import viewsets
from rest_framework.exceptions import NotFound, PermissionDenied
from rest_framework.mixins import (
    CreateModelMixin,
    DestroyModelMixin,
    RetrieveModelMixin,
    UpdateModelMixin,
)
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from usercast_master.accounts import history, rights
from usercast_master.accounts.models import User
from usercast_master.api import idempotency, paging, preconditions, query
from usercast_master.api.models import ApiToken
from usercast_master.api.permissions import MayCall, MaySeeOutbox, ModelPermissions
from usercast_master.api.problems import Conflict, InvalidParameters
from usercast_master.api.serializers import (
    GroupSerializer,
    MasterUserSerializer,
    OutboxStatusSerializer,
    UserPageSerializer,
    WholeUserSerializer,
)
from usercast_master.outbox.models import OutboxEntry
from usercast_master.outbox.scope import replicated
from usercast_master.outbox.status import status


class Throttled(APIView):
    """Counts a request before it is asked what its caller may do: refusals cost work too."""

    def perform_authentication(self, request: Request) -> None:
        try:
            super().perform_authentication(request)
        finally:
            super().check_throttles(request)

    def check_throttles(self, request: Request) -> None:
        """Done already."""


class UserViewSet(Throttled, viewsets.GenericViewSet[User]):
    """The replicated users. Staff are as a rule not, and only superusers change them.

    A write returns once it is committed; the clients follow within a moment.
    """

    permission_classes = (MayCall, ModelPermissions)
    serializer_class = MasterUserSerializer
    tag = "users"
    page_serializer_class = UserPageSerializer
    has_versions = True

    def get_object(self) -> User:
        if not history.is_id(self.kwargs["pk"]):
            raise NotFound("A user's id is a UUID; this is none.")
        return super().get_object()

    def get_queryset(self) -> QuerySet[User]:
        version = OutboxEntry.objects.filter(user_id=OuterRef("pk")).values("version")
        users: QuerySet[User] = (
            User.objects.filter(replicated())
            .annotate(version=Subquery(version))
            .prefetch_related(Prefetch("groups", Group.objects.order_by(Collate("name", "C"))))
            .order_by("username")
        )
        return users

    @extend_schema(parameters=[query.UserQuery])
    def list(self, request: Request) -> Response:
        """Users by page.

        `next` is the address of the page after, or null. The order is by the field and then by id,
        so that nobody is left out or told twice while users come and go.
        """
        asked = query.asked(request.query_params.dict())
        order, size = asked["ordering"], asked["page_size"]
        chosen = query.chosen(self.get_queryset(), asked)
        try:
            users, cursor = paging.page(
                chosen, ordering=order, cursor=asked.get("cursor"), size=size
            )
        except paging.BadCursor as error:
            raise InvalidParameters({"cursor": [str(error)]}) from error
        return Response({"next": _next(request, cursor), "results": self._shown(users, many=True)})

    def retrieve(self, request: Request, pk: str) -> Response:
        """One user, with their version as ETag."""
        user: Any = self.get_object()
        headers = {"ETag": preconditions.etag(user.version)}
        if preconditions.is_known(request, user.version):
            return Response(status=304, headers=headers)
        return Response(self._shown(user), headers=headers)

    @transaction.atomic
    def create(self, request: Request) -> Response:
        """Create a user, who cannot sign in until an admin gives them a password."""
        return idempotency.once(request, partial(self._create, request))

    @extend_schema(request=WholeUserSerializer)
    @transaction.atomic
    def update(self, request: Request, pk: str) -> Response:
        """Replace a user in full.

        Every field is required, and so is `If-Match`.
        """
        preconditions.require_match(request)
        user = self._locked(request)
        return self._change(request, WholeUserSerializer(user, data=request.data))

    @transaction.atomic
    def partial_update(self, request: Request, pk: str) -> Response:
        """Change the given fields of a user."""
        user = self._locked(request)
        return self._change(request, MasterUserSerializer(user, data=request.data, partial=True))

    @transaction.atomic
    def destroy(self, request: Request, pk: str) -> Response:
        """Delete a user, here and on every client."""
        user = self._locked(request)
        if LogEntry.objects.filter(user=user).exists():
            raise Conflict("This user has changed others at the desk: deactivate them instead.")
        with history.recorded([user.pk], by=request.user, via=_via(request)):
            key = user.pk
            user.delete()
        return Response(status=204, headers={"ETag": preconditions.etag(_version(key))})

    def _create(self, request: Request) -> Response:
        serializer = MasterUserSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        with history.recorded([], by=request.user, via=_via(request)) as watched:
            user = serializer.save()
            watched.add(user.pk)
        return self._read_back(user, status=201)

    def _change(self, request: Request, serializer: MasterUserSerializer) -> Response:
        serializer.is_valid(raise_exception=True)
        user: Any = serializer.instance
        with history.recorded([user.pk], by=request.user, via=_via(request)):
            serializer.save()
        return self._read_back(user, status=200)

    def _locked(self, request: Request) -> User:
        """The user, nobody else's to write until the transaction ends, if the caller's version."""
        user = self.get_object()
        locked = User.objects.filter(replicated()).select_for_update()
        found: User | None = locked.filter(pk=user.pk).first()
        if found is None:
            raise NotFound
        if not rights.may_touch(request.user, found):
            raise PermissionDenied("Only a superuser changes an account of staff.")
        # After the lock: what was read with the row may be older than the row.
        preconditions.check_match(request, _version(user.pk))
        return found

    def _read_back(self, user: User, *, status: int) -> Response:
        """The user with the version that the write has just given them."""
        read: Any = self.get_queryset().get(pk=user.pk)
        headers = {"ETag": preconditions.etag(read.version)}
        return Response(self._shown(read), status=status, headers=headers)

    def _shown(self, users: Any, **options: Any) -> Any:
        return MasterUserSerializer(users, **options).data


class GroupViewSet(
    Throttled,
    CreateModelMixin,
    RetrieveModelMixin,
    UpdateModelMixin,
    DestroyModelMixin,
    viewsets.GenericViewSet[Group],
):
    """Groups. To rename or delete one changes each of its members."""

    permission_classes = (MayCall, ModelPermissions)
    serializer_class = GroupSerializer
    tag = "groups"
    http_method_names = ["get", "post", "patch", "delete", "head", "options"]

    def get_queryset(self) -> QuerySet[Group]:
        members = Count("user", filter=Q(user__in=User.objects.filter(replicated())))
        return Group.objects.annotate(members=members).order_by(Collate("name", "C"))

    def list(self, request: Request) -> Response:
        """All groups, with how many users are in each."""
        return Response(GroupSerializer(self.get_queryset(), many=True).data)

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """One group."""
        return super().retrieve(request, *args, **kwargs)

    @transaction.atomic
    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Create a group, without members."""
        return idempotency.once(request, partial(super().create, request))

    @transaction.atomic
    def partial_update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Rename a group.

        That changes each of its members.
        """
        return super().partial_update(request, *args, **kwargs)

    @transaction.atomic
    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Delete a group; its members stay.

        That changes each of them.
        """
        return super().destroy(request, *args, **kwargs)

    def perform_create(self, serializer: Any) -> None:
        group = serializer.save()
        group.members = 0
        self._log(group, ADDITION, "Created")

    def perform_update(self, serializer: Any) -> None:
        self._check(serializer.instance)
        before = serializer.instance.name
        group = serializer.save()
        self._log(group, CHANGE, f"Name: {before} → {group.name}")

    def perform_destroy(self, instance: Group) -> None:
        self._check(instance)
        self._log(instance, DELETION, "Deleted")
        instance.delete()

    def _check(self, group: Group) -> None:
        if not rights.may_touch_group(self.request.user, group):
            raise PermissionDenied("Only a superuser changes a group that gives rights.")

    def _log(self, group: Group, action: int, what: str) -> None:
        LogEntry.objects.create(
            user_id=str(self.request.user.pk),
            content_type=ContentType.objects.get_for_model(Group),
            object_id=str(group.pk),
            object_repr=group.name[:200],
            action_flag=action,
            change_message=f"{what} (by {_via(self.request)})",
        )


class OutboxStatusView(Throttled):
    """What has yet to reach the clients, and what is set aside."""

    permission_classes = (MayCall, MaySeeOutbox)
    serializer_class = OutboxStatusSerializer
    tag = "outbox"

    def get(self, request: Request) -> Response:
        """What is owed, its age, and what is parked.

        Up to 100 parked entries are shown, the oldest first.
        """
        parked = OutboxEntry.objects.exclude(parked_reason="").order_by("owed_since")[:100]
        found = {**status()._asdict(), "parked_entries": parked}
        return Response(OutboxStatusSerializer(found).data)


class UnknownView(APIView):
    """Whatever is not there."""

    permission_classes = (AllowAny,)
    authentication_classes = ()

    @extend_schema(exclude=True)
    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        return super().dispatch(request, *args, **kwargs)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotFound("There is nothing at this address; the API's addresses end with a slash.")


def _next(request: Request, cursor: str | None) -> str | None:
    if cursor is None:
        return None
    parameters = {**request.query_params.dict(), "cursor": cursor}
    return request.build_absolute_uri(f"?{urlencode(parameters)}")


def _version(user_id: Any) -> int | None:
    """The user's version as committed last, nobody else's to raise until the transaction ends."""
    entries = OutboxEntry.objects.select_for_update().filter(user_id=user_id)
    return entries.values_list("version", flat=True).first()


def _via(request: Request) -> str:
    return f"API, token {request.auth.name}" if isinstance(request.auth, ApiToken) else "API"
