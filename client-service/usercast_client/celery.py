"""A client's Celery application: ticks, keeps the feed short, counts dead letters, reports."""

from contextlib import suppress
from typing import Any

from celery import Celery
from celery.signals import beat_init, setup_logging, worker_init
from kombu.exceptions import OperationalError

from usercast import metrics, startup, worker
from usercast.process import process_name

startup.configure("usercast_client.settings")

app = Celery("usercast_client")
app.config_from_object("django.conf:settings", namespace="CELERY")
worker.install(app)
app.autodiscover_tasks(["usercast_client.live", "usercast_client.inbox", "usercast_client.report"])


@worker_init.connect
def check_dependencies(**_kwargs: Any) -> None:
    """A worker without its database ends at its start, with one line that says why."""
    from usercast_client.report.gauges import gauges

    with startup.one_clear_line():
        startup.require_database()
        # The clock's worker has enough to do.
        if process_name() != "clock":
            metrics.tell(gauges)
        metrics.serve()


@beat_init.connect
def count_dead_letters_at_once(**_kwargs: Any) -> None:
    """Not only after the first interval: a page that is open already waits for the number."""
    with suppress(OperationalError):
        app.send_task("usercast_client.inbox.tasks.count_dead_letters", expires=30)


@setup_logging.connect
def keep_the_services_logging(**_kwargs: Any) -> None:
    """Celery leaves logging alone once this signal is answered; the settings have set it up."""
