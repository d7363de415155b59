"""What the REST API reads and writes, strictly: no guessing at types or names."""

from collections.abc import Mapping
from typing import Any

from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group
from django.db import models
from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers

from usercast.serializers import UserSerializer
from usercast_master.accounts.models import User


class Strict(serializers.Serializer[Any]):
    """Refuses fields that it does not know: a misspelt one would be lost without a word."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping) and (unknown := data.keys() - self.fields.keys()):
            error = serializers.ErrorDetail("There is no such field.", code="unknown")
            raise serializers.ValidationError({name: [error] for name in sorted(unknown)})
        return super().to_internal_value(data)


class Text(serializers.CharField):
    """A JSON string, and no number in its place."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class Email(Text, serializers.EmailField):
    """The same for an address."""


class Flag(serializers.BooleanField):
    """``true`` or ``false``."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class QueryFlag(Flag):
    """The same as a query has it, in words."""

    def to_internal_value(self, data: Any) -> bool:
        return super().to_internal_value({"true": True, "false": False}.get(data, data))


class GroupNames(serializers.ListField):
    """Groups by name; they must exist, and each is named once."""

    child = Text(max_length=150)

    def to_internal_value(self, data: Any) -> list[Group]:
        names = super().to_internal_value(data)
        if len(set(names)) < len(names):
            raise serializers.ValidationError("A group is named twice.", code="duplicate")
        known = {group.name: group for group in Group.objects.filter(name__in=names)}
        errors: dict[Any, Any] = {
            place: [serializers.ErrorDetail(f"There is no group {name!r}.", code="does_not_exist")]
            for place, name in enumerate(names)
            if name not in known
        }
        if errors:
            raise serializers.ValidationError(errors)
        return [known[name] for name in names]

    def to_representation(self, data: Any) -> list[str]:
        return [group.name for group in data.all()]


@extend_schema_serializer(component_name="User")
class MasterUserSerializer(Strict, UserSerializer):
    """``version`` is what clients will see; groups are given by name and must exist."""

    serializer_field_mapping = {
        **serializers.ModelSerializer.serializer_field_mapping,
        models.CharField: Text,
        models.EmailField: Email,
        models.BooleanField: Flag,
    }
    version = serializers.IntegerField(read_only=True, allow_null=True)
    groups = GroupNames(required=False, max_length=200)

    class Meta(UserSerializer.Meta):
        model = User

    def to_internal_value(self, data: Any) -> Any:
        # As Django's forms do at sign-in, and before anything is compared: two names that look
        # alike are one.
        if isinstance(data, Mapping) and isinstance(data.get("username"), str):
            data = {**data, "username": User.normalize_username(data["username"])}
        return super().to_internal_value(data)

    def create(self, validated_data: dict[str, Any]) -> User:
        """A user who cannot sign in until an admin gives them a password."""
        user: User = super().create({**validated_data, "password": make_password(None)})
        return user


@extend_schema_serializer(component_name="WholeUser")
class WholeUserSerializer(MasterUserSerializer):
    """For PUT: every field must be there, or leaving one out would keep what it was."""

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        fields = super().get_fields()
        for field in fields.values():
            field.required = not field.read_only
        return fields


class GroupSerializer(Strict, serializers.ModelSerializer[Group]):
    """A group and how many replicated users are in it."""

    serializer_field_mapping = MasterUserSerializer.serializer_field_mapping
    members = serializers.IntegerField(read_only=True)

    class Meta:
        model = Group
        fields = ("id", "name", "members")


@extend_schema_serializer(many=False)
class UserPageSerializer(serializers.Serializer[Any]):
    """A page of users."""

    next = serializers.URLField(
        allow_null=True, help_text="Address of the page after; null on the last one."
    )
    results = MasterUserSerializer(many=True)


class UndeliveredSerializer(serializers.Serializer[Any]):
    """How many users have changes to be told, by how much these hurry."""

    urgent = serializers.IntegerField(help_text="Deactivations and deletions.")
    single = serializers.IntegerField(help_text="Users saved one by one.")
    bulk = serializers.IntegerField(help_text="Users of bulk writes.")


class ParkedEntrySerializer(serializers.Serializer[Any]):
    """A user whose newest state can never be sent as it is."""

    user_id = serializers.UUIDField()
    version = serializers.IntegerField()
    owed_since = serializers.DateTimeField()
    parked_reason = serializers.CharField()


class OutboxStatusSerializer(serializers.Serializer[Any]):
    """``outbox.status`` and the parked entries."""

    undelivered = UndeliveredSerializer()
    oldest_seconds = serializers.FloatField(
        allow_null=True, help_text="Age of the oldest change not yet told; null if all are."
    )
    waiting = serializers.IntegerField(
        help_text="Refused before, waiting for their next try; among the undelivered."
    )
    parked = serializers.IntegerField(help_text="Set aside: they wait for a change or a person.")
    parked_entries = ParkedEntrySerializer(many=True)
