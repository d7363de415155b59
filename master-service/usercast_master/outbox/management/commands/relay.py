from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from usercast.lifecycle import Stop
from usercast.startup import require_database
from usercast.topology import require_topic
from usercast_master.outbox import relay


class Command(BaseCommand):
    help = "Relay: publish each change as it commits. Runs until SIGTERM."

    def handle(self, *args: Any, **options: Any) -> None:
        stop = Stop.on_signals()
        require_database()
        require_topic(settings.USERCAST_TOPIC_ARN)
        relay.run(stop)
