"""Subscriptions: asks AWS which clients there are and what waits in their queues, for the desk."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import structlog
from botocore.exceptions import BotoCoreError, ClientError
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from usercast import aws
from usercast.errors import reason
from usercast_master.clients.models import Client

if TYPE_CHECKING:
    from mypy_boto3_sqs.literals import QueueAttributeNameType

log = structlog.get_logger(__name__)

_LANE_QUEUE = re.compile(r":usercast-([a-z][a-z0-9-]*)-(?:live|bulk)$")
_COUNTS: "tuple[QueueAttributeNameType, ...]" = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
)


def look() -> None:
    """Bring the ``Client`` rows up to what AWS says now. With AWS away they stay as they were.

    Who is registered stays, with queues or without; of the others, who has none is forgotten.
    """
    try:
        subscribed = {*_names()}
        found = [
            Client(
                name=name,
                waiting=_messages(name, "live", "bulk"),
                dead=_messages(name, "dead", "undelivered"),
                looked_at=timezone.now(),
            )
            for name in sorted(subscribed | _registered())
        ]
    except (BotoCoreError, ClientError) as error:
        log.warning("clients_not_found_out", reason=reason(error))
        return
    with transaction.atomic():
        # Locked: nobody registers one of them, or removes one of the others, meanwhile.
        rows = Client.objects.select_for_update().order_by("name")
        known = {client.name: client for client in rows}
        strangers = [name for name, client in known.items() if client.registered_at is None]
        Client.objects.filter(name__in={*strangers} - subscribed).delete()
        Client.objects.bulk_create(
            [client for client in found if client.name in subscribed | known.keys()],
            update_conflicts=True,
            unique_fields=["name"],
            update_fields=["waiting", "dead", "looked_at"],
        )


def _registered() -> set[str]:
    return {*Client.objects.exclude(registered_at=None).values_list("name", flat=True)}


def _names() -> Iterator[str]:
    pages = aws.sns().get_paginator("list_subscriptions_by_topic")
    for page in pages.paginate(TopicArn=settings.USERCAST_TOPIC_ARN):
        for subscription in page["Subscriptions"]:
            if match := _LANE_QUEUE.search(subscription["Endpoint"]):
                yield match[1]


def _messages(client: str, *kinds: str) -> int | None:
    """How many messages are in these queues, about; None if we may not know."""
    try:
        return sum(_count(f"usercast-{client}-{kind}") for kind in kinds)
    except ClientError as error:
        # The queue is gone, or its policy does not let the master look.
        log.info("queue_not_counted", client=client, reason=error.response["Error"]["Code"])
        return None


def _count(queue: str) -> int:
    url = aws.sqs().get_queue_url(QueueName=queue)["QueueUrl"]
    answer = aws.sqs().get_queue_attributes(QueueUrl=url, AttributeNames=_COUNTS)
    return sum(int(answer["Attributes"][name]) for name in _COUNTS)
