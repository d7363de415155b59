import gc
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import connection

from usercast import heartbeat, metrics
from usercast.contract import Lane
from usercast.lifecycle import Stop
from usercast.process import process_name
from usercast.startup import require_database
from usercast_client.inbox import poller

CONNECTION_SECONDS = 60


class Command(BaseCommand):
    help = "Poll this client's queues, apply the changes, tell the browsers. Runs until SIGTERM."

    def handle(self, *args: Any, **options: Any) -> None:
        stop = Stop.on_signals()
        require_database()
        # Unlike a web request's, this process's threads stay, and so may their connections.
        connection.settings_dict["CONN_MAX_AGE"] = CONNECTION_SECONDS
        # What is loaded by now stays: no garbage collection need look at it again.
        gc.freeze()
        heartbeat.start(process_name(), loops=[lane.value for lane in Lane])
        metrics.serve()
        poller.run(stop, client=settings.USERCAST_CLIENT)
