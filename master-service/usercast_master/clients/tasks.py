"""The Celery task that looks after the clients now and then."""

from django.db import close_old_connections

from usercast_master.celery import app
from usercast_master.clients import subscriptions


@app.task(ignore_result=True)
def look() -> None:
    """Ask AWS which clients there are."""
    close_old_connections()
    subscriptions.look()
