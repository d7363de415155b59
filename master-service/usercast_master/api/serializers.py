"""A user as the REST API reads and writes it: the shared fields, over the master's model."""

from typing import Any

from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group
from rest_framework import serializers

from usercast.serializers import UserSerializer
from usercast_master.accounts.models import User


class MasterUserSerializer(UserSerializer):
    """``version`` is what clients will see; groups are given by name and must exist."""

    version = serializers.IntegerField(read_only=True, allow_null=True)
    groups = serializers.SlugRelatedField(
        slug_field="name", many=True, queryset=Group.objects.all(), required=False
    )

    class Meta(UserSerializer.Meta):
        model = User

    def create(self, validated_data: dict[str, Any]) -> User:
        """A user who cannot sign in until an admin gives them a password."""
        user: User = super().create({**validated_data, "password": make_password(None)})
        return user
