"""What Celery beat asks of ``inbox``: how full the queues are, for ``live.clock`` and metrics."""

import redis
import structlog
from botocore.exceptions import BotoCoreError, ClientError
from django.conf import settings

from usercast.contract import Lane
from usercast.errors import ConfigurationError, reason
from usercast.topology import lane_queue_url
from usercast_client import metrics
from usercast_client.celery import app
from usercast_client.inbox import dead_letters, look
from usercast_client.inbox.letters import Source
from usercast_client.live import clock

log = structlog.get_logger(__name__)


@app.task(ignore_result=True)
def count_dead_letters() -> None:
    """Ask SQS, which counts roughly; have the next ticks tell the dead ones, and Prometheus all."""
    try:
        for lane in Lane:
            url = lane_queue_url(settings.USERCAST_CLIENT, lane)
            metrics.note_queue(lane.value, look.count(url))
        both = dead_letters.Choice(sources=tuple(Source))
        counted = dead_letters.count(settings.USERCAST_CLIENT, both)
        for source, number in counted.items():
            metrics.note_queue(source.value, number, is_dead=True)
        clock.note_dead_letters(sum(counted.values()))
    except (BotoCoreError, ClientError, ConfigurationError, redis.RedisError) as error:
        log.warning("dead_letters_not_counted", reason=reason(error))
