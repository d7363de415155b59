"""The Celery tasks: looking after the clients now and then, and the slow half of registering."""

from typing import Any

import redis
import structlog
from django.db import close_old_connections
from kombu.exceptions import OperationalError

from usercast.errors import PublishFailed, UsercastError, reason
from usercast_master.celery import app
from usercast_master.clients import canary, receipts, registration, subscriptions
from usercast_master.clients.models import Client

log = structlog.get_logger(__name__)


@app.task(ignore_result=True)
def look() -> None:
    """Ask AWS which clients there are."""
    close_old_connections()
    subscriptions.look()


@app.task(ignore_result=True)
def send_canary() -> None:
    """Probe every client's lanes."""
    close_old_connections()
    try:
        if not canary.send():
            log.warning("canary_refused")
    except PublishFailed as error:
        log.warning("canary_not_sent", reason=reason(error))


@app.task(ignore_result=True)
def close_dismissals() -> None:
    """Close the dismissals for which no client owes a receipt any more; forget old ones."""
    close_old_connections()
    receipts.close()
    receipts.trim()


@app.task(ignore_result=True)
def deploy(name: str) -> None:
    """Make a client's queues, if that is still wanted."""
    close_old_connections()
    for client in Client.objects.filter(name=name, setup=Client.Setup.DEPLOYING):
        try:
            registration.deploy(client)
        except UsercastError as error:
            # The client's row has it, for the desk.
            log.warning("client_not_deployed", client=name, reason=reason(error))


@app.task(ignore_result=True)
def remove(name: str) -> None:
    """Take a client away, if that is still wanted."""
    close_old_connections()
    for client in Client.objects.filter(name=name, setup=Client.Setup.REMOVING):
        try:
            registration.remove(client)
        except UsercastError as error:
            log.warning("client_not_removed", client=name, reason=reason(error))


def enqueue(task: Any, client: Client) -> bool:
    """Have a worker run ``deploy`` or ``remove``; False when the broker did not take the task."""
    try:
        task.apply_async([client.name], retry=False)
    except (OperationalError, redis.RedisError, OSError) as error:
        log.warning("broker_unreachable", reason=reason(error))
        return False
    return True
