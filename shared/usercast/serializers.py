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


class LaneReportSerializer(serializers.Serializer[Any]):
    """When the newest probe in a lane was sent, by the master's clock, and how long it took."""

    sent_at = serializers.DateTimeField()
    took_ms = serializers.IntegerField(min_value=0, max_value=2**31 - 1)


class CheckReportSerializer(serializers.Serializer[Any]):
    """What the latest comparison with the master found."""

    at = serializers.DateTimeField(
        help_text="By the master's clock: changes after it were left out."
    )
    took_ms = serializers.IntegerField(min_value=0, max_value=2**31 - 1)
    drift = serializers.IntegerField(
        min_value=0, max_value=2**31 - 1, help_text="Users who are not as the master has them."
    )
    behind = serializers.IntegerField(
        min_value=0, max_value=2**31 - 1, help_text="Users whose newest change is on its way."
    )


class ReceiptSerializer(serializers.Serializer[Any]):
    """That a dismissal has taken effect on a client."""

    user_id = serializers.UUIDField()
    version = serializers.IntegerField(min_value=1, max_value=2**63 - 1)
    applied_at = serializers.DateTimeField()
    sockets_closed = serializers.IntegerField(min_value=0, max_value=2**31 - 1)
    erased = serializers.BooleanField(help_text="Nothing of the user is left in its table.")


class LagPointSerializer(serializers.Serializer[Any]):
    """The worst lag of ten seconds; null when nothing changed."""

    start = serializers.IntegerField(
        min_value=0, max_value=2**40, help_text="Seconds since 1970, a multiple of ten."
    )
    worst_ms = serializers.IntegerField(min_value=0, max_value=2**53, allow_null=True)


class ReportSerializer(serializers.Serializer[Any]):
    """How a client stands: sent by it every few seconds, shown at the master's desk.

    What it does not know is null: a database or Redis that is away, a lane no probe has come down.
    """

    #: As many receipts, and points of the curve, as one report takes.
    MAX_RECEIPTS = 500
    MAX_POINTS = 70

    contract = serializers.CharField(max_length=40, help_text="Of the messages it can read.")
    service = serializers.CharField(max_length=40, help_text="Its own version.")
    users = serializers.IntegerField(min_value=0, max_value=2**53, allow_null=True)
    lag_ms = serializers.IntegerField(
        min_value=0,
        max_value=2**53,
        allow_null=True,
        help_text="Of the newest change, from its commit on the master to its commit there.",
    )
    lag_history = serializers.ListField(child=LagPointSerializer(), max_length=MAX_POINTS)
    dead_letters = serializers.IntegerField(min_value=0, max_value=2**53, allow_null=True)
    live = LaneReportSerializer(allow_null=True)
    bulk = LaneReportSerializer(allow_null=True)
    check = CheckReportSerializer(allow_null=True)
    receipts = serializers.ListField(child=ReceiptSerializer(), max_length=MAX_RECEIPTS)
