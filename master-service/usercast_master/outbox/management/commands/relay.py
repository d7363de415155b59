from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from usercast import heartbeat, metrics
from usercast.lifecycle import Stop
from usercast.process import process_name
from usercast.startup import require_database
from usercast.topology import require_topic
from usercast_master.clients.gauges import gauges as clients_gauges
from usercast_master.outbox import relay
from usercast_master.outbox.gauges import gauges as outbox_gauges


class Command(BaseCommand):
    help = "Relay: publish each change as it commits. Runs until SIGTERM."

    def handle(self, *args: Any, **options: Any) -> None:
        stop = Stop.on_signals()
        require_database()
        require_topic(settings.USERCAST_TOPIC_ARN)
        # There is one relay, so it tells what is the same whoever is asked.
        metrics.tell(outbox_gauges)
        metrics.tell(clients_gauges)
        heartbeat.start(process_name())
        metrics.serve()
        relay.run(stop)
