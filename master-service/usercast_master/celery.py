"""The master's Celery application; its tasks are each app's own, in tasks.py."""

import gc
from typing import Any

from celery import Celery
from celery.signals import setup_logging, worker_init, worker_ready

from usercast import metrics, startup, topology, worker

startup.configure("usercast_master.settings")

app = Celery("usercast_master")
app.config_from_object("django.conf:settings", namespace="CELERY")
worker.install(app)
app.autodiscover_tasks()


@worker_init.connect
def check_dependencies(**_kwargs: Any) -> None:
    """A worker that cannot publish ends at its start, with one line that says why."""
    from django.conf import settings

    with startup.one_clear_line():
        startup.require_database()
        topology.require_topic(settings.USERCAST_TOPIC_ARN)
        metrics.serve()


@worker_ready.connect
def keep_what_is_loaded(**_kwargs: Any) -> None:
    """What is loaded by now stays: no garbage collection need look at it again."""
    gc.freeze()


@setup_logging.connect
def keep_the_services_logging(**_kwargs: Any) -> None:
    """Celery leaves logging alone once this signal is answered; the settings have set it up."""
