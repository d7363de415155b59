"""The canary: a probe down both lanes of every client, so that a lane that is dead shows.

A poller that died in silence would go unnoticed for as long as no user changes. Clients report when
the newest probe came, and ``clients.standing`` sees how old it is.
"""

from datetime import timedelta

from django.utils import timezone

from usercast.contract import Lane, encode_batch, encode_probe
from usercast_master.clients.models import Canary
from usercast_master.outbox import topic

#: How often it is sent.
EVERY_SECONDS = 5.0
#: A canary that is older has paused.
LATE_AFTER = timedelta(seconds=3 * EVERY_SECONDS)


def send() -> bool:
    """Send it now, to all clients at once; False if SNS did not take it.

    Raises:
        PublishFailed: SNS cannot be reached.
    """
    now = timezone.now()
    probes = [
        topic.Outgoing(lane, encode_batch([encode_probe(lane, now)], compress=False))
        for lane in Lane
    ]
    if any(topic.publish(probes)):
        return False
    last = Canary.objects.first()
    since = last.since if last and now - last.sent_at <= LATE_AFTER else now
    Canary.objects.update_or_create(id=1, defaults={"sent_at": now, "since": since})
    return True
