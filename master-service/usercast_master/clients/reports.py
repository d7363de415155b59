"""Reports: takes what a client says of itself, from ``api.clients``, and keeps the latest."""

from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser
from django.db import transaction
from django.utils import timezone

from usercast.serializers import ReportSerializer
from usercast_master.clients import receipts
from usercast_master.clients.models import Client


def may_report(caller: Any, client: Client) -> bool:
    """Whether this is the client's own account, or a superuser."""
    assert isinstance(caller, AbstractBaseUser)
    return client.account_id == caller.pk or bool(getattr(caller, "is_superuser", False))


def take(client: Client, report: dict[str, Any]) -> None:
    """Keep a valid report; its receipts are entered once, however often they come.

    Two reports of one client may overtake each other on their way: the later to come counts.
    """
    with transaction.atomic():
        receipts.take(client, report["receipts"])
        kept = dict(ReportSerializer(report).data)
        del kept["receipts"]
        Client.objects.filter(pk=client.pk).update(report=kept, reported_at=timezone.now())
