"""The plain way that Usercast is compared with: a task, a publish, a receive and a save a change.

Runs in processes of its own: ``celery -A bench.plain_way worker`` on the master's database, and
``python -m bench.plain_way QUEUE_URL`` on the client's. ``PLAIN_TABLE`` names the users' table.
"""

import json
import os
import sys
from functools import cache
from typing import Any

import boto3
import django
from celery import Celery

django.setup()

from django.contrib.auth.models import AbstractUser  # noqa: E402 - models need Django set up
from django.db import models  # noqa: E402

FIELDS = ("username", "email", "first_name", "last_name", "is_active", "date_joined")

app = Celery("plain", broker=os.environ["PLAIN_BROKER"])
app.conf.update(task_ignore_result=True, worker_hijack_root_logger=False)


class PlainUser(AbstractUser):
    """Django's user under a UUID, with nothing around it."""

    id = models.UUIDField(primary_key=True)
    groups = None
    user_permissions = None

    class Meta:
        app_label = "plain"
        db_table = os.environ["PLAIN_TABLE"]
        managed = False


@cache
def _client(service: str) -> Any:
    return boto3.client(service)


@app.task
def send(user_id: str) -> None:
    user = PlainUser.objects.get(pk=user_id)
    state = {"id": user_id, **{name: getattr(user, name) for name in FIELDS}}
    _client("sns").publish(
        TopicArn=os.environ["PLAIN_TOPIC"], Message=json.dumps(state, default=str)
    )


def consume(queue_url: str) -> None:
    while True:
        answer = _client("sqs").receive_message(
            QueueUrl=queue_url, MaxNumberOfMessages=1, WaitTimeSeconds=3
        )
        for message in answer.get("Messages", ()):
            state = json.loads(message["Body"])
            PlainUser.objects.update_or_create(id=state.pop("id"), defaults=state)
            _client("sqs").delete_message(
                QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"]
            )


if __name__ == "__main__":
    consume(sys.argv[1])
