"""A client's Celery application; its task keeps the change feed short."""

from typing import Any

from celery import Celery
from celery.signals import setup_logging, worker_init

from usercast import startup

startup.configure("usercast_client.settings")

app = Celery("usercast_client")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["usercast_client.live"])


@worker_init.connect
def check_dependencies(**_kwargs: Any) -> None:
    """A worker without its database ends at its start, with one line that says why."""
    with startup.one_clear_line():
        startup.require_database()


@setup_logging.connect
def keep_the_services_logging(**_kwargs: Any) -> None:
    """Celery leaves logging alone once this signal is answered; the settings have set it up."""
