"""The replicated fields as both services' REST APIs show them."""

from datetime import datetime
from typing import Any

from rest_framework import serializers

from usercast.contract import MAX_YEAR, MIN_YEAR, STATE_FIELDS

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

    def validate_date_joined(self, date_joined: datetime) -> datetime:
        """The contract's bounds: what a client would refuse is refused here."""
        if not MIN_YEAR <= date_joined.year <= MAX_YEAR:
            raise serializers.ValidationError(f"The year must be {MIN_YEAR} to {MAX_YEAR}.")
        return date_joined
