"""A user as a client's REST API shows it: the shared fields, over the replica."""

from rest_framework import serializers

from usercast.serializers import UserSerializer
from usercast_client.replica.models import User


class ReplicaUserSerializer(UserSerializer):
    groups = serializers.ListField(source="master_groups", child=serializers.CharField())

    class Meta(UserSerializer.Meta):
        model = User
