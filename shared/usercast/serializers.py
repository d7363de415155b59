"""The replicated fields as both services' REST APIs show them."""

from typing import Any

from rest_framework import serializers

from usercast.contract import STATE_FIELDS

#: In the order of the contract.
USER_FIELDS = ("id", "version", *STATE_FIELDS)


class UserSerializer(serializers.ModelSerializer[Any]):
    """A user as the contract has it. A service's subclass names its model in ``Meta``.

    ``version`` and ``groups`` are kept differently by the two services, so each says where they
    come from.
    """

    class Meta:
        fields: tuple[str, ...] = USER_FIELDS
        read_only_fields: tuple[str, ...] = ("id", "version")
